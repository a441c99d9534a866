"""Where personal values stand in an event's JSON, and what stands there once they are encrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from everwhen.vocabulary.errors import InvalidEventError
from everwhen.vocabulary.personal_data import Erased, Fields, Leaf, PersonalItems, PersonalNode

M = TypeVar("M")

ENCRYPTED: Final = b'"$sealed"'
"""The name, in JSON, of the member by which an encrypted value is known."""
PERSONAL: Final = b'"$personal"'
"""The same of a personal value in plain data, which is to be encrypted."""
_MARKS: Final = (ENCRYPTED, PERSONAL)
_ERASED: Final = b'"$erased"'

encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.decode
decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class StandIn(msgspec.Struct, forbid_unknown_fields=True):
    """What stands in the place of an encrypted value.

    ``content`` is all that is encrypted of the subject, for the first value; for each other one,
    its number among them.
    """

    content: str | int = msgspec.field(name="$sealed")
    subject: str


class Marked(msgspec.Struct, forbid_unknown_fields=True):
    """A personal value in plain data."""

    value: msgspec.Raw = msgspec.field(name="$personal")
    subject: str


_decode_stand_in: Final = msgspec.json.Decoder(StandIn).decode
_decode_marked: Final = msgspec.json.Decoder(Marked).decode
_decode_erased: Final = msgspec.json.Decoder(Erased).decode


class ValuePlace(NamedTuple):
    """Where a value stands: in which object or list, under what key, and at what path."""

    parts: Any
    key: str | int
    path: str


PersonalValues: TypeAlias = dict[str, list[tuple[ValuePlace, bytes]]]
"""By subject, the values that are to be encrypted."""


def has_mark(data: bytes) -> bool:
    """Whether JSON may hold something that is encrypted, or is to be."""
    return ENCRYPTED in data or PERSONAL in data


def personal_texts(data: bytes, node: PersonalNode) -> list[str]:
    """The personal texts in an event's data."""
    found: list[str] = []
    _gather(decode(data), node, found)
    return found


def _gather(value: Any, node: PersonalNode, found: list[str]) -> None:
    if isinstance(node, Leaf):
        found += texts_among([value])
    elif isinstance(value, dict | list):
        parts = value if isinstance(value, dict) else dict(enumerate(value))
        for key, part in parts.items():
            inner = _inner(node, key)
            if inner is not None:
                _gather(part, inner, found)


def texts_among(values: list[Any]) -> list[str]:
    """The texts among the values, and in those that are lists."""
    flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return [text for text in flat if isinstance(text, str) and text]


def refuse_marks(data: bytes, type_name: str, *, only: bytes | None = None) -> None:
    """Raises `InvalidEventError` for data that could be taken for something encrypted."""
    for mark in _MARKS if only is None else (only,):
        if mark in data and _has_key(decode(data), mark.decode()[1:-1]):
            raise InvalidEventError(
                f"{type_name}: the name {mark.decode()} is what encrypted data is known by; name "
                f"yours otherwise"
            )


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(part, key) for part in value.values())
    return isinstance(value, list) and any(_has_key(part, key) for part in value)


def _take_apart(
    data: bytes, node: Fields | PersonalItems, path: str, subject: str | None, found: PersonalValues
) -> Any:
    """The JSON taken apart as far as it holds personal values, and where those stand."""
    first = data[:1]
    if first not in (b"{", b"["):
        return msgspec.Raw(data)  # an absent optional, say
    parts: Any = _decode_members(data) if first == b"{" else decode_list(data)
    keys: Iterable[str | int] = parts if first == b"{" else range(len(parts))
    if isinstance(node, Fields):
        if node.subject is not None:
            subject = _subject_in(parts[node.subject] if node.subject in keys else None, node.owner)
        inner: Any = [(key, node.fields[key]) for key in node.fields if key in keys]
    else:
        inner = [(key, node.item) for key in keys]
    for key, below in inner:
        value, where = bytes(parts[key]), path_to(path, key)
        if not isinstance(below, Leaf):
            parts[key] = _take_apart(value, below, where, subject, found)
        elif not has_no_value(value):
            if subject is None:
                raise InvalidEventError(f"{where} is personal, and nothing says whose")
            found.setdefault(subject, []).append((ValuePlace(parts, key, where), value))
    return parts


def personal_in(data: bytes, fields: Fields) -> tuple[Any, PersonalValues]:
    """An event's JSON taken apart, and the personal values in it.

    Raises `InvalidEventError` where nothing says whose they are.
    """
    found: PersonalValues = {}
    return _take_apart(data, fields, "", None, found), found


def _take_out(
    data: bytes,
    path: str,
    mark: bytes,
    decoder: Callable[[bytes], M],
    found: list[tuple[ValuePlace, M]],
) -> Any:
    """The JSON taken apart as far as it holds objects with the mark, and where those stand."""
    parts: Any = _decode_members(data) if data[:1] == b"{" else decode_list(data)
    for key, raw in parts.items() if isinstance(parts, dict) else enumerate(parts):
        part = bytes(raw)
        if mark not in part:
            continue
        where = path_to(path, key)
        if part[:1] == b"{":
            try:
                found.append((ValuePlace(parts, key, where), decoder(part)))
            except msgspec.MsgspecError:
                parts[key] = _take_out(part, where, mark, decoder, found)
        elif part[:1] == b"[":
            parts[key] = _take_out(part, where, mark, decoder, found)
    return parts


def stand_ins_in(data: bytes) -> tuple[Any, list[tuple[ValuePlace, StandIn]]]:
    """The JSON taken apart, and what stands in it in the places of encrypted values."""
    found: list[tuple[ValuePlace, StandIn]] = []
    return _take_out(data, "", ENCRYPTED, _decode_stand_in, found), found


def marked_in(data: bytes) -> tuple[Any, list[tuple[ValuePlace, Marked]]]:
    """The JSON taken apart, and the personal values that are marked in it."""
    found: list[tuple[ValuePlace, Marked]] = []
    return _take_out(data, "", PERSONAL, _decode_marked, found), found


def without_personal(data: Any, node: PersonalNode | None = None) -> Any:
    """Plain data with ``(personal)`` in the places of personal values."""
    if isinstance(node, Leaf):
        return data if data is None else "(personal)"
    if isinstance(data, dict):
        if "$personal" in data:
            return "(personal)"
        return {key: without_personal(part, _inner(node, key)) for key, part in data.items()}
    if isinstance(data, list | tuple):
        return [without_personal(part, _inner(node, index)) for index, part in enumerate(data)]
    return data


def _inner(node: PersonalNode | None, key: str | int) -> PersonalNode | None:
    if isinstance(node, Fields):
        return node.fields.get(key)
    return node.item if isinstance(node, PersonalItems) else None


def has_no_value(value: bytes) -> bool:
    """Whether there is nothing to encrypt: no value, or one that has been erased."""
    return value == b"null" or (value.startswith(b"{") and _is_erased(value))


def path_to(path: str, key: str | int) -> str:
    """A path into data as text: every key just as in JSON, but for plain names."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if key.isidentifier() else encode(key).decode()
    return f"{path}.{shown}" if path else shown


def _subject_in(raw: msgspec.Raw | None, owner: str) -> str:
    return as_subject(None if raw is None else decode(raw), owner)


def as_subject(value: object, owner: str) -> str:
    """A subject's name. Raises `InvalidEventError` for what is neither text nor whole number."""
    if type(value) is str:
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidEventError(
            f"{owner}: its data_subject has to be a text or a whole number, not {value!r}"
        )
    return str(value)


def _is_erased(data: bytes) -> bool:
    if _ERASED not in data:
        return False
    try:
        _decode_erased(data)
    except msgspec.MsgspecError:
        return False
    return True
