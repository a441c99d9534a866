# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.merging`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.merging._async.merging import Merging
    from everwhen.merging.merge_plan import (
        Invariant,
        MergeItem,
        MergePlan,
        MergeRecord,
        PathConflict,
    )
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.merging._async.merging": ("Merging",),
            "everwhen.merging.merge_plan": (
                "Invariant",
                "MergeItem",
                "MergePlan",
                "MergeRecord",
                "PathConflict",
            ),
        },
    )

__all__ = ["Invariant", "MergeItem", "MergePlan", "MergeRecord", "Merging", "PathConflict"]
