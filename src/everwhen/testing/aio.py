"""The testing kit's async flavour: the same names as `everwhen.testing`, to be awaited."""

from everwhen._async_testing.bench import Bench, Opening
from everwhen._async_testing.suite import ContractTest, contract_tests
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
