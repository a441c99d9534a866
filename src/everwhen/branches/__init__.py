# Made from tools/front_door.toml: edit that, then `make sync`.
"""Branches: a log beside its parent's, read as one."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.backends.branch_records import BranchInfo
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.backends.branch_records": ("BranchInfo",),
        },
    )

__all__ = ["BranchInfo"]
