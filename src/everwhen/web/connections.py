"""Connections to a server: how many at once, and how long one may take to ask for something."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from everwhen.web.guards import ANSWER_HEADERS
from everwhen.web.problems import BAD_REQUEST, TOO_MANY, ProblemError, problem_answer

_CLOSING: Final = {**dict(ANSWER_HEADERS), "connection": "close"}

_JOINED_BYTES: Final = 1 << 14
"""With that much there is little to win, and what a client doesn't take must not pile up here."""


class CarefulConnection(HttpToolsProtocol):
    """A connection that is closed where no whole request comes in time.

    ``header_seconds`` is how long the headers of a request may take, and ``header_bytes`` how large
    they may get: more than the application takes, so that it is what says no, but for what is far
    too large. ``most`` is how many connections there may be; beyond that each is told so, and
    closed. ``most_waiting`` is how many requests may wait on one for the answers before theirs.
    """

    header_seconds = 15.0
    header_bytes = 64 << 10
    most = 2_000
    most_waiting = 64
    _waiting: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    """What has come since there were headers or a part of a body. The parser itself has no limit
    on what it holds until then."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has come."""
        super().connection_made(transport)
        self.transport = _JoinedWrites(transport, self.loop)  # type: ignore[assignment]
        if len(self.connections) > self.most:
            self.app = _full
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Bytes have come; while they are no request, the time goes on."""
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > self.header_bytes and not self.transport.is_closing():
            self.send_400_response("")
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def on_headers_complete(self) -> None:
        """A request has come, perhaps without its body."""
        if len(self.pipeline) >= self.most_waiting:
            raise ValueError("too many requests wait for an answer")
        super().on_headers_complete()
        self._unread_bytes = 0
        # what follows a body in chunks is no header of the request: those were checked already
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """A part of a request's body has come."""
        self._unread_bytes = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """They have gone."""
        self._wait_no_more()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (it says too little)
        """Answer what is no request; in the middle of an answer nothing else can be said."""
        is_answering = self.cycle is not None and self.cycle.response_started
        if self.pipeline or (is_answering and not self.cycle.response_complete):
            self.transport.close()
            return
        answer = problem_answer(
            ProblemError(
                BAD_REQUEST,
                "this is no request of HTTP/1.1, or its headers are far too large",
                headers=dict(_CLOSING),
            )
        )
        headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        content = bytes(answer.body)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (headers, content))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """There is no other protocol here: the request is answered, and nothing read after it."""
        self.cycle.keep_alive = False

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(self.header_seconds, self._waited)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _waited(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.abort()


class _JoinedWrites:
    """A transport that sends an answer's headers and its content in one go.

    What is written waits until the event loop's next round, or until there is much of it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Send the bytes soon."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)
        self._bytes += len(data)
        if self._bytes > _JOINED_BYTES:
            self._send()

    def close(self) -> None:
        """Send what was written, and no more."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._written:
            self._transport.write(b"".join(self._written))
            self._written.clear()
            self._bytes = 0


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = ProblemError(
        TOO_MANY, "there are too many connections; try again later", headers=dict(_CLOSING)
    )
    await problem_answer(refusal)(scope, receive, send)
