"""Whose signatures make a checkpoint count, as in C2SP tlog-policy.

A policy is a text, such as::

    log shop.example/log+4d1a7b2c+AY…
    witness bank witness.bank.example+0c66a1b7+BC…
    witness club witness.club.example+9f1e5a44+BD…
    group both all bank club
    quorum both
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from everwhen_verify.checkpoints import Checkpoint, utc
from everwhen_verify.errors import MalformedError, PolicyError, SignatureError, shown
from everwhen_verify.merkle import EMPTY_ROOT
from everwhen_verify.notes import Kind, Note, OpenedNote, Verifier, disguise
from everwhen_verify.rollover import LogKey, Rollover, handed_over, open_checkpoint

NOBODY: Final = "none"
MAX_POLICY: Final = 1_000_000
"""How many bytes a policy may have."""

_REFUSED: Final = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_FIELDS: Final = {"log": (2, 3), "witness": (3, 4), "group": (4, 1_000), "quorum": (2, 2)}
_THRESHOLD: Final = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
_CLOCKS_DIFFER: Final = 300


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's key, under the name that the policy has for it."""

    name: str
    verifier: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Members, of which ``threshold`` must have signed: names of witnesses and earlier groups."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Endorsement:
    """A checkpoint that satisfies a policy: by which log's key, and which witnesses when.

    The times are in seconds since 1970, as the witnesses say.
    """

    checkpoint: Checkpoint
    log: Verifier
    cosigned: dict[str, int]


@dataclass(frozen=True)
class Policy:
    """The logs that are trusted, the witnesses that are known, and which of them it takes."""

    logs: tuple[LogKey, ...]
    witnesses: tuple[WitnessKey, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NOBODY

    @classmethod
    def parse(cls, data: bytes) -> Policy:
        """Read a policy. Raises `PolicyError` that names the line."""
        return _Reading().policy(data)

    def with_rollovers(self, rollovers: Iterable[Rollover]) -> Policy:
        """The policy with the keys that its logs' keys have handed over to, in order.

        Which of them signs what: see `everwhen_verify.rollover.handed_over`. Raises `PolicyError`
        for a rollover that is not a known log's, or doesn't follow from the one before.
        """
        try:
            return replace(self, logs=handed_over(self.logs, rollovers))
        except SignatureError as error:
            raise PolicyError(str(error)) from None

    def check(self, note: bytes | Note, now: int | None = None) -> Endorsement:
        """Whether a signed checkpoint counts.

        With ``now``, in seconds since 1970, cosignatures of the future don't. Raises
        `MalformedError` for what isn't a checkpoint, `SignatureError` for a wrong signature of a
        key that is known, or none by the log, and `PolicyError` where witnesses are missing.
        """
        witnesses = [one.verifier for one in self.witnesses]
        checkpoint, signers, opened = open_checkpoint(note, self.logs, witnesses)
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            raise MalformedError("checkpoint", "the root of an empty tree is wrong")
        cosigned, early = self._cosigned(opened, now)
        if self.quorum != NOBODY and self.quorum not in self._witnessed(set(cosigned)):
            raise PolicyError(self._missing(set(cosigned)) + _in_the_future(early))
        return Endorsement(checkpoint, signers[0], cosigned)

    def _cosigned(
        self, opened: OpenedNote, now: int | None
    ) -> tuple[dict[str, int], dict[str, int]]:
        """When which witness has cosigned: those that count, and those that are of the future."""
        times = {one.verifier: one.time for one in opened.verified}
        cosigned: dict[str, int] = {}
        early: dict[str, int] = {}
        for witness in self.witnesses:
            time = times.get(witness.verifier)
            if time is not None:
                counts = now is None or time <= now + _CLOCKS_DIFFER
                (cosigned if counts else early)[witness.name] = time
        return cosigned, early

    def _witnessed(self, names: set[str]) -> set[str]:
        """The witnesses and groups that have witnessed, where these witnesses have cosigned."""
        found = set(names)
        for group in self.groups:
            if sum(member in found for member in group.members) >= group.threshold:
                found.add(group.name)
        return found

    def _missing(self, cosigned: set[str]) -> str:
        witnessed = self._witnessed(cosigned)
        group = next((group for group in self.groups if group.name == self.quorum), None)
        if group is None:
            return f"the witness {self.quorum!r} has not cosigned it"
        there = [member for member in group.members if member in witnessed]
        lacking = [member for member in group.members if member not in witnessed]
        return (
            f"the quorum {self.quorum!r} needs {group.threshold} of {len(group.members)}; it has "
            f"{', '.join(there) or 'none'}, and lacks {', '.join(lacking)}"
        )


@dataclass
class _Reading:
    """Collects a policy line by line, each of which may only speak of what stands before it."""

    logs: list[LogKey] = field(default_factory=list)
    witnesses: list[WitnessKey] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    keys: set[tuple[Kind, bytes]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    grouped: set[str] = field(default_factory=set)
    quorum: str | None = None

    def policy(self, data: bytes) -> Policy:
        reads: dict[str, Callable[[list[str]], None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
        }
        for number, fields in _lines(data):
            least, most = _FIELDS.get(fields[0], (0, 0))
            if not least <= len(fields) <= most:
                raise PolicyError(
                    f"{shown(' '.join(fields), 80)} is not a line of a policy", number
                )
            try:
                reads[fields[0]](fields[1:])
            except (PolicyError, MalformedError) as error:
                raise PolicyError(str(error), number) from None
        if self.quorum is None:
            raise PolicyError("it has no quorum line; without witnesses write 'quorum none'")
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), self.quorum)

    def _log(self, fields: list[str]) -> None:
        vkey, *url = fields
        self.logs.append(LogKey(self._key(vkey, Kind.ED25519), url[0] if url else None))

    def _witness(self, fields: list[str]) -> None:
        name, vkey, *url = fields
        self._define(name)
        key = self._key(vkey, Kind.COSIGNATURE)
        self.witnesses.append(WitnessKey(name, key, url[0] if url else None))

    def _group(self, fields: list[str]) -> None:
        name, threshold, *members = fields
        for member in members:
            if member not in self.names:
                raise PolicyError(f"{shown(member)} is not defined above")
            if member in self.grouped:
                raise PolicyError(f"{shown(member)} is already in a group")
            self.grouped.add(member)
        self._define(name)
        count = {"any": 1, "all": len(members)}.get(threshold)
        if count is None and _THRESHOLD.fullmatch(threshold):
            count = int(threshold)
        if count is None or count > len(members):
            raise PolicyError(f"{shown(threshold)} of {len(members)}: write all, any, or a number")
        self.groups.append(Group(name, count, tuple(members)))

    def _quorum(self, fields: list[str]) -> None:
        (name,) = fields
        if self.quorum is not None:
            raise PolicyError("there is already a quorum")
        if name != NOBODY and name not in self.names:
            raise PolicyError(f"{shown(name)} is not defined above")
        self.quorum = name

    def _key(self, vkey: str, kind: Kind) -> Verifier:
        verifier = Verifier.parse(vkey)
        if verifier.kind is not kind:
            raise PolicyError(f"{verifier.name!r} is not a key of the kind {kind.name.lower()}")
        key = (kind, verifier.public_key)
        if key in self.keys:
            raise PolicyError(f"the key of {verifier.name!r} is given twice")
        self.keys.add(key)
        return verifier

    def _define(self, name: str) -> None:
        if name == NOBODY or name in self.names:
            raise PolicyError(f"the name {shown(name)} is reserved or already used")
        self.names.add(name)


def _lines(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """The lines that say something, with their numbers, cut into fields.

    Bytes beyond ASCII are opaque: names are equal where their bytes are.
    """
    if len(data) > MAX_POLICY:
        raise PolicyError(f"it has {len(data):,} bytes, more than the maximum of {MAX_POLICY:,}")
    why = disguise(data)
    if why is not None:
        raise PolicyError(why, 1)
    if data and not data.endswith(b"\n"):
        raise PolicyError("it does not end with a newline, so it may be incomplete")
    for number, line in enumerate(data.split(b"\n"), 1):
        if _REFUSED.search(line):
            raise PolicyError("it has control characters", number)
        text = line.strip(b" \t").decode(errors="surrogateescape")
        if text and not text.startswith("#"):
            yield number, re.split("[ \t]+", text)


def _in_the_future(early: dict[str, int]) -> str:
    if not early:
        return ""
    whose = ", ".join(f"that of {name!r} has the time {utc(time)}" for name, time in early.items())
    return f"; cosignatures from the future don't count, and {whose}: a clock is wrong"
