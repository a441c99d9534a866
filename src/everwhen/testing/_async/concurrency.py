"""Doing several things at once in an event loop; the other flavour does it with threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS: Final = 600
"""Far longer than any call takes: it ends what hangs, and nothing because the machine is busy."""

pause = asyncio.sleep


async def within(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The call's result. Raises ``AssertionError`` where it hangs."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await call()
    except TimeoutError as error:
        raise AssertionError(f"it should have ended within {PATIENCE_SECONDS} s") from error


async def together(*calls: Callable[[], Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """The results, or errors, of calls that run at the same time."""

    async def run() -> list[T | BaseException]:
        return await asyncio.gather(*(call() for call in calls), return_exceptions=True)

    return await within(run)


class Beside(Generic[T]):
    """A call that runs beside the test."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._task = asyncio.ensure_future(call())

    async def result(self) -> T:
        """Its result or error, once it has ended."""

        async def end() -> T:
            return await self._task

        return await within(end)
