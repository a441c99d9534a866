"""The debugger at a real terminal, on a store of ten million events: how long each answer takes.

    python -m benchmarks.debugger [--events N] [--json FILE]

The history is the casino's, its state the leaderboard; but for the first line, waypoints are in
place. Each command is typed at ``(timedb)``, and
timed until the next prompt. At the end a search for what never was is interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pexpect
from benchmarks.histories import CASINO, histories

from bitcraps.projections import leaderboard
from everwhen import TimeMachine, open_store

ANSWERS = "\x1b[?2004h"  # the prompt takes input again
BEGINS = "\x1b[?2004l"
FOLD = ("--fold", "bitcraps.projections:leaderboard", "--events", "benchmarks.histories:CASINO")


class Terminal:
    """A debugger in a terminal of its own."""

    def __init__(self, store: Path) -> None:
        began = time.perf_counter()
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "everwhen.cli", "debug", str(store), *FOLD],
            env={**os.environ, "XDG_STATE_HOME": str(store.parent), "PROMPT_TOOLKIT_NO_CPR": "1"},
            encoding="utf-8",
            timeout=600,
            dimensions=(40, 120),
        )
        self.answered()
        self.opened = (time.perf_counter() - began) * 1e3

    def answered(self) -> str:
        self.process.expect_exact(ANSWERS)
        answer = str(self.process.before)
        self.process.expect_exact("(timedb) ")
        return answer

    def begin(self, line: str) -> None:
        self.process.send(f"{line}\r")
        self.process.expect_exact(BEGINS)

    def took(self, line: str) -> float:
        """Milliseconds from sending a line to the next prompt."""
        began = time.perf_counter()
        self.begin(line)
        self.answered()
        return (time.perf_counter() - began) * 1e3

    def interrupted(self, line: str, seconds: float) -> tuple[float, str]:
        """The same from Ctrl-C on, which is pressed after so many seconds."""
        self.begin(line)
        time.sleep(seconds)
        began = time.perf_counter()
        self.process.send("\x03")
        answer = self.answered()
        return (time.perf_counter() - began) * 1e3, answer


def measured(store: Path, events: int) -> dict[str, float]:
    terminal = Terminal(store)
    found = {"open, without waypoints": terminal.opened}
    terminal.process.close(force=True)
    with open_store(store, events=CASINO, durable=False) as opened:
        TimeMachine(opened, leaderboard).prepare()
    terminal = Terminal(store)
    found["open"] = terminal.opened
    lines = (
        "back", "back", "step", "back 1000", f"goto {events // 2}", "step", "back",
        f"goto {events // 3}", "print player-7", "goto head", "break if state['player-7'] < -1e9",
    )  # fmt: skip
    for line in lines:
        found[line] = max(found.get(line, 0), terminal.took(line))
    found["Ctrl-C in rcontinue"], answer = terminal.interrupted("rcontinue", 3)
    assert f"interrupted; still at position {events}" in answer, "the history is too short"
    found["back, after it"] = terminal.took("back")
    for line in ("delete", "watch player-7", "rcontinue", "rcontinue", "continue"):
        found[line] = max(found.get(line, 0), terminal.took(line))
    terminal.process.send("\x04")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 0
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "casino.db"
        histories()["casino"].build(store, given.events)
        found = measured(store, given.events)
    for name, figure in found.items():
        print(f"{name:<42}{figure:>14,.1f} ms")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
