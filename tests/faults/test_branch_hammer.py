"""Several processes, of several threads each, write to a store and its branches at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen import ConflictError, Event, Fold, Query, RecordedEvent, Store, open_store
from everwhen.merging import Merging

PROGRAM = """
import sys
from tests.faults.test_branch_hammer import write_everywhere

write_everywhere(*sys.argv[1:])
"""
PROCESSES = 3
THREADS = 2
COMMITS = 60
SHARED = 20
BRANCHES = ("main", "trial", "nested")


class Noted(Event):
    branch: str
    who: str
    number: int


noted: Fold[dict[str, int]] = Fold("noted", dict)


@noted.on(Noted)
def _noted(state: dict[str, int], event: Noted) -> dict[str, int]:
    return {**state, event.who: state.get(event.who, 0) + event.number}


def write_everywhere(path: str, name: str) -> None:
    """Threads for each of the branches, on stores of this process's own."""
    with open_store(path, events=[Noted]) as main, main.branch("trial") as trial:
        with main.branch("nested") as nested:
            stores = dict(zip(BRANCHES, (main, trial, nested), strict=True))
            together(
                lambda branch=branch, who=f"{name}.{thread}": _write(stores[branch], branch, who)
                for branch in BRANCHES
                for thread in range(THREADS)
            )


def _write(store: Store, branch: str, who: str) -> None:
    """Some commits under beliefs that others keep breaking, some on a stream of one's own."""
    for number in range(1, COMMITS + 1):
        event = Noted(branch, who, number)
        if number % 2:
            store.append(f"own-{branch}-{who}", [event])
            continue
        while True:
            try:
                store.append("shared-all", [event], expected=store.version("shared-all"))
            except ConflictError:
                continue
            break


def together(calls: Any) -> None:
    """Run them in a thread each; raises what one of them raises."""
    failures: list[BaseException] = []

    def kept(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=kept, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    with open_store(path, events=[Noted]) as store:
        for number in range(1, SHARED + 1):
            store.append("shared-all", [Noted("before", "all", number)])
        with store.create_branch("trial", SHARED - 2) as trial:
            trial.append("shared-all", [Noted("trial", "first", 1)])
            trial.create_branch("nested", SHARED - 5).close()
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(path), str(number)],
                cwd=Path(__file__).parents[2],
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES - 1)
        ]
        write_everywhere(str(path), "here")
        for process in running:
            _, err = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0, err
    return path


def test_each_branch_has_what_was_written_on_it(written: Path) -> None:
    with open_store(written, events=[Noted]) as main, main.branch("trial") as trial:
        with main.branch("nested") as nested:
            kept = {"main": SHARED, "trial": SHARED - 2, "nested": SHARED - 5}
            for store, branch in zip((main, trial, nested), BRANCHES, strict=True):
                log = list(store.read())
                assert [event.position for event in log] == list(range(1, len(log) + 1))
                assert {event.event.branch for event in log[: kept[branch]]} == {"before"}
                own = log[kept[branch] :]
                assert {event.event.branch for event in own} == {branch}
                first = 1 if branch == "trial" else 0
                assert len(own) == first + PROCESSES * THREADS * COMMITS
                _complete(own[first:])
                _versions(log)
                assert list(store.read("shared-all")) == [
                    event for event in log if event.stream == "shared-all"
                ]
            assert main.check() == []


def _complete(own: list[RecordedEvent[Noted]]) -> None:
    """Each writer's events are there once, in the order in which it wrote them."""
    by_writer: dict[str, list[int]] = {}
    for event in own:
        by_writer.setdefault(event.event.who, []).append(event.event.number)
    assert len(by_writer) == PROCESSES * THREADS
    assert all(numbers == list(range(1, COMMITS + 1)) for numbers in by_writer.values())


def _versions(log: list[RecordedEvent[Noted]]) -> None:
    found: dict[str, int] = {}
    for event in log:
        found[event.stream] = found.get(event.stream, 0) + 1
        assert event.version == found[event.stream]


def test_what_was_written_on_both_sides_is_merged_once(written: Path) -> None:
    with open_store(written, events=[Noted]) as main, main.branch("trial") as trial:
        before, theirs = main.fold(noted), trial.fold(noted, Query().after(SHARED - 2))
        stores = [main, open_store(written, events=[Noted])]
        with stores[1]:
            together(
                lambda store=store: Merging(store).merge(trial, strategy="theirs")
                for store in stores
            )
        wanted = dict(before)
        for who, total in theirs.items():
            wanted[who] = wanted.get(who, 0) + total
        assert main.fold(noted) == wanted
        assert main.check() == []
