"""Waits and sizes that several rooms share: the same idea has the same value everywhere."""

from __future__ import annotations

from typing import Final

NEWS_SECONDS: Final = 0.25
"""The longest wait for news in one call: so soon a reader notices that it was closed."""

LOOK_SECONDS: Final = 0.005
"""Between two looks at what other tasks bring forward: shorter than their own work takes."""

OTHER_PROCESS_SECONDS: Final = 0.02
"""Between two looks at what another process may have done: nobody notices the delay."""

SHORTEST_PAUSE_SECONDS: Final = 0.000_5
"""Before the first retry: about what a commit takes, whose end is waited for."""

MAX_REMEMBERED: Final = 100_000
"""Names or keys remembered in one place: some 20 MB; past that, all are forgotten at once."""
