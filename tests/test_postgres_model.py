"""PostgreSQL against the memory model: the same calls, the same outcomes, the same events."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis.stateful import initialize
from tests.postgres_server import PostgresServer
from tests.test_model import Closed, LogMachine, Opened

from everwhen import Store, open_store

pytestmark = pytest.mark.slow


def test_postgres_is_the_model(postgres: PostgresServer) -> None:
    class Machine(LogMachine):
        @initialize()
        def begin(self) -> None:
            self.stack = ExitStack()
            self.location = self.stack.enter_context(postgres.schema())
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
