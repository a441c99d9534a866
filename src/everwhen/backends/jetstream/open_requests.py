"""Requests whose answers threads wait for, at the price of few turns of the event loop.

The library's own requests have a task and a timeout each, and the task wakes before the thread.
An answer that is heard here wakes the thread itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

_NO_RESPONDERS: Final = "503"


class OpenRequest:
    """One request; ``answer`` is for the thread that waits, all else for the event loop's."""

    __slots__ = ("answer", "number", "seconds", "subject", "timer")

    def __init__(self, subject: str, seconds: float) -> None:
        self.subject = subject
        self.seconds = seconds
        self.answer: Future[Msg] = Future()
        self.number = ""
        self.timer: asyncio.TimerHandle | None = None


class OpenRequests:
    """Those of one connection. ``explained`` says better than an error why one has no answer."""

    def __init__(
        self, inbox: str, explained: Callable[[OpenRequest, Exception], Exception]
    ) -> None:
        self.inbox = inbox
        self._explained = explained
        self._numbers = itertools.count(1)
        self._open: dict[str, OpenRequest] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, request: OpenRequest) -> str:
        """The subject for its answer."""
        request.number = number = str(next(self._numbers))
        self._open[number] = request
        return f"{self.inbox}.{number}"

    def limit(self, request: OpenRequest) -> None:
        """It was sent: end it where no answer comes in its time."""
        if not request.answer.done():
            request.timer = asyncio.get_running_loop().call_later(
                request.seconds, self.end, request, NatsTimeoutError()
            )

    def hear(self, message: Msg) -> None:
        """Take an answer. One to a request that has ended is nobody's."""
        request = self._open.get(message.subject.rpartition(".")[2])
        if request is None:
            return
        if (message.headers or {}).get("Status") == _NO_RESPONDERS:
            self.end(request, NoRespondersError())
        else:
            self._close(request)
            request.answer.set_result(message)

    def end(self, request: OpenRequest, error: Exception) -> None:
        """It gets no answer."""
        self._close(request)
        if not request.answer.done():
            request.answer.set_exception(self._explained(request, error))

    def end_all(self, error: Exception) -> None:
        """Nothing is heard any more."""
        for request in list(self._open.values()):
            self.end(request, error)

    def _close(self, request: OpenRequest) -> None:
        self._open.pop(request.number, None)
        if request.timer is not None:
            request.timer.cancel()
