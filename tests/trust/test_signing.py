"""A log's signing key in a file: read back by its owner, and by nobody who lacks the passphrase."""

from __future__ import annotations

from pathlib import Path

import pytest

from everwhen.errors import MerkleLogError
from everwhen.merkle import load_signer, save_signer
from everwhen_verify.notes import Signer

SIGNER = Signer.generate("example.org/log")
RIGHT = "correct horse"


@pytest.mark.parametrize("passphrase", [None, "correct horse", "", "pässword \U0001f511"])
def test_a_key_is_read_back(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "key"
    save_signer(SIGNER, path, passphrase=passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signer(path, passphrase=passphrase).skey == SIGNER.skey
    shown = SIGNER.skey in path.read_text()
    assert shown is (passphrase is None)
    with pytest.raises(MerkleLogError, match="never overwritten"):
        save_signer(Signer.generate("other"), path)
    assert load_signer(path, passphrase=passphrase).skey == SIGNER.skey


@pytest.mark.attack(
    "a key file is copied",
    about="signatures",
    answer="its passphrase: of the log's, and of a witness's",
    needs="a passphrase, which isn't kept beside it",
)
def test_without_the_passphrase_it_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    save_signer(SIGNER, path, passphrase=RIGHT)
    with pytest.raises(MerkleLogError, match="is encrypted with a passphrase; give it"):
        load_signer(path)
    for wrong in ("", "Correct horse", "correct horse "):
        with pytest.raises(MerkleLogError, match="the passphrase is wrong"):
            load_signer(path, passphrase=wrong)
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:25], whole[:40] + b"A" + whole[41:], whole[:19]):
        path.write_bytes(damaged if damaged != whole else whole[:40] + b"B" + whole[41:])
        with pytest.raises(MerkleLogError, match="the passphrase is wrong, or the file is damaged"):
            load_signer(path, passphrase=RIGHT)


def test_two_files_of_one_key_differ(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_signer(SIGNER, tmp_path / name, passphrase=RIGHT)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    for passphrase in (None, "correct horse"):
        path = tmp_path / f"key-{passphrase}"
        save_signer(SIGNER, path, passphrase=passphrase)
        path.chmod(mode)
        with pytest.raises(MerkleLogError, match="chmod 600"):
            load_signer(path, passphrase=passphrase)


def test_what_holds_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MerkleLogError, match="--new-key"):
        load_signer(tmp_path / "none")
    path = tmp_path / "key"
    for content in (b"", b"no key", b"\xff\xfe", SIGNER.verifier.vkey.encode()):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(MerkleLogError, match="holds no signing key"):
            load_signer(path)
