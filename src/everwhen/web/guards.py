"""What stands before every request: hosts, and headers that keep browsers careful."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everwhen.web.problems import BAD_REQUEST, ProblemError, problem_answer

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS: Final = tuple(
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": CONTENT_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
    }.items()
)


class Guards:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        # Names in a path may have slashes in them: they are decoded once the path is taken apart.
        raw = scope.get("raw_path")
        path = raw.decode("latin-1") if raw else quote(scope["path"], safe="/:@!$&'()*+,;=~")
        inner = {**scope, "path": path.partition("?")[0]}
        host = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "")
        if not self._is_allowed(host):
            refusal = ProblemError(
                BAD_REQUEST,
                f"host {host[:100]!r} isn't served here; allow it where the server starts",
            )
            await problem_answer(refusal)(inner, receive, careful)
            return
        await self._app(inner, receive, careful)

    def _is_allowed(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            head, colon, port = name.rpartition(":")
            name = head if colon and port.isdigit() else name
        return any(
            allowed == "*"
            or name == allowed.lower()
            or (allowed.startswith("*.") and name.endswith(allowed[1:].lower()))
            for allowed in self._hosts
        )
