"""A proof in a file, as in C2SP tlog-proof, and the verdict on it.

It holds all that it takes: the entry, its index, the way to the root, and the signed checkpoint.
What the entry says is not trusted before all of that fits together; see `verify`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from everwhen_verify.checkpoints import Checkpoint, parse_number
from everwhen_verify.entries import Entry, parse_evidence
from everwhen_verify.errors import MalformedError, ProofError
from everwhen_verify.merkle import HASH_SIZE, check_inclusion
from everwhen_verify.notes import Verifier, check_disguise, decode_base64, encode_base64
from everwhen_verify.policy import Policy

TITLE: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".tlog-proof"
MAX_PROOF: Final = 1 << 28
"""How many bytes a proof may have: a commit can be large, and stands in it as a whole."""
MAX_PATH: Final = 63


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that was read, and not checked. ``note`` is the signed checkpoint.

    ``extra`` is what `everwhen_verify.entries.evidence_of` gives.
    """

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes

    def encode(self) -> bytes:
        """The file's bytes, which `parse_proof` reads."""
        lines = [TITLE, f"extra {encode_base64(self.extra)}", f"index {self.index}"]
        lines += map(encode_base64, self.path)
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.note


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was proven: this entry is in the log, under this checkpoint.

    ``log`` is the key that signed the checkpoint, ``cosigned`` the policy's witnesses that did,
    with their times in seconds since 1970.
    """

    entry: Entry
    checkpoint: Checkpoint
    log: Verifier
    cosigned: dict[str, int]


def parse_proof(data: bytes) -> Proof:
    """Read a proof file. Raises `MalformedError`."""
    if len(data) > MAX_PROOF:
        raise MalformedError(
            "proof", f"it has {len(data):,} bytes, more than the maximum of {MAX_PROOF:,}"
        )
    check_disguise(data, "proof")
    head, blank, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("proof", "it is not ASCII above the checkpoint") from None
    if not blank or lines[0] != TITLE:
        raise MalformedError("proof", f"it does not begin with {TITLE!r}, or has no checkpoint")
    if len(lines) < 3 or not lines[1].startswith("extra "):
        raise MalformedError("proof", "it has no line 'extra', in which Everwhen puts the entry")
    if not lines[2].startswith("index "):
        raise MalformedError("proof", "it has no line 'index'")
    if len(lines) - 3 > MAX_PATH:
        raise MalformedError("proof", f"it has more than {MAX_PATH} hashes")
    path = tuple(decode_base64(line, "proof") for line in lines[3:])
    if any(len(one) != HASH_SIZE for one in path):
        raise MalformedError("proof", f"a hash does not have {HASH_SIZE} bytes")
    extra = decode_base64(lines[1].removeprefix("extra "), "proof")
    return Proof(parse_number(lines[2].removeprefix("index "), "proof"), path, note, extra)


def verify(proof: bytes | Proof, policy: Policy, now: int | None = None) -> Verdict:
    """Whether a proof holds under a policy; ``now`` as in `Policy.check`.

    Raises the `VerifyError` that says why not.
    """
    if not isinstance(proof, Proof):
        proof = parse_proof(proof)
    leaf, entry = parse_evidence(proof.extra)
    if entry.index != proof.index:
        raise ProofError(f"the entry's index is {entry.index}, but the proof's is {proof.index}")
    endorsed = policy.check(proof.note, now)
    checkpoint = endorsed.checkpoint
    check_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root)
    return Verdict(entry, checkpoint, endorsed.log, endorsed.cosigned)
