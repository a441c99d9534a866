"""Nothing that is stored, named or typed in reaches a terminal, or a reader of a pipe, as a command.

The store has control characters, C1 controls and bidirectional marks wherever its API lets them in,
and, its file being edited past Everwhen, in names where it doesn't.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.cli.everwhen_shell import Outcome, Shell

from everwhen import NewEvent, UnknownEvent, open_store
from everwhen.vocabulary import CommitMetadata

pytest.importorskip("typer", reason="the command line needs the extra 'cli'")

from everwhen.vocabulary.escaping import escaped

HIDDEN = "\u202egnp.\u2066\u200f\u200e\u061c\ufeff\U000e0041[bold red]"
"""What a name may have: it turns the text around, says nothing, or is markup."""
NASTY = f"\x1b]0;owned\x07\x1b[31m\x9b31m\x9d\x7f\x85\u2028\r\n\t[/]{HIDDEN}"
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)

OWN = """
from everwhen import Fold
import math

odd = Fold("odd", lambda: {"nan": math.nan, "inf": -math.inf, "big": 2**70, (1, "\\x9b"): "\\udcff"})
number = Fold("number", int)
fails = Fold("fails", dict)

@fails.otherwise
def _(state, event):
    raise ValueError("\\x1b[31m\\u202e failed\\neverwhen: forged")
"""


@pytest.fixture
def shell(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_folds.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    yield Shell(tmp_path, capfd)
    sys.modules.pop("odd_folds", None)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that is hostile as far as its API lets it be, and then edited to be worse."""
    path = tmp_path / "hostile.db"
    who = CommitMetadata(user_id=f"eve{HIDDEN}", source=HIDDEN, correlation_id=f"c{HIDDEN}")
    with open_store(path) as opened:
        for number in range(3):
            data = {NASTY: NASTY, f"{NASTY}2": {NASTY: [NASTY, number]}, "plain": NASTY}
            new = NewEvent(event=UnknownEvent(f"Paid{HIDDEN}", data), tags=(f"t{HIDDEN}",))
            opened.append(f"order-{HIDDEN}", [new], metadata=who)
            opened.append("order-1", [UnknownEvent("Paid", data)], metadata=who)
        opened.append("edited-1", [UnknownEvent("Edited", {"a": 1})])
        with opened.create_branch(f"b{HIDDEN}", 2) as branch:
            branch.append("order-1", [UnknownEvent(f"Paid{HIDDEN}", {NASTY: 1})])
    with sqlite3.connect(path) as edited:
        edited.execute("UPDATE streams SET name = ? WHERE name = 'edited-1'", (f"edited-{NASTY}",))
        edited.execute(
            "UPDATE slices SET body = CAST(replace(CAST(body AS TEXT), 'Edited', ?) AS BLOB)",
            ("Ed" + json.dumps(NASTY)[1:-1],),
        )
    edited.close()
    return path


COMMANDS = (
    "read {s}",
    "read {s} -n 2 -r",
    "read {s} --type {n} --stream {n}",
    "streams {s}",
    "tail {s} --limit 7",
    "info {s}",
    "check {s}",
    "at {s}",
    "at {s} head order-1",
    "at {s} head order-{h}",
    "at {s} head {n}",
    "at {s} {n}",
    "at {s} --fold odd_folds:odd",
    "at {s} --fold odd_folds:number",
    "at {s} --fold odd_folds:fails",
    "diff {s} 0 head",
    "diff {s} 0 head --patch",
    "diff {s} -s order-1 -s order-{h}",
    "diff {s} {n} {n}",
    "history {s} plain order-1",
    "history {s} {n} order-1",
    "blame {s}",
    "blame {s} {n}",
    "replay {s}",
    "replay {s} --user eve{h}",
    "replay {s} --where {n}",
    "find {s} {n}",
    "find {s} size(documents)>0",
    "bookmark {s} mark{h}",
    "bookmark {s}",
    "bookmark {s} {n}",
    "undo {s} 2",
    "undo {s} {n}",
    "branch list {s}",
    "branch create {s} c{h}",
    "branch diff {s} b{h}",
    "branch diff {s} b{h} --state",
    "branch rename {s} b{h} {n}",
    "branch delete {s} {n}",
    "merge {s} b{h}",
    "merge {s} {n}",
    "projections {s}",
    "export {s} {n}/x.jsonl",
    "export {s} out.xes",
    "import {s} {n}.jsonl",
    "import {s} bad.jsonl --skip-invalid",
    "append {s} {n} T {{}}",
    "append {s} s-1 {n} {{}}",
    "append {s} s-1 T{h} {n}",
    "append {s} s-1 T{h} {{}} --expect 5",
    "forget {s} {n}",
    "keys new {n}",
    "seal {s} --key-file {n}",
    "prove {s} 1 -o {n}",
    "verify {s} --key {n}",
    "audit read {s}",
    "{n}",
    "read {n}",
    "read --{n}",
    "read {s} --limit {n}",
    "--version",
)
SILENT = {"bookmark {s}", "projections {s}", "check {s}"}
"""Commands that have nothing to list here, and say so by that."""
DEBUG = (
    "info",
    "print",
    "step",
    "event",
    "why",
    "list",
    "blame",
    "diff 0 head",
    "history plain",
    "undo",
    "branch",
    "branch x{h}",
    "bookmark y{h}",
    "bookmark",
    "break Paid{h} if event.plain == '{n}'",
    "break list",
    "watch {n}",
    "goto {n}",
    "find {n}",
    "help",
    "help {n}",
    "{n}",
    "print '{n}'",
    "info {n}",
)


def filled(words: str, store: Path) -> list[str]:
    return [word.format(s=store.name, n=NASTY, h=HIDDEN) for word in words.split(" ")]


def check_is_safe(done: Outcome) -> None:
    for text in (done.out, done.err):
        found = UNSAFE.search(text)
        assert found is None, (found, text)
    assert "Traceback" not in done.err
    for line in done.err.splitlines():
        assert not line.startswith("everwhen: forged")


def check_is_json(done: Outcome) -> None:
    assert done.out == "" or done.out.endswith("\n")
    for line in done.out.split("\n")[:-1]:
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        msgspec.json.decode(line)  # which is stricter about halves of characters


@pytest.fixture(params=["pipe", "people"])
def look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """People's look without colours, in which no escape sequence of our own is left."""
    if request.param == "people":
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
    return str(request.param)


@pytest.mark.slow
@pytest.mark.attack(
    "escape sequences or bidirectional marks in events, names or files",
    about="inputs",
    answer="no command prints them: they are written out",
)
@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("words", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(shell: Shell, store: Path, words: str) -> None:
    Path("bad.jsonl").write_text(f'{{"id": "{HIDDEN}", "\x9b": 1}}\nno json \x1b[31m\n')
    done = shell(*filled(words, store))
    check_is_safe(done)
    assert done.out or done.err or words in SILENT


@pytest.mark.slow
@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("command", DEBUG)
def test_the_debugger_prints_nothing_that_a_terminal_obeys(
    shell: Shell, store: Path, command: str
) -> None:
    line = command.format(n=NASTY.replace("\n", ""), h=HIDDEN)
    done = shell("debug", store, "--at", "7", "-c", line)
    check_is_safe(done)
    assert done.out or done.err or command == "bookmark"
    failing = shell("debug", store, "--fold", "odd_folds:fails", "-c", "goto 1", "-c", line)
    check_is_safe(failing)


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS)
def test_json_is_json_whatever_is_in_it(shell: Shell, store: Path, words: str) -> None:
    if words in {"{n}", "--version"}:
        return
    done = shell(*filled(words, store), "--json")
    check_is_safe(done)
    check_is_json(done)


@pytest.mark.slow
@pytest.mark.parametrize("command", DEBUG)
def test_the_debuggers_json_is_json(shell: Shell, store: Path, command: str) -> None:
    line = command.format(n=NASTY.replace("\n", ""), h=HIDDEN) + "\udcff"
    done = shell("debug", store, "--json", "--fold", "odd_folds:odd", "-c", "p", "-c", line)
    check_is_safe(done)
    check_is_json(done)
    assert done.records, done
    first, *_ = done.records
    assert first["value"]["nan"] is None
    assert first["value"]["big"] == 2**70


def test_json_says_exactly_what_is_stored(shell: Shell, store: Path) -> None:
    with open_store(store, read_only=True) as opened:
        expected = [(event.stream, event.type, event.data) for event in opened.read()]
    records = shell("read", store, "--json").records
    assert [(r["stream"], r["type"], r["data"]) for r in records] == expected
    assert any(NASTY in data for _, _, data in expected)


def test_a_pipe_has_the_columns_it_promises_whatever_a_name_has(shell: Shell, store: Path) -> None:
    for words, columns in (("read {s}", 6), ("streams {s}", 4), ("at {s}", 5), ("blame {s}", 7)):
        rows = shell(*filled(words, store)).rows
        assert rows
        assert {len(row) for row in rows} == {columns}, words


def test_a_row_for_people_is_one_line_whatever_a_name_has(
    shell: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "90")
    lines = shell("read", store).out.splitlines()
    assert len(lines) == 1 + 7
    assert all(len(line) <= 90 for line in lines)


def test_an_export_into_a_terminal_is_looked_at_and_into_a_pipe_is_data(
    shell: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("csv", "jsonl"):
        piped = shell("export", store, "-", "-f", name)
        monkeypatch.setenv("FORCE_COLOR", "1")
        seen = shell("export", store, "-", "-f", name)
        monkeypatch.delenv("FORCE_COLOR")
        assert (piped.code, seen.code) == (0, 0)
        assert "\u202e" in piped.out
        check_is_safe(seen)


def test_warnings_and_tracebacks_are_looked_at_too(
    shell: Shell, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from everwhen.cli.commands import read as reading

    def warned(*_: object) -> Iterator[str]:
        warnings.warn(f"beware{NASTY}", stacklevel=1)
        raise ValueError(NASTY)

    monkeypatch.setattr(reading, "event_types", warned)
    monkeypatch.setenv("EVERWHEN_TRACEBACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", shown_on_stderr)
        done = shell("read", store)
    assert done.code == 70
    assert "beware" in done.err
    assert UNSAFE.search(done.err) is None


def shown_on_stderr(message: object, *rest: object) -> None:
    del rest
    sys.stderr.write(f"{message}\n")


@pytest.mark.slow
def test_a_file_name_is_never_markup(shell: Shell, store: Path) -> None:
    Path("a[").mkdir()
    done = shell.process("export", store, "a[/]b[red].csv", FORCE_COLOR="1", NO_COLOR="1")
    assert (done.code, done.err) == (0, "")
    assert Path("a[/]b[red].csv").exists()


@pytest.mark.slow
def test_a_real_terminal_gets_only_our_own_colours(shell: Shell, store: Path) -> None:
    seen = shell.terminal("blame", store)
    assert "\x1b" in seen.out, "in colours"
    assert UNSAFE.search(re.sub(r"\x1b\[[0-9;]*m", "", seen.out)) is None
    assert "owned" in seen.out


@pytest.mark.slow
def test_all_that_unicode_has_of_controls_and_hidden_marks_is_escaped() -> None:
    kept = set("\u200c\u200d")  # words of Persian and families of emoji need them
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        kind = unicodedata.category(character)
        is_control = kind in {"Cc", "Cs", "Zl", "Zp"}
        turns = unicodedata.bidirectional(character) in {
            "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "B", "S"
        }  # fmt: skip
        hidden = kind == "Cf" and unicodedata.bidirectional(character) in {"BN", "L", "R", "AL"}
        if is_control or (turns and not character.isprintable()):
            assert escaped(character) != character, hex(code)
        if hidden and code < 0x10000 and character not in kept:
            assert escaped(character) != character or code in VISIBLE, hex(code)
        assert escaped(character).isascii() or escaped(character) == character
        assert escaped(escaped(character)) == escaped(character)


VISIBLE = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}
"""Signs that are drawn, though Unicode calls them formats."""


@pytest.mark.parametrize(
    "text",
    [
        "ü",
        "日本語\u3000",
        "a\u00a0b",
        "\u0646\u200c\u062e",
        "👩\u200d💻",
        "ע",
        "\\x1b",
        "葛\U000e0100",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_escaping_is_that_of_json() -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0xE0041):
        assert json.loads(f'"{escaped(chr(code))}"') == chr(code)
    assert escaped("a\tb\nc", keeping="\t\n") == "a\tb\nc"
    assert escaped("\udcff") == "\\udcff"
    assert os.fsdecode(b"\xff") == "\udcff"
