"""Long tables of cases: whole in one flavour, and some of them in its generated twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

_OF: Final = 4


def thinned(cases: Sequence[Any], module: str) -> list[Any]:
    """All cases where the module is of the async flavour, and every fourth where it is a twin.

    For what no flavour has a part in, such as how an engine stores history: the flavours
    themselves are tested by whole tables on memory, SQLite and PostgreSQL.
    """
    return list(cases[::_OF] if "._sync." in module else cases)
