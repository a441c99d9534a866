# Made from tools/front_door.toml: edit that, then `make sync`.
"""Expressions: what people type to ask something of a state."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.expressions.expression import Expression, Variables
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.expressions.expression": ("Expression", "Variables"),
        },
    )

__all__ = ["Expression", "Variables"]
