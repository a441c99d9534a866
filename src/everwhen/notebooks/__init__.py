# Made from tools/front_door.toml: edit that, then `make sync`.
"""Notebooks: values of one kind as a table; each value shows itself."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import Table
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.vocabulary.notebook_html": ("Table",),
        },
    )

__all__ = ["Table"]
