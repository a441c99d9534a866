"""OpenRequests to servers whose answers threads wait for, at the price of few turns of the event loop.

The library's own requests have a task and a timeout each, and the task wakes before the thread. An
answer that is heard here wakes the thread itself.
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
    """One question; ``answer`` is for the thread that asks, all else for the event loop's."""

    __slots__ = ("answer", "number", "seconds", "subject", "timer")

    def __init__(self, subject: str, seconds: float) -> None:
        self.subject = subject
        self.seconds = seconds
        self.answer: Future[Msg] = Future()
        self.number = ""
        self.timer: asyncio.TimerHandle | None = None


class OpenRequests:
    """Those of one connection that are open. ``explained`` says why one had no answer."""

    def __init__(
        self, inbox: str, explained: Callable[[OpenRequest, Exception], Exception]
    ) -> None:
        self.inbox = inbox
        self._explained = explained
        self._numbers = itertools.count(1)
        self._open: dict[str, OpenRequest] = {}

    def add(self, question: OpenRequest) -> str:
        """The subject for its answer."""
        question.number = number = str(next(self._numbers))
        self._open[number] = question
        return f"{self.inbox}.{number}"

    def limit(self, question: OpenRequest) -> None:
        """It was sent: end it where no answer comes in its time."""
        if not question.answer.done():
            question.timer = asyncio.get_running_loop().call_later(
                question.seconds, self.end, question, NatsTimeoutError()
            )

    def hear(self, message: Msg) -> None:
        """Take an answer; one to a question that has ended is dropped."""
        question = self._open.get(message.subject.rpartition(".")[2])
        if question is None:
            return
        if (message.headers or {}).get("Status") == _NO_RESPONDERS:
            self.end(question, NoRespondersError())
        else:
            self._close(question)
            question.answer.set_result(message)

    def end(self, question: OpenRequest, error: Exception) -> None:
        """It gets no answer."""
        self._close(question)
        if not question.answer.done():
            question.answer.set_exception(self._explained(question, error))

    def end_all(self, error: Exception) -> None:
        """Nothing is heard any more."""
        for question in list(self._open.values()):
            self.end(question, error)

    def _close(self, question: OpenRequest) -> None:
        self._open.pop(question.number, None)
        if question.timer is not None:
            question.timer.cancel()
