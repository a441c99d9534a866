"""What one commit of a group brings upon itself is no other's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from everwhen import Query, RefusedError, StorageError
from everwhen.backends.engine import Engine
from everwhen.backends.memory import MemoryEngine
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import CorruptStoreError
from everwhen.vocabulary import Receipt
from everwhen.vocabulary.contract import Condition, EncodedCommit, EncodedSlice, Outcome


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = (
        MemoryEngine() if request.param == "memory" else SqliteEngine(tmp_path / "store.db")
    )
    yield made
    made.close()


def _slice(stream: str, **other: Any) -> EncodedSlice:
    whole = EncodedSlice(stream, 1, _body("T", "tag"), ("T",), ("tag",))
    return msgspec.structs.replace(whole, **other)


def _body(type_: str, *tags: str) -> bytes:
    return msgspec.json.encode([[type_, 1, {}, tags]])


def _commit(number: int, *slices: EncodedSlice, **other: Any) -> EncodedCommit:
    id_ = UUID(int=number).bytes
    return EncodedCommit(id_, slices or (_slice(f"s-{number}"),), **{"expected": (), **other})


def _is_sound(engine: Engine, outcomes: list[Outcome]) -> None:
    """What the receipts say is what is there, and the next commit follows on."""
    receipts = [o for o in outcomes if isinstance(o, Receipt)]
    (after,) = engine.write(
        [_commit(99, _slice("s-1", body=_body("T", "tag", "new"), tags=("tag", "new")))]
    )
    assert isinstance(after, Receipt)
    assert after.position == len(receipts) + 1 == engine.head().position
    page = engine.read(Query(), 100)
    assert [s.position for s in page.slices] == [*range(1, after.position + 1)]
    assert [r.position for r in receipts] == [*range(1, after.position)]
    for stored in page.slices:
        info = engine.stream(stored.stream)
        assert info is not None
        assert info.version >= stored.version
    assert len(engine.read(Query().tags("tag"), 100).slices) == after.position
    assert list(engine.check()) == []


def _rotten_condition() -> EncodedCommit:
    return _commit(2, condition="no condition")


def _rotten_belief() -> EncodedCommit:
    return _commit(2, expected=((["s"], 0),))


@pytest.mark.parametrize("rotten", [_rotten_condition, _rotten_belief])
def test_a_judgement_that_fails_fails_one_commit(
    engine: Engine, rotten: Callable[[], EncodedCommit]
) -> None:
    outcomes = engine.write([_commit(1), rotten(), _commit(3), _commit(4, _slice("s-1"))])
    assert [type(o) for o in outcomes[::2]] == [Receipt, Receipt]
    assert isinstance(outcomes[1], RefusedError)
    assert str(UUID(int=2)) in str(outcomes[1])
    assert isinstance(outcomes[1].__cause__, Exception)
    assert engine.stored_commit(UUID(int=2).bytes) == []
    _is_sound(engine, outcomes)


def test_a_commit_that_fails_half_way_leaves_no_trace(tmp_path: Path) -> None:
    with_two = (
        _slice("s-1"),
        _slice("new", body=_body("New", "tag"), types=("New",)),
        _slice("s-1", tags=("one", object())),
    )
    engine = SqliteEngine(tmp_path / "store.db")
    outcomes = engine.write(
        [_commit(1), _commit(2, *with_two), _commit(3, _slice("s-1")), _commit(4, _slice("new"))]
    )
    assert [type(o) for o in outcomes] == [Receipt, RefusedError, Receipt, Receipt]
    assert isinstance(outcomes[2], Receipt)
    assert outcomes[2].versions == {"s-1": 2}
    with engine.view() as view:
        assert view.execute("SELECT name FROM terms WHERE name IN ('one', 'New')") == []
        assert view.execute("SELECT id, name FROM streams") == [(1, "s-1"), (2, "new")]
    _is_sound(engine, outcomes)
    engine.close()


@pytest.mark.parametrize("what", [{"body": "text"}, {"body": None}, {"count": 1 << 70}])
def test_a_row_that_cant_be_inserted_fails_one_commit(tmp_path: Path, what: dict[str, Any]) -> None:
    engine = SqliteEngine(tmp_path / "store.db")
    outcomes = engine.write([_commit(1), _commit(2, _slice("s-2", **what)), _commit(3)])
    assert [isinstance(o, Receipt) for o in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], RefusedError | StorageError)
    _is_sound(engine, outcomes)
    engine.close()


def test_what_is_damaged_fails_those_who_ask_for_it(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "store.db")
    engine.write([_commit(1)])
    with engine.transaction() as transaction:
        transaction.execute("INSERT INTO streams VALUES (7, 'bad')")
        transaction.execute("INSERT INTO slices VALUES (2, 7, 1, 1, 1, x'07', 0, NULL, x'5b5d')")
        transaction.execute("DELETE FROM streams WHERE id = 7")
    condition = Condition(Query().types("T"), 1)
    outcomes = engine.write([_commit(3), _commit(4, condition=condition), _commit(5)])
    assert [isinstance(o, Receipt) for o in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], CorruptStoreError)
    engine.close()
