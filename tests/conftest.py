"""Runs coroutine tests in an event loop of their own; all the rest is plain pytest."""

from __future__ import annotations

import asyncio
import inspect
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings
from tests.places import Places

if TYPE_CHECKING:
    from tests.nats_cluster import NatsCluster
    from tests.postgres_server import PostgresServer

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


_SLOW: Final = {"cli": {"test_cli_reading.py"}, "faults": set[str]()}
"""The folders in which all is slow, and what in them is quick all the same."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The command line, and killed processes and crowds of them, take their time.

    What is built on a store is tested on a cluster in one flavour: a replica is an SQLite store.
    """
    here = Path(__file__).parent
    twins = [item for item in items if "_sync" in item.path.parts and "jetstream]" in item.name]
    config.hook.pytest_deselected(items=twins)
    items[:] = [item for item in items if item not in set(twins)]
    for item in items:
        folder = item.path.parent
        if folder.parent == here and item.path.name not in _SLOW.get(folder.name, {item.path.name}):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _state_home() -> Iterator[None]:
    """What a user's state folder is for the tests, and for the programs that they start."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patches:
        patches.setenv("XDG_STATE_HOME", folder)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a process that let it live."""
    from tests.postgres_server import postgres_server  # which needs psycopg, and few tests do

    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsCluster]:
    """One server with JetStream for all tests of a process that let it live."""
    from tests.nats_cluster import nats_cluster

    with nats_cluster(1) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql", "jetstream"])
def location(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a store of each kind may be made: a file that isn't there, or a schema's URL.

    A test that is worth it in memory, too, says so: ``indirect``, with "memory" among the kinds.
    """
    if request.param == "sqlite":
        yield str(request.getfixturevalue("tmp_path") / "store.db")
    elif request.param == "jetstream":
        nats = request.getfixturevalue("nats")
        yield nats.url(nats.new_name(), request.getfixturevalue("tmp_path") / "replica.db")
    else:
        with _places(request).fresh() as place:
            yield place


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest) -> Places:
    """The same for a test that makes many stores: Hypothesis asks for one for each example."""
    return _places(request)


def _places(request: pytest.FixtureRequest) -> Places:
    is_served = request.param == "postgresql"
    return Places(request.param, request.getfixturevalue("postgres") if is_served else None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
