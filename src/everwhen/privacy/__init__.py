# Made from tools/front_door.toml: edit that, then `make sync`.
"""Personal data: encrypted by field, with a key for each subject that can be destroyed."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.privacy.keys import KeyFile, KeyFromEnvironment, KeyProvider, WrappedKey
    from everwhen.privacy.vault import Forgotten, Vault
    from everwhen.vocabulary.personal_data import PLAINTEXT, Erased, Personal
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.privacy.keys": ("KeyFile", "KeyFromEnvironment", "KeyProvider", "WrappedKey"),
            "everwhen.privacy.vault": ("Forgotten", "Vault"),
            "everwhen.vocabulary.personal_data": ("PLAINTEXT", "Erased", "Personal"),
        },
    )

__all__ = [
    "PLAINTEXT",
    "Erased",
    "Forgotten",
    "KeyFile",
    "KeyFromEnvironment",
    "KeyProvider",
    "Personal",
    "Vault",
    "WrappedKey",
]
