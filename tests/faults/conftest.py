"""Adversarial tests of the SQLite backend; their programs and devices are the modules beside."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def open_path(tmp_path: Path) -> Iterator[Path]:
    """A folder that anybody may enter and write to.

    The folders around it stay open: other processes' tests run in them, too.
    """
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o005 != 0o005 and folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o005)
    tmp_path.chmod(0o777)
    yield tmp_path
    tmp_path.chmod(0o700)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They are about killed processes and crowds of them."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
