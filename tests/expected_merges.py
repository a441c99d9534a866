"""What merging facts should do, worked out on plain lists: the model that merges are held against.

Facts are compared on the last number that each stream was told, as every event here has just one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from everwhen import Commit, NewEvent, Write
from everwhen.vocabulary import CommitMetadata, Receipt

Done = tuple[Commit, Receipt]
FROM = "merged_from"


class Expected(msgspec.Struct):
    """What becomes of each commit, what is written, and the streams that it rests on."""

    outcomes: list[tuple[str, bool]] = []
    writes: list[Write] = []
    streams: set[str] = set()


def expected_merge(
    ours: Sequence[Done], theirs: Sequence[Done], base: int, source_id: str, strategy: str
) -> Expected:
    """Merging ``theirs`` into ``ours``, which are the same up to the position ``base``."""
    found = Expected()
    mine = [done for done in ours if done[1].position > base]
    known = {origin for commit, _ in mine for origin in filter(None, _origins(commit))}
    here, there = _numbers(ours), _numbers([d for d in theirs if d[1].position <= base])
    after = _merged_before(mine, source_id, base)
    ids = {str(receipt.commit_id) for _, receipt in ours}
    for commit, receipt in theirs:
        events = [(write.stream, event) for write in commit.writes for event in write.events]
        if receipt.position <= base or not events:
            continue
        before, there = there, there | {stream: number_of(event) for stream, event in events}
        if receipt.position <= after:
            continue
        origins = _origins(commit) - known
        if str(receipt.commit_id) in known or (None not in origins and origins <= ids):
            found.outcomes.append(("same", True))
            continue
        streams = {stream for stream, _ in events}
        found.streams |= streams
        changed = {s for s in streams if before.get(s) != there[s]}
        if changed and all(here.get(s) == there[s] for s in changed):
            found.outcomes.append(("same", True))
            continue
        clash = any(here.get(s) not in (before.get(s), there[s]) for s in changed)
        takes = not clash or strategy == "theirs"
        is_settled = not clash or strategy in ("ours", "theirs")
        found.outcomes.append(("conflict" if clash else "same", is_settled))
        if takes:
            here = here | {stream: there[stream] for stream in streams}
            found.writes += _taken_over(events, receipt)
    return found


def merge_commit(
    expected: Expected, ours: Sequence[Done], receipt: Receipt, record: dict[str, Any]
) -> Commit:
    """The merge's commit, as a plain store would have been given it."""
    versions: dict[str, int] = {}
    for commit, _ in ours:
        for write in commit.writes:
            versions[write.stream] = versions.get(write.stream, 0) + len(write.events)
    guards = [Write(name, (), versions.get(name, 0)) for name in sorted(expected.streams)]
    metadata = CommitMetadata(extras={FROM: record})
    return Commit(
        [*guards, *expected.writes], None, receipt.commit_id, metadata, receipt.recorded_at
    )


def number_of(event: Any) -> int:
    """What an event says."""
    number: int = event.event.number if isinstance(event, NewEvent) else event.number
    return number


def _numbers(history: Sequence[Done]) -> dict[str, int]:
    return {
        write.stream: number_of(event)
        for commit, _ in history
        for write in commit.writes
        for event in write.events
    }


def _merged_before(mine: Sequence[Done], source_id: str, base: int) -> int:
    records = [commit.metadata.extras.get(FROM) for commit, _ in mine if commit.metadata]
    merged: list[int] = [r["up_to"] for r in records if r is not None and r["id"] == source_id]
    return max([base, *merged])


def _origins(commit: Commit) -> set[str | None]:
    """The commits that its events were taken over from; None for one of its own."""
    return {_origin(event) for write in commit.writes for event in write.events}


def _origin(event: Any) -> str | None:
    extras: Mapping[str, Any] = event.extras if isinstance(event, NewEvent) else {}
    origin: str | None = extras[FROM]["commit"] if FROM in extras else None
    return origin


def _taken_over(events: Sequence[tuple[str, Any]], receipt: Receipt) -> list[Write]:
    return [
        Write(stream, [_marked(event, receipt) for _, event in some])
        for stream, some in groupby(events, key=lambda pair: pair[0])
    ]


def _marked(event: Any, receipt: Receipt) -> NewEvent[Any]:
    new = event if isinstance(event, NewEvent) else NewEvent(event=event)
    return msgspec.structs.replace(
        new,
        occurred_at=new.occurred_at or receipt.recorded_at,
        extras={FROM: {"commit": _origin(event) or str(receipt.commit_id)}},
    )
