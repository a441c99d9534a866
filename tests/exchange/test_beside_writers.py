"""Imports into stores that others write to, from logs that lie ahead, and once more."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.exchange.stores import Placed, exported, imported, shop
from tests.exchange.test_xes import LOG

from everwhen import (
    ConflictError,
    EverwhenError,
    Query,
    RecordedEvent,
    Store,
    UnknownEvent,
    open_store,
)
from everwhen.errors import DeclarationError
from everwhen.exchange import (
    CloudEvents,
    Csv,
    ExchangeProgress,
    Format,
    ImportConflictError,
    ImportedBeforeError,
    ImportFormatError,
    ImportTimesError,
    Xes,
    import_events,
)
from everwhen.testing import ManualClock

READ = Csv(type=None, constant_type="Read", time_format="s", category="meter")
ROWS = 3_500
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def table(path: Path) -> Path:
    dice = random.Random(6)
    rows = [f"{dice.randrange(9)},{dice.randrange(10_000)},{n}\n" for n in range(ROWS)]
    path.write_text("".join(["stream,recorded_at,n\n", *rows]))
    return path


def export(path: Path) -> Path:
    """An export whose streams go on from commit to commit, so that each rests on those before."""
    first, _ = shop()
    for number in range(600):
        first.append(f"many-{number % 5}", [Placed(n) for n in range(6)])
    path.write_bytes(exported(first, CloudEvents()))
    return path


SOURCES: list[Any] = [
    pytest.param(table, READ, id="csv"),
    pytest.param(export, CloudEvents(), id="export"),
]


def content(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """What each imported stream holds, in its order, with its own times."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for event in store.read():
        if event.stream != "foreign":
            seen = (event.version, event.type, event.json, event.occurred_at)
            found.setdefault(event.stream, []).append(seen)
    return found


def never_steps_back(store: Store) -> bool:
    times = [event.recorded_at for event in store.read()]
    return times == sorted(times)


def clean(source: Path, format_: Format) -> dict[str, list[tuple[Any, ...]]]:
    with open_store("memory:", events=[Placed]) as store:
        assert import_events(store, source, format_).times == "recorded"
        return content(store)


@pytest.mark.slow
@pytest.mark.parametrize("location", ["memory:", "beside.db"])
@pytest.mark.parametrize(("make", "format_"), SOURCES)
def test_it_goes_on_beside_others(
    tmp_path: Path, location: str, make: Callable[[Path], Path], format_: Format
) -> None:
    source = make(tmp_path / "source")
    where = location if location == "memory:" else tmp_path / location
    with open_store(where, events=[Placed]) as store:
        written = 0

        def disturb(progress: ExchangeProgress) -> None:
            nonlocal written
            if progress.stage == "writing":
                written += 1
                store.append("foreign", [UnknownEvent("Foreign", {})])

        report = import_events(store, source, format_, progress=disturb)
        assert report.written == report.events
        assert report.times == "mixed"
        assert 0 < report.late < report.written, "what was written before keeps its own times"
        assert store.version("foreign") == written > 2
        assert content(store) == clean(source, format_)
        assert never_steps_back(store)
        assert store.check() == []
        again = import_events(store, source, format_)
        assert (again.written, again.repeated) == (0, report.events)
        assert again.times == "mixed"


@pytest.mark.slow
@pytest.mark.parametrize(("make", "format_"), SOURCES)
def test_exactly_once_however_often_it_is_stopped(
    tmp_path: Path, make: Callable[[Path], Path], format_: Format
) -> None:
    source = make(tmp_path / "source")
    dice = random.Random(7)
    with open_store("memory:", events=[Placed]) as store:

        def disturb(progress: ExchangeProgress) -> None:
            if progress.stage == "writing" and dice.random() < 0.5:
                if dice.random() < 0.6:
                    store.append("foreign", [UnknownEvent("Foreign", {})])
                raise KeyboardInterrupt

        for _ in range(200):
            try:
                report = import_events(store, source, format_, progress=disturb)
                break
            except KeyboardInterrupt:
                continue
        else:
            pytest.fail("it never came to its end")
        assert report.written + report.repeated == report.events
        assert content(store) == clean(source, format_)


@pytest.mark.parametrize(("make", "format_"), SOURCES)
def test_own_times_or_none(tmp_path: Path, make: Callable[[Path], Path], format_: Format) -> None:
    source = make(tmp_path / "source")
    with open_store("memory:", events=[Placed]) as store:
        store.append("foreign", [UnknownEvent("Foreign", {})])
        with pytest.raises(ImportTimesError, match=r"newer events.*0 events were written"):
            import_events(store, source, format_, times="recorded")
        assert store.head().position == 1
        assert store.checkpoints() == []
    with open_store("memory:", events=[Placed]) as store:

        def disturb(progress: ExchangeProgress) -> None:
            if progress.stage == "writing":
                store.append("foreign", [UnknownEvent("Foreign", {})])

        with pytest.raises(ImportTimesError) as caught:
            import_events(store, source, format_, times="recorded", progress=disturb)
        kept = store.head().position - store.version("foreign")
        assert caught.value.written == kept > 0
        rest = import_events(store, source, format_, times="occurred")
        assert (rest.repeated, rest.times) == (kept, "mixed")
        assert content(store) == clean(source, format_)


def test_all_times_can_be_taken_as_occurred_at(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    with open_store("memory:", clock=clock) as store:
        report = import_events(store, table(tmp_path / "t.csv"), READ, times="occurred")
        assert (report.times, report.late) == ("occurred", ROWS)
        assert {event.recorded_at for event in store.read()} == {NOW}
        assert max(e.occurred_at for e in store.read()).year == 1970


def test_a_choice_that_there_is_not(tmp_path: Path) -> None:
    with open_store("memory:") as store:
        with pytest.raises(DeclarationError, match="times='recorded_at': use one of 'auto'"):
            import_events(store, table(tmp_path / "t.csv"), READ, times="recorded_at")  # type: ignore[arg-type]


def test_an_export_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = export(tmp_path / "export.jsonl")
    with open_store("memory:", events=[Placed]) as store:
        store.append("many-4", [Placed(1)])
        with pytest.raises(ImportConflictError, match=r"'many-4', which is at version 1.*0 events"):
            import_events(store, source)
        assert store.head().position == 1
        assert store.checkpoints() == []


def test_an_export_that_lacks_a_commit_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    source = export(tmp_path / "export.jsonl")
    lines = source.read_bytes().splitlines(keepends=True)
    for wrong, reason in (
        (lines[:-60] + lines[-54:], "continues at version"),
        ([*lines[:-54], *again(lines)], "used before"),
    ):
        source.write_bytes(b"".join(wrong))
        with open_store("memory:", events=[Placed]) as store:
            with pytest.raises(EverwhenError, match=reason):
                import_events(store, source)
            assert store.head().position == 0
            assert store.checkpoints() == []


def again(lines: list[bytes]) -> list[bytes]:
    """The last commits, of which one has the id of one long before."""
    told = [json.loads(line) for line in lines[-54:]]
    for line in told[:6]:
        line["ewcommit"] = json.loads(lines[-660])["ewcommit"]
    return [json.dumps(line).encode() + b"\n" for line in told]


def test_an_export_goes_on_where_others_wrote_to_other_streams(tmp_path: Path) -> None:
    source = export(tmp_path / "export.jsonl")
    whole = source.read_bytes()
    lines = whole.splitlines(keepends=True)
    half = next(i for i in range(1_800, len(lines)) if b'"ewlast":true' in lines[i]) + 1
    source.write_bytes(b"".join(lines[:half]))
    with open_store("memory:", events=[Placed]) as store:
        assert import_events(store, source).written == half
        store.append("foreign", [UnknownEvent("Foreign", {})])
        source.write_bytes(whole)
        report = import_events(store, source)
        assert (report.repeated, report.written) == (half, len(lines) - half)
        assert content(store) == clean(source, CloudEvents())
        store.append("many-0", [Placed(1)])
        assert import_events(store, source).written == 0, "what is all there fits"


def test_a_stream_of_an_export_that_somebody_adds_to_meanwhile(tmp_path: Path) -> None:
    source = export(tmp_path / "export.jsonl")
    with open_store("memory:", events=[Placed]) as store:

        def disturb(progress: ExchangeProgress) -> None:
            if progress.stage == "writing" and not store.version("foreign"):
                store.append("foreign", [UnknownEvent("Foreign", {})])
                store.append("many-1", [Placed(1)])

        with pytest.raises(ConflictError, match="many-1") as caught:
            import_events(store, source, progress=disturb)
        assert isinstance(caught.value, ImportConflictError)
        assert caught.value.written == store.head().position - 2


# Times that lie in the future

AHEAD = "stream,type,recorded_at\np1,Admit,2026-01-02T00:00:00Z\np1,Leave,2185-05-26T00:00:00Z\n"


def at_now() -> Store:
    return open_store("memory:", clock=ManualClock(NOW))


def times_of(store: Store) -> list[tuple[datetime, datetime]]:
    return [(event.recorded_at, event.occurred_at) for event in store.read()]


def test_a_time_in_the_future_is_refused_by_row_and_value() -> None:
    with at_now() as store:
        with pytest.raises(ImportFormatError, match="line 3: its time 2185-05-26T00:00:00Z"):
            imported(store, AHEAD.encode(), Csv())
        assert store.head().position == 0
        assert store.checkpoints() == []
        report = imported(store, AHEAD.encode(), Csv(), skip_invalid=True)
        assert (report.events, report.written, report.invalid) == (1, 1, 1)
        assert report.reasons[0].line == 3
        rest = imported(store, AHEAD.encode(), Csv(), future="occurred")
        assert (rest.repeated, rest.written) == (1, 1), "what was left out can be taken in"


def test_a_time_in_the_future_is_taken_as_it_is_asked() -> None:
    admitted = datetime(2026, 1, 2, tzinfo=UTC)
    ahead = datetime(2185, 5, 26, tzinfo=UTC)
    with at_now() as store:
        report = imported(store, AHEAD.encode(), Csv(), future="occurred")
        assert (report.times, report.late) == ("mixed", 1)
        assert times_of(store) == [(admitted, admitted), (NOW, ahead)]
        assert imported(store, AHEAD.encode(), Csv(), future="occurred").written == 0
    with at_now() as store:
        assert imported(store, AHEAD.encode(), Csv(), future="recorded").times == "recorded"
        assert times_of(store) == [(admitted, admitted), (ahead, ahead)]
    for times in ("occurred", "auto"):
        with at_now() as store:
            if times == "auto":
                store.append("newer", [UnknownEvent("Newer", {})])
            report = imported(store, AHEAD.encode(), Csv(), times=times)
            assert report.times == "occurred", "nothing is recorded then, so nothing is in the way"
            assert times_of(store)[-2:] == [(NOW, admitted), (NOW, ahead)]


@pytest.mark.parametrize(("seconds", "is_taken"), [(299, True), (301, False)])
def test_clocks_may_differ_a_little(seconds: int, is_taken: bool) -> None:
    time = (NOW + timedelta(seconds=seconds)).isoformat()
    with at_now() as store:
        try:
            imported(store, f"stream,type,recorded_at\na,T,{time}\n".encode(), Csv())
        except ImportFormatError:
            assert not is_taken
        else:
            assert is_taken


def test_an_export_from_the_future() -> None:
    clock = ManualClock(NOW + timedelta(days=900))
    first = open_store("memory:", clock=clock)
    first.append("a", [UnknownEvent("Noted", {})])
    text = exported(first, CloudEvents())
    with at_now() as store:
        with pytest.raises(ImportFormatError, match="line 1: its time 2028"):
            imported(store, text, CloudEvents())
        assert store.head().position == 0
        assert imported(store, text, CloudEvents(), future="occurred").late == 1
        assert times_of(store) == [(NOW, clock())]
    with at_now() as store:
        imported(store, text, CloudEvents(), future="recorded")
        assert exported(store, CloudEvents()) == text


# The envelope


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("recordedtime", None, "recordedtime is missing"),
        ("recordedtime", "", "recordedtime is missing"),
        ("recordedtime", "yesterday", "not an ISO 8601 time"),
        ("recordedtime", "2026-01-01T00:00:00", "no time zone"),
        ("recordedtime", "9999-12-31T23:59:59-05:00", "out of range"),
        ("ewschema", 0, "not a schema version"),
        ("ewschema", 1 << 40, "not a schema version"),
        ("ewposition", "9" * 19, "not a valid position"),
        ("ewversion", "9" * 19, "not a valid version"),
        ("ewindex", 4, "ewindex is 4, expected 0"),
        ("ewuser", "another", "contradict each other"),
    ],
)
def test_what_an_export_says_of_a_commit_is_checked(name: str, value: Any, reason: str) -> None:
    lines = [json.loads(line) for line in exported(shop()[0], CloudEvents()).splitlines()]
    lines[0][name] = value
    if value is None:
        lines = [{k: v for k, v in line.items() if k != name} for line in lines]
    text = "\n".join(map(json.dumps, lines)).encode()
    with open_store("memory:") as store:
        with pytest.raises(ImportFormatError, match=reason):
            imported(store, text, CloudEvents())
        assert store.head().position == 0
        assert store.check() == []


def test_a_commit_without_a_proper_id_is_refused() -> None:
    lines = exported(shop()[0], CloudEvents()).splitlines()
    own = json.loads(lines[0])["ewcommit"].encode()
    text = b"\n".join(lines).replace(own, b"no uuid")
    with open_store("memory:") as store:
        with pytest.raises(ImportFormatError, match="ewcommit 'no uuid' is not a UUID"):
            imported(store, text, CloudEvents())
        assert store.head().position == 0


@pytest.mark.parametrize("version", ["0", "-1", str(1 << 40)])
def test_a_schema_version_in_a_table_is_checked(version: str) -> None:
    text = f"stream,type,recorded_at,schema_version\na,T,2026-01-01T00:00:00Z,{version}\n"
    with open_store("memory:") as store, pytest.raises(ImportFormatError, match="schema version"):
        imported(store, text.encode(), Csv())


@pytest.mark.parametrize(
    ("cell", "zone"),
    [
        ("2026-W01-1T10:00:00+00:00", None),
        ("20260101T1000+02", None),
        ("2026-01-01 10:00", "Europe/Berlin"),
    ],
)
def test_any_iso_time_in_a_table_can_be_read_again(cell: str, zone: str | None) -> None:
    text = f"stream,type,recorded_at,occurred_at\na,T,2026-01-01T00:00:00Z,{cell}\n"
    with open_store("memory:") as store:
        imported(store, text.encode(), Csv(time_zone=zone))
        (event,) = store.read()
        assert event.occurred_at.astimezone(UTC).hour in {8, 9, 10}


# The same rows, once more


def one(store: Store) -> RecordedEvent[Any]:
    return next(store.read(Query().limit(1)))


def test_rows_that_were_imported_with_other_options_are_noticed() -> None:
    text = b"stream,recorded_at,kwh\n17,2026-01-01T10:00,1.5\n"
    options: dict[str, Any] = {"type": None, "constant_type": "Read"}
    with at_now() as store:
        imported(store, text, Csv(time_zone="UTC", **options))
        other = Csv(time_zone="Europe/Berlin", floats=("kwh",), **options)
        with pytest.raises(ImportedBeforeError) as caught:
            imported(store, text, other)
        said = str(caught.value)
        assert "imported on 2026-06-01T12:00:00Z" in said
        assert "time_zone was 'UTC' and is 'Europe/Berlin'" in said
        assert "floats was [] and is ['kwh']" in said
        assert "--again" in said
        assert store.head().position == 1
        assert imported(store, text, Csv(time_zone="UTC", **options)).repeated == 1
        assert imported(store, text, other, again=True).written == 1
        assert imported(store, text, other).repeated == 1, "and that is known, too"


@pytest.mark.parametrize("first", ["a.csv", "a.csv.gz", "a.csv.zip"])
def test_packed_or_not_they_are_the_same_rows(tmp_path: Path, first: str) -> None:
    text = b"stream,type,recorded_at\na,T,2026-01-01T10:00:00Z\n"
    (tmp_path / "a.csv").write_bytes(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", text)
    with at_now() as store:
        assert import_events(store, tmp_path / first).written == 1
        for name in ("a.csv", "a.csv.gz", "a.csv.zip"):
            assert import_events(store, tmp_path / name).repeated == 1
            with pytest.raises(ImportedBeforeError, match="these rows were imported"):
                import_events(store, tmp_path / name, Csv(integers=("type",), category="x"))
        assert store.head().position == 1


def test_another_category_of_a_log_is_another_option() -> None:
    with at_now() as store:
        imported(store, LOG, Xes())
        with pytest.raises(ImportedBeforeError, match="category was 'case' and is 'patient'"):
            imported(store, LOG, Xes(category="patient"))


def test_the_ids_of_imported_rows_stay_those_of_earlier_versions() -> None:
    assert (
        Csv(delimiter=",").identity
        == Csv().identity
        == (
            b'csv{"stream":"stream","type":"type","time":"recorded_at","category":null,'
            b'"constant_type":null,"time_format":"iso","time_zone":null,"occurred_at":"occurred_at",'
            b'"event_id":"event_id","schema_version":"schema_version","tags_json":"tags",'
            b'"data_json":"data","ignored":["position","version"],"tags":[],"integers":[],"floats":[],'
            b'"booleans":[],"json":[],"empty_as_null":false,"delimiter":",","encoding":"utf-8",'
            b'"guard_formulas":false}'
        )
    )
