# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.backends`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.backends._async.backend import Backend, BackendWrapper, Transaction
    from everwhen.backends._async.embedded import EmbeddedBackend
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.backends._async.backend": ("Backend", "BackendWrapper", "Transaction"),
            "everwhen.backends._async.embedded": ("EmbeddedBackend",),
        },
    )

__all__ = ["Backend", "BackendWrapper", "EmbeddedBackend", "Transaction"]
