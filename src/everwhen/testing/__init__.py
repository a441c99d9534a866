"""The public testing kit: a manual clock, and the suite that every backend and wrapper must pass.

It needs no test framework. ``everwhen.testing.aio`` is the async flavour, with the same names.
"""

from everwhen._sync_testing.bench import Bench, Opening
from everwhen._sync_testing.suite import ContractTest, contract_tests
from everwhen.testing.clock import ManualClock
from everwhen.testing.promises import Guarantee, promise

__all__ = [
    "Bench",
    "ContractTest",
    "Guarantee",
    "ManualClock",
    "Opening",
    "contract_tests",
    "promise",
]
