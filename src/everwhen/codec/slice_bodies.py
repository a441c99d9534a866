"""A slice's body: a JSON array with one entry per event.

::

    [type, schema version, data]                     the usual entry
    [type, schema version, data, tags]               with tags
    [type, schema version, data, tags, {"id": …, "occurred_at": …, "extras": …}]

JSON because any tool can read it for as long as the file lives, and because it is as fast as
anything here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import msgspec

from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.errors import DecodeError
from everwhen.vocabulary.nesting import TOO_DEEP, is_deeper, is_value_deeper, items_of, members_of

M = TypeVar("M")


class EntryMetadata(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one event carries beside its data and tags."""

    id: str | None = None
    occurred_at: datetime | None = None
    extras: dict[str, Any] | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event in a slice's body."""

    type: str
    schema_version: int
    data: msgspec.Raw
    tags: tuple[str, ...] = ()
    metadata: EntryMetadata | None = None


_decode_entries: Final = msgspec.json.Decoder(list[Entry]).decode
decode_bodies: Final = msgspec.json.Decoder(list[list[Entry]]).decode


class DeepExtras(Mapping[str, Any]):
    """Metadata extras that are nested too deep: there, and any look at them is a `DecodeError`.

    ``text`` is what they are in JSON.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __getitem__(self, key: str) -> Any:
        raise unreadable_extras()

    def __iter__(self) -> Iterator[str]:
        raise unreadable_extras()

    def __len__(self) -> int:
        raise unreadable_extras()

    def __bool__(self) -> bool:
        return True


def unreadable_extras() -> DecodeError:
    """What looking at extras that are nested too deep raises."""
    return DecodeError(f"the metadata extras are {TOO_DEEP}; an export holds their text")


def with_extras(metadata: bytes, cls: type[M]) -> M:
    """Metadata of a class from its JSON, its extras `DeepExtras` where they are."""
    if not is_deeper(metadata, MAX_DEPTH + 1):
        return decode_json(metadata, type=cls)
    members = members_of(metadata)
    extras = DeepExtras(members.pop("extras", b"{}"))
    rest = encode_json({name: msgspec.Raw(value) for name, value in members.items()})
    found: Any = decode_json(rest, type=cls)
    return cast("M", msgspec.structs.replace(found, extras=extras))


def extras_text(extras: Mapping[str, Any]) -> str:
    """Extras as JSON."""
    text = extras.text if isinstance(extras, DeepExtras) else encode_json(extras)
    return text.decode()


_LEVELS_ABOVE_DATA: Final = 2
"""In a body, an event's data is in its entry, which is in the list of them."""


def is_body_deeper(body: bytes) -> bool:
    """Whether some event in a slice's body may be nested deeper than is allowed."""
    return is_deeper(body, MAX_DEPTH + _LEVELS_ABOVE_DATA)


def decode_entries(body: bytes) -> list[Entry]:
    """A slice's body, as entries of which the data is still text.

    Extras that are nested too deep to be decoded are `DeepExtras`. Raises ``msgspec.DecodeError``
    for what isn't a body.
    """
    try:
        return _decode_entries(body)
    except RecursionError:
        if not is_body_deeper(body):
            raise
        return [_deep_entry(items_of(item)) for item in items_of(body)]


def _deep_entry(parts: list[bytes]) -> Entry:
    """An entry out of its parts, of which some are too deep to be decoded."""
    if not 3 <= len(parts) <= 5 or any(is_deeper(part) for part in (*parts[:2], *parts[3:4])):
        raise msgspec.DecodeError("an entry isn't made as entries are")
    metadata: EntryMetadata | None = None
    if len(parts) == 5:
        metadata = None if parts[4] == b"null" else with_extras(parts[4], EntryMetadata)
    return Entry(
        decode_json(parts[0], type=str),
        decode_json(parts[1], type=int),
        msgspec.Raw(parts[2]),
        decode_json(parts[3], type=tuple[str, ...]) if len(parts) > 3 else (),
        metadata,
    )


def deep_parts(body: bytes, entries: Sequence[Entry]) -> Iterator[tuple[int, str]]:
    """What is nested too deep in a slice: each entry's index, and which part of it is."""
    if not is_body_deeper(body):
        return
    for index, entry in enumerate(entries):
        if is_deeper(bytes(entry.data)):
            yield index, "data is"
        extras = entry.metadata.extras if entry.metadata is not None else None
        if isinstance(extras, DeepExtras) or is_value_deeper(extras):
            yield index, "metadata extras are"


def id_in_commit(commit_id: bytes, index: int) -> str:
    """The id of an event that was given none: ``<commit id>/<index in the commit>``."""
    return f"{text_of_id(commit_id)}/{index}"


def text_of_id(commit_id: bytes) -> str:
    """A commit's id as a UUID is written, in a third of UUID's time."""
    text = commit_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
