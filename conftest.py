"""Runs every example of README, CONTRIBUTING and docs, so that none of them can lie."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

_MEMORY = Path("/dev/shm")  # noqa: S108 (pytest and tempfile make folders of their own there)
_ENOUGH_BYTES = 4 << 30


def _keep_files_in_memory() -> None:
    """Have temporary files in memory where that has room: most of a test's time is the disk's.

    What has to be synced is proven by the tests that record each sync and cut the power there.
    """
    if "TMPDIR" not in os.environ and _MEMORY.is_dir():
        found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(found[1]) << 10 if found else 0
        if min(free, shutil.disk_usage(_MEMORY).free) > _ENOUGH_BYTES:
            os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


_keep_files_in_memory()

_CHECKER = doctest.OutputChecker()
_TITLED = re.compile(r'python title="([\w.]+)"')


def _console(example: Example) -> None:
    """Runs each line after ``$``; what stands below it must be its output, with … for any text."""
    chunks = ("\n" + str(example.parsed)).split("\n$ ")[1:]
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "COLUMNS": "100"}
    for chunk in chunks:
        command, _, wanted = chunk.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,  # a machine may be busy
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if wanted.strip():
            wanted, got = wanted.strip().replace("…", "...") + "\n", done.stdout.strip() + "\n"
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert _CHECKER.check_output(wanted, got, flags), f"{command}\n{done.stdout}"


class _Files(CodeBlockParser):
    """Writes each block with a title into a file of that name, for the commands after it."""

    language = "python"

    def __call__(self, document: Document) -> Iterator[Region]:
        """The blocks with a title."""
        for region in self.lexers(document):
            titled = _TITLED.fullmatch(region.lexemes["arguments"])
            if titled is not None:
                region.parsed = region.lexemes["source"]
                region.evaluator = partial(_write, titled[1])
                yield region


def _write(name: str, example: Example) -> None:
    Path(name).write_text(str(example.parsed))


class _Folder:
    """Each document runs in an empty folder of its own."""

    def __init__(self) -> None:
        self._patches = pytest.MonkeyPatch()

    def enter(self, namespace: dict[str, Any]) -> None:
        del namespace
        self._folder = tempfile.TemporaryDirectory()
        self._patches.chdir(self._folder.name)
        self._patches.setenv("TZ", "UTC")
        self._patches.setenv("XDG_STATE_HOME", f"{self._folder.name}/.state")
        self._patches.syspath_prepend(self._folder.name)

    def leave(self, namespace: dict[str, Any]) -> None:
        del namespace
        self._patches.undo()
        self._folder.cleanup()


_folder = _Folder()

pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="console", evaluator=_console),
        _Files(),
        SkipParser(),
    ],
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/*/*.md"],
    setup=_folder.enter,
    teardown=_folder.leave,
).pytest()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process runs all of a file, in order: examples of a document build on each other."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long comes first where processes share the work, so that they end together."""
    if not hasattr(config, "workerinput"):
        return
    weights: Counter[Path] = Counter()
    for item in items:
        weights[item.path] += 1_000 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -weights[item.path])
