"""Access by tokens: a program shows one with each request, a browser once, for a cookie.

The cookie holds no token, but who it is of, until when, and a MAC: nothing has to be kept for it
here, and whoever reads it can't turn it into a token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from everwhen.web.access import SCOPES, AccessScope, Caller, checked_scopes
from everwhen.web.problems import FORBIDDEN, ProblemError
from everwhen.web.tokens import AccessToken, TokenList

SESSION_SECONDS: Final = 24 * 3600
"""A day at work and the night after it; then the page asks for the token again."""
_SAFE: Final = ("GET", "HEAD")


class TokenAccess:
    """Lets in who shows one of the tokens, as ``Authorization: Bearer …`` or by a session's cookie.

    ``most`` are the scopes that anybody gets here, whatever their token has. A session's cookie is
    signed with ``session_key``: by default a random one, so sessions end with the process; several
    workers need the same. ``behind_tls`` says that browsers come by TLS though this server doesn't
    see it, by a proxy. ``cookie`` begins the cookie's name: two applications of one host need two.

    Raises `DeclarationError` for two tokens of one name, and for unknown scopes.
    """

    def __init__(
        self,
        tokens: Iterable[AccessToken],
        *,
        most: AbstractSet[AccessScope] = frozenset(SCOPES),
        session_key: bytes | None = None,
        cookie: str = "everwhen",
        behind_tls: bool = False,
    ) -> None:
        self._tokens = TokenList(tokens)
        self._most = checked_scopes(most)
        self._key = session_key or secrets.token_bytes(32)
        self._cookie = cookie
        self._behind_tls = behind_tls

    async def caller(self, request: Request) -> Caller | None:
        """Who it is, by the token if there is one, and else by the cookie. Raises `ProblemError`.

        What changes anything by a cookie has to say where it comes from, as browsers do.
        """
        given = request.headers.get("authorization")
        if given is not None:
            scheme, _, secret = given.partition(" ")
            token = self._tokens.shown(secret.strip()) if scheme.lower() == "bearer" else None
        else:
            token = self._of_cookie(request.cookies.get(self._cookie_name(request), ""))
            says_whence = {"origin", "sec-fetch-site"} & set(request.headers.keys())
            if token is not None and request.method not in _SAFE and not says_whence:
                raise ProblemError(
                    FORBIDDEN,
                    "a cookie counts only with Origin or Sec-Fetch-Site, which browsers send; "
                    "programs give a token: Authorization: Bearer …",
                )
        return None if token is None else Caller(token.name, token.scopes & self._most)

    def begin_session(self, request: Request, response: Response, caller: Caller) -> None:
        """Give the browser a cookie in the place of its token."""
        token = self._tokens.named(caller.name or "")
        if token is not None:
            until = int(time.time()) + SESSION_SECONDS
            text = f"{until}:{token.name}:{self._mac(until, token)}"
            self._set_cookie(request, response, text, SESSION_SECONDS)

    def end_session(self, request: Request, response: Response) -> None:
        """Take the cookie away from the browser."""
        self._set_cookie(request, response, "", 0)

    def _set_cookie(self, request: Request, response: Response, text: str, seconds: int) -> None:
        response.set_cookie(
            self._cookie_name(request),
            text,
            max_age=seconds,
            path="/",
            secure=self._is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def _cookie_name(self, request: Request) -> str:
        """Browsers share cookies between the ports of a host, so the name has it where it can."""
        if self._is_secure(request):
            return f"__Host-{self._cookie}"
        return f"{self._cookie}-{request.url.port or 80}"

    def _is_secure(self, request: Request) -> bool:
        return self._behind_tls or request.url.scheme == "https"

    def _of_cookie(self, text: str) -> AccessToken | None:
        until, _, rest = text.partition(":")
        name, _, mac = rest.partition(":")
        token = self._tokens.named(name)
        if token is None or not until.isascii() or not until.isdigit() or len(until) > 12:
            return None
        is_ours = hmac.compare_digest(mac.encode(), self._mac(int(until), token).encode())
        return token if is_ours and int(until) > time.time() else None

    def _mac(self, until: int, token: AccessToken) -> str:
        """Another token of the same name has other ones."""
        said = f"{until}:{token.name}:".encode() + token.digest
        return hmac.new(self._key, said, hashlib.sha256).hexdigest()
