"""How one gets into a cluster: by a password, a token, an nkey or a credentials file; and TLS."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import nkeys

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.vocabulary.errors import DeclarationError

_MOST_BYTES: Final = 64 << 10
"""Of a file with a secret."""
_JWT: Final = re.compile(rb"-----BEGIN NATS USER JWT-----\s+(\S+)\s")
_SEED_IN_CREDENTIALS: Final = re.compile(rb"-----BEGIN USER NKEY SEED-----\s+(\S+)\s")
_SEED: Final = re.compile(rb"^\s*(S[A-Z2-7]+)\s*$", re.MULTILINE)


class UnusableFileError(OSError):
    """A file isn't what it should be: perhaps it is just being written."""


def ways_in(address: ClusterAddress) -> dict[str, Any]:
    """What a client of nats-py is made with, see its ``connect``.

    Raises `DeclarationError` where a file isn't there, or isn't what the URL's option says; it
    quotes none of what is in the files.
    """
    found: dict[str, Any] = {}
    if address.password is not None:
        found |= {"user": address.user, "password": address.password}
    elif address.user is not None:
        found["token"] = address.user
    if address.credentials is not None:
        file = Path(address.credentials)
        _checked(address, "credentials", lambda: _signature(file, _SEED_IN_CREDENTIALS, ""))
        _checked(address, "credentials", lambda: _found(file, _JWT))
        found["user_jwt_cb"] = lambda: bytearray(_found(file, _JWT))
        found["signature_cb"] = lambda nonce: _signature(file, _SEED_IN_CREDENTIALS, nonce)
    if address.nkey is not None:
        file = Path(address.nkey)
        _checked(address, "nkey", lambda: _signature(file, _SEED, ""))
        found["nkeys_seed_str"] = _found(file, _SEED).decode()
    if needs_tls(address):
        found["tls"] = tls_context(address)
    return found


def needs_tls(address: ClusterAddress) -> bool:
    """Whether the URL says that nothing goes over the network in the clear."""
    return address.scheme == "tls" or bool(address.tls_ca or address.tls_cert)


def _checked(address: ClusterAddress, option: str, look: Callable[[], bytes]) -> None:
    try:
        look()
    except OSError as error:
        raise DeclarationError(
            f"{address.place}: the file of the option {option} can't be used: "
            f"{error.strerror or error}; give the path of one that this user may read"
        ) from None


def _found(file: Path, what: re.Pattern[bytes]) -> bytes:
    with file.open("rb") as opened:
        match = what.search(opened.read(_MOST_BYTES) + b"\n")
    if match is None:
        raise UnusableFileError("it has no such secret in it as it should")
    return match[1]


def _signature(file: Path, seed: re.Pattern[bytes], nonce: str) -> bytes:
    """Reads the file anew, so that another secret can be put into it."""
    try:
        pair = nkeys.from_seed(bytearray(_found(file, seed)))
        return base64.b64encode(pair.sign(nonce.encode()))
    except (nkeys.NkeysError, ValueError):
        raise UnusableFileError("the secret in it is damaged") from None


def tls_context(address: ClusterAddress) -> ssl.SSLContext:
    """Which servers are believed, and by what certificate this client is known to them.

    Raises `DeclarationError` where a file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=address.tls_ca)
        if address.tls_cert is not None:
            # without a password of its own, OpenSSL would ask whoever sits at the terminal
            context.load_cert_chain(address.tls_cert, address.tls_key, password="")
    except OSError as error:
        raise DeclarationError(
            f"{address.place}: the files of the options tls_ca, tls_cert and tls_key can't be "
            f"used: {error.strerror or error}; give certificates and a key without a password, in "
            f"PEM, that this user may read"
        ) from None
    return context
