"""debug: the time-travel debugger at a real terminal, in scripts and in pipes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pexpect
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.text import Text
from tests.cli.everwhen_shell import PROGRAM, Shell, environment
from tests.patience import PATIENCE_SECONDS

from everwhen import (
    Event,
    KeyFile,
    Personal,
    Query,
    TimeMachine,
    UnknownEvent,
    Vault,
    documents,
    open_store,
)
from everwhen.cli.debugger import prompt as debug_prompt
from everwhen.cli.debugger.commands import Commands
from everwhen.cli.debugger.drawing import Drawing
from everwhen.cli.debugger.prompt import interact
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.output import Output
from everwhen.debugging import Session
from everwhen.privacy import PLAINTEXT

CODE = """
from everwhen import Event, Fold
from everwhen.undo import Compensations

class BetPlaced(Event):
    player: int
    amount: int

class GameWon(Event):
    player: int
    note: str

events = [BetPlaced, GameWon]
staked = Fold("staked", dict)
undoing = Compensations()

@staked.on(BetPlaced)
def _(state, event):
    return {**state, event.player: state.get(event.player, 0) + event.amount}

@staked.on(GameWon)
def _(state, event):
    if event.note == "ü":
        raise ValueError("no umlauts here")
    return state

@undoing.on(BetPlaced)
def _(event):
    return BetPlaced(event.player, -event.amount)
"""
PROMPT = "(timedb) "
COLOUR = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Timedb:
    """A debugger in a terminal of its own."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        words = [*PROGRAM[1:], "debug", *map(str, arguments)]
        changes = {"XDG_STATE_HOME": str(folder / "state"), "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = pexpect.spawn(
            sys.executable,
            words,
            cwd=str(folder),
            env=environment(**changes),
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
            dimensions=(40, 120),
        )
        self.began = self._until_prompt()

    def _until_prompt(self) -> str:
        """What is written up to the next prompt that takes input."""
        self.process.expect_exact("\x1b[?2004h")
        written = str(self.process.before)
        self.process.expect_exact(PROMPT)
        return written

    def __call__(self, line: str) -> str:
        """What a line answers, without colours."""
        self.begin(line)
        return COLOUR.sub("", self._until_prompt())

    def begin(self, line: str) -> None:
        self.process.send(f"{line}\r")
        self.process.expect_exact("\x1b[?2004l")

    def end(self) -> str:
        return COLOUR.sub("", self._until_prompt())

    def offered(self, line: str) -> str:
        """What Tab makes of a line; the line is given up."""
        self.process.send(f"{line}\t")
        time.sleep(0.5)
        self.process.send("\x03")
        self.process.expect_exact("\x1b[?2004l")
        offered = str(self.process.before)
        self._until_prompt()
        return COLOUR.sub("", offered)

    def leave(self) -> int:
        self.process.expect(pexpect.EOF)
        self.process.close()
        return int(self.process.exitstatus)


@pytest.fixture
def timedb(tmp_path: Path, shop: Path) -> Iterator[Timedb]:
    (tmp_path / "casino.py").write_text(CODE)
    found = Timedb(tmp_path, shop, "--events", "casino:events")
    yield found
    found.process.close(force=True)


def test_walking_in_a_terminal(timedb: Timedb) -> None:
    assert "player-7" in COLOUR.sub("", timedb.began)
    assert "\x1b[" in timedb.began, "in colours"
    answer = timedb("back")
    assert "game-1@3" in answer
    assert "GameWon" in answer
    assert "BetPlaced → GameWon" in answer
    assert "game-1@2" in timedb("b 2")
    assert "before the first event" in timedb(""), "an empty line repeats: 2 back again"
    assert "before the first event" in timedb("back 5")
    assert "game-1@1" in timedb("s")
    assert "game-1@2" in timedb("n")
    assert "help lists the commands" in COLOUR.sub("", timedb.began)
    assert "game-2@1" in timedb("goto game-2@1"), "as its own line has it"
    assert "game-2@1" in timedb("goto 3")
    assert "amount" in timedb("print game-2.data")
    assert "commit_id" in timedb("event")
    listed = timedb("list 1")
    assert "▶" in listed
    assert listed.count("game-") == 3
    assert "game-1@1" in timedb("goto 2 back")
    timedb.process.send("quit\r")
    assert timedb.leave() == 0


def test_stopping_in_a_terminal(timedb: Timedb) -> None:
    assert "breakpoint 1: GameWon" in timedb("break GameWon")
    assert "breakpoint 2" in timedb("break if 'game-2' in state")
    assert "watch 3" in timedb("watch game-1.data.amount")
    timedb("g start")
    assert "game-1@1" in timedb("c")
    assert "game-1@2" in timedb("")
    assert "game-2@1" in timedb("")
    assert "GameWon" in timedb("cont")
    assert "player-7@1" in timedb("c")
    assert "GameWon" in timedb("rc")
    listed = timedb("break")
    assert "2 hits" in listed
    timedb("disable 1")
    assert "(disabled)" in timedb("br list")
    assert "game-2@1" in timedb("rcontinue")
    timedb("enable 1")
    timedb("break delete 2")
    timedb("delete 3")
    assert "game-1@3" in timedb("c")
    timedb("delete")
    assert "no breakpoints" in timedb("break")
    assert "the newest event" in timedb("c")
    assert "before the first event" in timedb("rc")


def test_asking_in_a_terminal(timedb: Timedb) -> None:
    assert "game-1@2" in timedb("find event.amount > 1000")
    assert "no such moment" in timedb("find event.amount > 100000")
    assert "player-7@1" in timedb("find last 'game-1' in state")
    assert "game-1@3" in timedb("last game-1")
    assert "game-1@2" in timedb("last game-1.data.amount")
    assert "game-1@3" in timedb("next game-1")
    assert "nothing after here" in timedb("next game-1.data")
    assert "50000" in timedb("print state['game-1'].data.amount")
    assert "true" in timedb("p 1 + 1 == 2")
    assert "50000" in timedb("history game-1.data.amount")
    assert "BetPlaced" in timedb("blame game-1.data.amount")
    assert "game-2" in timedb("diff 2 3")
    assert "player-7" in timedb("diff head")
    assert "nothing changed" in timedb("diff 2 back .. 2")
    assert "▶" in timedb("why")
    assert "BetPlaced" in timedb("undo"), "what its type would be"
    assert "is position 4" in timedb("bookmark lunch")
    timedb("goto head")
    assert "game-1@3" in timedb("goto @lunch")
    assert "@lunch" in timedb("bookmark")
    assert "begins after position 4" in timedb("branch what-if")
    assert "what-if" in timedb("branch")
    timedb("bookmark delete lunch")
    assert "no bookmark" in timedb("goto @lunch")
    assert "4 of 5" in timedb("info")
    assert "rcontinue, rc" in timedb("help")
    assert "begins to hold" in timedb("help break")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frobnicate", "no command"),
        ("b x", "not a number"),
        ("b GameWon", "break GameWon"),
        ("last nope.path", "the state never had 'nope'"),
        ("history game-1.data.amuont", "did you mean game-1.data.amount"),
        ("find state['game-1'].data.amuont > 1", 'did you mean state["game-1"].data.amount'),
        ("goto", "missing"),
        ("goto nowhere", "isn't understood"),
        ("goto 99", "is after"),
        ("goto v3", "one stream"),
        ("break GameWom", "did you mean GameWon"),
        ("break if (", "ends"),
        ("watch event.x + 1", "break if"),
        ("delete 7", "no breakpoint 7"),
        ("disable x", "number"),
        ("print game-9", "did you mean game-"),
        ("print 1 / 0", "zero"),
        ("find", "missing"),
        ("find event.amount >", "ends"),
        ('diff "1', "quote"),
        ("co", "game"),
        ("b", ""),
        ("d e f g", "isn't understood"),
        ("quit now", "takes no argument"),
        ("di", "can mean disable, diff"),
        ("\x1b[31m", ""),
        ("branch main", "main"),
    ],
)
def test_what_is_wrong_is_said_and_the_session_goes_on(
    shell: Shell, shop: Path, line: str, says: str
) -> None:
    done = shell("debug", shop, "-c", line)
    if says and says != "game":
        assert done.code == 1
        assert says in done.err
        assert "Traceback" not in done.err


def test_wrong_lines_leave_the_terminal_session_alive(timedb: Timedb) -> None:
    assert "no command" in timedb("frobnicate")
    assert "ends where" in timedb("p (")
    assert "game-1@3" in timedb("back")


def test_completion(timedb: Timedb) -> None:
    assert "rcontinue" in timedb.offered("rc")
    assert "game-2" in timedb.offered("print game")
    assert "game-1.data" in timedb.offered("print game-1.d")
    assert "game-1.data.amount" in timedb.offered("watch game-1.data.am")
    assert "GameWon" in timedb.offered("break Ga")
    assert "player-7" in timedb.offered("br pl")
    assert "head" in timedb.offered("goto h")
    timedb("bookmark lunch")
    assert "@lunch" in timedb.offered("goto @l")
    assert "history" in timedb.offered("help hi")


def test_a_fold_of_ones_own_its_failures_and_plans(tmp_path: Path, shop: Path) -> None:
    (tmp_path / "casino.py").write_text(CODE)
    own = ("--fold", "casino:staked", "--events", "casino:events")
    timedb = Timedb(tmp_path, shop, *own, "--compensations", "casino:undoing")
    try:
        assert "the fold raised ValueError: no umlauts here" in timedb.began
        assert "the fold raised" in timedb("s")
        assert "nothing changed" in timedb("back")
        answer = timedb("b 2")
        assert "50000" in answer
        answer = timedb("undo")
        assert "would append" in answer
        assert "-50000" in answer
        assert "ValueError: no umlauts here" in answer, "there is no present state to compare with"
        assert "the fold raised" in timedb("continue")
    finally:
        timedb.process.close(force=True)


def test_scripts_from_options_and_pipes(shell: Shell, shop: Path) -> None:
    done = shell("debug", shop, "-c", "goto 2", "-c", "print event.amount", "--command", "s")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("● 2  ")
    assert "50000" in lines
    assert "game-2@1" in done.out
    assert "\x1b" not in done.out
    piped = shell.process("debug", shop, stdin="goto 2\n\n# a comment\nprint event.amount\ns\n")
    assert (piped.code, piped.err) == (0, "")
    assert "50000" in piped.out.splitlines()
    assert "timedb" not in piped.out
    assert "\x1b" not in piped.out
    failed = shell("debug", shop, stdin="goto 2\nprint nothing\ns\n")
    assert failed.code == 1
    assert "print nothing" in failed.err
    assert "game-2" not in failed.out, "what follows a failure isn't run"
    assert shell("debug", shop, "-c", "find event.amount > 100000").code == 1
    assert shell("debug", shop, "-c", "quit", "-c", "frobnicate").code == 0
    of_one = shell("debug", shop, "--stream", "game-1", "-c", "goto v2", "-c", "print data.amount")
    assert of_one.out.splitlines()[-1] == "50000"
    assert shell("debug", shop, "--stream", "game-9", "-c", "s").code == 1
    assert shell("debug", shop, "--stream", "game-1", "--category", "game").code == 2
    assert shell("debug", "none.db", "-c", "s").code == 66


def test_scripts_answer_in_json(shell: Shell, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "casino.py").write_text(CODE)
    lines = (
        "goto 2", "# a comment", "print event.amount", "break GameWon", "watch game-1.data.amount",
        "rc", "c", "continue", "diff 1 2", "list 1", "event", "why", "blame game-1.data",
        "history game-1.data.amount", "undo", "bookmark lunch", "bookmark", "branch what-if",
        "branch", "info", "break", "delete 1", "find player == 7", "help rc",
    )  # fmt: skip
    own = ("--events", "casino:events", "--compensations", "casino:undoing")
    done = shell("debug", shop, "--json", *own, stdin="\n".join(lines))
    assert done.code == 1, "player is no field of the state"
    told = {record["command"]: record for record in done.records}
    ran = [line for line in lines if not line.startswith(("#", "help"))]
    assert [record["command"] for record in done.records] == ran
    went = told["goto 2"]
    assert (went["position"], went["reason"], went["event"]["stream"]) == (2, "goto", "game-1")
    amount = {"path": "game-1.data.amount", "kind": "changed", "before": 5, "after": 50_000}
    assert amount in went["changes"]
    assert told["print event.amount"]["value"] == 50_000
    assert told["break GameWon"]["breakpoint"] == {
        "number": 1, "stops": "GameWon", "is_enabled": True, "hits": 0,
    }  # fmt: skip
    assert (told["rc"]["position"], told["rc"]["hits"]) == (1, [2])
    assert (told["c"]["position"], told["continue"]["position"]) == (2, 4)
    assert told["diff 1 2"]["changes"] == went["changes"]
    assert [event["position"] for event in told["list 1"]["events"]] == [3, 4, 5]
    assert told["event"]["event"]["data"]["player"] == 8
    assert (told["why"]["causes"], told["why"]["effects"]) == ([], [])
    assert {entry["path"] for entry in told["blame game-1.data"]["blame"]} > {"game-1.data.note"}
    values = told["history game-1.data.amount"]
    assert ([one["after"] for one in values["history"]], values["earlier"]) == ([5, 50_000], 0)
    assert told["undo"]["plan"]["uncompensated"][0]["position"] == 4
    assert told["bookmark lunch"] == {
        "command": "bookmark lunch",
        "bookmark": "lunch",
        "position": 4,
    }
    assert told["bookmark"]["bookmarks"] == {"lunch": 4}
    assert told["branch"]["branches"] == [told["branch what-if"]["branch"]]
    assert (told["info"]["position"], told["info"]["head"]) == (4, 5)
    assert [one["hits"] for one in told["break"]["breakpoints"]] == [1, 2]
    assert told["delete 1"] == {"command": "delete 1"}
    assert told["find player == 7"]["error"].startswith(
        "there is no such moment: player == 7; unknown: the state never had 'player'; did you mean "
    )


def test_a_program_may_wait_for_each_answer(shell: Shell, shop: Path) -> None:
    with shell.started("debug", shop, "--json", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line, position in (("goto 2", 2), ("step", 3), ("back 2", 1)):
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            assert msgspec.json.decode(process.stdout.readline())["position"] == position
        process.stdin.write(b"frobnicate\n")
        process.stdin.close()
        answer = msgspec.json.decode(process.stdout.readline())
        assert answer["command"] == "frobnicate"
        assert "no command" in answer["error"]
        assert process.wait(PATIENCE_SECONDS) == 1


def test_what_a_fold_raises_is_in_the_answer(shell: Shell, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "casino.py").write_text(CODE)
    own = ("--fold", "casino:staked", "--events", "casino:events")
    done = shell("debug", shop, "--json", *own, "-c", "goto head", "-c", "print")
    assert done.code == 0
    assert done.records[0]["raised"] == "ValueError: no umlauts here"
    assert done.records[1]["value"] == {"7": 6, "8": 50_000}
    assert shell("debug", shop, "--json", "--dap").code == 2


def test_a_large_store_and_control_c_ends_a_search_but_not_the_session(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with open_store(path, durable=False) as store:
        for start in range(30):
            events = [UnknownEvent("Counted", {"n": start * 10_000 + n}) for n in range(10_000)]
            store.append(f"s-{start}", events)
    timedb = Timedb(tmp_path, path)
    try:
        assert "s-29@10000" in COLOUR.sub("", timedb.began)
        timedb("break if event.n < 0 && size(state) > 0")
        for line in ("rc", "find state['s-0'].data.n == -1", "find previous event.n == -1"):
            timedb.begin(line)
            timedb.process.expect_exact("Ctrl-C ends the search")
            timedb.process.send("\x03")
            assert "interrupted; still at position 300000" in timedb.end(), line
        assert "s-29@9999" in timedb("back")
        assert "s-14@10000" in timedb("goto 150000")
        assert "s-15@1" in timedb("step")
        assert "s-14@9999" in timedb("back 2")
        timedb("delete")
        timedb("watch s-3.data.n")
        assert "s-3@10000" in timedb("rcontinue")
        assert "s-3@9999" in timedb("rcontinue")
        timedb.process.send("\x04")
        assert timedb.leave() == 0
    finally:
        timedb.process.close(force=True)


def test_debugging_a_branch(shell: Shell, shop: Path) -> None:
    with open_store(shop) as store, store.create_branch("if", 2) as branch:
        branch.append("game-9", [UnknownEvent("GameLost", {})])
    done = shell("debug", shop, "--branch", "if", "-c", "back", "-c", "s")
    assert done.code == 0
    assert "game-9@1" in done.out


def test_a_progress_line_fits_and_makes_way_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debug_prompt, "_PATIENCE", -1.0)
    monkeypatch.setattr(debug_prompt, "_APART", -1.0)
    monkeypatch.setattr(debug_prompt, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "20")
    session = SimpleNamespace(progress=None)
    commands = cast("Commands", SimpleNamespace(session=session))
    with debug_prompt._progress(commands):
        session.progress(1_000)
        Drawing(Output(json=False)).show(Text("found"))
        session.progress(2_000)
    assert session.progress is None
    written = capsys.readouterr()
    assert written.out.strip() == "found"
    erase = "\r\x1b[2K"
    assert written.err == f"{erase}  position 1,000 … {erase}{erase}  position 2,000 … {erase}"


class Joined(Event):
    data_subject = "player"

    player: str
    name: Personal[str]


@pytest.mark.attack(
    "a forgotten name is looked for in the debugger's history",
    about="people",
    answer="none is kept",
    needs="the vault, or a recorded erasure, when the debugger is opened",
)
@pytest.mark.parametrize("where", ["vault", "erased", "no vault"])
def test_no_history_is_kept_where_people_can_be_forgotten(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "people.db"
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        with open_store(path, events=[Joined], vault=vault) as store:
            store.append("player-1", [Joined("1", "Ada Lovelace")])
            if where == "erased":
                store.forget("1")
        given = {"vault": vault, "erased": None, "no vault": PLAINTEXT}[where]
        with (
            open_store(path, read_only=True, vault=given) as store,
            create_pipe_input() as typed,
            create_app_session(input=typed, output=DummyOutput()),
        ):
            machine = TimeMachine(store, documents, Query(), keep=False)
            commands = Commands(
                Session(machine), Drawing(Output(json=False)), {"store": "people.db"}
            )
            typed.send_text("bookmark Lovelace\rquit\r")
            interact(commands, given_moment_of("head"))
    kept = [file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file()]
    assert any(b"Lovelace" in text for text in kept) is (where == "no vault")
