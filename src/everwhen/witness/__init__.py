"""Witnesses: others who sign that a log has only ever grown (C2SP tlog-witness).

`Witness` asks one for its cosignature. `WitnessServer` is a small one to run oneself, on another
machine than the store's, or ``everwhen witness serve``. Needs the extra ``everwhen[trust]``.
"""

from __future__ import annotations

try:
    from everwhen.witness.client import Witness
except ModuleNotFoundError as error:
    if error.name != "cryptography":
        raise
    raise ModuleNotFoundError(
        "witnesses need the library cryptography: pip install 'everwhen[trust]'",
        name=error.name,
    ) from error
from everwhen.witness.cosigning import WitnessService
from everwhen.witness.http_server import WitnessServer

__all__ = ["Witness", "WitnessServer", "WitnessService"]
