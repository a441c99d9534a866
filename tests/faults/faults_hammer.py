"""One process of many on the same file: python faults_hammer.py ROLE FLAVOUR PATH NAME ROUNDS.

A ``writer`` waits on stdin until all others are there, appends in several threads or tasks, under
beliefs that others keep breaking, and prints what came of each as JSON. A ``reader`` subscribes,
and prints what it saw. Each commit carries its beliefs in its metadata, so that the log alone
shows whether they held.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from everwhen import (
    ANY,
    EXISTS,
    NO_STREAM,
    Commit,
    Condition,
    ConditionError,
    ConflictError,
    Event,
    NewEvent,
    Query,
    RecordedEvent,
    RefusedError,
    Write,
    aio,
    open_store,
)
from everwhen.errors import BatchError
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import Outcome

STREAMS = 8
KEYS = 12
THREADS = 4
TASKS = 16


class Moved(Event):
    who: str
    index: int
    total: int


class Taken(Event):
    who: str
    index: int
    total: int


class Ended(Event):
    pass


EVENTS = (Moved, Taken, Ended)


class Belief(msgspec.Struct):
    """What a commit believed, in the form that goes into its metadata."""

    streams: dict[str, int | str] = {}
    types: list[str] = []
    tags: list[str] = []
    category: str | None = None
    after: int | None = None


class Report(msgspec.Struct):
    """What came of one commit: a receipt's place, or why it was refused."""

    who: str
    events: int
    belief: Belief
    position: int = 0
    versions: dict[str, int] = {}
    refused: str | None = None
    blocked_by: int = 0
    actual: int = 0


class Attempt(msgspec.Struct):
    who: str
    commit: Commit
    belief: Belief
    events: int

    def report(self, outcome: Outcome | Exception) -> Report:
        report = Report(self.who, self.events, self.belief)
        match outcome:
            case ConflictError(stream=stream, actual=actual):
                report.refused, report.actual = f"conflict {stream}", actual
            case ConditionError(position=position):
                report.refused, report.blocked_by = "condition", position
            case RefusedError():
                report.refused = f"unexpected {outcome!r}"
            case Exception():
                raise outcome
            case _:
                report.position, report.versions = outcome.position, outcome.versions
        return report


def planned(who: str, chance: random.Random, head: int, versions: dict[str, int]) -> Attempt:
    """A commit on what was just read: some beliefs on streams, some on a query, some on both."""
    total = chance.randrange(len(versions), 5)
    events = [
        NewEvent(event=_event(who, i, total, chance), tags=_tags(chance)) for i in range(total)
    ]
    belief = Belief()
    writes = []
    for i, (stream, version) in enumerate(versions.items()):
        expected: Any = version
        if chance.random() < 0.3:
            expected = chance.choice([ANY, EXISTS, NO_STREAM])
        if expected is not ANY:
            belief.streams[stream] = expected if isinstance(expected, int) else expected.name
        share = events[i:] if i == len(versions) - 1 else events[i : i + 1]
        writes.append(Write(stream, share, expected))
    condition = None
    if chance.random() < 0.5:
        query = _condition(chance, belief)
        belief.after = max(0, head - chance.choice([0, 0, 0, 5]))
        condition = Condition(query, belief.after)
    metadata = CommitMetadata(extras={"belief": msgspec.to_builtins(belief)})
    commit_id = UUID(int=chance.getrandbits(128)) if chance.random() < 0.3 else None
    return Attempt(who, Commit(writes, condition, commit_id, metadata), belief, total)


def _event(who: str, index: int, total: int, chance: random.Random) -> Event:
    return chance.choice([Moved, Taken])(who=who, index=index, total=total)


def _tags(chance: random.Random) -> tuple[str, ...]:
    return tuple(f"key:{k}" for k in chance.sample(range(KEYS), chance.randrange(3)))


def _condition(chance: random.Random, belief: Belief) -> Query:
    query = Query()
    way = chance.randrange(4)
    if way < 3:
        belief.tags = [f"key:{k}" for k in sorted(chance.sample(range(KEYS), 1 + way % 2))]
        query = query.tags(*belief.tags)
    if way >= 2:
        belief.types = ["Taken"]
        query = query.types(Taken)
    if way == 3:
        belief.category = f"c{chance.randrange(3)}"
        query = query.category(belief.category)
    return query


def _streams(chance: random.Random) -> list[str]:
    if chance.random() < 0.1:
        return [f"c0-new{chance.getrandbits(40)}"]
    return [f"c{s % 3}-{s}" for s in chance.sample(range(STREAMS), chance.randrange(1, 3))]


def write(path: str, name: str, rounds: int, tell: Callable[[Report], None]) -> None:
    """The sync writer: a process's threads share one store."""
    with open_store(path, events=EVENTS) as store:
        together()

        def work(thread: int) -> None:
            chance = random.Random(f"{name}.{thread}")
            for number in range(rounds):
                who = f"{name}.{thread}.{number}"
                head = store.head().position
                plans = [
                    planned(
                        f"{who}.{i}", chance, head, {s: store.version(s) for s in _streams(chance)}
                    )
                    for i in range(3 if chance.random() < 0.1 else 1)
                ]
                outcomes: Sequence[Outcome]
                try:
                    outcomes = store.commit_batch([plan.commit for plan in plans])
                except BatchError as error:
                    outcomes = error.outcomes
                for plan, outcome in zip(plans, outcomes, strict=True):
                    tell(plan.report(outcome))
                    if plan.commit.id and not isinstance(outcome, Exception):
                        again = store.commit(plan.commit)
                        assert again.repeated
                        assert again.position == outcome.position

        threads = [threading.Thread(target=work, args=(t,)) for t in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


async def write_async(path: str, name: str, rounds: int, tell: Callable[[Report], None]) -> None:
    """The async writer: its tasks share one store."""
    async with aio.open_store(path, events=EVENTS) as store:
        await asyncio.to_thread(together)

        async def work(task: int) -> None:
            chance = random.Random(f"{name}.{task}")
            for number in range(rounds):
                head = (await store.head()).position
                versions = {s: await store.version(s) for s in _streams(chance)}
                plan = planned(f"{name}.{task}.{number}", chance, head, versions)
                try:
                    tell(plan.report(await store.commit(plan.commit)))
                except RefusedError as error:
                    tell(plan.report(error))

        await asyncio.gather(*(work(t) for t in range(TASKS)))


def together() -> None:
    """Say that all is open, and wait until all others have said so."""
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()
    sys.stdin.buffer.read(1)


def seen(recorded: RecordedEvent[Any]) -> list[Any]:
    return [recorded.position, recorded.stream, recorded.version, recorded.type]


def read(path: str) -> list[list[Any]]:
    """All events, as a sync subscriber gets them."""
    found = []
    with open_store(path, events=EVENTS) as store:
        for recorded in store.subscribe():
            found.append(seen(recorded))
            if recorded.type == "Ended":
                break
    return found


async def read_async(path: str) -> list[list[Any]]:
    """The events of a tag, and the end, as an async subscriber gets them."""
    found = []
    async with aio.open_store(path, events=EVENTS, read_only=True) as store:
        async for recorded in store.subscribe(Query().tags("key:3") | Query().types(Ended)):
            found.append(seen(recorded))
            if recorded.type == "Ended":
                break
    return found


def main(role: str, flavour: str, path: str, name: str, rounds: int) -> None:
    if role == "reader":
        found = asyncio.run(read_async(path)) if flavour == "aio" else read(path)
        sys.stdout.buffer.write(msgspec.json.encode(found))
        return
    reports: list[Report] = []
    if flavour == "aio":
        asyncio.run(write_async(path, name, rounds, reports.append))
    else:
        write(path, name, rounds, reports.append)
    sys.stdout.buffer.write(msgspec.json.encode(reports))


if __name__ == "__main__":
    role, flavour, path, name, rounds = sys.argv[1:]
    main(role, flavour, path, name, int(rounds))
