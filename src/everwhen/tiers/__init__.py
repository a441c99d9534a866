# Made from tools/front_door.toml: edit that, then `make sync`.
"""Old history: compressed in segments, as a policy says, and the same for everyone who reads."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.tiers._sync.background_mover import BackgroundMover
    from everwhen.tiers._sync.history_manager import HistoryManager
    from everwhen.tiers.history_policy import HistoryPlan, HistoryPolicy, HistoryStatus
    from everwhen.vocabulary.contract import Compaction, Segment, SegmentSize
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.tiers._sync.background_mover": ("BackgroundMover",),
            "everwhen.tiers._sync.history_manager": ("HistoryManager",),
            "everwhen.tiers.history_policy": ("HistoryPlan", "HistoryPolicy", "HistoryStatus"),
            "everwhen.vocabulary.contract": ("Compaction", "Segment", "SegmentSize"),
        },
    )

__all__ = [
    "BackgroundMover",
    "Compaction",
    "HistoryManager",
    "HistoryPlan",
    "HistoryPolicy",
    "HistoryStatus",
    "Segment",
    "SegmentSize",
]
