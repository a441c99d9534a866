"""The async flavour: the same names as `everwhen.merkle`, to be awaited."""

from everwhen._async.merklelog import MerkleLog, Witness
from everwhen.faults import Fault, FaultKind
from everwhen.growing import Signed
from everwhen.signing import load_signer, save_signer
from everwhen.tilestores import MemoryTiles, TileFolder, TileStore
from everwhen.verification import LogReport

__all__ = [
    "Fault",
    "FaultKind",
    "LogReport",
    "MemoryTiles",
    "MerkleLog",
    "Signed",
    "TileFolder",
    "TileStore",
    "Witness",
    "load_signer",
    "save_signer",
]
