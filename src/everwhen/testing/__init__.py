"""The public testing kit: what tests of applications, and of backends, are made with.

A manual clock, decisions by example, stores that fail on demand, and the suite that every backend
and wrapper must pass.

It needs no test framework. ``everwhen.testing.aio`` is the async flavour, with the same names.
"""

from everwhen.testing._sync.bench import Bench, OpenBackend
from everwhen.testing._sync.faulty import faulty
from everwhen.testing._sync.suite import ContractTest, contract_tests
from everwhen.testing.clock import ManualClock
from everwhen.testing.faults import Faults
from everwhen.testing.merge_laws import check_merge
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.scenario import Scenario, Verdict

__all__ = [
    "Bench",
    "ContractTest",
    "Faults",
    "Guarantee",
    "ManualClock",
    "OpenBackend",
    "Scenario",
    "Verdict",
    "check_merge",
    "contract_tests",
    "faulty",
    "promise",
]
