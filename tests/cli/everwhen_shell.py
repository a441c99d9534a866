"""The real command line: in a process of its own, or in this one where speed matters."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen.cli import main

PROGRAM = (sys.executable, "-m", "everwhen.cli")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def fields(self) -> dict[str, str]:
        return dict(self.rows)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in self.out.splitlines()]


def environment(**changes: str | None) -> dict[str, str]:
    """This process's, without what changes looks or times."""
    own = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    own |= {"TZ": "Europe/Berlin", "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    return {k: v for k, v in (own | dict(changes)).items() if v is not None}


class Shell:
    """Runs commands in a folder of their own."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def __call__(self, *arguments: object, stdin: str | None = None, **changes: str) -> Outcome:
        """Run a command here, in this process; changes are of its environment."""
        with pytest.MonkeyPatch.context() as patch:
            if stdin is not None:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
            for name, value in changes.items():
                patch.setenv(name, value)
            self._capture.readouterr()
            code = main([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        return Outcome(code, out, err)

    def terminal(self, *arguments: object, columns: int = 120, **changes: str) -> Outcome:
        """Run a command here, in a terminal of its own, which people would look at."""
        controller, terminal = pty.openpty()
        written: list[bytes] = []
        reader = threading.Thread(target=lambda: written.append(_read_all(controller)))
        reader.start()
        try:
            with (
                pytest.MonkeyPatch.context() as patch,
                os.fdopen(os.dup(terminal), encoding="utf-8") as stdin,
                os.fdopen(terminal, "w", encoding="utf-8") as stdout,
            ):
                patch.setattr(sys, "stdin", stdin)
                patch.setattr(sys, "stdout", stdout)
                looks = {"COLUMNS": str(columns), "TERM": "xterm-256color", **changes}
                done = self(*arguments, **looks)
        finally:
            reader.join(PATIENCE_SECONDS)
            os.close(controller)
        assert not done.out, "all of it went to the terminal"
        return Outcome(done.code, written[0].decode().replace("\r\n", "\n"), done.err)

    def process(self, *arguments: object, stdin: str = "", **changes: str | None) -> Outcome:
        """Run a command in a process of its own, its output in pipes."""
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            cwd=self.folder,
            env=environment(**changes),
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def started(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a process of its own, its output in pipes."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=environment(),
            **options,
        )


def in_terminal(command: list[str], folder: Path, **changes: str | None) -> Outcome:
    """Run a program in a process and a terminal of its own."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(**changes),
    ) as process:
        os.close(terminal)
        out = _read_all(controller)
        os.close(controller)
        assert process.stderr is not None
        err = process.stderr.read().decode()
        return Outcome(process.wait(PATIENCE_SECONDS), out.decode().replace("\r\n", "\n"), err)


def _read_all(controller: int) -> bytes:
    """All that is written to a terminal, until nobody has it open any more."""
    out = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not select.select([controller], [], [], 0.1)[0]:
            continue
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # the other end is closed: Linux's way to say so
            return out
        if not chunk:
            return out
        out += chunk
    raise TimeoutError(out)
