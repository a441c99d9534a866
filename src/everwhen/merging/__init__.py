# Made from tools/front_door.toml: edit that, then `make sync`.
"""Merging: what was done on a branch, decided again on another one."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.merging._sync.merging import Merging
    from everwhen.merging.invariants import Invariant
    from everwhen.merging.merge_plan import MergeItem, MergePlan, PathConflict
    from everwhen.merging.merge_records import MergeRecord
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.merging._sync.merging": ("Merging",),
            "everwhen.merging.invariants": ("Invariant",),
            "everwhen.merging.merge_plan": ("MergeItem", "MergePlan", "PathConflict"),
            "everwhen.merging.merge_records": ("MergeRecord",),
        },
    )

__all__ = ["Invariant", "MergeItem", "MergePlan", "MergeRecord", "Merging", "PathConflict"]
