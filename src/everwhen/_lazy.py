"""Rooms that load when used: a module's public names, each imported at its first use (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(
    module: str, names: Mapping[str, tuple[str, ...]], *, extra: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A module's ``__getattr__`` and ``__dir__`` for names that other modules define.

    ``extra`` is the extra of Everwhen's that installs what those modules need.
    """
    places = {name: place for place, found in names.items() for name in found}

    def get(name: str) -> Any:
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(place), name)
        except ModuleNotFoundError as error:
            if not extra or (error.name or "").startswith("everwhen"):
                raise
            raise ModuleNotFoundError(
                f"{module} needs the library {error.name}: pip install 'everwhen[{extra}]'",
                name=error.name,
            ) from error
        setattr(sys.modules[module], name, value)
        return value

    return get, lambda: sorted(places)
