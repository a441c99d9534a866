"""Waiting a moment for those who are about to come, so that work is done for all of them at once.

Where many ask again as soon as they are answered, one half would else come while the work is done
for the other half, and the halves would take turns for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_MOST_SECONDS: Final = 0.005
_PART: Final = 4
"""The wait is this part of what the last work took: it gains more than it costs, or nearly so."""
_LOOK_SECONDS: Final = 0.000_05


class Gathering:
    """How many came together for the last work, and what it took. Used by one at a time."""

    __slots__ = ("_began", "_took", "company")

    def __init__(self) -> None:
        self.company = 0
        """For how many the last work was, with those who came meanwhile."""
        self._took = self._began = 0.0

    def wait(self, present: Callable[[], int]) -> None:
        """Wait until as many are present as last time, or for a part of what that took.

        Then the work begins.
        """
        patience = min(self._took / _PART, _MOST_SECONDS)
        until = time.perf_counter() + patience
        while patience > _LOOK_SECONDS and present() < self.company:
            if time.perf_counter() > until:
                break
            time.sleep(_LOOK_SECONDS)
        self._began = time.perf_counter()

    def ended(self, company: int) -> None:
        """The work has ended, and was for so many, with those who came meanwhile."""
        self._took = time.perf_counter() - self._began
        self.company = company
