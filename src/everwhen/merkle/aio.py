"""The async flavour: the same names as `everwhen.merkle`, to be awaited."""

from everwhen._async.merklelog import MerkleLog
from everwhen.faults import Fault, FaultKind
from everwhen.growing import Cosigner, Signed
from everwhen.signing import load_signer, save_signer
from everwhen.tilestores import MemoryTiles, TileFolder, TileStore
from everwhen.timestamps import Timestamp, TimestampAuthority
from everwhen.verification import LogReport, Proven

__all__ = [
    "Cosigner",
    "Fault",
    "FaultKind",
    "LogReport",
    "MemoryTiles",
    "MerkleLog",
    "Proven",
    "Signed",
    "TileFolder",
    "TileStore",
    "Timestamp",
    "TimestampAuthority",
    "load_signer",
    "save_signer",
]
