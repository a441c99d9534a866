"""``tiers``: where history is, what would be sealed, and sealing it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import apsw
import pytest
from tests.cli.everwhen_shell import Shell
from tests.faults.test_faults import as_nobody

from everwhen import Commit, Query, UnknownEvent, Write, open_store
from everwhen.backends.sqlite import schema
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.tiers import HistoryManager, HistoryPolicy

OLD = datetime(2020, 5, 1, 12, tzinfo=UTC)
EVERYTHING = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
_STOPPING = """
import sys, time
from datetime import timedelta
from everwhen import open_store
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.tiers import HistoryManager, HistoryPolicy

written, left = SqliteEngine._written, [4]

def writing(engine, step):
    left[0] -= 1
    if not left[0]:
        print("stopped", flush=True)
        time.sleep(3_600)
    written(engine, step)

SqliteEngine._written = writing
everything = HistoryPolicy(hot_duration=timedelta(0), small_segments=True)
with open_store(sys.argv[1]) as store:
    with HistoryManager(store, everything).in_background(timedelta(hours=1), lease=2.0):
        time.sleep(3_600)
"""
ALL = ("--hot-duration", "0", "--small-segments")
DAYS = ("--hot-duration", "30d", "--small-segments")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store with five events of 2020, in three slices, and two of today."""
    path = tmp_path / "old.db"
    with open_store(path) as store:
        for stream, count in (("game-1", 2), ("game-2", 1), ("game-1", 2)):
            events = [UnknownEvent("BetPlaced", {"amount": number}) for number in range(count)]
            store.commit(Commit([Write(stream, events)], recorded_at=OLD))
        for _ in range(2):
            store.append("game-3", [UnknownEvent("GameWon", {})])
    return path


def rows_in(path: Path) -> list[int]:
    """The positions of slices that are in rows, whether they mean anything or not."""
    connection = apsw.Connection(str(path))
    try:
        return [row[0] for row in connection.execute("SELECT position FROM slices ORDER BY 1")]
    finally:
        connection.close()


def test_in_a_pipe(shell: Shell, old: Path) -> None:
    before = shell("read", old)
    assert shell("tiers", "status", old).fields == {
        "sealed": "0",
        "head": "7",
        "segments": "0",
        "slices": "0",
        "bytes": "0",
        "sealed_until": "null",
        "hot_events": "7",
        "last_run": "null",
        "last_error": "null",
        "archived": "0",
        "archive_bytes": "0",
        "retired": "0",
    }
    planned = shell("tiers", "plan", old, *DAYS)
    assert (planned.code, planned.rows) == (
        0,
        [["first", "1"], ["last", "5"], ["events", "5"]]
        + [[name, "0"] for name in ("archive", "evict", "retire", "lost")]
        + [["held_back_by", "null"], ["held_back_at", "null"]],
    )
    made = shell("tiers", "age", old, *DAYS)
    assert (made.code, made.err) == (0, "")
    assert (
        made.fields.items()
        >= {
            "first": "1",
            "last": "5",
            "events": "5",
            "segments": "1",
            "slices": "3",
        }.items()
    )
    assert int(made.fields["bytes"]) > 0
    assert rows_in(old) == [6, 7]
    status = shell("tiers", "status", old).fields
    assert datetime.fromisoformat(status.pop("last_run")) <= datetime.now(UTC)
    assert status == {
        "sealed": "5",
        "head": "7",
        "segments": "1",
        "slices": "3",
        "bytes": made.fields["bytes"],
        "sealed_until": "2020-05-01T12:00:00.000000Z",
        "hot_events": "2",
        "last_error": "null",
        "archived": "0",
        "archive_bytes": "0",
        "retired": "0",
    }
    assert shell("read", old) == before
    assert shell("check", old).code == 0
    assert shell("append", old, "game-1", "BetPlaced", "{}").code == 0
    assert shell("read", old, "--stream", "game-1").rows[-1][3] == "5"


def test_as_json(shell: Shell, old: Path) -> None:
    (planned,) = shell("tiers", "plan", old, *DAYS, "--json").records
    rest: dict[str, object] = dict.fromkeys(("archive", "evict", "retire", "lost"), 0)
    rest |= {"held_back_by": None, "held_back_at": None}
    assert planned == rest | {"first": 1, "last": 5, "events": 5}
    (made,) = shell("tiers", "age", old, *DAYS, "--json").records
    sealed = {"first": 1, "last": 5, "events": 5, "segments": 1, "slices": 3}
    assert made == sealed | {"bytes": made["bytes"], "archived": 0, "evicted": 0, "retired": 0}
    (found,) = shell("tiers", "status", old, "--json").records
    assert datetime.fromisoformat(found.pop("last_run")) <= datetime.now(UTC)
    assert found == {
        "sealed": 5,
        "head": 7,
        "segments": 1,
        "slices": 3,
        "bytes": made["bytes"],
        "sealed_until": "2020-05-01T12:00:00.000000Z",
        "hot_events": 2,
        "last_error": None,
        "archived": 0,
        "archive_bytes": 0,
        "retired": 0,
    }
    (nothing,) = shell("tiers", "plan", old, *DAYS, "--json").records
    assert nothing == rest | {"first": None, "last": None, "events": 0}


def test_in_a_terminal(shell: Shell, old: Path) -> None:
    planned = shell.terminal("tiers", "plan", old, *DAYS, TERM="dumb")
    assert planned.out == "Positions 1 to 5 would be sealed: 5 events.\n"
    made = shell.terminal("tiers", "age", old, *DAYS, TERM="dumb")
    assert made.out.startswith("✓ positions 1 to 5 are sealed in 1 segment, ")
    head, cold, hot = shell.terminal(
        "tiers", "status", old, columns=80, TERM="dumb"
    ).out.splitlines()
    assert head.split() == [
        *("TIER", "UP", "TO", "EVENTS", "SEGMENTS", "SLICES", "SIZE", "RECORDED", "UP", "TO"),
    ]
    assert cold.split()[:5] == ["cold", "5", "5", "1", "3"]
    assert cold.rstrip().endswith("2020-05-01 14:00:00")
    assert hot.split()[:3] == ["hot", "7", "2"]
    again = shell.terminal("tiers", "age", old, *DAYS, TERM="dumb")
    nothing = "Nothing to move: all that is old enough is where it should be.\n"
    assert (again.code, again.out) == (0, nothing)


def test_progress_is_shown_where_people_look(shell: Shell, old: Path) -> None:
    made = shell("tiers", "age", old, *ALL, FORCE_COLOR="1")
    assert made.code == 0
    assert "positions 1 to 7 are sealed" in made.out


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_goes_on_until_a_signal(shell: Shell, old: Path, by: signal.Signals, code: int) -> None:
    with shell.started("tiers", "age", old, *ALL, "--every", "1s", "--json") as aging:
        assert aging.stdout is not None
        made = json.loads(aging.stdout.readline())
        assert (made["first"], made["last"], made["slices"]) == (1, 7, 5)
        assert shell("append", old, "game-1", "BetPlaced", "{}").code == 0
        assert json.loads(aging.stdout.readline())["last"] == 8
        aging.send_signal(by)
        assert aging.communicate() == (b"", b"")
    assert aging.returncode == code
    assert shell("tiers", "status", old).fields["last_error"] == "null"
    assert shell("check", old).code == 0


@pytest.mark.slow
def test_one_takes_over_from_another_that_is_killed(shell: Shell, old: Path) -> None:
    """Two processes move in the background, a third writes; each in turn dies and is begun anew."""
    before = shell("read", old)
    command = ("tiers", "age", old, *ALL, "--every", "1s")
    movers = [shell.started(*command) for _ in range(2)]
    try:
        for number in range(4):
            with open_store(old) as store:
                head = store.append("game-4", [UnknownEvent("GameWon", {})]).position
                while HistoryManager(store, EVERYTHING).status().sealed < head:
                    time.sleep(0.01)
            killed = movers.pop(0)
            killed.kill()
            killed.communicate()
            if number < 2:
                movers.append(shell.started(*command))
            if not movers:
                break
    finally:
        for mover in movers:
            mover.kill()
            mover.communicate()
    assert shell("read", old).rows[: len(before.rows)] == before.rows
    assert shell("check", old).code == 0


@pytest.mark.slow
def test_who_was_killed_while_moving_is_followed(shell: Shell, old: Path) -> None:
    """One is stopped in the middle of a seal, holding its lease, and killed; another goes on."""
    command = [sys.executable, "-c", _STOPPING, str(old)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stopping:
        assert stopping.stdout is not None
        assert stopping.stdout.readline() == b"stopped\n"
        with (
            open_store(old) as store,
            HistoryManager(store, EVERYTHING).in_background(timedelta(hours=1), lease=1.0),
        ):
            stopping.kill()
            while HistoryManager(store, EVERYTHING).status().sealed < 7:
                time.sleep(0.01)
    assert rows_in(old) == []
    assert shell("check", old).code == 0


def test_a_failure_is_shown_in_the_status(
    shell: Shell, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = apsw.Connection(str(old))
    connection.execute("UPDATE slices SET body = X'00' WHERE position = 3")
    connection.close()
    assert shell("tiers", "age", old, *ALL).code == 74
    found = shell("tiers", "status", old)
    assert found.fields["last_error"].startswith("CorruptStoreError: ")
    shown = " ".join(shell.terminal("tiers", "status", old, TERM="dumb").out.split())
    assert "✗ moving history failed the last time, " in shown
    assert "CorruptStoreError: " in shown
    assert shell("tiers", "age", old, *ALL, "--every", "0").code == 2


def test_the_file_gets_smaller(shell: Shell, old: Path) -> None:
    before = shell("read", old)
    with open_store(old) as store:
        for _ in range(400):
            store.append("game-4", [UnknownEvent("GameWon", {})])
    assert shell("tiers", "age", old, *ALL).code == 0
    size = old.stat().st_size
    done = shell("tiers", "compact", old)
    assert (done.code, done.err) == (0, "")
    assert [name for name, _ in done.rows] == ["before", "after", "freed"]
    assert int(done.fields["before"]) >= size > old.stat().st_size == int(done.fields["after"])
    (again,) = shell("tiers", "compact", old, "--json").records
    assert again == {"before": old.stat().st_size, "after": old.stat().st_size, "freed": 0}
    assert shell("read", old).rows[: len(before.rows)] == before.rows
    assert shell("check", old).code == 0
    shown = shell.terminal("tiers", "compact", old, TERM="dumb")
    assert shown.out.startswith("✓ ")
    assert shown.out.endswith("0 bytes given back\n")
    assert shell("tiers", "compact", old, FORCE_COLOR="1").code == 0


def test_compacting_a_file_of_an_older_version(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "WITH_PAGE_MAP", "PRAGMA auto_vacuum = none")
        with open_store(tmp_path / "s.db") as store:
            store.append("game-4", [UnknownEvent("GameWon", {})])
    assert shell("tiers", "compact", "s.db").code == 0
    connection = apsw.Connection(str(tmp_path / "s.db"))
    assert connection.pragma("auto_vacuum") == 2
    connection.close()


def test_info_shows_it(shell: Shell, old: Path) -> None:
    assert shell("info", old).fields.items() >= {"sealed": "0", "segments": "0"}.items()
    assert "sealed" not in shell.terminal("info", old).out
    made = shell("tiers", "age", old, *DAYS)
    (found,) = shell("info", old, "--json").records
    assert (found["sealed"], found["segments"], found["events"]) == (5, 1, 7)
    assert found["sealed_bytes"] == int(made.fields["bytes"])
    with open_store(old, read_only=True) as store:
        data = sum(len(event.json) for event in store.read(Query().up_to(5)))
    assert (found["sealed_data_bytes"], found["archived"], found["archive_bytes"]) == (data, 0, 0)
    shown = shell.terminal("info", old, TERM="dumb").out
    took = f"{made.fields['bytes']} bytes for {data} bytes of data"
    assert f"up to position 5  1 segment, {took}" in shown
    assert "archived" not in shown


def test_info_shows_what_is_in_the_archive(shell: Shell, old: Path) -> None:
    archiving = ("--archive", "archive", "--archive-after", "30d")
    shell("tiers", "age", old, *DAYS, *archiving, "--warm-duration", "500w")
    before = shell("info", old).fields
    size = sum(path.stat().st_size for path in (old.parent / "archive").rglob("*.parquet"))
    assert (before["archived"], before["archive_bytes"]) == ("1", str(size))
    shown = shell.terminal("info", old, TERM="dumb").out
    assert f"1 segment  {size / 1000:.1f} KB of Parquet, 1 of them here as well" in shown
    shell("tiers", "age", old, *DAYS, *archiving)
    fields = shell("info", old).fields
    assert (fields["sealed_bytes"], fields["archived"]) == ("0", "1")
    assert fields["sealed_data_bytes"] == before["sealed_data_bytes"], "read from the archive"
    (line,) = re.findall(r"archived .*", shell.terminal("info", old, TERM="dumb").out)
    assert line.rstrip().endswith(f"1 segment  {size / 1000:.1f} KB of Parquet")


def test_too_little_for_a_full_segment_is_left(shell: Shell, old: Path) -> None:
    few = ("--hot-duration", "30d")
    assert shell("tiers", "plan", old, *few).fields["events"] == "0"
    made = shell("tiers", "age", old, *few)
    assert (made.code, made.fields["events"], made.fields["segments"]) == (0, "0", "0")
    assert rows_in(old) == [2, 3, 5, 6, 7]
    for command in ("plan", "age"):
        said = shell.terminal("tiers", command, old, *few, TERM="dumb")
        assert " ".join(said.out.split()) == (
            "Nothing to move yet: what is old enough (5 events) doesn't fill a segment of 65,536 "
            "slices. --small-segments seals it."
        )


@pytest.mark.parametrize("duration", ["52w", "999999w"])
def test_nothing_is_old_enough(shell: Shell, shop: Path, duration: str) -> None:
    asked = ("--hot-duration", duration, "--small-segments")
    for command in ("plan", "age"):
        done = shell("tiers", command, shop, *asked)
        assert (done.code, done.fields["events"], done.fields["first"]) == (0, "0", "null")
        assert "Nothing to move" in shell.terminal("tiers", command, shop, *asked).out
    assert shell("tiers", "status", shop).fields["hot_events"] == "5"


def test_an_empty_store(shell: Shell, tmp_path: Path) -> None:
    open_store(tmp_path / "empty.db").close()
    assert shell("tiers", "status", "empty.db").fields["head"] == "0"
    assert "cold" in shell.terminal("tiers", "status", "empty.db").out
    assert shell("tiers", "plan", "empty.db", *ALL).fields["events"] == "0"
    assert shell("tiers", "age", "empty.db", *ALL).fields["segments"] == "0"
    assert shell("check", "empty.db").code == 0


def test_a_branch_reads_what_its_parent_has_sealed(shell: Shell, old: Path) -> None:
    assert shell("branch", "create", old, "try", "--at", "4").code == 1, "within a commit"
    assert shell("branch", "create", old, "try", "--at", "5").code == 0
    assert shell("append", old, "game-1", "BetPlaced", "{}", "--branch", "try").code == 0
    before = shell("read", old, "--branch", "try")
    assert shell("tiers", "age", old, *ALL).code == 0
    assert shell("read", old, "--branch", "try") == before
    assert shell("info", old, "--branch", "try").fields["sealed"] == "0"
    assert shell("check", old).code == 0


@pytest.mark.parametrize(
    "duration", ["", "30", "d", "-1d", "1.5d", "30 d", "1d12h", "30D", "1mo", "1000000d", "٣d"]
)
def test_what_is_no_duration(shell: Shell, old: Path, duration: str) -> None:
    for command in ("plan", "age"):
        done = shell("tiers", command, old, f"--hot-duration={duration}")
        assert (done.code, done.out) == (2, "")
        assert "is not a duration; write it as 90s, 15m, 12h, 30d, 8w or 0" in done.err
    assert rows_in(old) == [2, 3, 5, 6, 7]


@pytest.mark.parametrize("duration", ["0", "0s", "1m", "2h", "3d", "4w", "90s"])
def test_what_is_a_duration(shell: Shell, old: Path, duration: str) -> None:
    done = shell("tiers", "plan", old, "--hot-duration", duration, "--small-segments")
    assert done.fields["events"] == ("7" if duration.startswith("0") else "5")


def test_how_they_end(shell: Shell, old: Path, tmp_path: Path) -> None:
    assert shell("tiers", "plan", old).code == 2, "it needs --hot-duration"
    (tmp_path / "text").write_text("no store")
    for words in (("status",), ("plan", *ALL), ("age", *ALL), ("compact",)):
        command, *options = words
        unknown = shell("tiers", command, "none.db", *options)
        assert (unknown.code, unknown.out) == (66, "")
        assert "none.db: there is no such store; check the path" in unknown.err
        assert shell("tiers", command, "text", *options).code == 66
        assert shell("tiers", command, "memory:", *options).code == 2


def test_a_file_that_is_read_only(shell: Shell, old: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # which anybody may enter, unlike tmp_path
        Path(folder).chmod(0o777)
        path = Path(shutil.copy(old, folder))
        path.chmod(0o444)

        def code() -> None:
            assert shell("tiers", "status", path).fields["hot_events"] == "7"
            assert shell("tiers", "plan", path, *ALL).fields["events"] == "7"
            refused = shell("tiers", "age", path, *ALL)
            assert (refused.code, refused.out) == (77, "")
            assert "permissions" in refused.err

        as_nobody(code)
        assert rows_in(path) == [2, 3, 5, 6, 7]


def test_without_the_library(
    shell: Shell, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(old, tmp_path / "sealed.db")
    assert shell("tiers", "age", "sealed.db", *DAYS).code == 0
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for words in (("tiers", "age", old, *DAYS), ("read", "sealed.db")):
        refused = shell(*words)
        assert (refused.code, refused.out) == (1, "")
        assert "pip install 'everwhen[tiers]'" in refused.err
    assert shell("tiers", "status", "sealed.db").fields["sealed"] == "5"
    assert shell("tiers", "plan", old, *DAYS).fields["events"] == "5"


@pytest.mark.slow
@pytest.mark.parametrize("within", [False, True], ids=["before a step", "within a step"])
def test_an_interrupt_at_any_step_loses_nothing(
    shell: Shell, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, within: bool
) -> None:
    everything = shell("read", old)
    steps = sealed_when_interrupted = 0
    code = 130
    while code == 130:
        path = tmp_path / f"at-{steps}.db"
        shutil.copy(old, path)
        with monkeypatch.context() as patch:
            patch.setattr(SqliteEngine, "_written", interrupted_at(steps, within=within))
            done = shell("tiers", "age", path, *DAYS)
        code = done.code
        assert "Traceback" not in done.err
        assert shell("read", path) == everything
        if code == 130:
            assert (done.out, done.err) == ("", "")
            sealed_when_interrupted += shell("tiers", "status", path).fields["sealed"] == "5"
            assert shell("tiers", "age", path, *DAYS).code == 0
        assert shell("tiers", "status", path).fields["sealed"] == "5"
        assert rows_in(path) == [6, 7]
        assert shell("check", path).code == 0
        assert shell("read", path) == everything
        steps += 1
    assert code == 0
    assert steps - 1 > sealed_when_interrupted > 0


def test_what_was_left_over_is_deleted_also_where_nothing_is_to_seal(
    shell: Shell, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(100):
        with monkeypatch.context() as patch:
            patch.setattr(SqliteEngine, "_written", interrupted_at(step, within=False))
            assert shell("tiers", "age", old, *DAYS).code == 130
        if shell("tiers", "status", old).fields["sealed"] == "5":
            break
    assert rows_in(old) == [2, 3, 5, 6, 7]
    assert shell("tiers", "age", old, "--hot-duration", "30d").fields["events"] == "0"
    assert rows_in(old) == [6, 7]


def interrupted_at(step: int, *, within: bool) -> Callable[..., None]:
    """What writes a step of sealing, with a Ctrl-C at one of them."""
    written = SqliteEngine._written
    count = 0

    def writing(engine: SqliteEngine, work: Callable[[apsw.Connection], None]) -> None:
        nonlocal count
        count += 1
        if count <= step:
            written(engine, work)
        elif within:
            written(engine, partial(interrupted, work))
        else:
            interrupt()

    def interrupted(work: Callable[[apsw.Connection], None], connection: apsw.Connection) -> None:
        work(connection)
        interrupt()

    def interrupt() -> None:
        if count == step + 1:
            os.kill(os.getpid(), signal.SIGINT)

    return writing


def test_history_is_archived_and_brought_back(shell: Shell, old: Path) -> None:
    before = shell("read", old)
    far = ("--archive-after", "30d", "--archive", "far")
    planned = shell("tiers", "plan", old, *DAYS, *far)
    assert (planned.fields["archive"], planned.fields["evict"]) == ("0", "0"), "not sealed as yet"
    made = shell("tiers", "age", old, *DAYS, *far)
    assert (made.code, made.fields["archived"], made.fields["evicted"]) == (0, "1", "1")
    (file,) = (old.parent / "far").iterdir()
    found = shell("tiers", "status", old).fields
    assert (found["archived"], found["bytes"]) == ("1", "0")
    assert found["archive_bytes"] == str(file.stat().st_size)
    assert "archive" in shell.terminal("tiers", "status", old, columns=100).out
    assert shell("read", old) == before
    assert shell("check", old).code == 0
    file.rename(old.parent / "away")
    lost = shell("read", old)
    assert (lost.code, file.name in lost.err) == (74, True)
    assert file.name in shell("check", old).out
    (old.parent / "away").rename(file)
    back = shell("tiers", "restore", old)
    assert (back.code, back.fields) == (0, {"first": "1", "last": "5", "segments": "1"})
    shutil.rmtree(old.parent / "far")
    assert shell("read", old) == before
    nothing = shell.terminal("tiers", "restore", old, TERM="dumb")
    assert nothing.out == "Nothing to restore: nothing there is archived.\n"


def test_small_files_are_merged(shell: Shell, old: Path) -> None:
    before = shell("read", old)
    aged = (*ALL, "--archive-after", "0", "--archive", "far")
    for _ in range(2):
        assert shell("tiers", "age", old, *aged).code == 0
        assert shell("append", old, "game-9", "BetPlaced", "{}").code == 0
    far = old.parent / "far"
    assert len(list(far.iterdir())) == 2
    merged = shell.terminal("tiers", "merge", old, "--archive", "far", TERM="dumb")
    assert merged.code == 0
    assert "are in the archive" in merged.out
    assert len(list(far.iterdir())) == 3
    assert shell("tiers", "age", old, *aged, "--unused-duration", "0").code == 0
    assert len(list(far.iterdir())) == 2, "the merged one, and that of the newest event"
    assert shell("read", old).rows[: len(before.rows)] == before.rows
    assert shell("check", old).code == 0
    assert (
        shell("tiers", "merge", old, "--archive", "far", "--size", "10").fields["segments"] == "0"
    )


def test_history_is_retired(shell: Shell, old: Path) -> None:
    assert shell("tiers", "age", old, *DAYS).code == 0
    asked = ("--delete-after", "52w")
    planned = shell("tiers", "plan", old, *asked)
    assert (planned.fields["retire"], planned.fields["lost"]) == ("5", "2")
    shown = shell.terminal("tiers", "plan", old, *asked, TERM="dumb").out
    assert "Positions 1 to 5 would be retired: 5 events given up for good." in shown
    assert "2 streams would lose their state" in shown
    refused = shell("tiers", "age", old, *asked)
    assert (refused.code, "'game-1', 'game-2'" in refused.err) == (1, True)
    made = shell("tiers", "age", old, *asked, "--allow-loss")
    assert (made.code, made.fields["retired"]) == (0, "5")
    assert shell("tiers", "status", old).fields["retired"] == "5"
    assert "retired" in shell.terminal("tiers", "status", old, columns=100).out
    gone = shell("read", old)
    assert (gone.code, "up to position 5 were retired" in gone.err) == (1, True)
    assert [row[0] for row in shell("read", old, "--after", "5").rows] == ["6", "7", "8"]
    assert shell("check", old).code == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "give --hot-duration"),
        (("--archive-after", "0"), "needs --archive"),
        (("--archive-after", "0", "--archive", "ftp://x/y"), "unknown kind of URL"),
        (("--archive-after", "0", "--archive", "s3://me:secret@b/y"), "leave credentials"),
        (("--delete-after", "0", "--keep", "audit"), "NAME=DURATION"),
        (("--delete-after", "0", "--keep", "audit-1=3w"), "no category has"),
        (("--delete-after", "soon"), "not a duration"),
    ],
)
def test_what_is_no_policy(shell: Shell, old: Path, options: tuple[str, ...], why: str) -> None:
    for command in ("plan", "age"):
        done = shell("tiers", command, old, *options)
        assert (done.code, why in done.err, "secret" in done.err) == (2, True, False), done.err


def test_a_category_holds_back_what_comes_after(shell: Shell, old: Path) -> None:
    with open_store(old) as store:
        for stream in ("audit-1", "game-4"):
            store.append(stream, [UnknownEvent("Seen", {})])
    kept = (*ALL, "--category", "audit=52w", "--category", "other=0")
    planned = shell("tiers", "plan", old, *kept).fields
    assert (planned["last"], planned["events"]) == ("7", "7")
    assert (planned["held_back_by"], planned["held_back_at"]) == ("audit", "8")
    shown = " ".join(shell.terminal("tiers", "plan", old, *kept, TERM="dumb").out.split())
    assert shown.endswith("position 8 on isn't sealed as yet: category 'audit' is kept for longer.")
    assert shell("tiers", "age", old, *kept).fields["last"] == "7"
    for wrong in ("audit", "audit=", "=1d", "audit-1=1d", "audit=1"):
        refused = shell("tiers", "plan", old, *ALL, "--category", wrong)
        assert (refused.code, refused.out) == (2, ""), wrong
        assert "--category" in refused.err
