"""The testing kit's async flavour: the same names as `everwhen.testing`, to be awaited."""

from everwhen._async_testing.bench import Bench, Opening
from everwhen._async_testing.faulty import faulty
from everwhen._async_testing.suite import ContractTest, contract_tests
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
