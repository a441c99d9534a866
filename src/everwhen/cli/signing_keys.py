"""What the commands that sign share: the extra that they need, keys, and whose signatures count."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from everwhen.cli.exit_codes import NO, NO_INPUT, USAGE, CommandStop
from everwhen_verify.errors import MalformedError, VerifyError

if TYPE_CHECKING:
    from everwhen.witness import Witness
    from everwhen_verify.notes import Signer, Verifier
    from everwhen_verify.policy import Policy

_PASSPHRASE: Final = "EVERWHEN_SIGNER_PASSPHRASE"  # noqa: S105  its variable


def needs_trust() -> None:
    """Raises `CommandStop` where the extra that signatures need isn't installed."""
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise CommandStop(
            "signatures need the library cryptography: pip install 'everwhen[trust]'", USAGE
        ) from error


def known_key(vkey: str, what: str) -> Verifier:
    """The public key that the command line has. Raises `CommandStop`."""
    from everwhen_verify.notes import Verifier

    try:
        return Verifier.parse(vkey)
    except MalformedError as error:
        raise CommandStop(f"{what} {error}", USAGE) from None


def new_signer(name: str, what: str, *, is_witness: bool = False) -> Signer:
    """A fresh key under the name that the command line has. Raises `CommandStop`."""
    from everwhen_verify.notes import Kind, Signer

    try:
        return Signer.generate(name, Kind.COSIGNATURE if is_witness else Kind.ED25519)
    except MalformedError as error:
        raise CommandStop(f"{what} {error}", USAGE) from None


def write_key(signer: Signer, path: Path) -> None:
    """Write a new key's file, encrypted with the passphrase where there is one."""
    from everwhen.merkle.signing_keys import save_signer

    save_signer(signer, path, passphrase=_passphrase())


def read_key(path: Path, how: str) -> Signer:
    """The key in a file; ``how`` says how one is made where there is none."""
    from everwhen.merkle.signing_keys import load_signer
    from everwhen.privacy.keys import without_keys

    if not path.exists():
        raise CommandStop(
            f"{without_keys(str(path))}: there is no such key; make one with {how}", NO_INPUT
        )
    return load_signer(path, passphrase=_passphrase())


def successor_in(path: Path, signer: Signer) -> Signer:
    """The key in a file that is to come after another; made under the same name if need be."""
    if not path.exists():
        write_key(new_signer(signer.name, "--roll-to"), path)
    return read_key(path, "--roll-to")


def _passphrase() -> str | None:
    return os.environ.get(_PASSPHRASE) or None


@dataclass(frozen=True)
class Quorum:
    """A policy in a file, and the witnesses that it has addresses of."""

    path: Path
    policy: Policy
    witnesses: tuple[Witness, ...]

    @classmethod
    def of(cls, path: Path, data: bytes) -> Quorum:
        """That of a file's content. Raises `PolicyError`."""
        from everwhen.witness import Witness
        from everwhen_verify.policy import Policy

        policy = Policy.parse(data)
        asked = [Witness(one.url, one.verifier) for one in policy.witnesses if one.url]
        return cls(path, policy, tuple(asked))

    def check(self, note: bytes, rollovers: bytes, failure: Exception | None) -> None:
        """Raises `CommandStop` where the policy rejects it, with a witness's failure.

        ``rollovers`` is how the log's key has changed since the policy's.
        """
        from everwhen_verify.rollover import open_rollovers

        try:
            policy = self.policy.with_rollovers(open_rollovers(rollovers))
            policy.check(note, int(time.time()))
        except VerifyError as error:
            more = "" if failure is None else f" ({failure})"
            raise CommandStop(f"signed, but {self.path} asks for more: {error}{more}", NO) from None
