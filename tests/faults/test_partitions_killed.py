"""Several processes write to partitions and are killed; a reader sees one line of positions."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen import Query, RecordedEvent, Store, UnknownEvent
from everwhen.partitions import (
    ByCategory,
    BySize,
    ByStream,
    ByTime,
    PartitionStrategy,
    open_partitioned_store,
)

pytestmark = pytest.mark.slow
WRITERS = 3
KILLS = 15
ENOUGH_BETWEEN_KILLS = 25


class Writer:
    """A process that writes, and what it has acknowledged."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.said: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (until it is killed)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.faults_partitions", folder, seed],
            cwd=Path(__file__).parents[2],
            stdout=self.said,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> list[tuple[str, int, int]]:
        """Kill it; the stream, version and position of each commit that it acknowledged."""
        self.process.kill()
        _, complaint = self.process.communicate()
        assert complaint == ""
        self.said.seek(0)
        lines = [line.split() for line in self.said if line.endswith("\n")]
        self.said.close()
        return [(stream, int(version), int(position)) for stream, version, position in lines]


class Reader:
    """Reads on from where it was, and keeps what it has seen."""

    def __init__(self, store: Store) -> None:
        self.seen: list[RecordedEvent[Any]] = []
        self._store = store

    def read_on(self) -> None:
        head = self._store.head().position
        after = self.seen[-1].position if self.seen else 0
        new = list(self._store.read(Query().after(after)))
        assert head <= (new[-1].position if new else after), "all up to the head can be read"
        self.seen += new


STRATEGIES = [ByStream(3), ByCategory(3), ByTime(timedelta(seconds=1)), BySize(40)]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_reader_misses_nothing_while_writers_are_killed(
    strategy: PartitionStrategy, tmp_path: Path
) -> None:
    folder, chance = tmp_path / "store", random.Random(repr(strategy))
    acknowledged: list[tuple[str, int, int]] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    with open_partitioned_store(folder, strategy) as store:
        reader = Reader(store)
        writers = [Writer(folder, f"w{number}") for number in range(WRITERS)]
        for number in range(KILLS):
            enough = len(reader.seen) + ENOUGH_BETWEEN_KILLS
            while len(reader.seen) < enough:
                assert time.monotonic() < deadline, "nothing more is seen"
                reader.read_on()
            victim = writers.pop(chance.randrange(len(writers)))
            acknowledged += victim.kill()
            writers.append(Writer(folder, f"k{number}"))
        for writer in writers:
            acknowledged += writer.kill()
        receipt = store.append("s-0", [UnknownEvent("Last", {})])  # after all that was in flight
        reader.read_on()
        assert reader.seen[-1].position == receipt.position
        judge(store, reader.seen, acknowledged)
    with open_partitioned_store(folder) as again:
        judge(again, reader.seen, acknowledged)


def judge(
    store: Store, seen: list[RecordedEvent[Any]], acknowledged: list[tuple[str, int, int]]
) -> None:
    """What was seen bit by bit is what there is, in order, and has all that was acknowledged."""
    assert store.check() == []
    assert [*store.read()] == seen
    assert [*store.read(Query().backwards())] == seen[::-1]
    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))
    times = [event.recorded_at for event in seen]
    assert times == sorted(times)
    versions: dict[str, list[int]] = defaultdict(list)
    for event in seen:
        versions[event.stream].append(event.version)
    for found in versions.values():
        assert found == list(range(1, len(found) + 1))
    assert {info.name: info.version for info in store.streams()} == {
        stream: found[-1] for stream, found in versions.items()
    }
    places = {(event.stream, event.version, event.position) for event in seen}
    assert set(acknowledged) <= places
    assert len(acknowledged) > KILLS
    judge_what_they_rest_on(seen)
    commits: dict[Any, set[str]] = defaultdict(set)
    for event in seen:
        commits[event.commit_id].add(event.stream)
    assert all(len(streams) == 1 for streams in commits.values()), "each id was used once"


def judge_what_they_rest_on(seen: list[RecordedEvent[Any]]) -> None:
    """Each condition and belief held at its commit's place in the line of positions."""
    versions: dict[str, int] = defaultdict(int)
    rare = tried = 0
    for event in seen:
        data = event.event.data if isinstance(event.event, UnknownEvent) else {}
        if event.type == "Rare":
            assert rare <= data["after"], f"position {event.position} rests on what was no more"
            rare, tried = event.position, tried + 1
        elif event.type == "Believed":
            assert versions[data["stream"]] == data["version"], f"so does {event.position}"
            tried += 1
        versions[event.stream] = event.version
    assert tried > KILLS / 2
