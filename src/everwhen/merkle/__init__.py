"""The Merkle log of a store: seal, prove, verify. Needs the extra ``everwhen[trust]``."""

from everwhen._sync.merklelog import MerkleLog
from everwhen.faults import Fault, FaultKind
from everwhen.growing import Cosigner, Signed
from everwhen.signing import load_signer, save_signer
from everwhen.tilestores import MemoryTiles, TileFolder, TileStore
from everwhen.timestamps import Timestamp, TimestampAuthority
from everwhen.verification import LogReport

__all__ = [
    "Cosigner",
    "Fault",
    "FaultKind",
    "LogReport",
    "MemoryTiles",
    "MerkleLog",
    "Signed",
    "TileFolder",
    "TileStore",
    "Timestamp",
    "TimestampAuthority",
    "load_signer",
    "save_signer",
]
