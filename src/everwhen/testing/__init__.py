"""The public testing kit: what tests of applications, and of backends, are made with.

A manual clock, decisions by example, stores that fail on demand, and the suite that every backend
and wrapper must pass.

It needs no test framework. ``everwhen.testing.aio`` is the async flavour, with the same names.
"""

from everwhen._sync_testing.bench import Bench, Opening
from everwhen._sync_testing.faulty import faulty
from everwhen._sync_testing.suite import ContractTest, contract_tests
from everwhen.testing.clock import ManualClock
from everwhen.testing.faults import Faults
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.scenario import Scenario, Verdict

__all__ = [
    "Bench",
    "ContractTest",
    "Faults",
    "Guarantee",
    "ManualClock",
    "Opening",
    "Scenario",
    "Verdict",
    "contract_tests",
    "faulty",
    "promise",
]
