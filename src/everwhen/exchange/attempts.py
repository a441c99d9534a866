"""What an import remembers in the store: how far it came, what of, and how the file was read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from everwhen.contract import Checkpoint
from everwhen.exchange.moments import text_of

PREFIX: Final = "import:"

Times = Literal["auto", "recorded", "occurred"]
"""What is asked for a file's own times, see ``import_events``."""

Future = Literal["refuse", "occurred", "recorded"]
"""What is asked for times that lie in the future."""

KeptTimes = Literal["recorded", "occurred", "mixed"]


class Attempt(msgspec.Struct, omit_defaults=True):
    """The data of an import's checkpoint.

    ``times`` is what becomes of the file's own times; "mixed" where that had to change on the way.
    ``done`` counts commits; -1 when all are. ``content`` is the digest of the uncompressed file
    and ``options`` how it was read; both are empty for an export, whose commits have ids of their
    own. ``began`` is in microseconds since 1970 UTC.
    """

    times: KeptTimes
    done: int
    content: str = ""
    options: str = ""
    began: int = 0


_decode: Final = msgspec.json.Decoder(Attempt).decode
encode: Final = msgspec.json.Encoder().encode


def attempt_of(checkpoint: Checkpoint) -> Attempt:
    """What the checkpoint of an import says."""
    return _decode(checkpoint.data)


def import_named(digest: bytes) -> str:
    """The name of the checkpoint of an import whose events' ids are made from the digest."""
    return f"{PREFIX}{digest.hex()[:32]}"


def same_content(checkpoints: Iterable[Checkpoint], content: str) -> Attempt | None:
    """The newest import of the same content, whatever its options; None where there is none."""
    attempts = [attempt_of(one) for one in checkpoints if one.name.startswith(PREFIX)]
    same = [one for one in attempts if one.content == content]
    return max(same, key=lambda one: one.began, default=None)


def said_of(before: Attempt, options: str) -> str:
    """When and how those rows were imported, and what is different now."""
    which = "these rows were imported" if before.done < 0 else "an import of these rows was begun"
    return f"{which} on {text_of(before.began)}, {_difference(before.options, options)}"


def _difference(before: str, now: str) -> str:
    then, now_is = _parts(before), _parts(now)
    if then[0] != now_is[0]:
        return f"as {then[0]} and not as {now_is[0]}"
    changed = [
        f"{name} was {then[1].get(name)!r} and is {now_is[1].get(name)!r}"
        for name in {**then[1], **now_is[1]}
        if then[1].get(name) != now_is[1].get(name)
    ]
    return f"with other options: {', '.join(changed)}" if changed else "with other options"


def _parts(options: str) -> tuple[str, dict[str, Any]]:
    """A format's name, and its options by name, out of its ``identity``."""
    name, brace, rest = options.partition("{")
    try:
        return name, msgspec.json.decode(brace + rest, type=dict[str, Any]) if brace else {}
    except msgspec.DecodeError:
        return options, {}
