"""What an import remembers in the store: how far it came, what of, and how the file was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from everwhen.exchange.moments import text_of
from everwhen.vocabulary.contract import Checkpoint

ATTEMPT_PREFIX: Final = "import:"

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
    own. ``began`` is in microseconds since 1970 UTC. ``rows`` counts the file's valid rows, and
    ``sketch`` is a sample of them, see `everwhen.exchange.row_digests`.
    """

    times: KeptTimes
    done: int
    content: str = ""
    options: str = ""
    began: int = 0
    rows: int = 0
    sketch: bytes = b""


_decode: Final = msgspec.json.Decoder(Attempt).decode
encode: Final = msgspec.json.Encoder().encode


def attempt_of(checkpoint: Checkpoint) -> Attempt:
    """What the checkpoint of an import says."""
    return _decode(checkpoint.data)


def import_named(digest: bytes) -> str:
    """The name of the checkpoint of an import whose events' ids are made from the digest."""
    return f"{ATTEMPT_PREFIX}{digest.hex()[:32]}"


def digest_of(name: str) -> bytes:
    """What ids are made from, by the name of an import's checkpoint."""
    return bytes.fromhex(name.removeprefix(ATTEMPT_PREFIX))


def attempts_in(checkpoints: Iterable[Checkpoint]) -> dict[str, Attempt]:
    """All imports among the checkpoints, by the names of theirs."""
    return {one.name: attempt_of(one) for one in checkpoints if one.name.startswith(ATTEMPT_PREFIX)}


def same_content(attempts: Mapping[str, Attempt], content: str, options: str) -> str | None:
    """The name of an import of the same content: with the same options, else the newest."""
    same = [name for name, one in attempts.items() if one.content == content]
    return max(
        same,
        key=lambda name: (attempts[name].options == options, attempts[name].began),
        default=None,
    )


def said_of(before: Attempt, options: str) -> str:
    """When and how those rows were imported, and what is different now."""
    which = "these rows were imported" if before.done < 0 else "an import of these rows was started"
    return f"{which} on {text_of(before.began)}, {_difference(before.options, options)}"


def said_of_shared(before: Attempt, shared: int, rows: int) -> str:
    """How much of a file was in an earlier one, and when that was imported."""
    which = "the" if before.done < 0 else "the unfinished"
    return (
        f"about {shared:,} of its {rows:,} rows were imported before, among the {before.rows:,} of "
        f"{which} import of {text_of(before.began)}"
    )


def _difference(before: str, now: str) -> str:
    then, now_is = _parts(before), _parts(now)
    if then[0] != now_is[0]:
        return f"as {then[0]} and not as {now_is[0]}"
    changed = [
        f"{name} was {then[1].get(name)!r} and is {now_is[1].get(name)!r}"
        for name in {**then[1], **now_is[1]}
        if then[1].get(name) != now_is[1].get(name)
    ]
    return f"with other options: {', '.join(changed)}" if changed else "with the same options"


def _parts(options: str) -> tuple[str, dict[str, Any]]:
    """A format's name, and its options by name, out of its ``identity``."""
    name, brace, rest = options.partition("{")
    try:
        return name, msgspec.json.decode(brace + rest, type=dict[str, Any]) if brace else {}
    except msgspec.DecodeError:
        return options, {}
