"""An import that was interrupted and is run again is the same as one that was not."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.exchange.stores import Placed, everything, exported, shop

from everwhen import ConflictError, Query, UnknownEvent, open_store
from everwhen.exchange import CloudEvents, Csv, ExchangeProgress, Format, import_events

ROWS = 4_000


def table(path: Path) -> Path:
    dice = random.Random(5)
    rows = [f"{dice.randrange(50)},{dice.randrange(10_000)},{n}\n" for n in range(ROWS)]
    path.write_text("".join(["stream,recorded_at,n\n", *rows]))
    return path


CHOSEN = Csv(type=None, constant_type="Read", time_format="s", category="meter")


def export(path: Path) -> Path:
    first, _ = shop()
    for number in range(60):
        first.append(f"many-{number}", [Placed(n) for n in range(50)])
    path.write_bytes(exported(first, CloudEvents()))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("format_", [CHOSEN, CloudEvents()], ids=["csv", "cloudevents"])
def test_interrupted_at_every_report(tmp_path: Path, format_: Format) -> None:
    source = table(tmp_path / "t.csv") if format_ is CHOSEN else export(tmp_path / "e.jsonl")
    with open_store("memory:", events=[Placed]) as whole:
        import_events(whole, source, format_)
        expected = everything(whole)
    calls = itertools.count()
    stop_at = 0

    def stop(_: ExchangeProgress) -> None:
        if next(calls) == stop_at:
            raise KeyboardInterrupt

    stages = set()
    for stop_at in range(100):  # noqa: B007 (read by stop)
        calls = itertools.count()
        with open_store("memory:", events=[Placed]) as store:
            try:
                import_events(store, source, format_, progress=stop)
            except KeyboardInterrupt:
                written = store.head().position
                stages.add(written > 0)
                report = import_events(store, source, format_)
                assert report.written == len(expected) - written
                assert report.repeated == written
            else:
                break
            assert everything(store) == expected
    assert stages == {True, False}


PROGRAM = """
import sys
from everwhen import open_store
from everwhen.exchange import import_events
from tests.exchange.test_resuming import CHOSEN
with open_store(sys.argv[1]) as store:
    print(flush=True)
    import_events(store, sys.argv[2], CHOSEN)
"""


@pytest.mark.slow
def test_killed_while_it_writes(tmp_path: Path) -> None:
    source = table(tmp_path / "table.csv")
    path = tmp_path / "killed.db"
    dice = random.Random(7)
    found: set[int] = set()
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), str(source)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.12))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with open_store(path) as store:
            found.add(store.head().position)
            assert store.check() == []
        if len(found) > 3:
            break
    with open_store(path) as store, open_store("memory:") as whole:
        import_events(store, source, CHOSEN)
        import_events(whole, source, CHOSEN)
        assert everything(store) == everything(whole)
        assert store.head().position == ROWS


def test_others_may_write_before_it_goes_on(tmp_path: Path) -> None:
    source = table(tmp_path / "table.csv")

    def stop(progress: ExchangeProgress) -> None:
        if progress.stage == "writing" and progress.done >= ROWS / 2:
            raise KeyboardInterrupt

    with open_store("memory:") as store:
        with pytest.raises(KeyboardInterrupt):
            import_events(store, source, CHOSEN, progress=stop)
        store.append("another", [UnknownEvent("Now", {})])
        report = import_events(store, source, CHOSEN)
        assert report.written + report.repeated == ROWS
        read = list(store.read(Query().types("Read")))
        assert sorted(int(e.data["n"]) for e in read) == list(range(ROWS))
        times = [e.recorded_at for e in store.read()]
        assert times == sorted(times)
        seconds = {int(e.data["n"]): e.occurred_at.timestamp() for e in read}
        for line, row in enumerate(source.read_text().splitlines()[1:]):
            assert seconds[line] == float(row.split(",")[1])


def test_an_export_that_contradicts_the_store_is_refused(tmp_path: Path) -> None:
    source = export(tmp_path / "export.jsonl")
    with open_store("memory:", events=[Placed]) as store:
        store.append("order-3", [Placed(1)])
        with pytest.raises(ConflictError, match="order-3"):
            import_events(store, source)
