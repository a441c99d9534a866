"""A time machine that other processes can open by its name, and conditions on its states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everwhen import Event, Fold, TimeMachine, open_store


class Counted(Event):
    by: int


counter = Fold("counter", lambda: 0)
other = Fold("other", lambda: 0)


@other.on(Counted)
@counter.on(Counted)
def _(state: int, event: Counted) -> int:
    if event.by > 1_000:
        raise ValueError("that is too much")
    return state + event.by


@contextmanager
def opened(path: Path, fold: Fold[int] | None = None) -> Iterator[TimeMachine[int]]:
    with open_store(path, events=[Counted], read_only=True) as store:
        yield TimeMachine(store, counter if fold is None else fold, keep=False)


@contextmanager
def another(path: Path) -> Iterator[TimeMachine[int]]:
    with opened(path, other) as machine:
        yield machine


def is_seven(state: int) -> bool:
    return state % 5_000 == 7


def is_small(state: int) -> bool:
    return state < 4_321


def is_huge(state: int) -> bool:
    return state > 1_000_000


def is_anything(state: int) -> bool:
    return state >= 0
