"""Witnesses: others who sign that a log has only ever grown (C2SP tlog-witness).

`Witness` asks one for its cosignature. `WitnessServer` is a small one to run oneself, on another
machine than the store's, or ``everwhen witness serve``. Needs the extra ``everwhen[trust]``.
"""

from __future__ import annotations

from everwhen.witness.client import Witness
from everwhen.witness.server import WitnessServer
from everwhen.witness.service import WitnessService

__all__ = ["Witness", "WitnessServer", "WitnessService"]
