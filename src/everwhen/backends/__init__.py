# Made from tools/front_door.toml: edit that, then `make sync`.
"""The engines below a store: alternatives that never import each other."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.backends._sync.backend import Backend, BackendWrapper, Transaction
    from everwhen.backends._sync.embedded import EmbeddedBackend
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.backends._sync.backend": ("Backend", "BackendWrapper", "Transaction"),
            "everwhen.backends._sync.embedded": ("EmbeddedBackend",),
        },
    )

__all__ = ["Backend", "BackendWrapper", "EmbeddedBackend", "Transaction"]
