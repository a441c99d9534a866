# Generated from tests/_async/test_checkpoint_scopes.py by tools/unasync.py: edit that, then run `make sync`.
"""Which checkpoints are a replica's own, and which are the same on all: their writers say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    KeyFile,
    Personal,
    ProjectionRunner,
    RecordedEvent,
    TableProjection,
    Tables,
    TimeMachine,
    Vault,
)
from everwhen.backends._sync.backend import Backend, BackendWrapper, Transaction
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.engine import EngineTransaction
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.codec.event_types import EventTypes
from everwhen.exchange import export_events, import_events
from everwhen.projections import OnError
from everwhen.reactions import Reaction, ReactionRunner, Timer
from everwhen.store._sync.store import Store
from everwhen.store.local_checkpoints import is_local
from everwhen.tiers import HistoryManager, HistoryPolicy
from everwhen.tiers.mover_records import MOVER
from everwhen.travel import HEAD
from everwhen.vocabulary.contract import Checkpoint

T = TypeVar("T")


class Placed(Event):
    data_subject = "order"

    order: str
    buyer: Personal[str]


class Remind(msgspec.Struct, frozen=True):
    order: str


Scopes = dict[str, set[bool]]


class _Writes:
    """A transaction that notes how each checkpoint is saved and deleted."""

    def __init__(self, inner: Any, scopes: Scopes) -> None:
        self._inner = inner
        self._scopes = scopes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> Any:
        self._scopes[checkpoint.name].add(local)
        return self._inner.save_checkpoint(checkpoint, local=local)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> Any:
        self._scopes[name].add(local)
        return self._inner.delete_checkpoint(name, local=local)


class Noting(BackendWrapper):
    def __init__(self, inner: Backend, scopes: Scopes) -> None:
        super().__init__(inner)
        self._scopes = scopes

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as inner:
            yield cast("Transaction", _Writes(inner, self._scopes))

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        return super().transact(
            lambda inner: work(cast("EngineTransaction", _Writes(inner, self._scopes)))
        )


def orders() -> TableProjection:
    projection = TableProjection(
        "orders",
        schema=["CREATE TABLE {orders} (name TEXT)"],
        on_error=OnError("park", retries=0),
    )

    @projection.on(Placed)
    def _(tables: Tables, recorded: RecordedEvent[Placed]) -> None:
        if recorded.event.order == "bad":
            raise ValueError("bad")
        tables.execute("INSERT INTO {orders} VALUES (?)", (recorded.event.order,))

    return projection


def reminders() -> Reaction:
    reaction = Reaction("reminders", on_error=OnError("park", retries=0))

    @reaction.on(Placed)
    def _(recorded: RecordedEvent[Placed]) -> list[Any]:
        if recorded.event.order == "bad":
            raise ValueError("bad")
        return [Timer(recorded.event.order, Remind(recorded.event.order), after=timedelta(1))]

    return reaction


def test_read_models_are_local_and_all_else_is_shared(tmp_path: Path) -> None:
    scopes: Scopes = defaultdict(set)
    with Vault(tmp_path / "vault.db", KeyFile.create(tmp_path / "key")) as vault:
        backend = Noting(EmbeddedBackend(SqliteEngine(tmp_path / "store.db")), scopes)
        with Store(backend, events=EventTypes(Placed), vault=vault) as store:
            store.append("order-1", [Placed("1", "ann"), Placed("bad", "bob")])
            with ProjectionRunner(store, [orders()]) as runner:
                runner.catch_up()
            decisions = Decisions()
            decisions.on(Remind)(lambda command: [])
            bus = CommandBus(store, decisions)
            with ReactionRunner(bus, [reminders()]) as runner_of_reactions:
                runner_of_reactions.catch_up()
            TimeMachine(store, Fold("n", int)).set_bookmark("here", HEAD)
            store.create_branch("what-if")
            export_events(store, tmp_path / "events.jsonl")
            store.forget("1")
            policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
            HistoryManager(store, policy).age()
        plain = Noting(EmbeddedBackend(SqliteEngine(tmp_path / "other.db")), scopes)
        with Store(plain, events=EventTypes()) as other:
            import_events(other, tmp_path / "events.jsonl")
    assert all(len(found) == 1 for found in scopes.values()), scopes
    local = {name for name, found in scopes.items() if found == {True}}
    shared = scopes.keys() - local
    assert {name for name in scopes if is_local(name)} == local
    assert any(name.startswith("projection/orders") for name in local)
    assert any("parked" in name and "projection/orders" in name for name in local)
    assert any("erasures" in name for name in local)
    assert MOVER in local
    for begin in ("reaction/", "timer/", "branch/", "bookmark/"):
        assert any(name.startswith(begin) for name in shared), (begin, shared)
    assert not any("reaction" in name for name in local)
    assert not any("projection" in name for name in shared)
