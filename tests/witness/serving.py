"""The command line's witness as a process, and the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.patience import PATIENCE_SECONDS


class Program:
    """``everwhen witness serve`` in a folder with its ``state`` and ``key``, for these logs."""

    def __init__(self, folder: Path, *logs: str) -> None:
        served = ["serve", "state", "key", *logs, "--port", "0", "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "everwhen.cli", "witness", *served],
            cwd=folder,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.told = json.loads(self.process.stdout.readline())

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.returncode is None:
            self.end(signal.SIGKILL)


def everwhen(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "everwhen.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
