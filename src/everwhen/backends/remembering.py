"""What is remembered for a while: a mapping that forgets its oldest."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(known: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value, and no more than ``most`` of them. The caller holds the mapping's lock."""
    known[key] = value
    while len(known) > most:
        known.popitem(last=False)
