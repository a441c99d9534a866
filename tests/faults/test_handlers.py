"""A signal's handler that raises an ordinary exception: nobody it interrupts answers for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import apsw
import pytest

from everwhen import (
    Commit,
    Condition,
    Event,
    Query,
    RefusedError,
    StorageError,
    Store,
    Write,
    open_store,
)
from everwhen.backends import memory
from everwhen.backends.engine import EngineView
from everwhen.backends.sqlite import lookups, pages
from everwhen.backends.sqlite.transactions import Transactions
from everwhen.backends.sqlite.writer import Writer
from everwhen.branches import branch_names
from everwhen.errors import BranchError, CorruptStoreError
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary import Checkpoint


class Noted(Event):
    text: str


class LateError(TimeoutError):
    """What the handler raises: an OSError, without a number."""


def handler(number: int, frame: FrameType | None) -> NoReturn:
    raise LateError


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def ring(*_: object, **__: object) -> Any:
    """In place of some call: the signal comes in it."""
    signal.raise_signal(signal.SIGUSR1)


class Handler:
    def method(self, number: int, frame: FrameType | None) -> NoReturn:
        raise LateError

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        raise LateError


def star(*given: object) -> NoReturn:
    raise LateError


def forgetful(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise LateError


def helped(number: int, frame: FrameType | None) -> None:
    star()


@pytest.mark.parametrize(
    "chosen",
    [
        handler,
        star,
        forgetful,
        helped,
        Handler().method,
        Handler(),
        partial(handler),
        lambda number, frame: star(),
    ],
    ids=["plain", "star", "forgetful", "helped", "method", "called", "partial", "lambda"],
)
def test_what_a_handler_raises_is_told(chosen: Callable[..., Any]) -> None:
    signal.signal(signal.SIGUSR1, chosen)
    with pytest.raises(LateError) as late:
        ring()
    assert is_interrupt(late.value)


def test_what_nobody_interrupted_is_not() -> None:
    with pytest.raises(LateError) as late:
        star(1, 2)
    assert not is_interrupt(late.value)
    with pytest.raises(FileNotFoundError) as missing:
        os.stat("/no/such/file")  # noqa: PTH116
    assert not is_interrupt(missing.value)


def committed(store: Store) -> list[str]:
    return [event.event.text for event in store.read()]


def three() -> list[Commit]:
    return [Commit([Write("a", [Noted(str(n))])]) for n in range(3)]


@pytest.mark.parametrize("cause", [ring, star], ids=["handler", "own"])
def test_commits_that_are_written_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Callable[..., Any]
) -> None:
    """Not even where what was raised after the commit can't be told from anything else."""
    with open_store(tmp_path / "s.db", events=[Noted]) as store:
        with monkeypatch.context() as patch:
            patch.setattr(Transactions, "_committed", cause)
            with pytest.raises(LateError):
                store.commit_batch(three())
        assert committed(store) == ["0", "1", "2"]
        store.append("a", [Noted("3")], expected=3)


def test_a_handler_that_comes_while_the_place_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path / "s.db", events=[Noted]) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", ring)
            with pytest.raises(LateError):
                store.append("a", [Noted("lost")])
        assert store.append("a", [Noted("x")]).position == 1


@pytest.mark.parametrize("where", ["memory", "sqlite"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_handler_that_comes_while_commits_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, *, many: bool
) -> None:
    place = "memory:" if where == "memory" else tmp_path / "s.db"
    engine = memory.MemoryEngine if where == "memory" else Writer
    judge = "_write" if where == "memory" else "_stage"
    with open_store(place, events=[Noted]) as store:
        with monkeypatch.context() as patch:
            patch.setattr(engine, judge, ring)
            with pytest.raises(LateError):
                store.commit_batch(three()) if many else store.append("a", [Noted("x")])
            patch.setattr(engine, judge, star)
            with pytest.raises(RefusedError, match="judging it failed"):
                store.append("a", [Noted("x")])
        assert committed(store) == []
        store.commit_batch(three())
        assert committed(store) == ["0", "1", "2"]


@pytest.mark.parametrize("where", ["memory", "sqlite"])
def test_a_handler_that_comes_while_a_branch_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from everwhen.branches._sync import parent_log

    with open_store("memory:" if where == "memory" else tmp_path / "s.db", events=[Noted]) as store:
        store.append("a", [Noted("x")])
        with store.create_branch("b") as branch:
            commit = Commit([Write("c", [Noted("y")])], condition=Condition(Query().stream("c"), 0))
            with monkeypatch.context() as patch:
                patch.setattr(parent_log, "check_condition", ring)
                with pytest.raises(LateError):
                    branch.commit(commit)
            assert branch.commit(commit).position == 2


def test_a_handler_that_comes_while_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store("memory:", events=[Noted]) as store:
        with monkeypatch.context() as patch:
            patch.setattr(branch_names, "check_text", ring)
            with pytest.raises(LateError):
                store.create_branch("b")
        with pytest.raises(BranchError, match="character"):
            store.create_branch("b\n")
        store.create_branch("b").close()


def test_a_handler_that_comes_while_rows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path / "s.db", events=[Noted]) as store:
        store.append("a", [Noted("x")])
        with monkeypatch.context() as patch:
            patch.setattr(pages, "check_rows", ring)
            with pytest.raises(LateError):
                committed(store)
            patch.setattr(pages, "check_rows", partial(int, "no number"))
            with pytest.raises(CorruptStoreError):
                committed(store)
        assert committed(store) == ["x"]


@pytest.mark.parametrize("cause", [ring, star], ids=["handler", "own"])
def test_an_error_that_is_kept_makes_no_later_answer_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Callable[..., Any]
) -> None:
    """Its traceback has a statement that is read half, and SQLite goes on where that stands."""

    def names(view: EngineView) -> list[str]:
        return [checkpoint.name for checkpoint in view.checkpoints("")]

    def keep(store: Store, name: str) -> None:
        with store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint(name, 1, b""))

    with open_store(tmp_path / "s.db", events=[Noted]) as store:
        store.append("a", [Noted("x")])
        for name in "pq":
            keep(store, name)
        with monkeypatch.context() as patch:
            patch.setattr(lookups, "checkpoint_of", cause)
            with pytest.raises((LateError, StorageError)) as kept:
                store.kernel.backend.view(names)
        keep(store, "r")
        store.append("a", [Noted("y")])
        assert store.kernel.backend.view(names) == ["p", "q", "r"]
        assert committed(store) == ["x", "y"]
        del kept


def test_a_connection_that_was_closed_under_a_page(tmp_path: Path) -> None:
    from everwhen.backends.sqlite.value_sizes import limited

    connection = apsw.Connection(str(tmp_path / "s.db"))
    with limited(connection):
        connection.close()
