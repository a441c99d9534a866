"""What other processes find by its name in a module, as `pickle` finds functions and classes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any


def import_path(value: object, near: Iterable[object] = ()) -> tuple[str, str] | None:
    """The module and the name there that a value has; None where it has none.

    ``near`` are functions that are likely to be of the same module, which is looked at first.
    """
    likely = [getattr(one, "__module__", None) for one in near]
    for name in dict.fromkeys((*likely, *sorted(sys.modules))):
        module = sys.modules.get(name) if isinstance(name, str) else None
        for attribute, found in list(getattr(module, "__dict__", {}).items()):
            if found is value and name is not None:
                return name, attribute
    return None


def imported(module: str, name: str) -> Any:
    """What has that name in the module."""
    return getattr(importlib.import_module(module), name)
