"""diff, history, blame, replay: travelling from the command line."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

import jsonpatch
import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import TimeMachine, UnknownEvent, documents, open_store
from everwhen.cli import progress_bars
from everwhen.cli.output import Output
from everwhen.exchange import ExchangeProgress
from everwhen.testing import ManualClock
from everwhen.travel import Bookmark
from everwhen.vocabulary import CommitMetadata

CODE = """
from everwhen import Event, Fold

class Moved(Event):
    who: str
    by: int

events = [Moved]
places = Fold("places", dict)

@places.on(Moved)
def _(state, event):
    return {**state, event.who: {"x": state.get(event.who, {"x": 0})["x"] + event.by}}
"""


@pytest.fixture
def trip(tmp_path: Path) -> Path:
    """Five moves of two, a day each; the last two by eve."""
    clock = ManualClock()
    (tmp_path / "trip.py").write_text(CODE)
    with open_store(tmp_path / "trip.db", clock=clock) as store:
        for day, who in enumerate(("ada", "bob", "ada", "bob", "ada"), start=1):
            clock.set(datetime(2025, 1, day, 12, tzinfo=UTC))
            event = UnknownEvent("Moved", {"who": who, "by": day})
            by = CommitMetadata(user_id="eve" if day > 3 else None)
            store.append(f"walk-{who}", [event], metadata=by)
        TimeMachine(store, documents).set_bookmark("lunch", 2)
    return tmp_path / "trip.db"


FOLD = ("--fold", "trip:places", "--events", "trip:events")


@pytest.mark.parametrize(
    ("moment", "by"),
    [("3", 3), ("@lunch", 1), ("v2", 3), ("head", 5), ("start", None), ("1 back", 3),
     ("24h before", 3), ("2025-01-01T12:00Z", 1), ("of 2025-01-03T12:00Z", 3)],
)  # fmt: skip
def test_every_form_of_moment(shell: Shell, trip: Path, moment: str, by: int | None) -> None:
    done = shell("at", trip, moment, "walk-ada", "--json")
    if by is None:
        assert done.code == 1
    else:
        assert done.code == 0, done.err
        assert done.records[0]["data"]["by"] == by


def test_diff(shell: Shell, trip: Path) -> None:
    done = shell("diff", trip, "1", "3", *FOLD)
    assert (done.code, done.rows) == (
        0,
        [["ada.x", "changed", "1", "4"], ["bob", "added", "", '{"x":2}']],
    )
    same = shell("diff", trip, "2025-01-02T12:00Z", "@lunch", *FOLD)
    assert (same.code, same.out) == (1, "")
    told = shell("diff", trip, "4", "1 on", *FOLD, "--json").records
    assert told == [{"path": "ada.x", "kind": "changed", "before": 4, "after": 9}]
    before = shell("at", trip, "1", *FOLD, "--json").records[0]
    after = shell("at", trip, "head", *FOLD, "--json").records[0]
    patch = shell("diff", trip, "1", *FOLD, "--patch").out
    assert jsonpatch.apply_patch(before, patch) == after
    plain = shell("diff", trip, "start", "1", "walk-ada")
    assert plain.rows[:2] == [["data.who", "added", "", "ada"], ["data.by", "added", "", "1"]]
    assert [row[0] for row in plain.rows[2:]] == ["type", "version", "position", "recorded_at"]


def test_diff_of_two_streams(shell: Shell, trip: Path) -> None:
    both = ("--stream", "walk-ada", "-s", "walk-bob")
    now = shell("diff", trip, *both)
    assert (now.code, now.rows[:3]) == (
        0,
        [
            ["data.who", "changed", "ada", "bob"],
            ["data.by", "changed", "5", "4"],
            ["version", "changed", "3", "2"],
        ],
    )
    assert shell("diff", trip, "v1", *both).rows[1] == ["data.by", "changed", "1", "2"]
    assert shell("diff", trip, "3", "head", *both).rows[1] == ["data.by", "changed", "3", "4"]
    assert shell("diff", trip, "5", "1 back", *both).rows[1] == ["data.by", "changed", "5", "2"]
    assert shell("diff", trip, "1", "head", "walk-ada", "-s", "walk-bob").rows[1][2:] == ["1", "4"]
    patch = shell("diff", trip, *both, "--patch").out
    before = shell("at", trip, "head", "walk-ada", "--json").records[0]
    after = shell("at", trip, "--json", "head", "walk-bob").records[0]
    assert jsonpatch.apply_patch(before, patch)["data"] == after["data"], "the state at shows"
    own = shell("diff", trip, *both, *FOLD)
    assert own.rows == [["ada", "removed", '{"x":9}', ""], ["bob", "added", "", '{"x":6}']]
    same = shell("diff", trip, "--stream", "walk-ada", "-s", "walk-ada", "--json")
    assert (same.code, same.out) == (1, "")
    with open_store(trip) as store, store.create_branch("if", 4) as branch:
        branch.append("walk-bob", [UnknownEvent("Moved", {"who": "bob", "by": 3})])
    forked = shell("diff", trip, *both, "--branch", "if", "--json")
    assert next(record["path"] for record in forked.records) == "data.who"


def test_diff_is_a_tree_for_people(shell: Shell, trip: Path) -> None:
    look = shell.terminal("diff", trip, "1", "3", *FOLD, NO_COLOR="1")
    assert look.out.splitlines() == ["ada.x  1 → 4", "bob  + {x: 2}"]
    look = shell.terminal("diff", trip, "1", "head", NO_COLOR="1")
    lines = look.out.splitlines()
    assert lines[0] == "walk-ada"
    assert "├── data.by  1 → 5" in lines
    assert any(line.startswith("walk-bob  + Document(") for line in lines)
    two = shell.terminal("diff", trip, "-s", "walk-ada", "-s", "walk-bob")
    assert "\x1b[31mada" in two.out
    assert "\x1b[32mbob" in two.out
    assert shell.terminal("diff", trip, "1", "1").code == 1
    with open_store(trip) as store, store.create_branch("if", 4) as branch:
        branch.append("walk-bob", [UnknownEvent("Moved", {"who": "bob", "by": 3})])
    branches = shell.terminal("branch", "diff", trip, "if", "--state", NO_COLOR="1")
    assert "walk-bob" in branches.out.splitlines()
    assert "├── data.by  4 → 3" in branches.out


def test_history_and_blame(shell: Shell, trip: Path) -> None:
    done = shell("history", trip, "data.by", "walk-ada")
    assert [(row[0], row[5], row[6]) for row in done.rows] == [
        ("1", "", "1"),
        ("3", "1", "3"),
        ("5", "3", "5"),
    ]
    late = shell("history", trip, "data.by", "walk-ada", "--from", "1", "--to", "4", "--json")
    assert [(r["position"], r["before"], r["after"]) for r in late.records] == [(3, 1, 3)]
    never = shell("history", trip, "data.byy", "walk-ada")
    assert never.code == 1
    assert (
        "nothing wrote data.byy; unknown: data never had 'byy'; did you mean data.by?" in never.err
    )
    blamed = shell("blame", trip, "state.data", "walk-ada")
    assert [row[:3] + row[5:6] for row in blamed.rows] == [
        ["data.who", "ada", "1", ""],
        ["data.by", "5", "5", "eve"],
    ]
    early = shell("blame", trip, "ada", "--at", "@lunch", *FOLD, "--json")
    assert [(r["path"], r["value"], r["event"]["position"]) for r in early.records] == [
        ("ada.x", 1, 1)
    ]
    wrong = shell("blame", trip, "data.bye", "walk-ada")
    assert wrong.code == 2
    assert "did you mean by?" in wrong.err


def test_replay(shell: Shell, trip: Path) -> None:
    done = shell("replay", trip, "--from", "2", "-n", "2", *FOLD, "--json")
    assert [(r["position"], r["changes"][0]["after"]) for r in done.records] == [(3, 4), (4, 6)]
    assert (
        shell("replay", trip, "walk-bob")
        .rows[0][5]
        .startswith(
            '[{"op":"add","path":"/data/who","value":"bob"},{"op":"add","path":"/data/by","value":2},'
        )
    )
    eves = shell("replay", trip, "--user", "eve", *FOLD, "--json")
    assert [(r["position"], r["changes"][0]["after"]) for r in eves.records] == [
        (4, {"x": 4}),
        (5, {"x": 5}),
    ]
    assert [r["left_out"] for r in eves.records] == [3, 3]
    assert "not what happened: 3 events were left out (3 Moved)" in eves.err
    one = shell("replay", trip, "--where", "event.by > 3 || event.nix", "-n", 1, *FOLD)
    assert one.rows[0][0] == "4"
    assert "not what happened: 3 events were left out (3 Moved)" in one.err
    none = shell("replay", trip, "--user", "eve", "-n", 0, "--from", 2, *FOLD)
    assert (none.out, "2 events were left out" in none.err) == ("", True)
    others = shell("replay", trip, "--user", "eve", "--without", *FOLD, "--json")
    assert [r["position"] for r in others.records] == [1, 2, 3]
    assert "2 events were left out" in others.err
    assert shell("replay", trip, "--without").code == 2


def test_wrong_words(shell: Shell, trip: Path) -> None:
    for words, code, says in (
        (("diff", trip, "9"), 2, "position 9 is after the store's newest event, 5"),
        (("diff", trip, "@dinner"), 2, "no bookmark 'dinner' among lunch"),
        (("diff", trip, "soon"), 2, "isn't understood"),
        (("diff", trip), 2, "name a moment FROM"),
        (("diff", trip, "-s", "walk-ada"), 2, "two streams with --stream"),
        (("diff", trip, "1", "2", "walk-ada", "-s", "a", "-s", "b"), 2, "name at most two"),
        (("diff", trip, "-s", "walk-ada", "-s", "walk-eve"), 1, "no stream 'walk-eve'"),
        (
            ("diff", trip, "-s", "walk-ada", "-s", "walk-bob", "-c", "walk"),
            2,
            "name only one of them",
        ),
        (("diff", trip, "v1"), 2, "versions count the events of one stream"),
        (("history", trip, "a..b"), 2, "column 2"),
        (("replay", trip, "walk-eve"), 1, "no stream 'walk-eve'"),
        (("blame", trip, "", "walk-ada", "-c", "walk"), 2, "name only one of them"),
        (("replay", trip, "--from", "4", "--to", "2"), 2, "is after the end"),
        (("replay", trip, "--user", "eve", "--from", "4", "--to", "2"), 2, "is after the end"),
        (("replay", trip, "--where", "total > 2"), 2, "there is no total in an event"),
        (("replay", trip, "--where", "event.by >"), 2, "still to come"),
    ):
        done = shell(*words)
        assert (done.code, says in done.err) == (code, True), done
        assert "Traceback" not in done.err


def test_looks_in_a_terminal(shell: Shell, trip: Path) -> None:
    for words in (
        ("diff", trip, "1", "3"),
        ("history", trip, "data.by", "walk-ada"),
        ("blame", trip, "", "walk-ada"),
        ("replay", trip, "--user", "eve"),
    ):
        look = shell.terminal(*words, columns=70)
        assert look.code == 0, look
        assert "\x1b[" in look.out


def test_a_journey_writes_nothing(shell: Shell, trip: Path) -> None:
    before = trip.read_bytes()
    assert shell("replay", trip).code == 0
    assert trip.read_bytes() == before
    with open_store(trip) as store:
        assert TimeMachine(store, documents).position_of(Bookmark("lunch")) == 2


def test_when(shell: Shell, trip: Path) -> None:
    words = ("--fold", "trip:places", "--events", "trip:events")
    first = shell("when", trip, "ada.x > 3", *words)
    assert (first.code, first.rows) == (
        0,
        [["3", "2025-01-03T12:00:00.000000Z", "walk-ada", "Moved"]],
    )
    (told,) = shell("when", trip, "ada.x < 9", "--last", *words, "--json").records
    assert (told["position"], told["state"]["ada"]) == (4, {"x": 4})
    every = shell("when", trip, "data.by > 1", "walk-ada", "--all")
    assert [row[0] for row in every.rows] == ["3", "5"]
    changes = shell("when", trip, "data.by == 3", "walk-ada", "--changes")
    assert [(row[0], row[4]) for row in changes.rows] == [
        ("0", "false"),
        ("3", "true"),
        ("5", "false"),
    ]
    alone = shell("when", trip, "ada.x > 3", *words, "--changes")
    shared = shell.process("when", trip, "ada.x > 3", *words, "--changes", "--processes", "2")
    assert (shared.code, shared.rows) == (0, alone.rows)
    some = shell(
        "when", trip, "data.by > 0", "walk-ada", "--all", "-n", "1", "--from", "2", "--to", "5"
    )
    assert len(some.rows) == 1
    never = shell("when", trip, "data.by > 99", "walk-ada")
    assert (never.code, never.out) == (1, "")
    assert "never held" in never.err
    for words_, says in (
        (("by >", "walk-ada"), "column 5 of 'by >'"),
        (("by > 1", "--last", "--all"), "choose one"),
        (("event.by > 1",), "for the debugger"),
        (("data.by + 'x' == 'y'", "walk-ada"), "of"),
    ):
        wrong = shell("when", trip, *words_)
        assert (wrong.code, says in wrong.err) == (2, True), wrong
        assert wrong.err.count("\n") == 1
    look = shell.terminal("when", trip, "data.by == 3", "walk-ada", "--changes")
    assert look.code == 0
    assert "holds" in look.out


def test_bookmarks(shell: Shell, trip: Path) -> None:
    assert shell("bookmark", trip).rows == [["lunch", "2"]]
    assert shell("bookmark", trip, "tea", "1 back").rows == [["tea", "4"]]
    assert shell("bookmark", trip, "--json").records[-1] == {"name": "tea", "position": 4}
    assert shell("at", trip, "@tea", "walk-bob", "--json").records[0]["data"]["by"] == 4
    assert shell("bookmark", trip, "tea", "--delete").code == 0
    assert shell("bookmark", trip, "tea", "--delete").code == 2


def test_names_that_nothing_has_are_said_to_be_unknown(shell: Shell, trip: Path) -> None:
    for words, code, says in (
        (("when", trip, "data.bye > 3", "walk-ada"), 1, "data never had 'bye'; did you mean data.by?"),
        (("when", trip, "by > 3", "walk-ada"), 1, "did you mean data.by?"),
        (
            ("when", trip, 'state["walk-ada"].data.bye > 3', "--changes"),
            1,
            'did you mean state["walk-ada"].data.by?',
        ),
        (("history", trip, "state.nope.path"), 1, "the state never had 'nope'"),
        (("replay", trip, "--where", "event.buy > 3"), 0, "event never had 'buy'; did you mean event.by?"),
        (("replay", trip, "--type", "Mooved"), 0, "no event type 'Mooved'"),
        (("read", trip, "--type", "Mooved"), 0, "no event type 'Mooved' in this store; did you mean Moved?"),
        (("read", trip, "--stream", "walk-aba"), 0, "did you mean walk-ada"),
        (("read", trip, "--tag", "x"), 0, "there is no tag 'x'"),
        (("streams", trip, "--category", "wolk"), 0, "did you mean walk?"),
        (("when", trip, "true", "--category", "wolk"), 0, "no category 'wolk'"),
        (("export", trip, "-", "--format", "jsonl", "--type", "Mooved"), 0, "no event type 'Mooved'"),
        (("at", trip, "head", "walk-aba"), 1, "no stream 'walk-aba'; did you mean walk-ada"),
        (("projections", trip, "--parked", "x"), 1, "no projection 'x'"),
        (("debug", trip, "-c", "find walk > 3"), 1, "never had 'walk'"),
    ):  # fmt: skip
        done = shell(*words)
        assert (done.code, says in done.err) == (code, True), done
    quiet = shell("when", trip, "has(data.bye) && data.bye > 3", "walk-ada")
    assert "unknown" not in quiet.err
    assert shell("read", trip, "--type", "Moved").err == ""


def test_at_is_now_and_nothing_lies_ahead(shell: Shell, trip: Path) -> None:
    assert shell("at", trip).out == shell("at", trip, "head").out != ""
    ahead = shell("at", trip, "99")
    assert (ahead.code, ahead.out) == (2, "")
    assert "position 99 is after the store's newest event, 5" in ahead.err
    assert shell("at", trip, "walk-bob@1", "walk-ada", "--json").records[0]["version"] == 1
    assert "its newest is 2" in shell("at", trip, "walk-bob@7").err


def test_progress_makes_way_for_results(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    screen = Terminal(io.BytesIO(), "utf-8", write_through=True)
    monkeypatch.setattr(progress_bars, "_PATIENCE", 0)
    monkeypatch.setattr(progress_bars, "_APART", 0)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    out = Output(json=False)
    with progress_bars.shown("Searching") as tell:
        assert tell is not None
        for number in range(3):
            tell(ExchangeProgress("reading", number, 3, "events"))
            out.console.print(f"result {number}")
        tell(ExchangeProgress("reading", 3, 3, "events"))
    written = screen.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert written.count("Searching") >= 4
    for number in range(3):
        before, _, after = written.partition(f"result {number}")
        assert before.endswith("\x1b[2K"), "the line was erased"
        assert after.startswith("\n")
    assert written.rindex("\x1b[2K") > written.rindex("Searching")
