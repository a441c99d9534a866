# Generated from src/everwhen/testing/_async/suite.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite: every promise of a store as a function that needs no test framework."""

from __future__ import annotations

from typing import Protocol

from everwhen.testing._sync import (
    atomic,
    conditions,
    durable,
    idempotency,
    immutable,
    order,
    reading,
    refusals,
    subscriptions,
    times,
    transactions,
    unknown,
    versions,
)
from everwhen.testing._sync.bench import Bench, OpenBackend
from everwhen.testing._sync.flavour_checks import OWN_GROUPS
from everwhen.testing.promises import Guarantee, Promise, promise_of
from everwhen.vocabulary.contract import Capabilities

GROUPS = (
    atomic,
    durable,
    versions,
    conditions,
    idempotency,
    order,
    reading,
    times,
    immutable,
    subscriptions,
    unknown,
    refusals,
    transactions,
    *OWN_GROUPS,
)


class _Test(Protocol):
    def __call__(self, bench: Bench) -> None: ...


class ContractTest:
    """One test of the suite. ``name`` says what it promises, ``str`` adds its group."""

    def __init__(self, group: str, name: str, kept: Promise, test: _Test) -> None:
        self.group = group
        self.name = name
        self.guarantee: Guarantee = kept.guarantee
        self.needs: tuple[str, ...] = kept.needs
        self._test = test

    def run(self, opening: OpenBackend, *, most_commits: int | None = None) -> None:
        """Run it on a backend. Raises ``AssertionError`` where the promise is broken.

        ``opening`` must open a place of its own for each run, empty at first. Where each commit
        is dear, such as a file of its own, ``most_commits`` has a test put as many events into
        so many commits, where it would make hundreds of them.
        """
        bench = Bench(opening, most_commits)
        try:
            self._test(bench)
        finally:
            bench.close()

    def __repr__(self) -> str:
        return f"{self.group}-{self.name}"


def contract_tests(capabilities: Capabilities) -> list[ContractTest]:
    """The tests that a backend with these capabilities has to pass.

    ::

        for test in contract_tests(MyBackend.capabilities):
            test.run(open_my_backend_at_a_new_place)
    """
    found: list[ContractTest] = []
    for module in GROUPS:
        group = module.__name__.rpartition(".")[2]
        for name, function in vars(module).items():
            kept = promise_of(function)
            if kept is not None and kept.concerns(capabilities):
                found.append(ContractTest(group, name, kept, function))
    return found
