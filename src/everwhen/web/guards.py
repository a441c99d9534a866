"""What stands before every request: hosts, origins and sizes; and headers on every answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everwhen.web.hosting import Hosting
from everwhen.web.limits import bounded, too_large
from everwhen.web.page_start import START_SOURCE
from everwhen.web.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    HEADERS_TOO_LARGE,
    UNSUPPORTED_MEDIA,
    ProblemError,
    problem_answer,
)

CONTENT_POLICY: Final = (
    f"default-src 'none'; script-src 'self' {START_SOURCE}; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
ANSWER_HEADERS: Final = (
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
)
_HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in ANSWER_HEADERS)
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_OF_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
"""What any page may have a browser send anywhere, without asking."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Guards:
    """An ASGI application around another one.

    ``allowed_hosts`` are the names that it is reached by, ``origins`` those of other sites whose
    pages may ask, such as ``https://dash.example``.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosting: Hosting,
        *,
        allowed_hosts: Iterable[str],
        origins: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._hosting = hosting
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self._domains = tuple(host[1:] for host in self._hosts if host.startswith("*."))
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def end_live_answers(self) -> None:
        """End the server-sent events that are open: for when the server is about to stop.

        Servers wait for open answers, and these have no end of their own.
        """
        self._hosting.live.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
                spent = time.perf_counter() - began
                self._hosting.metrics.count(scope["method"], message["status"], spent)
            await send(message)

        inner = _with_raw_path(scope)
        most = self._hosting.limits.body_bytes
        try:
            self._check(inner)
        except ProblemError as refusal:
            await problem_answer(refusal)(inner, receive, careful)
            return
        await self._app(inner, bounded(receive, most), careful)

    def _check(self, scope: Scope) -> None:
        """Raises `ProblemError` for what goes no further."""
        headers = {  # of those that came twice, the first one
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        }
        limits = self._hosting.limits
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > limits.header_bytes:
            raise ProblemError(
                HEADERS_TOO_LARGE, f"the headers have more than {limits.header_bytes} bytes"
            )
        host = headers.get("host", "")
        if sum(name == b"host" for name, _ in scope["headers"]) > 1 or not self._is_allowed(host):
            raise ProblemError(
                BAD_REQUEST,
                f"host {host[:100]!r} isn't served here; allow it where the server starts",
            )
        self._check_whence(scope, headers)
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > limits.body_bytes:
            raise too_large(limits.body_bytes)
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] not in _SAFE and media in _OF_FORMS:
            raise ProblemError(UNSUPPORTED_MEDIA, f"the content is {media}; send application/json")

    def _is_allowed(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            head, colon, port = name.rpartition(":")
            name = head if colon and port.isdigit() else name
        return name in self._hosts or "*" in self._hosts or name.endswith(self._domains)

    def _check_whence(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Pages of other sites neither change anything here nor learn anything: `ProblemError`.

        They may link to it. What isn't a browser sends neither header.
        """
        origin = headers.get("origin")
        if origin is not None and origin.lower() in self._origins:
            return
        if origin is not None and not _is_own(origin, headers.get("host", "")):
            raise ProblemError(
                FORBIDDEN, f"pages of {origin[:100]!r} may not ask here; allow it by name (cors)"
            )
        site = headers.get("sec-fetch-site", "none")
        is_link = (
            scope["method"] in _SAFE
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        if site not in ("same-origin", "none") and not is_link:
            raise ProblemError(FORBIDDEN, "a page of another site may only link here")


def _is_own(origin: str, host: str) -> bool:
    """Whether the origin is of this host and port; a proxy may have changed the scheme."""
    try:
        from_where = urlsplit(origin)
        own = urlsplit(f"{from_where.scheme}://{host}")
        ports = from_where.port, own.port
    except ValueError:
        return False
    default = _DEFAULT_PORTS.get(from_where.scheme)
    return (
        default is not None
        and from_where.hostname == own.hostname
        and (ports[0] or default) == (ports[1] or default)
    )


def _with_raw_path(scope: Scope) -> Scope:
    """The same, with its path as it was sent: names in it may have slashes, as %2F.

    A server that mounts the application may have taken its prefix off the decoded path only; it is
    the root path then, as ASGI has it.
    """
    raw = scope.get("raw_path")
    if not raw:
        return {**scope, "path": quote(scope["path"], safe="/:@!$&'()*+,;=~")}
    path = raw.decode("latin-1").partition("?")[0]
    decoded = unquote(path) if "%" in path else path
    if decoded == scope["path"]:
        return {**scope, "path": path}
    if not decoded.endswith(scope["path"]):
        return {**scope, "path": quote(scope["path"], safe="/:@!$&'()*+,;=~")}
    segments = path.split("/")
    mounted = decoded[: -len(scope["path"])].count("/") + 1
    return {**scope, "path": path, "root_path": "/".join(segments[:mounted])}
