"""Interrupts (Ctrl-C, a signal's handler that raises) at any moment: nothing stays locked."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    KeyFile,
    StateOf,
    StorageError,
    Store,
    Vault,
    open_store,
)
from everwhen.vocabulary import Checkpoint

# What an interrupt leaves to the garbage collector (a file between ``open`` and ``with``), that tells.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

_INTERRUPTS = 60


class Noted(Event):
    text: str


class Note(Event):
    text: str


def inner(store: Store) -> Any:
    """The backend around the engine, with what only it has."""
    return store.kernel.backend


class Interrupts:
    """Interrupts this thread again and again, once in each ``attempt``."""

    def __init__(self) -> None:
        self.count = 0
        self._is_due = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fire)

    def _fire(self) -> None:
        while not self._stop.is_set():
            time.sleep(random.uniform(0, 0.002))
            if self._is_due:
                os.kill(os.getpid(), signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_due:
            self._is_due = False
            self.count += 1
            raise KeyboardInterrupt

    def attempt(self, work: Callable[[], object]) -> bool:
        """Whether the work came to its end."""
        try:
            self._is_due = True
            work()
        except KeyboardInterrupt:
            return False
        else:
            return True
        finally:
            self._is_due = False

    def __enter__(self) -> Interrupts:
        gc.collect()
        gc.disable()  # it calls ``__del__`` of what others left, where an interrupt gets lost
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()
        signal.signal(signal.SIGINT, self._before)
        gc.enable()


def decisions() -> Decisions:
    made = Decisions()
    fold = Fold[int](name="notes", version=1, initial=lambda: 0)

    @fold.on(Noted)
    def noted(count: int, event: Noted) -> int:
        return count + 1

    @made.on(Note, StateOf(fold, lambda command: f"note-{command.text}"))
    def note(command: Note, count: int) -> list[Noted]:
        return [Noted(command.text)]

    return made


def in_a_transaction(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.save_checkpoint(Checkpoint("c", 1, b""))


def attach_and_detach(store: Store) -> None:
    def inline(_: object) -> None:
        return None

    try:
        store.kernel.backend.attach(inline)
    finally:
        store.kernel.backend.detach(inline)


def branch_and_delete(store: Store) -> None:
    name = f"b-{random.getrandbits(60)}"
    with store.create_branch(name) as branch:
        branch.append("a", [Noted("x")])
    store.delete_branch(name)


WORKS: dict[str, Callable[[Store], object]] = {
    "append": lambda store: store.append("mine", [Noted("x")]),
    "transaction": in_a_transaction,
    "transact": lambda store: store.kernel.backend.transact(
        lambda t: t.save_checkpoint(Checkpoint("d", 1, b""))
    ),
    "inline": attach_and_detach,
    "purge": lambda store: store.kernel.backend.purge(),
    "branches": branch_and_delete,
    "read": lambda store: list(store.read()),
}


@contextlib.contextmanager
def appending_beside(store: Store) -> Iterator[dict[str, int]]:
    """Two threads that append, and what was acknowledged to them; they are never interrupted."""
    stop = threading.Event()
    acknowledged = {"beside-0": 0, "beside-1": 0}
    failures: list[BaseException] = []

    def work(stream: str) -> None:
        try:
            while not stop.is_set():
                versions = store.append(stream, [Noted("x")], expected=acknowledged[stream])
                acknowledged[stream] = versions.versions[stream]
                stop.wait(0.001)
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(stream,)) for stream in acknowledged]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
    assert not failures


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside others"])
@pytest.mark.parametrize("what", WORKS)
@pytest.mark.parametrize("where", ["sqlite", "memory"])
def test_nothing_stays_locked(tmp_path: Path, where: str, what: str, alone: bool) -> None:
    path = f"sqlite:{tmp_path / 'i.db'}" if where == "sqlite" else "memory:"
    work = WORKS[what]
    with open_store(path, events=[Noted], busy_timeout=60) as store, Interrupts() as interrupts:
        if where == "memory" and what == "inline":
            return
        store.append("a", [Noted("x")])
        beside: Any = contextlib.nullcontext({}) if alone else appending_beside(store)
        mine = 0
        with beside as acknowledged:
            while interrupts.count < _INTERRUPTS:
                ended = interrupts.attempt(lambda: work(store))
                mine += ended
        assert not inner(store)._engine.lock.mutex.locked()
        assert store.append("a", [Noted("y")]).versions == {"a": 2}
        for stream, version in acknowledged.items():
            assert store.version(stream) == version
        if what == "append":
            assert mine <= store.version("mine") <= mine + interrupts.count
        if where == "sqlite":
            with open_store(path, events=[Noted], busy_timeout=1) as other:
                other.append("a", [Noted("z")], expected=2)
        assert store.check() == []


def test_a_command_bus_leaves_no_lock_held(tmp_path: Path) -> None:
    with open_store(tmp_path / "i.db", events=[Noted]) as store, Interrupts() as interrupts:
        bus = CommandBus(store, decisions())
        sent = 0
        while interrupts.count < _INTERRUPTS:
            sent += interrupts.attempt(lambda: bus.send(Note("x")))
        bus.send(Note("x"))
        assert sent < store.version("note-x") <= sent + 1 + interrupts.count
        assert not any(lock.locked() for lock in list(bus._locks.values()))


def test_a_vault_forgets_whatever_interrupts_it(tmp_path: Path) -> None:
    with Vault(tmp_path / "v", KeyFile.create(tmp_path / "k")) as vault:
        number = 0
        with Interrupts() as interrupts:
            while interrupts.count < _INTERRUPTS:
                number += 1
                vault.newest(f"s/{number}")
                interrupts.attempt(partial(vault.forget, f"s/{number}"))
                interrupts.attempt(partial(vault.newest, f"t/{number}"))
                if vault.is_forgotten(f"s/{number}"):
                    time.sleep(0.03)
                    assert vault.cipher(f"s/{number}", 1) is None
        assert not vault._file.connection.in_transaction
        assert vault.newest("u")


def test_who_waits_is_not_left_behind_by_a_leader_that_breaks_off(tmp_path: Path) -> None:
    """Whatever ends the one that writes for others, they are told that the outcome is open."""
    with open_store(tmp_path / "i.db", events=[Noted]) as store:
        engine = inner(store)._engine
        write = engine.write

        def broken_off(commits: object) -> object:
            engine.write = write
            raise SystemExit

        ends: list[BaseException | None] = []

        def work() -> None:
            try:
                store.append("a", [Noted("x")])
            except BaseException as failure:  # noqa: BLE001
                ends.append(failure)
            else:
                ends.append(None)

        engine.lock.mutex.acquire()
        engine.write = broken_off
        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(inner(store)._appender._waiting) < len(threads):
            time.sleep(0.001)
        engine.lock.mutex.release()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        told = sorted(type(end).__name__ for end in ends)
        assert told == ["StorageError"] * 4 + ["SystemExit"]
        assert all("open" in str(end) for end in ends if isinstance(end, StorageError))
        assert store.append("a", [Noted("y")]).versions == {"a": 1}
