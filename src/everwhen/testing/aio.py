"""The testing kit's async flavour: the same names as `everwhen.testing`, to be awaited."""

from everwhen.testing._async.bench import Bench, OpenBackend
from everwhen.testing._async.faulty import faulty
from everwhen.testing._async.suite import ContractTest, contract_tests
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
