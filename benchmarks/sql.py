"""SQL over hot, sealed and archived history, and events as Arrow.

    python -m benchmarks.sql [--quick]

Commits of one event (some 130 bytes, of four types, over 5,000 streams) in one file: asked in rows,
then sealed. Ten million archived events are made by tiling: the same events again and again as
Parquet files, each with positions of its own. Each figure is the best of several turns, of wall
time and of processor time.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from everwhen import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.codec.arrow_columns import ARCHIVE_SCHEMA, archive_table
from everwhen.store import SqlResult
from everwhen.store.event_scans import ArchivedFile, EventScan
from everwhen.store.sql_results import SqlLimits
from everwhen.tiers import HistoryManager, HistoryPolicy
from everwhen.vocabulary.contract import Page

TYPES = ["BetPlaced", "BetWon", "BetLost", "PlayerJoined"]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "seven", "lazy", "dogs"]
LIMITS = SqlLimits(None, None, 2 << 30)
BY_TYPE = "SELECT type, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC"
FIELD = "SELECT type, sum((data->>'amount')::INTEGER) FROM events GROUP BY 1"


def fill(store: Store, commits: int, chance: random.Random) -> None:
    """Write that many commits of one event."""
    for _ in range(0, commits, 4_000):
        store.commit_batch([_commit(chance) for _ in range(4_000)])


def _commit(chance: random.Random) -> Commit:
    data = {"amount": chance.randrange(1_000), "note": " ".join(chance.choices(WORDS, k=8))}
    event = UnknownEvent(chance.choice(TYPES), data)
    return Commit([Write(f"game-{chance.randrange(5_000)}", [event])])


def show(name: str, ask: Callable[[], object], turns: int, events: int | None = None) -> None:
    """Print the best of some turns, by the clock and of the processor."""
    walls, costs = [], []
    for _ in range(turns):
        wall, cost = time.perf_counter(), time.process_time()
        ask()
        walls.append(time.perf_counter() - wall)
        costs.append(time.process_time() - cost)
    per_event = "" if events is None else f"  {min(costs) / events * 1e6:6.2f} µs an event"
    print(f"  {name:34} {min(walls) * 1e3:9.1f} ms  {min(costs) * 1e3:9.1f} ms of CPU{per_event}")


def asked(scan: EventScan, statement: str) -> list[tuple[Any, ...]]:
    with SqlResult(scan, statement, (), LIMITS) as result:
        return result.fetchall()


def of_store(store: Store, turns: int) -> None:
    """The questions to a store, as it is now."""
    events = store.head().position
    middle = events // 2
    when = next(store.read(Query().after(middle))).recorded_at.isoformat()
    narrow = f"recorded_at BETWEEN '{when}' AND TIMESTAMPTZ '{when}' + INTERVAL 10 MILLISECOND"

    def scan() -> EventScan:
        return store.kernel.event_scan(Query())

    show("count by type", lambda: asked(scan(), BY_TYPE), turns, events)
    show("sum of a field by type", lambda: asked(scan(), FIELD), turns, events)
    by_position = f"SELECT * FROM events WHERE position = {middle}"
    show("one position", lambda: asked(scan(), by_position), turns)
    show("a window of time", lambda: asked(scan(), f"FROM events WHERE {narrow}"), turns)
    show("one stream", lambda: asked(scan(), "FROM events WHERE stream = 'game-7'"), turns)
    show("Arrow, all columns", lambda: _drain(store.arrow()), turns, events)
    kinds = ["position", "type"]
    show("Arrow, position and type", lambda: _drain(store.arrow(columns=kinds)), turns, events)
    show("the same events by store.read", lambda: _drain(store.read_pages()), turns, events)


def _drain(batches: Any) -> None:
    for _ in batches:
        pass


def tiled(store: Store, folder: Path, files: int, slices: int) -> list[ArchivedFile]:
    """The store's first slices as that many Parquet files, one after the other in positions."""
    pages = store.kernel.pages(Query().up_to(slices))
    table = archive_table([stored for page, _, _ in pages for stored in page.slices])
    found = []
    for number in range(files):
        moved = _moved(table, number * slices)
        path = folder / f"{number:04}.parquet"
        pq.write_table(
            moved,
            path,
            row_group_size=65_536,
            compression="zstd",
            use_dictionary=["stream", "category", "type"],
        )
        found.append(ArchivedFile(number * slices + 1, (number + 1) * slices, str(path)))
    return found


def _moved(table: pa.Table, by: int) -> pa.Table:
    positions = pa.array([value + by for value in table.column("position").to_pylist()])
    return table.set_column(0, ARCHIVE_SCHEMA.field("position"), positions)


def archived(store: Store, folder: Path, events: int, turns: int) -> None:
    """The questions to archived history alone."""
    slices = min(store.head().position, 500_000)
    files = tiled(store, folder, max(1, events // slices), slices)
    events = files[-1].last
    size = sum(Path(file.path).stat().st_size for file in files)
    print(f"{events:,} archived events, {size / events:.0f} bytes each, in {len(files)} files")

    def nothing(query: Query, _: int) -> Page:
        return Page([], query.after_position, end=True)

    def scan() -> EventScan:
        return EventScan(nothing, Query().up_to(events), files)

    assert sum(count for _, count in asked(scan(), BY_TYPE)) == events
    show("count by type", lambda: asked(scan(), BY_TYPE), turns, events)
    show("sum of a field by type", lambda: asked(scan(), FIELD), 1, events)
    by_position = f"SELECT * FROM events WHERE position = {events // 2}"
    show("one position", lambda: asked(scan(), by_position), turns)
    kinds = ["position", "type"]
    show("Arrow, position and type", lambda: _drain(scan().batches(kinds)), turns, events)


def stores(folder: Path, commits: int) -> Iterator[tuple[str, Store]]:
    """The same store in rows, and sealed."""
    with open_store(folder / "asked.db", durable=False) as store:
        fill(store, commits, random.Random(7))
        yield "in rows", store
        policy = HistoryPolicy(hot_duration=timedelta(0), small_segments=True)
        HistoryManager(store, policy).age()
        yield "sealed", store


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of it, once")
    quick = arguments.parse_args().quick
    commits, many, turns = (48_000, 1_000_000, 1) if quick else (500_000, 10_000_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        for name, store in stores(Path(folder), commits):
            print(f"{store.head().position:,} events {name}")
            of_store(store, turns)
            if name == "sealed":
                archived(store, Path(folder), many, turns)


if __name__ == "__main__":
    main()
