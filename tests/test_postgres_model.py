"""PostgreSQL against the memory model: the same calls, the same outcomes, the same events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis.stateful import initialize
from tests.postgres_server import PostgresServer, postgres_server
from tests.test_model import Closed, LogMachine, Opened

from everwhen import Store, open_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def test_postgres_is_the_model(server: PostgresServer) -> None:
    class Machine(LogMachine):
        @initialize()
        def begin(self) -> None:
            self.stack = ExitStack()
            self.location = self.stack.enter_context(server.schema())
            super().begin()

        def opened(self) -> Store:
            return open_store(self.location, events=[Opened, Closed], clock=self.clock)

        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "stack"):
                self.stack.close()

    Machine.TestCase.settings = settings(
        max_examples=30, stateful_step_count=30, deadline=None, print_blob=True
    )
    Machine.TestCase("runTest").debug()
