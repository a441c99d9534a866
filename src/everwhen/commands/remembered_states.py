"""States that were loaded, kept at hand while they may still be the newest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The most recently used of at most that many values. Safe from any thread.

    What is remembered may be out of date: its user has to find out before it matters.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, name: Hashable) -> T | None:
        """The value of that name, if it is still there."""
        with self._lock:
            value = self._values.get(name)
            if value is not None:
                self._values.move_to_end(name)
            return value

    def keep(self, name: Hashable, value: T) -> None:
        """Remember a value, in place of the one of that name."""
        if self._size <= 0:
            return
        with self._lock:
            self._values[name] = value
            self._values.move_to_end(name)
            if len(self._values) > self._size:
                self._values.popitem(last=False)

    def forget(self, name: Hashable) -> None:
        """Drop the value of that name."""
        with self._lock:
            self._values.pop(name, None)
