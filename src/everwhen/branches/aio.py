# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.branches`, to be awaited."""

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
