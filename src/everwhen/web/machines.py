"""Time machines that are kept, so that the next step from a place starts there."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeAlias

from everwhen import TimeMachine
from everwhen.backends.remembering import remember

AnyMachine: TypeAlias = TimeMachine[Any]

_MAX_MACHINES: Final = 8
"""Each holds the windows and waypoints of one state, up to 256 MB where that is huge."""


class RecentMachines:
    """The time machines that were used last. Safe from any thread, as they are themselves.

    A machine reads what was appended since: it remembers only what lies before the newest event.
    """

    def __init__(self, limit: int = _MAX_MACHINES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._newest_last: OrderedDict[Hashable, AnyMachine] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], AnyMachine]) -> AnyMachine:
        """The machine under a key, made if there is none."""
        with self._lock:
            found = self._newest_last.get(key)
            if found is None:
                found = make()
                remember(self._newest_last, key, found, self._limit)
            self._newest_last.move_to_end(key)
            return found
