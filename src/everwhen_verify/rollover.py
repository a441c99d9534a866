"""The keys of a log: how one hands over to the next, and which of them signs what.

A rollover is a note that both keys have signed. Its text is five lines below a title: the log's
origin, the old and the new key's vkey, the size of the tree at which the new one takes over, and
the time in seconds since 1970. From then on the old key signs nothing larger, the new one nothing
smaller. A log's origin is the name of its keys, so a rollover has one name three times.

Code that accepts a log's signature has it from `open_checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from everwhen_verify.checkpoints import Checkpoint, parse_checkpoint, parse_number
from everwhen_verify.errors import MalformedError, SignatureError
from everwhen_verify.notes import (
    MAX_NOTE,
    Kind,
    Note,
    OpenedNote,
    Signer,
    Verifier,
    check_disguise,
    open_note,
    parse_note,
)

TITLE: Final = "everwhen-rollover/v1"
MAX_ROLLOVERS: Final = 1 << 20
"""How many bytes a log's rollovers may have: those of a thousand keys and more."""


@dataclass(frozen=True, slots=True)
class Rollover:
    """Which key took over from which, where, and when.

    Raises `MalformedError` unless both are keys of the log of this origin.
    """

    origin: str
    old: Verifier
    new: Verifier
    size: int
    time: int

    def __post_init__(self) -> None:
        for key in (self.old, self.new):
            if key.name != self.origin or key.kind is not Kind.ED25519:
                raise MalformedError(
                    "rollover", f"{key.vkey} is not a key of the log {self.origin!r}"
                )
        if self.old == self.new:
            raise MalformedError("rollover", "both keys are the same")

    @property
    def text(self) -> str:
        """What both keys sign."""
        lines = (TITLE, self.origin, self.old.vkey, self.new.vkey, str(self.size), str(self.time))
        return "".join(f"{line}\n" for line in lines)


def sign_rollover(origin: str, old: Signer, new: Signer, size: int, time: int) -> bytes:
    """The note that hands a log over to a new key."""
    text = Rollover(origin, old.verifier, new.verifier, size, time).text
    return Note(text, (old.sign(text), new.sign(text))).encode()


def open_rollover(data: bytes) -> Rollover:
    """Read a rollover and check both signatures: with the keys that it names itself.

    So it only counts where the old one is trusted already. Raises `MalformedError` and
    `SignatureError`.
    """
    note = parse_note(data)
    lines = note.text.split("\n")
    if len(lines) != 7 or lines[0] != TITLE or not lines[1]:
        raise MalformedError("rollover", f"it does not have five lines after {TITLE!r}")
    old, new = Verifier.parse(lines[2]), Verifier.parse(lines[3])
    rollover = Rollover(
        lines[1], old, new, parse_number(lines[4], "rollover"), parse_number(lines[5], "rollover")
    )
    for verifier in (old, new):
        try:
            open_note(note, [verifier])
        except SignatureError as error:
            raise SignatureError(
                f"the rollover at {rollover.size:,} entries is not signed by {verifier.vkey}: "
                f"{error.why}",
                error.key,
                error.strangers,
            ) from None
    return rollover


def open_rollovers(data: bytes) -> list[Rollover]:
    """All rollovers of a file that has them one after the other, oldest first."""
    if len(data) > MAX_ROLLOVERS:
        raise MalformedError(
            "rollovers", f"it has {len(data):,} bytes, more than the maximum of {MAX_ROLLOVERS:,}"
        )
    check_disguise(data, "rollovers")
    notes = [b"%s\n%b" % (TITLE.encode(), part) for part in _parts(data)]
    if any(len(note) > MAX_NOTE for note in notes):
        raise MalformedError(
            "rollovers", f"one of them is too large; the maximum is {MAX_NOTE:,} bytes"
        )
    return [open_rollover(note) for note in notes]


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log's key, and the sizes of tree that it signs: others are by its other keys."""

    verifier: Verifier
    url: str | None = None
    first: int = 0
    last: int | None = None

    def signs(self, size: int) -> bool:
        """Whether a tree of this size is this key's to sign."""
        return self.first <= size and (self.last is None or size <= self.last)


def handed_over(keys: Iterable[LogKey], rollovers: Iterable[Rollover]) -> tuple[LogKey, ...]:
    """The keys that are known, and those that they have handed over to, in order.

    How a known key came to be one may stand before that: the key signs nothing smaller. Raises
    `SignatureError` for a rollover that neither leads to a known key nor is by the one whose turn
    it is, that goes back, or that is to a key that has handed over itself.
    """
    found, before = list(keys), dict[str, Rollover]()
    for rollover in rollovers:
        known = {key.verifier: at for at, key in enumerate(found)}
        old, new = known.get(rollover.old), known.get(rollover.new)
        earlier = before.pop(rollover.origin, None)
        follows = earlier is None or (earlier.new == rollover.old and earlier.size <= rollover.size)
        if old is not None:
            follows = follows and found[old].signs(rollover.size) and found[old].last is None
        if new is not None:
            follows = follows and found[new].last is None
        if not follows:
            raise _unfounded(rollover)
        if old is not None:
            found[old] = replace(found[old], last=rollover.size)
        if new is not None:
            found[new] = replace(found[new], first=max(found[new].first, rollover.size))
        elif old is not None:
            found.append(LogKey(rollover.new, found[old].url, rollover.size))
        else:
            before[rollover.origin] = rollover
    for rollover in before.values():
        raise _unfounded(rollover)
    return tuple(found)


def _unfounded(rollover: Rollover) -> SignatureError:
    return SignatureError(
        f"the rollover at {rollover.size:,} entries doesn't follow: it is from a key that isn't "
        f"the log's then or isn't known, {rollover.old.vkey}, or to one that was it before",
        rollover.old.name,
    )


class SignedCheckpoint(NamedTuple):
    """A checkpoint, and the keys of its log that have signed it, each in force at its size."""

    checkpoint: Checkpoint
    signers: tuple[Verifier, ...]
    opened: OpenedNote


def open_checkpoint(
    note: bytes | Note, keys: Iterable[LogKey], witnesses: Iterable[Verifier] = ()
) -> SignedCheckpoint:
    """Read a checkpoint that a key of its own log has signed, which signs trees of its size.

    ``keys`` may be those of several logs. The signatures of ``witnesses`` are checked where they
    are there, and don't count as the log's. Raises `MalformedError` for what isn't a checkpoint,
    and     `SignatureError` where a known key's signature is wrong, or no key has signed that may.
    """
    keys = tuple(keys)
    opened = open_note(note, (*(key.verifier for key in keys), *witnesses))
    checkpoint = parse_checkpoint(opened.text)
    signed = {one.verifier for one in opened.verified}
    ours = [key for key in keys if key.verifier in signed]
    own = [key for key in ours if key.verifier.name == checkpoint.origin]
    signers = tuple(key.verifier for key in own if key.signs(checkpoint.size))
    if signers:
        return SignedCheckpoint(checkpoint, signers, opened)
    if not ours:
        why = f"no known log has signed {checkpoint.origin!r}"
    elif not own:
        why = f"{ours[0].verifier.name!r} has signed for another log, {checkpoint.origin!r}"
    elif own[0].first > checkpoint.size:
        why = (
            f"{own[0].verifier.vkey} has taken over at {own[0].first:,} entries, and signs no "
            f"smaller tree than that, such as one of {checkpoint.size:,}"
        )
    else:
        why = (
            f"{own[0].verifier.vkey} was handed over at {own[0].last:,} entries, and signs no "
            f"larger tree than that, such as one of {checkpoint.size:,}"
        )
    strangers = (*(key.verifier.name for key in ours), *(one.name for one in opened.unverified))
    raise SignatureError(why, strangers=strangers)


def _parts(data: bytes) -> list[bytes]:
    if not data:
        return []
    title = TITLE.encode() + b"\n"
    first, *parts = (b"\n" + data).split(b"\n" + title)
    if first or not parts:
        raise MalformedError("rollovers", f"the file does not begin with {TITLE!r}")
    return [part + b"\n" for part in parts[:-1]] + parts[-1:]
