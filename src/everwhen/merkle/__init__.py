"""The Merkle log of a store: seal, prove, verify. Needs the extra ``everwhen[trust]``."""

from everwhen._sync.merklelog import MerkleLog, Witness
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
