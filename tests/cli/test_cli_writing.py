"""append, import, export: what they write, and what they refuse."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell
from tests.exchange.test_xes import LOG
from tests.patience import PATIENCE_SECONDS

from everwhen import Query, StorageError, UnknownEvent, open_store


def test_append_tells_what_it_wrote(shell: Shell) -> None:
    done = shell("append", "--create", "s.db", "order-1", "Placed", '{"item": "lamp", "n": 2}')
    assert (done.code, done.err) == (0, "")
    assert done.fields["version"] == done.fields["position"] == "1"
    again = shell(
        "append", "s.db", "order-1", "Paid", '{"by": "ann"}', "--expected", "1", "--json",
        "--tag", "vip", "--user", "ann", "--occurred-at", "2020-01-01T00:00Z",
    )  # fmt: skip
    assert again.records[0]["version"] == 2
    with open_store(shell.folder / "s.db", read_only=True) as store:
        first, second = store.read("order-1")
        assert first.data == {"item": "lamp", "n": 2}
        assert (second.tags, second.metadata.user_id) == (("vip",), "ann")
        assert second.occurred_at.year == 2020


def test_append_takes_data_from_a_pipe(shell: Shell) -> None:
    done = shell.process("append", "--create", "s.db", "a", "T", "-", stdin='{"x": [1, "ü"]}')
    assert (done.code, done.err) == (0, "")
    with open_store(shell.folder / "s.db", read_only=True) as store:
        assert next(store.read()).data == {"x": [1, "ü"]}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["shop.db", "game-1", "T", "{}", "--expected", "1"], 1, "at version 3"),
        (["shop.db", "game-1", "T", "{}", "--expected", "none"], 1, "at version 3"),
        (["shop.db", "new", "T", "{}", "--expected", "exists"], 1, "at version 0"),
        (["shop.db", "game-1", "T", "{}", "--expected", "soon"], 2, "soon"),
        (["shop.db", "game-1", "T", "{"], 65, "JSON"),
        (["shop.db", "game-1", "T", "[]"], 65, "JSON object"),
        (["shop.db", "game-1", "T", '{"a": NaN}'], 65, "JSON"),
        (["shop.db", "a\nb", "T", "{}"], 1, "stream name"),
        (["shop.db", "a", "", "{}"], 1, "type name"),
        (["shop.db", "a", "T", "{}", "--tag", ""], 1, "tag"),
        (["none.db", "a", "T", "{}"], 66, "--create"),
        (["shop.db", "a", "T", "{}", "--occurred-at", "then"], 2, "then"),
    ],
)
def test_append_refuses_kindly(
    shell: Shell, shop: Path, words: list[str], code: int, says: str
) -> None:
    done = shell("append", *words)
    assert done.code == code
    assert says in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert not (shell.folder / "none.db").exists()
    with open_store(shop, read_only=True) as store:
        assert store.head().position == 5


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv", "out.csv.gz"])
def test_out_and_in_again(shell: Shell, shop: Path, name: str) -> None:
    assert shell("export", shop, name, "--category", "game").code == 0
    done = shell("import", "copy.db", name)
    assert (done.code, done.err) == (0, "")
    assert done.fields["written"] == done.fields["events"] == "4"
    with open_store(shop) as mine, open_store(shell.folder / "copy.db") as theirs:
        games = mine.read(Query().category("game"))
        expected = [(e.stream, e.type, e.data, e.recorded_at, e.event_id) for e in games]
        found = [(e.stream, e.type, e.data, e.recorded_at, e.event_id) for e in theirs.read()]
        assert found == expected
    assert shell("import", "copy.db", name, "--json").records[0]["written"] == 0


@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz"])
def test_a_log_in_and_out_again(shell: Shell, name: str) -> None:
    (shell.folder / "first.xes").write_bytes(LOG)
    assert shell("import", "first.db", "first.xes", "--category", "patient").code == 0
    assert shell("export", "first.db", name, "--category", "patient").code == 0
    assert shell("import", "second.db", name, "--category", "patient").code == 0
    folder = shell.folder
    with open_store(folder / "first.db") as mine, open_store(folder / "second.db") as theirs:
        assert [(e.stream, e.type, e.data, e.recorded_at) for e in theirs.read()] == [
            (e.stream, e.type, e.data, e.recorded_at) for e in mine.read()
        ]


def test_what_xml_can_not_hold_is_said(shell: Shell, shop: Path) -> None:
    done = shell("export", shop, "out.xes", "--category", "game")
    assert done.code == 66
    assert "export to JSON Lines" in done.err
    assert list(shell.folder.glob("*out*")) == []


def test_pipes_all_the_way(shell: Shell, shop: Path) -> None:
    out = shell.process("export", shop, "-", "--format", "jsonl")
    assert len(out.out.splitlines()) == 5
    assert out.err == ""
    done = shell.process("import", "copy.db", "-", "--format", "jsonl", stdin=out.out)
    assert done.code == 0, done.err
    with open_store(shop) as mine, open_store(shell.folder / "copy.db") as theirs:
        assert list(mine.read()) == list(theirs.read())


def test_a_bad_line_is_named_or_left_out(shell: Shell) -> None:
    path = shell.folder / "log.xes"
    path.write_bytes(LOG.replace(b'"2026-01-03T12:00:00Z"', b'"someday"'))
    done = shell("import", "new.db", path)
    assert done.code == 65
    assert "log.xes, line" in done.err
    assert "someday" in done.err
    kept = shell("import", "new.db", path, "--skip-invalid")
    assert (kept.code, kept.fields["invalid"], kept.fields["written"]) == (0, "1", "5")
    assert "line" in kept.err


def test_a_csv_is_mapped_on_the_command_line(shell: Shell) -> None:
    (shell.folder / "m.csv").write_text("id;when;kwh\n17;01.03.2026 08:00;1.5\n")
    done = shell(
        "import", "m.db", "m.csv", "--category", "meter", "--column", "stream=id",
        "--column", "time=when", "--time-format", "%d.%m.%Y %H:%M", "--time-zone", "Europe/Berlin",
        "--every-type", "Reading", "--number", "kwh", "--delimiter", ";",
    )  # fmt: skip
    assert done.code == 0, done.err
    with open_store(shell.folder / "m.db", read_only=True) as store:
        (event,) = store.read()
        assert (event.stream, event.type, event.data) == ("meter-17", "Reading", {"kwh": 1.5})
        assert event.recorded_at.isoformat() == "2026-03-01T07:00:00+00:00"


def test_export_leaves_files_alone(shell: Shell, shop: Path) -> None:
    target = shell.folder / "out.jsonl"
    target.write_text("precious")
    assert "already exists" in shell("export", shop, target).err
    assert target.read_text() == "precious"
    assert shell("export", shop, target, "--overwrite", "--type", "GameWon").code == 0
    assert target.read_text().count("\n") == 2


def test_an_import_that_is_interrupted_goes_on(shell: Shell) -> None:
    rows = "".join(f"a{n % 9},{n},{n}\n" for n in range(30_000))
    (shell.folder / "big.csv").write_text(f"stream,t,n\n{rows}")
    words = [
        "import",
        "big.db",
        "big.csv",
        "--column",
        "time=t",
        "--time-format",
        "s",
        "--every-type",
        "Counted",
    ]
    child = shell.started(*words)
    deadline = time.monotonic() + PATIENCE_SECONDS
    path = shell.folder / "big.db"
    written = 0
    while written == 0 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
        with suppress(StorageError):  # it may be half made
            with open_store(path, read_only=True) as store:
                written = store.head().position
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE_SECONDS)
    assert child.returncode in {0, 130}, err
    assert b"Traceback" not in err
    assert shell(*words).code == 0
    with open_store(path, read_only=True) as store:
        assert store.head().position == 30_000
        assert store.check() == []


AHEAD = "stream,type,recorded_at\na,T,2026-01-02T00:00:00Z\na,T,2185-05-26T00:00:00Z\n"


def test_an_import_that_fails_leaves_no_store(shell: Shell) -> None:
    Path("ahead.csv").write_text(AHEAD)
    Path("none.csv").write_text("stream,type,recorded_at\n")
    for words, code in (
        (("ahead.csv",), 65),
        (("none.csv", "--column", "stream=nope"), 65),
        (("missing.csv",), 66),
        (("none.csv", "--branch", "b"), 66),
        (("ahead.csv", "--times", "soon"), 2),
    ):
        assert shell("import", "new.db", *words).code == code, words
        assert list(Path().glob("new.db*")) == [], words
    assert shell("import", "new.db", "none.csv").code == 0
    assert Path("new.db").exists(), "an empty log makes an empty store"
    assert shell("info", "new.db", "--json").records[0]["events"] == 0


def test_times_that_lie_in_the_future(shell: Shell) -> None:
    Path("ahead.csv").write_text(AHEAD)
    refused = shell("import", "new.db", "ahead.csv")
    assert (refused.code, "line 3" in refused.err, "--future occurred" in refused.err) == (
        65,
        True,
        True,
    )
    taken = shell("import", "new.db", "ahead.csv", "--future", "occurred", "--json").records[0]
    assert (taken["written"], taken["times"], taken["late"]) == (2, "mixed", 1)
    other = shell("import", "new.db", "ahead.csv", "--category", "c", "--future", "occurred")
    assert (other.code, "category was None and is 'c'" in other.err) == (1, True)
    again = shell(
        "import", "new.db", "ahead.csv", "--category", "c", "--future", "occurred", "--again"
    )
    assert again.code == 0


def test_where_nothing_is_valid(shell: Shell) -> None:
    Path("bad.csv").write_text("stream,type,recorded_at\n" + "a,T,yesterday\n" * 1_234)
    done = shell("import", "new.db", "bad.csv", "--skip-invalid")
    assert done.code == 65
    assert "… and 1,214 more invalid lines" in done.err


def test_a_table_of_a_european_spreadsheet(shell: Shell) -> None:
    text = "zähler;wann;kwh\nm1;01.03.2026 08:00;1.234,5\n"
    Path("m.csv").write_bytes(text.encode("utf-16"))
    done = shell(
        "import", "m.db", "m.csv", "--encoding", "utf-16", "--decimal-comma",
        "--column", "stream=zähler", "--column", "time=wann", "--every-type", "Read",
        "--time-format", "%d.%m.%Y %H:%M", "--time-zone", "UTC", "--number", "kwh",
    )  # fmt: skip
    assert done.code == 0, done.err
    with open_store("m.db") as store:
        (event,) = store.read()
        assert (event.stream, event.data) == ("m1", {"kwh": 1234.5})


def test_a_file_that_is_not_to_be_replaced(shell: Shell, shop: Path) -> None:
    assert shell("export", shop, "out.jsonl").code == 0
    refused = shell("export", shop, "out.jsonl")
    assert (refused.code, "--overwrite" in refused.err) == (73, True)
    assert shell("export", shop, "out.jsonl", "--overwrite").code == 0


def test_info_counts_the_store_and_not_what_its_log_of_changes_is_large(
    shell: Shell, shop: Path
) -> None:
    closed = shell("info", shop, "--json").records[0]["bytes"]
    assert closed == shop.stat().st_size
    with open_store(shop) as store:
        for _ in range(300):
            store.append("game-1", [UnknownEvent("T", {})])
        assert Path(f"{shop}-wal").stat().st_size > 1_000_000
        assert shell("info", shop, "--json").records[0]["bytes"] < closed + 200_000
    assert shell("info", shop, "--json").records[0]["bytes"] == shop.stat().st_size


MOUNTED = """
import os, subprocess, sys
from everwhen.cli import main

def mount(*words):
    if subprocess.run(["mount", *words, sys.argv[1]], check=False).returncode:
        sys.exit(99)
    os.chdir(sys.argv[1])

mount("-t", "tmpfs", "none")
assert main("append --create shop.db a T {}".split()) == 0
with open("log.csv", "w") as file:
    file.write("stream,type,recorded_at\\na,T,2026-01-02T00:00:00Z\\n")
mount("-o", "remount,ro")
for line in (
    "append shop.db a T {}",
    "append --create new.db a T {}",
    "import new.db log.csv",
    "export shop.db out.jsonl",
    "read shop.db",
):
    print("ends with", main(line.split()), flush=True)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a medium is mounted with unshare")
def test_writing_on_a_medium_that_is_read_only(tmp_path: Path) -> None:
    words = ["unshare", "-rm", sys.executable, "-c", MOUNTED, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if not done.stdout and done.returncode in {1, 99}:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    codes = re.findall(r"^ends with (\d+)$", done.stdout, re.MULTILINE)
    assert codes == ["77", "77", "77", "77", "0"], done.stderr


def test_what_an_import_passes_over_and_an_export_without_events_are_told(shell: Shell) -> None:
    log = (
        '<log><string value="x"/><trace><event><int key="concept:name" value="5"/></event></trace>'
    )
    (shell.folder / "log.xes").write_text(f"{log}</log>")
    done = shell("import", "first.db", "log.xes")
    assert (done.code, done.fields["written"]) == (0, "3")
    assert done.err.splitlines() == [
        "everwhen: attributes without a key, left out: 1, the first in line 1",
        (
            "everwhen: traces without a name before their events, each imported as its own case: 1, "
            "the first in line 1"
        ),
        "everwhen: events without a time, recorded now: 1, the first in line 1",
    ]
    done = shell("import", "second.db", "log.xes", "--time", "2020-01-01T00:00Z")
    assert "given the time of --time: 1" in done.err
    assert shell("read", "second.db", "--type", "5").rows[0][1] == "2020-01-01T00:00:00.000000Z"
    Path("x.csv").write_text("stream\n")
    assert shell("import", "third.db", "x.csv", "--time", "2020-01-01").code == 2
    for name in ("none.xes", "none.csv", "none.jsonl"):
        done = shell("export", "first.db", name, "--type", "Nothing")
        assert (done.code, done.fields["events"]) == (0, "0")
        assert done.err == (
            "everwhen: there is no event type 'Nothing' in this store\n"
            f"everwhen: no event matches, so {name} is empty\n"
        )
    shell("append", "first.db", "order-1", "Paid", "{}")
    done = shell("export", "first.db", "two.xes")
    assert done.code == 2
    assert "there are case, order; choose one (--category)" in done.err
    assert not (shell.folder / "two.xes").exists()
    assert shell("export", "first.db", "one.xes", "--category", "order").fields["events"] == "1"
