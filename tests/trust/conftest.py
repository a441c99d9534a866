from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def victim(original: Path, tmp_path: Path) -> Path:
    """A copy of the module's own sealed store, and of its log, to be attacked."""
    path = tmp_path / "store.db"
    shutil.copy(original, path)
    shutil.copytree(f"{original}-log", f"{path}-log")
    return path
