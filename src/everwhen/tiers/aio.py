# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.tiers`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.store.retirement_records import HistoryRetired
    from everwhen.tiers._async.background_mover import BackgroundMover
    from everwhen.tiers._async.history_manager import HistoryManager
    from everwhen.tiers.history_policy import (
        HeldBack,
        HistoryPlan,
        HistoryPolicy,
        HistoryStatus,
        MovedSegment,
    )
    from everwhen.tiers.retirement_records import Retirement
    from everwhen.vocabulary.contract import ArchiveObject, Compaction, Segment, SegmentSize
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.store.retirement_records": ("HistoryRetired",),
            "everwhen.tiers._async.background_mover": ("BackgroundMover",),
            "everwhen.tiers._async.history_manager": ("HistoryManager",),
            "everwhen.tiers.history_policy": (
                "HeldBack",
                "HistoryPlan",
                "HistoryPolicy",
                "HistoryStatus",
                "MovedSegment",
            ),
            "everwhen.tiers.retirement_records": ("Retirement",),
            "everwhen.vocabulary.contract": (
                "ArchiveObject",
                "Compaction",
                "Segment",
                "SegmentSize",
            ),
        },
    )

__all__ = [
    "ArchiveObject",
    "BackgroundMover",
    "Compaction",
    "HeldBack",
    "HistoryManager",
    "HistoryPlan",
    "HistoryPolicy",
    "HistoryRetired",
    "HistoryStatus",
    "MovedSegment",
    "Retirement",
    "Segment",
    "SegmentSize",
]
