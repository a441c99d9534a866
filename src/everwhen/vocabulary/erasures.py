"""Where a store says that somebody was forgotten, and that traces of it are left."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from everwhen.vocabulary.contract import Checkpoint

ERASURES: Final = "everwhen-erasures"
"""The stream that erasures are recorded in."""

PURGE_DUE: Final = f"{ERASURES}/purge"
"""The checkpoint that is there while something was deleted whose traces have to be purged."""


def purge_due() -> Checkpoint:
    """What says that a purge is due; another one each time, so that none is missed."""
    return Checkpoint(PURGE_DUE, 0, uuid4().bytes)
