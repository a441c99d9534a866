"""One key of a log handing over to the next: a note that both have signed.

Its text is five lines below a title: the log's origin, the old and the new key's vkey, the size
of the tree at which the new one takes over, and the time in seconds since 1970. From then on the
old key signs nothing larger, the new one nothing smaller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from everwhen_verify.checkpoints import parse_number
from everwhen_verify.errors import MalformedError, SignatureError
from everwhen_verify.notes import MAX_NOTE, Note, Signer, Verifier, open_note, parse_note

TITLE: Final = "everwhen-rollover/v1"


@dataclass(frozen=True, slots=True)
class Rollover:
    """Which key took over from which, where, and when."""

    origin: str
    old: Verifier
    new: Verifier
    size: int
    time: int

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
        raise MalformedError("rollover", f"it is not five lines below {TITLE!r}")
    old, new = Verifier.parse(lines[2]), Verifier.parse(lines[3])
    rollover = Rollover(
        lines[1], old, new, parse_number(lines[4], "rollover"), parse_number(lines[5], "rollover")
    )
    if old == new:
        raise MalformedError("rollover", "both keys are the same")
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
    """All rollovers of a file that has them one behind the other, oldest first."""
    notes = [b"%s\n%b" % (TITLE.encode(), part) for part in _parts(data)]
    if any(len(note) > MAX_NOTE for note in notes):
        raise MalformedError("rollovers", f"one has more than {MAX_NOTE:,} bytes")
    return [open_rollover(note) for note in notes]


def key_at(first: Verifier, origin: str, rollovers: Iterable[Rollover], size: int) -> Verifier:
    """The key whose a checkpoint of a tree of this size is: the newest, where it changed there.

    Raises `SignatureError` for a rollover that doesn't hand on the key before it, or goes back.
    """
    current, reached, found = first, 0, first
    for rollover in rollovers:
        if rollover.old != current or rollover.origin != origin or rollover.size < reached:
            raise SignatureError(
                f"the rollover at {rollover.size:,} entries of {rollover.origin!r} doesn't follow "
                f"from the one before",
                rollover.old.name,
            )
        current, reached = rollover.new, rollover.size
        if reached <= size:
            found = current
    return found


def _parts(data: bytes) -> list[bytes]:
    if not data:
        return []
    title = TITLE.encode() + b"\n"
    first, *parts = (b"\n" + data).split(b"\n" + title)
    if first or not parts:
        raise MalformedError("rollovers", f"the file doesn't begin with {TITLE!r}")
    return [part + b"\n" for part in parts[:-1]] + parts[-1:]
