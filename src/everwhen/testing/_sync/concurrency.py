"""Doing several things at once in threads; the other flavour does it in an event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS: Final = 600
"""Far longer than any call takes: it ends what hangs, and nothing because the machine is busy."""

pause = time.sleep


def within(call: Callable[[], T]) -> T:
    """The call's result. Raises ``AssertionError`` where it hangs."""
    return Beside(call).result()


def together(*calls: Callable[[], T]) -> list[T | BaseException]:
    """The results, or errors, of calls that run at the same time."""
    outcomes: list[T | BaseException] = []
    for running in [Beside(call) for call in calls]:
        try:
            outcomes.append(running.result())
        except Exception as error:  # noqa: BLE001 (an outcome like any other)
            outcomes.append(error)
    return outcomes


class Beside(Generic[T]):
    """A call that runs beside the test."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 (raised again by result)
            self._error = error

    def result(self) -> T:
        """Its result or error, once it has ended."""
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            raise AssertionError(f"it should have ended within {PATIENCE_SECONDS} s")
        if self._error is not None:
            raise self._error
        return self._results[0]
