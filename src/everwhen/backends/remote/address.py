"""Where a server is, and by which token one gets in."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from everwhen.vocabulary.errors import DeclarationError

TOKEN_VARIABLE: Final = "EVERWHEN_TOKEN"  # noqa: S105 (a name)
_API: Final = "/v1"


class ServerAddress(msgspec.Struct, frozen=True):
    """A server's address. ``path`` is where its API begins, ``branch`` one of its store's.

    ``token`` is from the URL, or else from the environment; it is never shown.
    """

    is_secure: bool
    host: str
    port: int
    path: str
    branch: str | None = None
    token: str | None = None

    @classmethod
    def parsed(cls, url: str) -> ServerAddress:
        """What a URL says: ``https://token@host:port/where-it-is-mounted``.

        It may also be that of the API, ``…/v1``, or of a branch, ``…/v1/branches/name``. Raises
        `DeclarationError`, which never quotes it: it may have a token.
        """
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            host = None
        if not host or parts.query or parts.fragment or parts.password or not url.isascii():
            raise DeclarationError(
                "the server's URL can't be read; write it as https://host:port or "
                "https://token@host:port/path, with what is special in the token as %XX"
            )
        is_secure = parts.scheme.lower() == "https"
        path, branch = parts.path.rstrip("/"), None
        before, mark, name = path.rpartition(f"{_API}/branches/")
        if mark and name and "/" not in name:
            path, branch = before, unquote(name)
        path = path.removesuffix(_API)
        token = unquote(parts.username) if parts.username else os.environ.get(TOKEN_VARIABLE)
        if token and not (token.isascii() and token.isprintable()):
            raise DeclarationError("the server's token has characters that no header may have")
        port = port or (443 if is_secure else 80)
        return cls(is_secure, host, port, path + _API, branch, token or None)

    def on_branch(self, name: str) -> ServerAddress:
        """The address of a branch of the same store."""
        return msgspec.structs.replace(self, branch=name)

    @property
    def log_path(self) -> str:
        """The path that those of the log protocol are below."""
        branch = "" if self.branch is None else f"/branches/{quote(self.branch, safe='')}"
        return f"{self.path}{branch}/log"

    @property
    def place(self) -> str:
        """Which store it is, without saying how one gets in."""
        scheme = "https" if self.is_secure else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        branch = "" if self.branch is None else f"/branches/{quote(self.branch, safe='')}"
        mount = self.path if branch else self.path.removesuffix(_API)
        return f"{scheme}://{host}:{self.port}{mount}{branch}"

    def __repr__(self) -> str:
        return f"ServerAddress({self.place!r})"
