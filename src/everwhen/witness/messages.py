"""What a log and a witness say to each other, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from everwhen_verify.checkpoints import parse_number
from everwhen_verify.errors import MalformedError
from everwhen_verify.merkle import HASH_SIZE
from everwhen_verify.notes import decode_base64, encode_base64

MAX_REQUEST_BYTES: Final = 256 * 1024
"""Enough for 63 hashes and a checkpoint with many signatures."""

MAX_REPLY_BYTES: Final = 64 * 1024
"""Enough for the signatures of a witness, some 200 bytes each, and for an error's text."""

MAX_PROOF_HASHES: Final = 63
"""The protocol's own limit: a tree of 2^63 entries has no longer proof."""

SIZE_TYPE: Final = "text/x.tlog.size"
TEXT_TYPE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign: the signed checkpoint, and that it grew from ``old`` leaves."""

    old: int
    path: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The request's body, which `parse_request` reads."""
        lines = (f"old {self.old}", *map(encode_base64, self.path), "")
        return "".join(f"{line}\n" for line in lines).encode() + self.note


def parse_request(body: bytes) -> AddCheckpoint:
    """Read a request's body; the checkpoint is left as it is. Raises `MalformedError`."""
    head, blank, note = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("request", "it is not ASCII above the checkpoint") from None
    if not blank or not first.startswith("old "):
        raise MalformedError("request", "it is not an old size, hashes, an empty line and a note")
    if len(lines) > MAX_PROOF_HASHES:
        raise MalformedError("request", f"more than {MAX_PROOF_HASHES} hashes")
    path = tuple(decode_base64(line, "request") for line in lines)
    if any(len(one) != HASH_SIZE for one in path):
        raise MalformedError("request", f"a hash does not have {HASH_SIZE} bytes")
    return AddCheckpoint(parse_number(first.removeprefix("old "), "request"), path, note)
