"""Where a casino keeps its things: the books, and apart from them the players' keys.

Beside one another, as here, they go well for a demonstration. A real casino keeps the vault on
another machine than the store, and its key file on a third, so that no backup holds all of them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from everwhen import KeyFile, Vault


class Places(msgspec.Struct, frozen=True):
    """The files of a casino whose store is ``store``.

    ``vault`` holds the keys that players' names are encrypted with, and ``vault_key`` what those
    are encrypted with.
    """

    store: Path
    vault: Path
    vault_key: Path

    @classmethod
    def beside(cls, store: Path) -> Places:
        """All of them next to the store, named after it."""
        vault = store.with_name(f"{store.name}.vault")
        return cls(store, vault, vault.with_name(f"{vault.name}.key"))

    def open_vault(self) -> Vault:
        """The vault of the players' keys, made where the casino is new.

        Raises `MissingKeyError` where there is a store, but no vault or key.
        """
        is_new = not self.store.exists()
        if is_new and not self.vault_key.exists():
            KeyFile.create(self.vault_key)
        return Vault(self.vault, KeyFile(self.vault_key), create=is_new)
