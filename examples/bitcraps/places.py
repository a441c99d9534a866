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
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec

from everwhen import KeyFile, Vault, open_store
from everwhen.aio import Store
from everwhen.errors import StorageError
from everwhen.exchange import copy_store
from everwhen.merkle import TileFolder, load_signer, save_signer
from everwhen.merkle.aio import MerkleLog
from everwhen_verify.notes import Signer

_CLUSTERS: Final = ("nats:", "tls:")
_ORIGIN: Final = "bitcraps.example/casino"


def is_url(location: str) -> bool:
    """Whether a store's location is the URL of a log in PostgreSQL, or on a cluster."""
    return location.startswith(("postgresql:", "postgres:", *_CLUSTERS))


class Places(msgspec.Struct, frozen=True):
    """The files of a casino, all next to its ``store`` and named after it.

    Where the store is elsewhere, at a ``url``, they are here, and named after its schema, or its
    name on a cluster.
    """

    store: Path
    url: str = ""

    @classmethod
    def of(cls, location: str) -> Places:
        """Those of a store by what it is opened by: a file, or a URL."""
        if not is_url(location):
            return cls(Path(location))
        if location.startswith(_CLUSTERS):
            return cls(Path(urlsplit(location).path.strip("/")), location)
        schema = parse_qs(urlsplit(location).query).get("schema", ["everwhen"])[-1]
        return cls(Path(schema), location)

    @property
    def location(self) -> str:
        """What the store is opened by. It may have a password."""
        return self.url or str(self.store)

    @property
    def shown(self) -> str:
        """The same, without a password, wherever in the URL it is."""
        if not self.url:
            return str(self.store)
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        place = f"{user.partition(':')[0]}{at}{host}"
        query = f"schema={self.store}"
        if self.url.startswith(_CLUSTERS):
            query = f"replica={parse_qs(parts.query).get('replica', [''])[-1]}"
        return urlunsplit((parts.scheme, place, parts.path, query, ""))

    @property
    def size(self) -> int:
        """The bytes of the store's file; 0 where it is elsewhere."""
        return 0 if self.url else self.store.stat().st_size

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
        is_new = not self._is_there()
        if is_new and not self.vault_key.exists():
            KeyFile.create(self.vault_key)
        return Vault(self.vault, KeyFile(self.vault_key), create=is_new)

    def log_of(self, store: Store) -> MerkleLog:
        """The store's Merkle log, with the house's key to sign it, made where there is none."""
        if not self.signer.exists():
            save_signer(Signer.generate(_ORIGIN), self.signer)
        return MerkleLog(store, TileFolder(self.log), load_signer(self.signer))

    def copied_to(self, folder: Path) -> Places:
        """A copy of everything, in an existing folder: of the store, a file. It must be closed."""
        if self.url:
            with (
                open_store(self.url, read_only=True) as store,
                open_store(folder / self.store.name) as copied,
            ):
                copy_store(store, copied)
        for path in self.store.parent.iterdir():
            is_store = path.name == self.store.name and not self.url
            if is_store or path.name.startswith(f"{self.store.name}-"):
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, folder / path.name)
        return Places(folder / self.store.name)

    def _is_there(self) -> bool:
        """Whether there is a store, with something in it where it is in a database."""
        if not self.url:
            return self.store.exists()
        try:
            with open_store(self.url, read_only=True) as store:
                return store.head().position > 0
        except StorageError:
            return False

    def _beside(self, ending: str) -> Path:
        return self.store.with_name(self.store.name + ending)
