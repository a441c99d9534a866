"""A log's signing key in a file: as text that Go's tools read too, or encrypted with a passphrase.

The file is for its owner's eyes only; a passphrase protects it where it is copied, too.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from everwhen.privacy.keys import NONCE_BYTES, without_keys
from everwhen.system.bounded_files import MAX_KEY_FILE_BYTES, ExposedError, read_secret
from everwhen.system.durable_files import write_secret
from everwhen.vocabulary.errors import MerkleLogError
from everwhen_verify.errors import MalformedError
from everwhen_verify.notes import Signer

_HEADER: Final = b"everwhen-signer/v1\n"
_SALT_BYTES: Final = 16
"""Random, so that one guess tries one file only."""
_SCRYPT_COST: Final = 1 << 15
"""With blocks of 8: 32 MiB and about 0.1 s for each guess."""


def save_signer(
    signer: Signer, path: str | os.PathLike[str], *, passphrase: str | None = None
) -> None:
    """Write the key to a new file, which only its owner can read.

    Raises `MerkleLogError` where the file is there already: a key is never overwritten.
    """
    data = signer.skey.encode() + b"\n"
    if passphrase is not None:
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(NONCE_BYTES)
        encrypted = _cipher(passphrase, salt).encrypt(nonce, data, _HEADER)
        data = _HEADER + base64.b64encode(salt + nonce + encrypted) + b"\n"
    try:
        write_secret(path, data)
    except FileExistsError as error:
        raise MerkleLogError(
            f"{os.fspath(path)}: is there already; a key is never overwritten, name another file"
        ) from error


def load_signer(path: str | os.PathLike[str], *, passphrase: str | None = None) -> Signer:
    """The key in a file. Raises `MerkleLogError` where others can read it, or it can't be read."""
    where = Path(path)
    name = without_keys(str(where))
    try:
        data = read_secret(where, MAX_KEY_FILE_BYTES)
    except ExposedError:
        raise MerkleLogError(f"{name}: others than its owner may read it; chmod 600 it") from None
    except OSError as error:
        raise MerkleLogError(
            f"{name}: can't be read ({error.strerror}); make one with save_signer or 'everwhen "
            f"checkpoint --new-key'"
        ) from None
    if data.startswith(_HEADER):
        data = _opened(where, data.removeprefix(_HEADER), passphrase)
    try:
        return Signer.parse(data.decode("ascii"))
    except (MalformedError, UnicodeDecodeError) as error:
        raise MerkleLogError(
            f"{where}: holds no signing key ({error}); name another file"
        ) from None


def _opened(where: Path, data: bytes, passphrase: str | None) -> bytes:
    from cryptography.exceptions import InvalidTag

    if passphrase is None:
        raise MerkleLogError(
            f"{where}: is encrypted with a passphrase; give it, on the command line in the "
            f"variable EVERWHEN_SIGNER_PASSPHRASE"
        )
    try:
        encrypted = base64.b64decode(data)
        salt, nonce = encrypted[:_SALT_BYTES], encrypted[_SALT_BYTES : _SALT_BYTES + NONCE_BYTES]
        return _cipher(passphrase, salt).decrypt(
            nonce, encrypted[_SALT_BYTES + NONCE_BYTES :], _HEADER
        )
    except (InvalidTag, ValueError):
        raise MerkleLogError(f"{where}: the passphrase is wrong, or the file is damaged") from None


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    key = Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=8, p=1).derive(passphrase.encode())
    return AESGCM(key)
