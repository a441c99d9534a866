"""Where a store says that somebody was forgotten, and that traces of it are left."""

from __future__ import annotations

from typing import Final

ERASURES: Final = "everwhen-erasures"
"""The stream that erasures are recorded in."""

PURGE_DUE: Final = f"{ERASURES}/purge"
"""The checkpoint that is there while something was deleted whose traces have to be purged."""
