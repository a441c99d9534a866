"""A small log of commits, with keys and proofs, for the tests of the verifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from everwhen_verify.checkpoints import Checkpoint
from everwhen_verify.entries import FIRST, LoggedSlice, evidence_of, leaf_of
from everwhen_verify.merkle import consistency_path, inclusion_path, root_of
from everwhen_verify.notes import Kind, Signer, sign_note
from everwhen_verify.proofs import Proof

ORIGIN = "shop.example/log"
NOW = 1_767_225_600


@dataclass(frozen=True)
class Slice:
    position: int
    stream: str
    version: int
    count: int = 1
    recorded_at: int = NOW * 1_000_000
    commit_id: bytes = UUID(int=7).bytes
    metadata: bytes | None = None
    body: bytes = b'[["BetPlaced",1,{"player":7}]]'


@dataclass
class Log:
    """Commits, and the tree over them."""

    signer: Signer = field(default_factory=lambda: Signer.generate(ORIGIN))
    commits: list[list[LoggedSlice]] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, count: int) -> Log:
        log = cls()
        for _ in range(count):
            log.append()
        return log

    def append(self, *slices: LoggedSlice) -> None:
        index = len(self.commits)
        commit = list(slices) or [Slice(index + 1, "game-1", index + 1)]
        self.leaves.append(leaf_of(index, self.previous(index), commit))
        self.commits.append(commit)

    def previous(self, index: int) -> bytes:
        return self.leaves[index - 1] if index else FIRST

    def node(self, level: int, index: int) -> bytes:
        return root_of(self.leaves[index << level : (index + 1) << level])

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.leaves) if size is None else size
        return Checkpoint(ORIGIN, size, root_of(self.leaves[:size]))

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        return consistency_path(old, len(self.leaves) if new is None else new, self.node)

    def signed(self, *witnesses: Signer, size: int | None = None, time: int = NOW) -> bytes:
        return sign_note(self.checkpoint(size).text, self.signer, *witnesses, time=time)

    def proof(self, index: int, note: bytes | None = None, size: int | None = None) -> Proof:
        path = inclusion_path(index, size or len(self.leaves), self.node)
        extra = evidence_of(index, self.previous(index), self.commits[index])
        return Proof(index, tuple(path), note or self.signed(size=size), extra)


def witness(number: int = 1) -> Signer:
    return Signer.generate(f"witness{number}.example", Kind.COSIGNATURE)


def policy_text(log: Log, *witnesses: Signer, quorum: str | None = None) -> bytes:
    lines = [f"log {log.signer.verifier.vkey}"]
    names = [f"w{number}" for number, _ in enumerate(witnesses, 1)]
    lines += [
        f"witness {name} {one.verifier.vkey}" for name, one in zip(names, witnesses, strict=True)
    ]
    if names:
        lines.append(f"group all-of-them all {' '.join(names)}")
    lines.append(f"quorum {quorum or ('all-of-them' if names else 'none')}")
    return "".join(f"{line}\n" for line in lines).encode()
