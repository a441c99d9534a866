# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.partitions`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.backends.partitioned.strategies import (
        ByCategory,
        BySize,
        ByStream,
        ByTime,
        PartitionStrategy,
    )
    from everwhen.partitions._async.opening import add_partitions, open_partitioned_store
    from everwhen.partitions._async.sharded_store import ShardedStore, open_sharded_store
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.backends.partitioned.strategies": (
                "ByCategory",
                "BySize",
                "ByStream",
                "ByTime",
                "PartitionStrategy",
            ),
            "everwhen.partitions._async.opening": ("add_partitions", "open_partitioned_store"),
            "everwhen.partitions._async.sharded_store": ("ShardedStore", "open_sharded_store"),
        },
    )

__all__ = [
    "ByCategory",
    "BySize",
    "ByStream",
    "ByTime",
    "PartitionStrategy",
    "ShardedStore",
    "add_partitions",
    "open_partitioned_store",
    "open_sharded_store",
]
