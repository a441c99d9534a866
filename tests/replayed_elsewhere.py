"""Folds that other processes find by their names, and stores of every kind to replay them over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from everwhen import (
    Commit,
    Event,
    EventTypes,
    Fold,
    KeyFile,
    NewEvent,
    Personal,
    RecordedEvent,
    Store,
    UnknownEvent,
    Vault,
    Write,
    open_store,
)
from everwhen.codec import Upcast
from everwhen.store.replay_workers import outcome_of
from everwhen.system.object_storage import object_url
from everwhen.testing import ManualClock
from everwhen.tiers import SegmentSize
from everwhen.vocabulary.contract import Archive, Evict, Seal

START = datetime(2026, 1, 1, tzinfo=UTC)


class Paid(Event):
    tag_fields = ("by",)

    by: str
    amount: int


class Moved(Event):
    schema_version = 2

    to: str


class Joined(Event):
    data_subject = "who"

    who: str
    name: Personal[str]


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    return {"to": data["place"]}


EVENTS = EventTypes(Paid, Moved, upcasts=[Upcast("Moved", 1, _renamed)])


class Account(msgspec.Struct, frozen=True):
    """What was paid, where one is, and who: what was last said wins."""

    paid: int = 0
    at: str | None = None
    names: tuple[str, ...] = ()


account = Fold("account", Account)


@account.on(Paid)
def _(state: Account, event: Paid) -> Account:
    if event.amount > 1_000_000:
        raise ValueError("that is too much")
    return msgspec.structs.replace(state, paid=state.paid + event.amount)


@account.on(Moved)
def _(state: Account, event: Moved) -> Account:
    return msgspec.structs.replace(state, at=event.to)


@account.on(Joined)
def _(state: Account, event: Joined) -> Account:
    return msgspec.structs.replace(state, names=(*state.names, str(event.name)))


@account.merge
def _(earlier: Account, later: Account) -> Account:
    at = earlier.at if later.at is None else later.at
    return Account(earlier.paid + later.paid, at, earlier.names + later.names)


positions: Fold[list[int]] = Fold("positions", list)
"""Every event in the order in which it was folded; the state is changed in place."""


@positions.otherwise
def _(state: list[int], recorded: RecordedEvent[Any]) -> list[int]:
    state.append(recorded.position)
    return state


@positions.merge
def _(earlier: list[int], later: list[int]) -> list[int]:
    earlier += later
    return earlier


steps: Fold[int] = Fold("steps", int)
"""No pieces of it can be merged: what an event does depends on the state before it."""


@steps.on(Paid)
def _(state: int, event: Paid) -> int:
    if event.amount > 1_000_000:
        raise ValueError("that is too much")
    return (state * 7 + event.amount) % 1_000_003


endless: Fold[int] = Fold("endless", int)


@endless.on(Paid)
def _(state: int, event: Paid) -> int:
    time.sleep(0.05)
    return state + event.amount


@endless.merge
def _(earlier: int, later: int) -> int:
    return earlier + later


killed: Fold[int] = Fold("killed", int)


@killed.on(Paid)
def _(state: int, event: Paid) -> int:
    if event.amount == 77:
        os.kill(os.getpid(), signal.SIGKILL)
    return state + event.amount


@killed.merge
def _(earlier: int, later: int) -> int:
    return earlier + later


class OwnError(Exception):
    """An error that can't be made again from its text alone."""

    def __init__(self, *, code: int) -> None:
        self.code = code
        super().__init__(f"code {code}")


strange: Fold[Any] = Fold("strange", int)


@strange.on(Paid)
def _(state: Any, event: Paid) -> Any:
    if event.amount == 1:
        raise OwnError(code=5)
    return lambda: state


@strange.merge
def _(earlier: Any, later: Any) -> Any:
    return later


FOLDS: list[Fold[Any]] = [account, positions, steps]


class Here:
    """Does what workers do, in this process: as many times as there are tasks."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.tasks = 0

    @contextmanager
    def started(self, tasks: Sequence[bytes]) -> Iterator[Here]:
        self.tasks = len(tasks)
        self._told = [0] * len(tasks)
        self._outcomes = [outcome_of(one, partial(self._tell, i)) for i, one in enumerate(tasks)]
        yield self

    def _tell(self, index: int, distance: int) -> None:
        assert distance >= self._told[index]
        self._told[index] = distance

    def outcomes(self) -> Sequence[bytes]:
        return self._outcomes

    def reached(self, index: int) -> int:
        return self._told[index]

    def stop(self) -> bool:
        return True


def fill(
    store: Store, clock: ManualClock, commits: int, seed: int, *, people: bool = False
) -> None:
    """Commits of one to a few events, on a few streams, some of which occurred earlier."""
    chance = Random(seed)
    for _ in range(commits):
        clock.advance(3600)
        writes = [
            Write(
                stream,
                [
                    _event(chance, clock, people=people)
                    for _ in range(chance.choice((1, 1, 1, 2, 4)))
                ],
            )
            for stream in chance.sample(
                ["a-1", "a-2", "a-3", "b-1", "b-2", "c"], chance.choice((1, 1, 2))
            )
        ]
        store.commit(Commit(writes))


def _event(chance: Random, clock: ManualClock, *, people: bool) -> Any:
    kind = chance.random()
    event: Any = Paid(chance.choice("xyz"), chance.randrange(100))
    if kind > 0.9:
        event = UnknownEvent("Seen", {"n": chance.randrange(9)})
    elif kind > 0.7 and people:
        event = Joined(chance.choice("pq"), chance.choice(("Ann", "Bob")))
    elif kind > 0.7:
        event = UnknownEvent("Moved", {"place": chance.choice("NESW")}, 1)
    late = chance.random() < 0.2
    return NewEvent(
        event=event, occurred_at=clock() - timedelta(hours=chance.randrange(50)) if late else None
    )


KINDS = ("rows", "sealed", "archived", "branch", "encrypted", "upcast")


@contextmanager
def opened(kind: str, folder: Path, commits: int = 40) -> Iterator[Store]:
    """A store of that kind, with history in it."""
    clock, path = ManualClock(START), folder / f"{kind}.db"
    if kind == "encrypted":
        keys = KeyFile.create(folder / "people.key")
        with Vault(folder / "people.vault", keys) as vault:
            with open_store(path, events=[Paid, Joined], vault=vault, clock=clock) as store:
                fill(store, clock, commits, 3, people=True)
                store.forget("q")
                fill(store, clock, 3, 4)
                yield store
        return
    events: Any = EVENTS if kind == "upcast" else [Paid]
    if kind == "upcast":
        with open_store(path, events=[Paid], clock=clock) as store:
            fill(store, clock, commits, 5)
    with open_store(path, events=events, clock=clock) as store:
        if kind != "upcast":
            fill(store, clock, commits, 6)
        if kind == "branch":
            store.create_branch("try", store.head().position)
            fill(store, clock, 5, 7)
            with store.branch("try") as branch:
                fill(branch, clock, commits // 2, 8)
                yield branch
            return
        if kind in {"sealed", "archived"}:
            size = SegmentSize(slices=24, frame=4, frames=3)
            middle = store.head().position * 2 // 3
            move = store.kernel.backend.move
            while segment := move(Seal(middle, size)):
                if kind == "archived":
                    move(Archive(segment.last, object_url(folder / "archive")))
                    move(Evict(segment.last))
        yield store


def append_one(path: Path) -> None:
    """What somebody else writes meanwhile."""
    with open_store(path, events=[Paid]) as store:
        store.append("till", [Paid("z", 1)])
