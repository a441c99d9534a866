"""The Merkle log of a store: seal, prove, verify. Needs the extra ``everwhen[trust]``."""

try:
    from everwhen._sync.merklelog import MerkleLog
except ModuleNotFoundError as error:
    if error.name != "cryptography":
        raise
    raise ModuleNotFoundError(
        "the Merkle log needs the library cryptography: pip install 'everwhen[trust]'",
        name=error.name,
    ) from error
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
