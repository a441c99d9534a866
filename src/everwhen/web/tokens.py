"""Tokens: what programs and people show to be let in. Of each only its SHA-256 is kept.

A file of tokens has a line for each: its name, its scopes, and the digest::

    importer  read,append  sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final, cast

import msgspec

from everwhen.vocabulary.errors import DeclarationError
from everwhen.web.access import SCOPES, AccessScope, checked_scopes

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_RANDOM_BYTES: Final = 32
"""Nobody guesses 256 bits, so a fast digest is enough, and guesses need no counting."""


class AccessToken(msgspec.Struct, frozen=True):
    """Who shows the token, what they may, and the token's SHA-256."""

    name: str
    scopes: frozenset[AccessScope]
    digest: bytes

    def __repr__(self) -> str:
        return f"AccessToken({self.name!r}, {sorted(self.scopes)})"


class TokenList:
    """The tokens that are valid, found by what is shown or by name.

    Raises `DeclarationError` where two have one name, or are the same.
    """

    def __init__(self, tokens: Iterable[AccessToken]) -> None:
        self._by_name: dict[str, AccessToken] = {}
        for token in tokens:
            if token.name in self._by_name:
                raise DeclarationError(f"two tokens are named {token.name!r}; rename one")
            if any(token.digest == other.digest for other in self._by_name.values()):
                raise DeclarationError(
                    f"token {token.name!r}: another one is the same; make it new"
                )
            self._by_name[token.name] = token

    def shown(self, secret: str) -> AccessToken | None:
        """The token that this is, found in a time that doesn't depend on which."""
        digest = _digest(secret)
        found = None
        for token in self._by_name.values():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def named(self, name: str) -> AccessToken | None:
        """The token of that name."""
        return self._by_name.get(name)


def new_token(name: str, scopes: AbstractSet[AccessScope]) -> tuple[str, AccessToken]:
    """A new random token, and what is kept of it. Raises `DeclarationError` for a wrong name."""
    secret = f"ew_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    return secret, AccessToken(_checked_name(name), checked_scopes(scopes), _digest(secret))


def token_line(token: AccessToken) -> str:
    """The line that a file of tokens has of it."""
    scopes = ",".join(scope for scope in SCOPES if scope in token.scopes)
    return f"{token.name}  {scopes}  sha256:{token.digest.hex()}\n"


def read_tokens(text: str) -> tuple[AccessToken, ...]:
    """The tokens of a file's text; empty lines, and those that begin with #, say nothing.

    Raises `DeclarationError`, which names the line, but never shows it: it may hold a token.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            found.append(_of_words(*words))
        except (TypeError, ValueError, DeclarationError):
            raise DeclarationError(
                f"tokens, line {number}: write a name, scopes ({','.join(SCOPES)}) and "
                f"sha256:DIGEST; 'everwhen token' makes such lines"
            ) from None
    if not found:
        raise DeclarationError("there are no tokens; 'everwhen token' makes one")
    return tuple(found)


def _of_words(name: str, scopes: str, digest: str) -> AccessToken:
    hexadecimal = _DIGEST.fullmatch(digest)
    if hexadecimal is None:
        raise ValueError("digest")
    given = cast("frozenset[AccessScope]", frozenset(scopes.split(",")))
    return AccessToken(_checked_name(name), checked_scopes(given), bytes.fromhex(hexadecimal[1]))


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise DeclarationError(
            "a token's name has up to 100 letters, digits and . _ @ + -; name who will use it"
        )
    return name


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
