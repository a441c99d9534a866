"""An attacker at the files of keys, and keys that are given where they don't belong."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from everwhen import KeyFile, Vault
from everwhen.audit.fallback import AuditFallback
from everwhen.errors import (
    AuditFallbackError,
    EverwhenError,
    MerkleLogError,
    MissingKeyError,
    VaultError,
)
from everwhen.merkle import load_signer, save_signer
from everwhen.privacy import KeyFromEnvironment
from everwhen.privacy.keys import WrappingKey, keys_in
from everwhen_verify.checkpoints import parse_checkpoint
from everwhen_verify.errors import VerifyError
from everwhen_verify.notes import Signer, Verifier, decode_base64, parse_note
from everwhen_verify.policy import Policy
from everwhen_verify.program import run
from everwhen_verify.proofs import parse_proof
from everwhen_verify.rollover import open_rollovers

LONGEST_PIECE = 8
"""How much of a secret's text no message may have: less than 8 characters happen by chance."""


@pytest.fixture
def secrets_given(tmp_path: Path) -> dict[str, str]:
    """A key of each kind, as the text that somebody has at hand."""
    signer = Signer.generate("example.org/log")
    ring = KeyFile.create(tmp_path / "ring").keys()[0]
    raw = os.urandom(32)
    slashed = raw[:3] + b"\xff\xff\xff" + raw[6:]
    return {
        "signing": signer.skey,
        "its last part": signer.skey.split("+", 4)[4],
        "under a long name": Signer.generate("x" * 55).skey,
        "wrapping": ring.line,
        "fallback": raw.hex(),
        "bare": base64.b64encode(raw).decode(),
        "which a path normalises": base64.b64encode(slashed).decode(),
        "for URLs": base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }


def pieces(secret: str) -> Iterator[str]:
    """The stretches of the secret part of a key's text."""
    text = secret.rsplit(maxsplit=1)[-1]
    if text.startswith("PRIVATE+KEY+"):
        text = text.split("+", 4)[4]
    return (text[at : at + LONGEST_PIECE] for at in range(len(text) - LONGEST_PIECE + 1))


def assert_hidden(secret: str, said: str, where: str) -> None:
    assert said, where
    assert not [piece for piece in pieces(secret) if piece in said], (where, said)


def said_by(error: BaseException | None) -> str:
    """The message of the error, and of all that it came from."""
    said = []
    while error is not None:
        said.append(f"{error} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(said)


def _policy(text: str) -> Callable[[str], object]:
    return lambda secret: Policy.parse(f"{text}\n".replace("SECRET", secret).encode())


def _note(line: str) -> Callable[[str], object]:
    return lambda secret: parse_note(f"text\n\n{line}\n".replace("SECRET", secret).encode())


PUBLIC = Signer.generate("example.org/log").verifier.vkey
PLACES: dict[str, Callable[[str], object]] = {
    "a public key": Verifier.parse,
    "its name": lambda secret: Verifier.parse(f"{secret} +00000000+AAAA"),
    "its last part": lambda secret: Verifier.parse(f"example.org/log+00000000+{secret}"),
    "base64": lambda secret: decode_base64(f"{secret}!", "hash"),
    "a policy": _policy("SECRET"),
    "a log of a policy": _policy("log SECRET"),
    "a witness": _policy("witness w SECRET"),
    "a witness's name": _policy(f"witness SECRET {PUBLIC}"),
    "a quorum": _policy("quorum SECRET"),
    "a member": _policy("group g all SECRET"),
    "a proof": lambda secret: parse_proof(f"{secret}\n".encode()),
    "a note": lambda secret: parse_note(f"{secret}\n".encode()),
    "a signature": _note("SECRET"),
    "a signature's key": _note("\N{EM DASH} SECRET"),
    "a signature's body": _note("\N{EM DASH} x SECRET!"),
    "a checkpoint": lambda secret: parse_checkpoint(f"{secret}\n"),
    "its size": lambda secret: parse_checkpoint(f"x\n{secret}\n{'A' * 43}=\n"),
    "its root": lambda secret: parse_checkpoint(f"x\n1\n{secret}!\n"),
    "rollovers": lambda secret: open_rollovers(f"{secret}\n".encode()),
    "a key file's path": lambda secret: KeyFile(secret).keys(),
    "a signer's path": load_signer,
    "a variable's name": lambda secret: KeyFromEnvironment(secret).keys(),
}


@pytest.mark.attack(
    "a private key, given by mistake, is read from a message",
    about="signatures",
    answer="no message shows what may be a key",
)
@pytest.mark.parametrize("place", PLACES)
def test_a_private_key_in_the_place_of_something_else_is_in_no_message(
    secrets_given: dict[str, str], place: str
) -> None:
    for kind, secret in secrets_given.items():
        with pytest.raises((EverwhenError, VerifyError)) as caught:
            PLACES[place](secret)
        assert_hidden(secret, said_by(caught.value), f"{kind} key as {place}")


@pytest.mark.attack("a private key, given by mistake, is read from a message")
def test_nor_does_the_verifier_of_an_auditor_show_one(
    secrets_given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Signer.generate("example.org/log").verifier.vkey
    (tmp_path / "policy").write_text(f"log {log}\nquorum none\n")
    for kind, secret in secrets_given.items():
        for policy, proof in (
            (f"{secret}\n", "x"),
            (f"log {secret}\nquorum none\n", "x"),
            (None, f"{secret}\n"),
            (None, f"c2sp.org/tlog-proof@v1\nextra {secret}\nindex 0\n\nx\n"),
            (None, f"c2sp.org/tlog-proof@v1\nextra AAAA\nindex {secret}\n\nx\n"),
        ):
            (tmp_path / "proof").write_text(proof)
            (tmp_path / "given").write_text(policy or f"log {log}\nquorum none\n")
            for more in ([], ["--json"]):
                code = run([*more, str(tmp_path / "proof"), str(tmp_path / "given")])
                shown = capsys.readouterr()
                assert code != 0
                assert_hidden(secret, shown.out + shown.err, kind)


def test_a_private_key_for_a_public_one_is_called_that() -> None:
    with pytest.raises(VerifyError, match="it is a private key") as caught:
        Verifier.parse(Signer.generate("example.org/log").skey)
    assert "example.org" not in str(caught.value)


def test_no_text_of_a_key_object_has_its_secret(tmp_path: Path) -> None:
    ring = KeyFile.create(tmp_path / "ring")
    (key,) = ring.keys()
    signer = Signer.generate("example.org/log")
    fallback = AuditFallback(tmp_path / "entries", os.urandom(32))
    for thing, secret in ((key, key.secret), (ring, key.secret), (fallback, fallback._key)):
        for text in (repr(thing), str(thing), f"{[thing]}", pretty_repr(thing)):
            for form in (repr(secret)[2:-1], secret.hex(), base64.b64encode(secret).decode()):
                assert form[:8] not in text
    assert_hidden(signer.skey, f"{signer} {signer!r} {pretty_repr(signer)}", "signer")


# Modes and links


MODES = [0o644, 0o640, 0o620, 0o602, 0o604, 0o666, 0o601]


@pytest.mark.parametrize("mode", MODES, ids=oct)
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    ring, fallback, signer = tmp_path / "ring", tmp_path / "fallback", tmp_path / "signer"
    KeyFile.create(ring)
    AuditFallback.key_from(fallback)
    save_signer(Signer.generate("example.org/log"), signer)
    for path in (ring, fallback, signer):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(mode)
    with pytest.raises(VaultError, match="chmod 600"):
        KeyFile(ring).keys()
    with pytest.raises(AuditFallbackError, match="chmod 600"):
        AuditFallback.key_from(fallback)
    with pytest.raises(MerkleLogError, match="chmod 600"):
        load_signer(signer)


@pytest.mark.parametrize("mode", [0o602, 0o604, 0o606, 0o666, 0o644], ids=oct)
def test_a_vault_that_everybody_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    keys, path = KeyFile.create(tmp_path / "ring"), tmp_path / "vault"
    with Vault(path, keys) as vault:
        vault.newest("ann")
    path.chmod(mode)
    before = path.read_bytes()
    with pytest.raises(VaultError, match="chmod 600"):
        Vault(path, keys)
    assert path.read_bytes() == before
    path.chmod(0o660)
    with Vault(path, keys) as vault:
        assert vault.subjects() == ["ann"]


@pytest.mark.attack(
    "a link is put where a key is written",
    about="signatures",
    answer="nothing is written through it, and it is replaced by no file",
)
def test_rotating_takes_over_no_mode_and_goes_through_no_link(tmp_path: Path) -> None:
    path, link = tmp_path / "ring", tmp_path / "link"
    keys = KeyFile.create(path)
    for leftover in (".ring.partial", "ring.new", "ring.tmp", "ring~"):
        (tmp_path / leftover).write_text("")
        (tmp_path / leftover).chmod(0o666)
    before = os.umask(0)
    try:
        keys.add()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    link.symlink_to(path)
    linked = KeyFile(link)
    assert linked.keys() == keys.keys()
    for rotate in (linked.add, lambda: linked.keep_only(keys.keys()[-1].id)):
        with pytest.raises(VaultError, match="symbolic link"):
            rotate()
    assert link.is_symlink()
    assert path.read_text() == text
    assert len(keys_in(text, "ring")) == 2


@pytest.mark.attack("a link is put where a key is written")
@pytest.mark.parametrize("target", ["a file", "an empty file", "nothing"])
def test_a_new_key_goes_through_no_link(tmp_path: Path, target: str) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    if target != "nothing":
        elsewhere.write_text("mine" if target == "a file" else "")
    link.symlink_to(elsewhere)
    before = elsewhere.read_text() if elsewhere.exists() else None
    with pytest.raises(VaultError, match="never overwritten"):
        KeyFile.create(link)
    with pytest.raises(MerkleLogError, match="never overwritten"):
        save_signer(Signer.generate("example.org/log"), link)
    assert (elsewhere.read_text() if elsewhere.exists() else None) == before


def test_a_key_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingKeyError, match="keys new"):
        KeyFile(tmp_path / "none").keys()
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(VaultError, match="isn't text"):
        KeyFile(tmp_path / "binary").keys()


def test_a_key_of_a_ring_is_made_of_what_it_says(tmp_path: Path) -> None:
    (key,) = KeyFile.create(tmp_path / "ring").keys()
    assert isinstance(key, WrappingKey)
    assert keys_in(key.line, "x") == [key]
