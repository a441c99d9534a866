"""Which checkpoints tell of what only this replica of a log has: its tables, its files.

They are saved and deleted as ``local``, see `everwhen.backends.engine.EngineTransaction`. All
others are the same on all replicas, and belong to the history, but for those that a log keeps
about itself: these stay with the log, too, when its history is copied.
"""

from __future__ import annotations

from typing import Final

from everwhen.backends.engine import LOG_RECORDS, REPLICA
from everwhen.store.projection_records import PARKED, RECORDS
from everwhen.vocabulary.erasures import ERASURES, PURGE_DUE

_NAMES: Final = frozenset({ERASURES, PURGE_DUE, REPLICA})
_PREFIXES: Final = (RECORDS, PARKED + RECORDS, "history/", LOG_RECORDS)
"""``history/`` is of who moves old history, in the room above."""


def is_local(name: str) -> bool:
    """Whether the checkpoint of that name belongs to a replica, or to its log, and no history."""
    return name in _NAMES or name.startswith(_PREFIXES)
