"""Connections to a server: how many at once, and how long one may take to ask for something."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from everwhen.web.guards import ANSWER_HEADERS
from everwhen.web.problems import BAD_REQUEST, TOO_MANY, ProblemError, problem_answer

_CLOSING: Final = {**dict(ANSWER_HEADERS), "connection": "close"}


class CarefulConnection(H11Protocol):
    """A connection that is closed where no whole request comes in time.

    ``header_seconds`` is how long the headers of a request may take; ``most`` how many connections
    there may be. Beyond that each is told so, and closed.
    """

    header_seconds = 15.0
    most = 2_000
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has come."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.app = _full
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Bytes have come; while they are no request, the time goes on."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """They have gone."""
        self._wait_no_more()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (it says too little)
        """Answer what is no request."""
        answer = problem_answer(
            ProblemError(
                BAD_REQUEST,
                "this is no request of HTTP/1.1, or its headers are far too large",
                headers=dict(_CLOSING),
            )
        )
        events: tuple[Any, ...] = (
            h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

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


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = ProblemError(
        TOO_MANY, "there are too many connections; try again later", headers=dict(_CLOSING)
    )
    await problem_answer(refusal)(scope, receive, send)
