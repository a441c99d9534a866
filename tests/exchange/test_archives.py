"""Any history, cut into objects anywhere, is the same history once it is imported."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exchange.stores import COMMITS, Placed, everything, fill

from everwhen import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.backends.archive_objects import ObjectWriter
from everwhen.codec.slice_digest import digest_of
from everwhen.exchange import ImportFormatError, ImportReport, import_archive
from everwhen.testing import ManualClock
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.paging import next_page


def slices_of(store: Store) -> list[StoredSlice]:
    query = Query()
    slices: list[StoredSlice] = []
    while True:
        page = store.kernel.backend.read(query, 1 << 20)
        slices += page.slices
        if page.end:
            return slices
        query = next_page(query, page)


def spaced(body: bytes) -> bytes:
    return json.dumps(json.loads(body), ensure_ascii=False, indent=1).encode()


def cut(data: st.DataObject, slices: list[StoredSlice]) -> list[list[StoredSlice]]:
    """The slices, in pieces."""
    places = data.draw(st.lists(st.integers(1, len(slices)), max_size=4, unique=True).map(sorted))
    pieces = zip([0, *places], [*places, len(slices)], strict=True)
    return [slices[start:stop] for start, stop in pieces if start < stop]


def put(folder: Path, name: str, groups: list[list[StoredSlice]]) -> None:
    writer = ObjectWriter()
    for group in groups:
        writer.add(group)
    (folder / f"{name}.parquet").write_bytes(writer.finish())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(COMMITS, min_size=1, max_size=6),
    st.lists(st.floats(0, 9), min_size=1, max_size=3),
    st.data(),
)
def test_any_history_comes_back(
    commits: list[Commit], steps: list[float], data: st.DataObject
) -> None:
    clock = ManualClock()
    with open_store("memory:", events=[Placed], clock=clock) as first:
        fill(first, clock, commits, steps)
        slices = slices_of(first)
        expected = everything(first)
    odd = data.draw(st.sets(st.integers(0, len(slices) - 1)))
    for index in odd:
        slices[index] = msgspec.structs.replace(slices[index], body=spaced(slices[index].body))
    with tempfile.TemporaryDirectory() as place, open_store("memory:", events=[Placed]) as made:
        folder = Path(place)
        for number, piece in enumerate(cut(data, slices)):
            put(folder, f"{9 - number}", cut(data, piece))
            if data.draw(st.booleans()):
                put(folder, f"again-{number}", cut(data, piece))
        if data.draw(st.booleans()):
            put(folder, "whole", cut(data, slices))
        import_archive(made, folder)
        assert digest_of(slices_of(made)) == digest_of(slices)
        assert odd or everything(made) == expected
        assert made.check() == []
        assert import_archive(made, folder).written == 0


def test_what_an_older_version_has_stored_is_taken(tmp_path: Path) -> None:
    deep = b"[" * 400 + b"]" * 400
    body = b'[["T",1,{"a":%b},["t"],{"extras":{"b":%b}}]]' % (deep, deep)
    metadata = b'{"extras":{"c":%b}}' % deep
    slices = [StoredSlice(1, "a", 1, 1, 0, bytes(16), 0, metadata, body)]
    put(tmp_path, "a", [slices])
    with open_store(tmp_path / "made.db") as made:
        import_archive(made, tmp_path)
        assert slices_of(made) == slices
        assert [event.position for event in made.read(Query().tags("t"))] == [1]


def test_a_large_commit_and_large_events_are_taken(tmp_path: Path) -> None:
    with open_store("memory:") as store:
        store.append("big", [UnknownEvent("T", {"text": "x" * (3 << 20)}) for _ in range(3)])
        store.append("long", [UnknownEvent("T", {"n": n}) for n in range(2_500)])
        slices = slices_of(store)
    assert len(slices) > 5
    put(tmp_path, "a", [slices[:2], slices[2:4], slices[4:]])
    with open_store(tmp_path / "made.db") as made:
        import_archive(made, tmp_path)
        assert slices_of(made) == slices


def test_a_commit_without_its_beginning_is_refused(tmp_path: Path) -> None:
    with open_store("memory:") as store:
        store.commit(Commit([Write(name, [UnknownEvent("T", {})]) for name in ("a", "b", "c")]))
        slices = slices_of(store)
    moved = [
        msgspec.structs.replace(one, position=one.position - 1, recorded_at=9) for one in slices
    ]
    for groups, why in (
        ([slices[1:]], "begins at position 2"),
        ([moved[1:]], "position 1: first_index is 1 and should be 0"),
        ([slices[:1], [msgspec.structs.replace(slices[1], metadata=b"{}")]], "other metadata"),
    ):
        put(tmp_path, "a", groups)
        with open_store("memory:") as made:
            with pytest.raises(ImportFormatError, match=why):
                import_archive(made, tmp_path)
            assert made.head().position == 0


def test_two_imports_at_once_make_one_history(tmp_path: Path) -> None:
    with open_store("memory:") as store:
        for number in range(2_600):
            store.append(f"s-{number % 7}", [UnknownEvent("T", {"n": number})])
        slices = slices_of(store)
    put(tmp_path, "a", [slices[start : start + 300] for start in range(0, 2_600, 300)])
    path = tmp_path / "made.db"
    reports: list[ImportReport] = []
    begun = threading.Barrier(2)

    def run() -> None:
        with open_store(path, durable=False) as made:
            begun.wait()
            reports.append(import_archive(made, tmp_path))

    with open_store(path):
        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open_store(path) as made:
        assert slices_of(made) == slices
    assert [report.events for report in reports] == [2_600, 2_600]
    assert sum(report.written for report in reports) == 2_600


PROGRAM = """
import sys
from everwhen import open_store
from everwhen.exchange import import_archive
with open_store(sys.argv[1]) as store:
    print(flush=True)
    import_archive(store, sys.argv[2])
"""


@pytest.mark.slow
def test_killed_while_it_writes(tmp_path: Path) -> None:
    with open_store("memory:") as store:
        for number in range(4_000):
            store.commit(
                Commit([Write(f"{n}-{number % 9}", [UnknownEvent("T", {})]) for n in "abc"])
            )
        slices = slices_of(store)
    folder = tmp_path / "archive"
    folder.mkdir()
    for start in range(0, len(slices), 1_000):
        put(folder, str(start), [slices[start : start + 500], slices[start + 500 : start + 1_000]])
    path = tmp_path / "killed.db"
    dice = random.Random(7)
    found: set[int] = set()
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(folder)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(dice.uniform(0.1, 0.5))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with open_store(path) as store:
            stored = slices_of(store)
            found.add(len(stored))
            assert stored == slices[: len(stored)]
        if len(found) > 3 or len(stored) == len(slices):
            break
    with open_store(path) as store:
        import_archive(store, folder)
        assert slices_of(store) == slices
        assert store.check() == []
