"""Timestamps of checkpoints by an authority (RFC 3161): who signed, has signed by then.

An authority signs that it has seen a checkpoint's bytes, and when. Its answers lie in the log's
folder as ``timestamps/<size>.tsr``. Needs the extra ``everwhen[timestamps]``.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from types import ModuleType
from typing import Any, Final

import msgspec

from everwhen.merkle.log_writer import Signed, history, newest
from everwhen.merkle.tamper_diagnosis import Fault, FaultKind
from everwhen.merkle.tile_stores import TileStore
from everwhen.system.http_post import Poster, PostError
from everwhen.vocabulary.errors import (
    DeclarationError,
    MerkleLogError,
    TamperedError,
    TimestampError,
)

_REQUEST_TYPE: Final = "application/timestamp-query"
_MAX_REPLY_BYTES: Final = 64 * 1024
"""A token with its chain of certificates takes 5 to 10 KiB."""


class Timestamp(msgspec.Struct, frozen=True):
    """When an authority has seen the checkpoint of ``size`` commits."""

    size: int
    time: datetime


class TimestampAuthority:
    """A timestamp authority at an address; ``timeout`` seconds is the longest that it may take."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        try:
            self._poster = Poster(url, timeout=timeout, most=_MAX_REPLY_BYTES)
        except ValueError as error:
            raise DeclarationError(f"timestamp authority: {error}") from None
        self.url = url

    def stamp(self, data: bytes) -> bytes:
        """Its answer for these bytes, as it sent it: a timestamp, over them and newly made.

        Whose signature it bears is not checked here. Raises `TimestampError`.
        """
        library = _library()
        builder = library.TimestampRequestBuilder(data, library.HashAlgorithm.SHA256)
        request = builder.build()
        try:
            status, answer = self._poster.post(request.as_bytes(), _REQUEST_TYPE)
        except PostError as error:
            raise TimestampError(self.url, str(error)) from error
        if status != http.client.OK:
            raise TimestampError(self.url, f"it answers with status {status}")
        try:
            response = library.decode_timestamp_response(answer)
            if response.status != library.PKIStatus.GRANTED:
                said = ", ".join(response.status_string) or f"status {response.status}"
                raise TimestampError(self.url, f"it refuses: {said}")
            is_ours = response.tst_info.nonce == request.nonce and _is_over(response, data)
        except ValueError as error:
            raise TimestampError(self.url, f"its answer is not a timestamp ({error})") from error
        if not is_ours:
            raise TimestampError(self.url, "its timestamp is that of something else")
        return answer


def stamp(tiles: TileStore, at: Signed | None, authority: TimestampAuthority) -> Timestamp:
    """Have the newest checkpoint timestamped, where it isn't yet: the first time counts most."""
    if at is None:
        raise MerkleLogError(
            "nothing is signed yet, so nothing can be timestamped; sign first, with sign() or "
            "'everwhen sign'"
        )
    known = tiles.read(_name(at))
    if known is not None:
        with contextlib.suppress(ValueError):  # torn by a crash: it is asked for again
            return _kept(at, known)
    answer = authority.stamp(at.note)
    tiles.write({_name(at): answer})
    return _timestamp(at, _library().decode_timestamp_response(answer))


def _kept(at: Signed, answer: bytes) -> Timestamp:
    response = _library().decode_timestamp_response(answer)
    if not _is_over(response, at.note):
        raise TamperedError(f"{_name(at)} is of another checkpoint than the one that is here")
    return _timestamp(at, response)


def check(tiles: TileStore, certificates: bytes) -> tuple[list[Timestamp], Fault | None]:
    """The timestamps of all checkpoints, the oldest first, and the first fault with them.

    ``certificates`` are trusted, in PEM: the authority's root, and what lies between. Raises
    `MerkleLogError` where they can't be read.
    """
    verifier = _verifier(certificates)
    found: list[Timestamp] = []
    for one in _all(tiles):
        answer = tiles.read(_name(one))
        if answer is None:
            continue
        try:
            response = _library().decode_timestamp_response(answer)
            verifier.verify_message(response, one.note)
            found.append(_timestamp(one, response))
        except (_library().VerificationError, ValueError) as error:
            what = f"{_name(one)} is not a valid timestamp of the checkpoint: {error}"
            return found, Fault(FaultKind.TIMESTAMP, what, index=max(one.checkpoint.size - 1, 0))
    if not found:
        return found, Fault(FaultKind.TIMESTAMP, "no checkpoint has a timestamp")
    return found, None


def _all(tiles: TileStore) -> Sequence[Signed]:
    """Every checkpoint there has been, and the newest once."""
    before, at = history(tiles), newest(tiles)
    return before if at is None or at in before else [*before, at]


def _name(one: Signed) -> str:
    return f"timestamps/{one.checkpoint.size}.tsr"


def _timestamp(one: Signed, response: Any) -> Timestamp:
    return Timestamp(one.checkpoint.size, response.tst_info.gen_time.astimezone(UTC))


def _is_over(response: Any, data: bytes) -> bool:
    return bool(response.tst_info.message_imprint.message == sha256(data).digest())


def _verifier(certificates: bytes) -> Any:
    from cryptography.x509 import load_pem_x509_certificates

    library = _library()
    try:
        roots = load_pem_x509_certificates(certificates)
    except ValueError as error:
        raise MerkleLogError(
            f"the authority's certificates can't be read ({error}); give them in PEM"
        ) from error
    return library.VerifierBuilder(roots=roots).build()


def _library() -> ModuleType:
    try:
        import rfc3161_client
    except ModuleNotFoundError as error:
        if error.name != "rfc3161_client":
            raise
        raise DeclarationError(
            "timestamps need the library rfc3161-client: pip install 'everwhen[timestamps]'"
        ) from error
    return rfc3161_client
