# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.merkle`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.merkle._async.merkle_log import MerkleLog
    from everwhen.merkle.log_writer import Cosigner, Signed
    from everwhen.merkle.retired_leaves import RetiredHistory
    from everwhen.merkle.signing_keys import load_signer, save_signer
    from everwhen.merkle.tamper_diagnosis import Fault, FaultKind
    from everwhen.merkle.tile_stores import MemoryTiles, TileFolder, TileStore
    from everwhen.merkle.timestamps import Timestamp, TimestampAuthority
    from everwhen.merkle.verification import LogReport, Proven
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.merkle._async.merkle_log": ("MerkleLog",),
            "everwhen.merkle.log_writer": ("Cosigner", "Signed"),
            "everwhen.merkle.retired_leaves": ("RetiredHistory",),
            "everwhen.merkle.signing_keys": ("load_signer", "save_signer"),
            "everwhen.merkle.tamper_diagnosis": ("Fault", "FaultKind"),
            "everwhen.merkle.tile_stores": ("MemoryTiles", "TileFolder", "TileStore"),
            "everwhen.merkle.timestamps": ("Timestamp", "TimestampAuthority"),
            "everwhen.merkle.verification": ("LogReport", "Proven"),
        },
        extra="trust",
    )

__all__ = [
    "Cosigner",
    "Fault",
    "FaultKind",
    "LogReport",
    "MemoryTiles",
    "MerkleLog",
    "Proven",
    "RetiredHistory",
    "Signed",
    "TileFolder",
    "TileStore",
    "Timestamp",
    "TimestampAuthority",
    "load_signer",
    "save_signer",
]
