"""The contract suite on branches: of an empty store, of one with a history, and of a branch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest
from tests.thinning import thinned

from everwhen.backends._async.backend import Backend, BackendWrapper
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.engine import Engine
from everwhen.backends.memory import MemoryEngine
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.codec.event_types import EventTypes
from everwhen.errors import UnknownBranchError
from everwhen.store._async.store import Store
from everwhen.testing import ManualClock
from everwhen.testing.aio import ContractTest, OpenBackend, contract_tests
from everwhen.testing.specimens import TYPES, Deposited, notes, plain
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Capabilities, Checkpoint, Snapshot
from everwhen.vocabulary.events import UnknownEvent

pytestmark = pytest.mark.slow


class Whole(BackendWrapper):
    """A branch's backend that closes the store below it too."""

    def __init__(self, inner: Backend, root: Store) -> None:
        super().__init__(inner)
        self._root = root

    async def close(self) -> None:
        await super().close()
        await self._root.close()


async def branch_of_empty(store: Store) -> Store:
    return await store.create_branch("b")


async def branch_before_history(store: Store) -> Store:
    """Nothing of what follows on the parent may show: the same streams, ids, tags and places."""
    branch = await store.create_branch("b", 0)
    await with_history(store)
    return branch


async def nested(store: Store) -> Store:
    await with_history(store)
    one = await store.create_branch("one", 0)
    await with_history(one)
    two = await one.create_branch("two", 0)
    await with_history(two)
    branch = await two.create_branch("b", 0)
    await two.close()
    await one.close()
    return branch


async def behind_history(store: Store) -> Store:
    """What is shared is of other streams, so that the suite finds its own as it expects them."""
    for number in range(5):
        await store.append(f"zz-{number}", plain_events(3))
    one = await store.create_branch("one")
    await one.append("zz-1", plain_events(2))
    branch = await one.create_branch("b")
    for parent in (store, one):
        await parent.append("a", plain_events(3))
        await parent.append("zz-2", plain_events(3))
    await one.close()
    return branch


def plain_events(count: int) -> list[UnknownEvent]:
    return [plain("Old", number=number) for number in range(count)]


async def with_history(store: Store) -> None:
    for number in range(1, 8):
        await store.append("a", notes(2), commit_id=UUID(int=number))
        await store.append(f"a-{number}", [Deposited(number, 1)])
        await store.append(f"b-{number}", notes(1))
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("a", 5))
        await transaction.save_snapshot(Snapshot("s", 3, "fold", 1, b""))


class Preparing(Protocol):
    async def __call__(self, store: Store) -> Store: ...


def opening(engine: Callable[[Clock], Engine], preparing: Preparing) -> OpenBackend:
    """Opens the branch, which is made at the first time."""

    async def open_branch(clock: Clock) -> Backend:
        root = Store(EmbeddedBackend(engine(clock)), events=EventTypes(*TYPES))
        try:
            branch = await root.branch("b")
        except UnknownBranchError:
            branch = await preparing(root)
        return Whole(branch.kernel.backend, root)

    return open_branch


KINDS: list[Preparing] = [branch_of_empty, branch_before_history, nested]
NEED_EMPTY_PLACE = {
    "everything_is_there_after_reopening",
    "streams_are_listed_by_name",
    "more_streams_than_a_page_are_listed_once_each",
    "an_empty_store_meets_every_condition",
    "a_condition_with_bounds_is_refused",
    "metadata_beliefs_and_times_may_differ_in_a_repetition",
    "fresh_ids_are_given_where_there_is_none",
    "appends_wait_for_a_transaction",
    "a_function_is_run_in_a_transaction",
    "a_look_sees_one_moment",
    "what_is_inline_takes_effect_with_each_append",
}
GROUPS = {"versions", "conditions", "idempotency", "durable", "places", "cancelling"}


def cases(capabilities: Capabilities) -> list[Any]:
    """Every test on branches that show nothing; on one with a history, what can bear that."""
    tests = contract_tests(capabilities)
    whole = [pytest.param(t, k, id=f"{t!r}-{name_of(k)}") for t in tests for k in KINDS]
    some = [
        pytest.param(t, behind_history, id=f"{t!r}-behind_history")
        for t in tests
        if t.group in GROUPS and t.name not in NEED_EMPTY_PLACE
    ]
    return whole + some


def name_of(kind: Preparing) -> str:
    return str(getattr(kind, "__name__", kind))


@pytest.mark.parametrize(("test", "kind"), thinned(cases(MemoryEngine.capabilities), __name__))
async def test_memory(test: ContractTest, kind: Preparing) -> None:
    await test.run(opening(MemoryEngine, kind))


MADE: dict[str, Path] = {}
"""For each kind, a file with the branch in it: made once, and copied for each test."""


@pytest.mark.parametrize(("test", "kind"), thinned(cases(SqliteEngine.capabilities), __name__))
async def test_sqlite(
    test: ContractTest, kind: Preparing, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def at(path: Path) -> OpenBackend:
        return opening(lambda clock: SqliteEngine(path, clock=clock), kind)

    made = MADE.get(name_of(kind))
    if made is None:
        made = tmp_path_factory.mktemp("made") / "store.db"
        await (await at(made)(ManualClock())).close()
        MADE[name_of(kind)] = made
    shutil.copy(made, tmp_path / "store.db")
    await test.run(at(tmp_path / "store.db"))
