# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.undo`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.undo._async.undo import Undo
    from everwhen.undo.compensations import Compensations
    from everwhen.undo.dependents import Dependent
    from everwhen.undo.undo_plan import ByDifference, Uncompensated, UndoPlan
    from everwhen.undo.undo_targets import Correlation, Positions, UndoTarget
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.undo._async.undo": ("Undo",),
            "everwhen.undo.compensations": ("Compensations",),
            "everwhen.undo.dependents": ("Dependent",),
            "everwhen.undo.undo_plan": ("ByDifference", "Uncompensated", "UndoPlan"),
            "everwhen.undo.undo_targets": ("Correlation", "Positions", "UndoTarget"),
        },
    )

__all__ = [
    "ByDifference",
    "Compensations",
    "Correlation",
    "Dependent",
    "Positions",
    "Uncompensated",
    "Undo",
    "UndoPlan",
    "UndoTarget",
]
