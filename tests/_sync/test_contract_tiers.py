# Generated from tests/_async/test_contract_tiers.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite where nearly all of history is sealed, in segments of a few slices."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.postgres_server import PostgresServer
from tests.thinning import thinned

from everwhen.backends._sync.backend import BackendWrapper
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.system.object_storage import object_url
from everwhen.testing import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import (
    Archive,
    Capabilities,
    EncodedCommit,
    Evict,
    Outcome,
    Seal,
    SegmentSize,
)
from everwhen.vocabulary.errors import BusyError

SMALL = SegmentSize(slices=6, frame=2, frames=2)
LARGER = SegmentSize(slices=40, frame=4, frames=3)
"""What is archived is read by the segment."""


class Aged(BackendWrapper):
    """Seals what there is after an append, but for the newest events, and archives it.

    After each of the first appends, and then after every fourth.
    """

    def __init__(self, inner: EmbeddedBackend, kept: int, url: str | None) -> None:
        super().__init__(inner)
        self._kept = kept
        self._url = url
        self._size = SMALL if url is None else LARGER
        self._appends = 0

    def append(self, commits: Sequence[EncodedCommit], connection: object = None) -> list[Outcome]:
        outcomes = super().append(commits, connection)
        self._appends += 1
        if self._appends > 8 and self._appends % 4:
            return outcomes
        with contextlib.suppress(BusyError):  # another writer's moves
            up_to = (self.head()).position - self._kept
            while up_to > 0 and self.move(Seal(up_to, self._size)) is not None:
                pass
            if self._url is not None:
                for segment in self.segments():
                    if segment.is_cold:
                        self.move(Archive(segment.last, self._url))
                        self.move(Evict(segment.last))
        return outcomes


def cases(capabilities: Capabilities, settings: Sequence[tuple[int, bool]]) -> list[Any]:
    """Every test with each setting: how many events aren't sealed, and whether the rest is archived."""
    tests = contract_tests(capabilities)
    return [
        pytest.param(test, kept, is_archived, id=f"{test!r}-{kept}-{is_archived}")
        for kept, is_archived in settings
        for test in tests
    ]


ON_SQLITE = cases(SqliteEngine.capabilities, [(0, False), (3, False), (0, True)])
ON_POSTGRESQL = cases(PostgresEngine.capabilities, [(3, False), (0, True)])


@pytest.mark.parametrize(("test", "kept", "is_archived"), thinned(ON_SQLITE, __name__))
def test_contract(test: ContractTest, kept: int, is_archived: bool, tmp_path: Path) -> None:
    url = object_url(tmp_path / "archive") if is_archived else None

    def opening(clock: Clock) -> Aged:
        return Aged(EmbeddedBackend(SqliteEngine(tmp_path / "store.db", clock=clock)), kept, url)

    test.run(opening)


@pytest.mark.parametrize(("test", "kept", "is_archived"), thinned(ON_POSTGRESQL, __name__))
def test_contract_on_postgresql(
    test: ContractTest, kept: int, is_archived: bool, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = object_url(tmp_path / "archive") if is_archived else None
    with postgres.schema() as location:

        def opening(clock: Clock) -> Aged:
            return Aged(EmbeddedBackend(PostgresEngine(location, clock=clock)), kept, url)

        test.run(opening)
