"""Asks a witness for its cosignature."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from everwhen.system.http_post import Poster, PostError
from everwhen.vocabulary.errors import DeclarationError, WitnessError, WitnessRefusedError
from everwhen.witness.messages import MAX_REPLY_BYTES, TEXT_TYPE, AddCheckpoint
from everwhen_verify.checkpoints import parse_checkpoint, parse_number
from everwhen_verify.errors import VerifyError
from everwhen_verify.notes import Kind, Note, Signature, Verifier, open_note, parse_note
from everwhen_verify.notes import parse_signatures as read_signatures

_MAX_TRIES: Final = 3
"""Of one request: each time the witness may name a newer size than the one before."""


class Witness:
    """A witness at an address, ``http://`` or ``https://``, whose cosignatures a key checks.

    No answer may take longer than ``timeout`` seconds, all in all. Threads may share one.
    """

    def __init__(self, url: str, verifier: Verifier, *, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise DeclarationError(
                f"witness {url!r}: this is not an address; write one such as https://witness.example/prefix"
            )
        if verifier.kind is not Kind.COSIGNATURE:
            raise DeclarationError(f"witness {url!r}: {verifier.name!r} is not a witness's key")
        self.url = url.rstrip("/")
        self.verifier = verifier
        self._poster = Poster(self.url, timeout=timeout, most=MAX_REPLY_BYTES)
        self._seen: dict[str, int] = {}

    def cosign(
        self, note: bytes, consistency: Callable[[int, int], Sequence[bytes]]
    ) -> tuple[Signature, ...]:
        """Have a signed checkpoint cosigned; the cosignatures are checked.

        ``consistency`` gives the proof from one size to another. The witness says which tree it
        has seen last; a log that has since become smaller is refused here already. Raises
        `WitnessError`, `WitnessRefusedError` with the status that the witness answers.
        """
        signed = parse_note(note)
        checkpoint = parse_checkpoint(signed.text)
        old = self._seen.get(checkpoint.origin, 0)
        if old > checkpoint.size:
            old = 0
        for _ in range(_MAX_TRIES):
            request = AddCheckpoint(old, tuple(consistency(old, checkpoint.size)), note)
            status, body = self._post(request.encode())
            if status == http.client.OK:
                signatures = self._checked(signed, body)
                self._seen[checkpoint.origin] = checkpoint.size
                return signatures
            if status != http.client.CONFLICT:
                raise WitnessRefusedError(self.url, status, _first_line(body))
            old = self._size(body)
            if old > checkpoint.size:
                raise WitnessRefusedError(
                    self.url,
                    status,
                    f"it has already cosigned a tree of {old:,} entries, and this one has only "
                    f"{checkpoint.size:,}",
                )
        raise WitnessError(self.url, "other processes keep cosigning this log at the same time")

    def _checked(self, note: Note, body: bytes) -> tuple[Signature, ...]:
        """The cosignatures that are right; others are left out, as if they weren't there."""
        try:
            cosigned = read_signatures(body.decode())
            ours = tuple(filter(self.verifier.made, cosigned))[:1]
            open_note(Note(note.text, ours), [self.verifier])
        except (VerifyError, UnicodeDecodeError) as error:
            raise WitnessError(self.url, f"the cosignature is wrong: {error}") from error
        return ours

    def _size(self, body: bytes) -> int:
        try:
            return parse_number(body.decode("ascii").removesuffix("\n"), "size")
        except (VerifyError, UnicodeDecodeError) as error:
            raise WitnessError(self.url, f"its answer 'conflict' has no size: {error}") from error

    def _post(self, body: bytes) -> tuple[int, bytes]:
        try:
            return self._poster.post(body, TEXT_TYPE, "/add-checkpoint")
        except PostError as error:
            raise WitnessError(self.url, str(error)) from error


def _first_line(body: bytes) -> str:
    text = body.decode(errors="replace").partition("\n")[0][:200]
    return "".join(c if c.isprintable() else "?" for c in text)
