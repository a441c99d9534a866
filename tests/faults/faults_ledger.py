"""Commits that carry their own proof, and the judgement of a store against what was acknowledged.

Every event says which commit it belongs to, its place in it and how many events that commit has:
so a torn commit shows from what is stored alone, and a lost one from the list of acknowledgements.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from everwhen import ANY, Commit, Event, Store, Write


class Entry(Event):
    tag_fields = ("commit",)

    commit: str
    index: int
    total: int
    padding: str = ""


MODEL = "CREATE TABLE IF NOT EXISTS tally (name TEXT PRIMARY KEY, n INTEGER NOT NULL)"
COUNTED = "tally"


def entries(key: str, total: int, size: int = 20) -> list[Entry]:
    """The events of one commit."""
    return [Entry(commit=key, index=i, total=total, padding="x" * size) for i in range(total)]


def some_commit(key: str, chance: random.Random) -> Commit:
    """A commit of a random shape: one event, many, or several streams; now and then a fat one."""
    shape = chance.random()
    size = chance.choice((5, 60, 400)) if shape < 0.95 else 20_000
    if shape < 0.5:
        events = entries(key, 1, size)
        return Commit([Write(f"single-{chance.randrange(20)}", events)])
    events = entries(key, chance.randrange(2, 9), size)
    streams = chance.sample(range(12), chance.randrange(1, min(4, len(events) + 1)))
    cuts = sorted(chance.sample(range(1, len(events)), len(streams) - 1))
    bounds = zip([0, *cuts], [*cuts, len(events)], strict=True)
    writes = [
        Write(f"shared-{stream}", events[low:high], ANY)
        for stream, (low, high) in zip(streams, bounds, strict=True)
    ]
    return Commit(writes)


def faults_in(store: Store, acknowledged: Iterable[str], counted: int) -> list[str]:
    """What is wrong in the store, given the commits and the count that were acknowledged."""
    faults = [f"check: {problem.where}: {problem.what}" for problem in store.check()]
    seen: dict[str, list[int]] = {}
    totals: dict[str, int] = {}
    last: dict[str, int] = {}
    position = 0
    for recorded in store.read():
        entry = recorded.event
        seen.setdefault(entry.commit, []).append(entry.index)
        totals[entry.commit] = entry.total
        if recorded.position != position + 1:
            faults.append(f"position {recorded.position} follows {position}")
        position = recorded.position
        if recorded.version != last.get(recorded.stream, 0) + 1:
            faults.append(f"{recorded.stream} has version {recorded.version} out of order")
        last[recorded.stream] = recorded.version
    faults += [
        f"torn: commit {key} has events {indexes} of {totals[key]}"
        for key, indexes in seen.items()
        if indexes != list(range(totals[key]))
    ]
    faults += [f"lost: commit {key}" for key in acknowledged if key not in seen]
    return faults + _model_faults(store, counted)


def _model_faults(store: Store, counted: int) -> list[str]:
    """The read model and its checkpoint say the same, and no less than was acknowledged."""
    checkpoint = store.checkpoint(COUNTED)
    with store.transaction() as transaction:
        transaction.execute(MODEL)
        rows = transaction.execute("SELECT n FROM tally WHERE name = ?", ("all",))
    in_model = rows[0][0] if rows else 0
    in_checkpoint = checkpoint.position if checkpoint else 0
    faults = []
    if in_model != in_checkpoint:
        faults.append(f"the read model says {in_model}, its checkpoint {in_checkpoint}")
    if in_model < counted:
        faults.append(f"lost: the read model says {in_model}, acknowledged was {counted}")
    return faults


def count_up(store: Store) -> int:
    """Advance the read model and its checkpoint by one, together; the new count."""
    from everwhen.vocabulary import Checkpoint

    with store.transaction() as transaction:
        transaction.execute(MODEL)
        transaction.execute(
            "INSERT INTO tally VALUES ('all', 1) ON CONFLICT (name) DO UPDATE SET n = n + 1"
        )
        ((n,),) = transaction.execute("SELECT n FROM tally WHERE name = 'all'")
        transaction.save_checkpoint(Checkpoint(COUNTED, n))
    return int(n)
