# Made from tools/front_door.toml: edit that, then `make sync`.
"""State: folds and aggregates, snapshots of them, and values side by side."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.state.aggregate import Aggregate
    from everwhen.state.differences import Change, Diff, diff
    from everwhen.state.fold import Document, Fold, document, documents
    from everwhen.state.paths import MISSING, plain
    from everwhen.state.snapshots import (
        Adaptive,
        EveryEvents,
        EveryPeriod,
        Loaded,
        NeverSnapshot,
        ReplayCost,
        Retention,
        SnapshotStrategy,
        WhenReplayTakes,
    )
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.state.aggregate": ("Aggregate",),
            "everwhen.state.differences": ("Change", "Diff", "diff"),
            "everwhen.state.fold": ("Document", "Fold", "document", "documents"),
            "everwhen.state.paths": ("MISSING", "plain"),
            "everwhen.state.snapshots": (
                "Adaptive",
                "EveryEvents",
                "EveryPeriod",
                "Loaded",
                "NeverSnapshot",
                "ReplayCost",
                "Retention",
                "SnapshotStrategy",
                "WhenReplayTakes",
            ),
        },
    )

__all__ = [
    "MISSING",
    "Adaptive",
    "Aggregate",
    "Change",
    "Diff",
    "Document",
    "EveryEvents",
    "EveryPeriod",
    "Fold",
    "Loaded",
    "NeverSnapshot",
    "ReplayCost",
    "Retention",
    "SnapshotStrategy",
    "WhenReplayTakes",
    "diff",
    "document",
    "documents",
    "plain",
]
