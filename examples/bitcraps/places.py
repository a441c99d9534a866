"""Where a casino keeps its things: the books, and apart from them the keys.

Beside one another, as here, they go well for a demonstration. A real casino keeps the vault and
the signing key on other machines than the store, and the vault's own key on a third, so that no
backup and no thief has all of them; and the log's newest signed checkpoint where the house
can't reach.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec

from everwhen import KeyFile, Vault
from everwhen.aio import Store
from everwhen.merkle import TileFolder, load_signer, save_signer
from everwhen.merkle.aio import MerkleLog
from everwhen_verify.notes import Signer

_ORIGIN: Final = "bitcraps.example/casino"


class Places(msgspec.Struct, frozen=True):
    """The files of a casino, all next to its ``store`` and named after it."""

    store: Path

    @property
    def vault(self) -> Path:
        """The keys that players' names are encrypted with."""
        return self._beside("-vault")

    @property
    def vault_key(self) -> Path:
        """What the vault's keys are encrypted with."""
        return self._beside("-vault.key")

    @property
    def signer(self) -> Path:
        """The house's key, which signs the Merkle log."""
        return self._beside("-signer")

    @property
    def log(self) -> Path:
        """The folder of the Merkle log."""
        return self._beside("-log")

    @property
    def archive(self) -> Path:
        """The folder that old history goes to. A real casino names a cloud's object storage."""
        return self._beside("-archive")

    @property
    def proofs(self) -> Path:
        """The folder of what is proven to others."""
        return self._beside("-proofs")

    @property
    def policy(self) -> Path:
        """Whose signatures a proof must have."""
        return self.proofs / "policy"

    def open_vault(self) -> Vault:
        """The vault of the players' keys, made where the casino is new.

        Raises `MissingKeyError` where there is a store, but no vault or key.
        """
        is_new = not self.store.exists()
        if is_new and not self.vault_key.exists():
            KeyFile.create(self.vault_key)
        return Vault(self.vault, KeyFile(self.vault_key), create=is_new)

    def log_of(self, store: Store) -> MerkleLog:
        """The store's Merkle log, with the house's key to sign it, made where there is none."""
        if not self.signer.exists():
            save_signer(Signer.generate(_ORIGIN), self.signer)
        return MerkleLog(store, TileFolder(self.log), load_signer(self.signer))

    def copied_to(self, folder: Path) -> Places:
        """A copy of everything, in an existing folder. The store must be closed."""
        for path in self.store.parent.iterdir():
            if path.name == self.store.name or path.name.startswith(f"{self.store.name}-"):
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, folder / path.name)
        return Places(folder / self.store.name)

    def _beside(self, ending: str) -> Path:
        return self.store.with_name(self.store.name + ending)
