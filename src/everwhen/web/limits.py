"""Limits: how much a request may be, how long it may take, and how many may follow at once."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from everwhen.web.access import Caller
from everwhen.web.problems import TOO_LARGE, TOO_MANY, ProblemError, problem_answer


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one request may cost; times in seconds.

    ``live_answers`` is how many answers without an end (server-sent events) a caller may have open:
    a token, or where there are none an address.
    """

    body_bytes: int = 16 << 20
    header_bytes: int = 16 << 10
    request_seconds: float = 30.0
    live_answers: int = 64


def bounded(receive: Receive, most: int) -> Receive:
    """The same, until more has come than ``most`` bytes. Raises `ProblemError` then."""
    came = 0

    async def counting() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > most:
            raise too_large(most)
        return message

    return counting


def too_large(most: int) -> ProblemError:
    """What a body that is too large is answered with."""
    return ProblemError(TOO_LARGE, f"the body has more than {most} bytes; send less at a time")


class LiveAnswers:
    """The answers without an end that are open: so many per caller, all of them ended by `end`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return self._open.total()

    def end(self) -> None:
        """End those that are open, and all that begin from now on: the server stops."""
        self._ended.set()

    def counted(self, request: Request, caller: Caller, response: Response) -> Response:
        """The same answer, counted while it is open, and refused where that is one too many."""
        address = request.client.host if request.client else ""
        return _Counted(self, response, f"name {caller.name}" if caller.name else address)

    async def run(
        self, who: str, response: Response, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer, until it ends by itself or by `end`."""
        if self._open[who] >= self._most:
            refusal = ProblemError(
                TOO_MANY, f"{self._most} live answers are open for you already; close one"
            )
            await problem_answer(refusal)(scope, receive, send)
            return
        self._open[who] += 1
        try:
            await self._until_ended(response, scope, receive, send)
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]

    async def _until_ended(
        self, response: Response, scope: Scope, receive: Receive, send: Send
    ) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        answering = asyncio.ensure_future(response(scope, receive, noting))
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((answering, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_over = answering.done()
            for task in (answering, ending):
                task.cancel()
            await asyncio.gather(answering, ending, return_exceptions=True)
        if is_over:
            answering.result()
        elif begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Counted(Response):
    def __init__(self, live: LiveAnswers, response: Response, who: str) -> None:
        self.status_code = response.status_code
        self.background = None
        self.raw_headers = response.raw_headers
        self._live = live
        self._response = response
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._live.run(self._who, self._response, scope, receive, send)
