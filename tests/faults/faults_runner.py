"""A program that kills projection runners: python -m tests.faults.faults_runner FILE KILLS SEED.

A child appends without pause; two more at a time follow one table projection, and are killed, or
stopped for longer than their lease, at random. In between and at the end the rows are held against a fresh fold over the events up to the
checkpoint. Exits with 1 and the finding on stderr.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everwhen import (
    Event,
    Fold,
    ProjectionRunner,
    Query,
    RecordedEvent,
    Store,
    TableProjection,
    Tables,
    open_store,
)
from everwhen.backends.engine import EngineView
from everwhen.store.projection_records import builds_of, record_of


class Moved(Event):
    account: int
    amount: int


def balances() -> TableProjection:
    projection = TableProjection(
        "balances",
        [
            "CREATE TABLE {balances} (account INTEGER PRIMARY KEY, amount INTEGER, moves INTEGER)",
            "CREATE TABLE {journal} (position INTEGER PRIMARY KEY)",
        ],
    )

    @projection.on(Moved)
    def _(tables: Tables, moved: RecordedEvent[Moved]) -> None:
        tables.execute(
            "INSERT INTO {balances} VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET"
            " amount = amount + excluded.amount, moves = moves + 1",
            (moved.event.account, moved.event.amount),
        )
        tables.execute("INSERT INTO {journal} VALUES (?)", (moved.position,))

    return projection


expected: Fold[dict[int, tuple[int, int]]] = Fold("balances", dict)


@expected.on(Moved)
def _moved(state: dict[int, tuple[int, int]], event: Moved) -> dict[int, tuple[int, int]]:
    amount, moves = state.get(event.account, (0, 0))
    state[event.account] = amount + event.amount, moves + 1
    return state


def follow(path: Path) -> None:
    """What a runner does until it is killed."""
    with open_store(path, events=[Moved], durable=False) as store:
        ProjectionRunner(store, [balances()], lease=0.05).run()
    sys.exit("the runner ended by itself")


def write(path: Path, seed: int) -> None:
    """What the writer does until it is killed."""
    chance = random.Random(seed)
    with open_store(path, events=[Moved], durable=False) as store:
        while True:
            account, size = chance.randrange(20), chance.randrange(1, 30)
            events = [Moved(account, chance.randrange(-9, 10)) for _ in range(size)]
            store.append(f"account-{account}", events)
            time.sleep(chance.random() * 0.002)


def judge(path: Path) -> None:
    """Exits with what is wrong with the rows."""
    with open_store(path, events=[Moved]) as store:
        sys.exit(fault(store))


def conclude(path: Path) -> None:
    """Catch up, now that nobody else is there, and judge once more."""
    with open_store(path, events=[Moved]) as store:
        runner = ProjectionRunner(store, [balances()], lease=0.05)
        runner.catch_up()
        runner.close()
        position = store.head().position
        kept = [known.position for known in builds_of(store.checkpoints(), "balances").values()]
        if kept != [position]:
            sys.exit(f"at the end: the checkpoints are {kept}, the newest event is {position}")
        sys.exit(fault(store))


def fault(store: Store) -> str | None:
    """What is wrong with the rows; None if they are those of a fresh fold up to the checkpoint."""

    def look(view: EngineView) -> tuple[int, list[tuple[Any, ...]], int, int] | None:
        known = view.checkpoint(build.record)
        if known is None or not record_of(known).tables:
            return None
        found = view.execute(f"SELECT account, amount, moves FROM {build.table('balances')}")
        ((count, last),) = view.execute(
            f"SELECT count(*), coalesce(max(position), 0) FROM {build.table('journal')}"
        )
        return known.position, found, count, last

    builds = builds_of(store.checkpoints(), "balances")
    if not builds:
        return None
    (build,) = builds
    seen = store.kernel.backend.view(look)
    if seen is None:
        return None
    position, found, count, last = seen
    fresh = store.fold(expected, Query().up_to(position))
    if {account: (amount, moves) for account, amount, moves in found} != fresh:
        return f"at position {position}: {sorted(found)} is not {sorted(fresh.items())}"
    if not count == last == position:
        return f"at position {position}: {count} events in the journal, the last one is {last}"
    return None


def forked(call: Callable[..., None], *arguments: Any) -> int:
    """A child at work. The parent itself opens nothing: SQLite doesn't survive a fork."""
    pid = os.fork()
    if pid:
        return pid
    status = 0
    try:
        call(*arguments)
    except SystemExit as wrong:
        if wrong.code:
            print(wrong.code, file=sys.stderr, flush=True)  # noqa: T201
            status = 1
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is a finding)
        print(f"{call.__name__}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
        status = 1
    os._exit(status)


def ended_well(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0


def main(path: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    writer = forked(write, path, seed)
    runners = [forked(follow, path), forked(follow, path)]
    good = True
    for kill in range(kills):
        time.sleep(chance.random() * 0.06)
        victim = chance.randrange(2)
        if chance.random() < 0.3:  # believed dead, it comes back when the other has the lease
            os.kill(runners[victim], signal.SIGSTOP)
            time.sleep(0.1 + chance.random() * 0.1)
            os.kill(runners[victim], signal.SIGCONT)
            continue
        os.kill(runners[victim], signal.SIGKILL)
        good = good and ended_well(runners[victim])
        if kill % 5 == 0:
            good = good and ended_well(forked(judge, path))
        runners[victim] = forked(follow, path)
    for pid in (writer, *runners):
        os.kill(pid, signal.SIGKILL)
        good = ended_well(pid) and good
    good = good and ended_well(forked(conclude, path))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
