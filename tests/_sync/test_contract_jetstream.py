# Generated from tests/_async/test_contract_jetstream.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite on JetStream: a server and one replica; three, and one for each opening."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.nats_cluster import NatsCluster, nats_cluster

from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.jetstream.engine import JetStreamEngine
from everwhen.testing import ContractTest, OpenBackend, contract_tests
from everwhen.vocabulary.clock import Clock

pytestmark = pytest.mark.slow
TESTS = contract_tests(JetStreamEngine.capabilities)


@pytest.fixture(scope="module")
def three() -> Iterator[NatsCluster]:
    with nats_cluster(3) as running:
        yield running


@pytest.mark.parametrize("test", TESTS, ids=repr)
def test_contract(test: ContractTest, nats: NatsCluster, tmp_path: Path) -> None:
    test.run(_opening(nats, itertools.repeat(tmp_path / "replica.db")))


@pytest.mark.parametrize("test", [t for t in TESTS if t.group != "durable"], ids=repr)
def test_contract_with_a_replica_each(
    test: ContractTest, three: NatsCluster, tmp_path: Path
) -> None:
    """But for what a node keeps for itself, such as snapshots, which are in its file."""
    files = (tmp_path / f"{number}.db" for number in itertools.count())
    test.run(_opening(three, files, consistency="fresh"))


def _opening(nats: NatsCluster, files: Any, **options: str) -> OpenBackend:
    name = nats.new_name()

    def opening(clock: Clock) -> EmbeddedBackend:
        url = nats.url(name, next(files), **options)
        return EmbeddedBackend(JetStreamEngine(url, clock=clock))

    return opening
