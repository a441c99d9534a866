"""At home in a shell: pipes, terminals, locales, completion, help."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import PROGRAM, Shell, environment
from tests.exchange.test_xes import LOG
from tests.patience import PATIENCE_SECONDS

from everwhen import UnknownEvent, open_store
from everwhen.cli.commands import demo

COMMANDS = [
    "import",
    "export",
    "append",
    "read",
    "streams",
    "tail",
    "at",
    "info",
    "check",
    "copy",
    "projections",
    "tiers",
    "undo",
    "debug",
    "demo",
]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    with open_store(tmp_path / "many.db") as store:
        store.append(
            "s-1", [UnknownEvent("Counted", {"n": n, "pad": "x" * 90}) for n in range(5_000)]
        )
    return tmp_path / "many.db"


@pytest.mark.parametrize(
    "command", ["read many.db", "read many.db --json", "export many.db - -f csv"]
)
def test_a_reader_that_has_had_enough_is_no_error(shell: Shell, many: Path, command: str) -> None:
    line = f"set -o pipefail; {' '.join(PROGRAM)} {command} | head -1"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=shell.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert done.returncode in {0, 141}


def test_output_that_can_not_be_written_is_said(shell: Shell, many: Path) -> None:
    line = f"{' '.join(PROGRAM)} read many.db > /dev/full"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=shell.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 74
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(shell: Shell, command: str) -> None:
    done = shell(command, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: everwhen {command}")
    assert shell(command, "-h").out == done.out
    wrong = shell(command, "--no-such-option")
    assert wrong.code == 2
    assert "--no-such-option" in wrong.err


def test_the_program_itself(shell: Shell) -> None:
    assert re.fullmatch(r"everwhen \d+\.\d+\.\d+\n", shell("--version").out)
    listed = shell("--help").out
    assert all(f"  {command} " in listed for command in COMMANDS)
    wrong = shell("frobnicate")
    assert (wrong.code, wrong.out) == (2, "")
    assert "frobnicate" in wrong.err


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_for_the_shells_that_people_use(shell: Shell, shop: Path, kind: str) -> None:
    # which shell it runs in is not to be guessed here: there may be none
    asked = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = shell.process("--show-completion", kind, **asked)
    assert done.code == 0, done.err
    assert "EVERWHEN_COMPLETE" in done.out


def test_completion_knows_streams_and_types(shell: Shell, shop: Path) -> None:
    def completed(line: str) -> list[str]:
        done = shell.process(
            _EVERWHEN_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(line.split(" ")) - 1),
        )
        return done.out.split()

    assert set(completed("everwhen re")) >= {"read"}
    assert completed("everwhen read shop.db --stream game-") == ["game-1", "game-2"]
    assert completed("everwhen read shop.db --type Ga") == ["GameWon"]


def test_a_terminal_gets_colours_and_a_pipe_does_not(shell: Shell, shop: Path) -> None:
    seen = shell.terminal("read", shop, columns=100)
    assert COLOUR.search(seen.out)
    assert "BetPlaced" in seen.out
    assert "\x1b[31mred" not in seen.out, "what is in the data doesn't paint"
    plain = shell.terminal("read", shop, columns=100, NO_COLOR="1")
    assert not re.search(r"\x1b\[\d*3[0-9]m", plain.out)
    assert "\x1b" not in shell.process("read", shop).out


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_any_locale_gets_utf8(shell: Shell, shop: Path, locale: str) -> None:
    done = shell.process("read", shop, "--stream", "player-7", LC_ALL=locale, PYTHONUTF8=None)
    assert (done.code, done.err) == (0, "")
    assert "ü" in done.out


def test_the_demo_leaves_a_store_and_every_suggestion_works(shell: Shell) -> None:
    log = shell.folder / "hospital.xes"
    log.write_bytes(LOG)
    done = shell("demo", "--log", log)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("As at ") == 3
    assert "✓ the same at all three moments" in done.out
    assert shell("info", "demo.db").fields["sealed"] == shell("info", "demo.db").fields["position"]
    suggested = re.findall(r"everwhen [^│\n]+", done.out)
    assert len(suggested) >= 4
    for command in suggested:
        tried = shell(*shlex.split(command)[1:])
        assert tried.code == 0, tried.err
        assert tried.out + tried.err
    assert (shell.folder / "events.jsonl").exists()
    assert shell("demo", "--log", log).code == 0, "an earlier demo is replaced"


def test_the_demo_without_the_library_that_seals_says_which(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shell.folder / "hospital.xes"
    log.write_bytes(LOG)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    done = shell("demo", "--log", log)
    assert (done.code, done.err) == (0, "")
    assert "not done: sealed history needs the library zstandard" in done.out
    assert "Try next" in done.out
    assert shell("info", "demo.db").fields["sealed"] == "0"


def test_the_demo_never_says_that_states_are_the_same_if_they_are_not(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shell.folder / "hospital.xes"
    log.write_bytes(LOG)
    monkeypatch.setattr(demo, "_digest", lambda _state: os.urandom(8))
    done = shell("demo", "--log", log)
    assert done.code == 70
    assert "is another than before it was sealed" in done.err
    assert "the same at all" not in done.out


def test_the_demo_leaves_a_store_of_yours_alone(shell: Shell, shop: Path) -> None:
    log = shell.folder / "hospital.xes"
    log.write_bytes(LOG)
    done = shell("demo", "--log", log, "--keep", shop)
    assert done.code == 2
    assert "this store is not a demo's" in done.err
    with open_store(shop, read_only=True) as store:
        assert store.head().position == 5
    assert shell("demo", "--log", "none.xes").code == 66


def test_it_starts_fast_enough_to_be_typed(shell: Shell) -> None:
    program = "import sys, everwhen.cli.program; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for heavy in ("asyncio", "urllib.request", "http.client", "rich.markdown", "hypothesis"):
        assert f"'{heavy}'" not in done.stdout, heavy
