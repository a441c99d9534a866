"""Adversarial tests of the SQLite backend; their programs and devices are the modules beside."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import faults_sealing
from tests.faults.faults_ledger import Entry
from tests.faults.faults_sealing import Answers, answers_of, fill, seal_all

from everwhen import open_store
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.vocabulary.contract import SegmentSize

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


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `tests.faults.faults_sealing.small_steps`."""
    faults_sealing.small_steps(monkeypatch.setattr)


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its oldest events in three segments, and the newest in rows; copy it."""
    path = tmp_path_factory.mktemp("sealed") / "store.db"
    with open_store(path, events=[Entry]) as store:
        fill(store, 90)
    engine = SqliteEngine(path)
    seal_all(engine, SegmentSize(slices=40, frame=4, frames=2), 220)
    assert len(engine.segments()) == 3
    engine.close()
    return path


@pytest.fixture(scope="session")
def said(sealed: Path) -> Answers:
    """What it says."""
    return answers_of(sealed)
