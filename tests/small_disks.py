"""A real disk of a few megabytes, for tests that fill it up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """A folder on a disk of its own; skips the test where none can be mounted."""
    disk = folder / "small-disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], capture_output=True, check=True)


def fill(file: Path, *, leaving: int) -> None:
    """Fill the file's disk up, but for so many bytes."""
    state = os.statvfs(file.parent)
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, state.f_bavail * state.f_frsize - leaving)
