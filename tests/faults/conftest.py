"""Adversarial tests of the SQLite backend; their programs and devices are the modules beside."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that anybody may enter and write to.

    It is not below ``tmp_path``: each pytest that starts closes those folders to others again.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
