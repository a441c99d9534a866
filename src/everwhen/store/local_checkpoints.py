"""Which checkpoints tell of what only this replica of a log has: its tables, its files.

They are saved and deleted as ``local``, see `everwhen.backends.engine.EngineTransaction`; all
others belong to the history and are the same on all replicas.
"""

from __future__ import annotations

from typing import Final

from everwhen.backends.engine import REPLICA
from everwhen.store.projection_records import PARKED, RECORDS
from everwhen.vocabulary.erasures import ERASURES, PURGE_DUE

_NAMES: Final = frozenset({ERASURES, PURGE_DUE, REPLICA})
_PREFIXES: Final = (RECORDS, PARKED + RECORDS, "history/")
"""The last is of who moves old history, in the room above."""


def is_local(name: str) -> bool:
    """Whether the checkpoint of that name is one that Everwhen keeps as ``local``."""
    return name in _NAMES or name.startswith(_PREFIXES)
