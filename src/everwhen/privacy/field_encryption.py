"""Personal fields, sealed in an event's JSON and opened again.

What an event holds of one subject is sealed at once: the values, as a JSON array in the order of
their places, are encrypted in one call. In the first place stands
``{"$sealed": "<base64>", "subject": "ann"}``, whose bytes are::

    1 byte    format, 1
    4 bytes   the version of the subject's key
    12 bytes  the nonce
    …         AES-GCM-SIV's ciphertext of the array, and the tag

and in each other ``{"$sealed": 1, "subject": "ann"}``, with the value's number in the array.

What it is authenticated with says where it stands: the event, its type and schema version, the
subject, the key's version, and the path of each value in order. Moved anywhere else it doesn't
open, nor do values that have changed places, and none can be added or left out. The nonce is a
digest of the same, so that a commit that is repeated is the same to the last byte; and since the
cipher doesn't break where a nonce is used twice, nothing hangs on that.
"""

from __future__ import annotations

import base64
import binascii
import operator
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast
from uuid import UUID

import msgspec

from everwhen.privacy.vault import Vault, check_subject
from everwhen.vocabulary.errors import (
    ErasedSubjectError,
    InvalidEventError,
    SealedError,
    VaultError,
)
from everwhen.vocabulary.personal_data import Erased, Fields, Leaf, PersonalItems, PersonalNode

M = TypeVar("M")

SEALED: Final = b'"$sealed"'
PERSONAL: Final = b'"$personal"'
_MARKS: Final = (SEALED, PERSONAL)
_ERASED: Final = b'"$erased"'
_WHAT: Final = "everwhen-sealed/v1"
_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_TRACE: Final = b"everwhen-import/v1"
_NOTHING: Final = frozenset((type(None), msgspec.UnsetType, Erased))
_MOVED: Final = "it was altered, or moved here from elsewhere; restore from a backup"

_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode: Final = msgspec.json.decode
_set: Final = msgspec.structs.force_setattr


class _Sealed(msgspec.Struct, forbid_unknown_fields=True):
    sealed: str | int = msgspec.field(name="$sealed")
    subject: str


class _Personal(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw = msgspec.field(name="$personal")
    subject: str


_decode_sealed: Final = msgspec.json.Decoder(_Sealed).decode
_decode_personal: Final = msgspec.json.Decoder(_Personal).decode
_decode_erased: Final = msgspec.json.Decoder(Erased).decode


_Bound: TypeAlias = tuple[str, str, int]
"""An event's id, its type and schema version."""


class _Place(NamedTuple):
    """Where a value stands: in which object or list, under what key, and at what path."""

    parts: Any
    key: str | int
    path: str


_Key: TypeAlias = tuple[bytes, int, Callable[[bytes, bytes, bytes], bytes], bytes]
"""A subject's key: what content begins with, its version, the cipher, whose it is in JSON."""


_Found: TypeAlias = dict[str, list[tuple[_Place, bytes]]]
"""By subject, the values that are to be sealed."""


class Flat(NamedTuple):
    """A type whose personal fields are all its own, and all of one subject.

    ``whose`` and ``values`` read the subject and the personal ``fields``, whose ``paths``
    are where they stand in JSON; ``bound`` begins what those are bound to, up to the event's id.
    ``stand_ins`` decodes what stands in their places in sealed data.
    """

    name: str
    version: int
    node: Fields
    whose: Callable[[Any], Any]
    values: Callable[[Any], tuple[Any, ...]]
    fields: tuple[str, ...]
    paths: tuple[str, ...]
    bound: bytes
    stand_ins: Callable[[bytes], Any]


class Sealing:
    """Seals and opens the personal fields of events, by a vault's keys."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def seal(self, type_name: str, version: int, event_id: str, data: bytes, node: Fields) -> bytes:
        """An event's data with what is personal in it sealed.

        Raises `InvalidEventError` where nothing says whose it is, and `ErasedSubjectError`.
        """
        refuse_marks(data, type_name)
        found: _Found = {}
        tree = _personal(data, node, "", None, found)
        self._seal(found, (event_id, type_name, version))
        return _encode(tree)

    def seal_flat(
        self, own_id: UUID, first_index: int, events: Iterable[tuple[Any, Flat | None]]
    ) -> list[Any]:
        """Copies of a commit's events that encode to what `seal` makes of their data.

        Those without a `Flat` stay as they are. Raises what `seal` raises.
        """
        sealed: list[Any] = []
        keys: dict[str, _Key] = {}
        commit = str(own_id).encode()
        for index, (event, flat) in enumerate(events, first_index):
            if flat is None:
                sealed.append(event)
                continue
            values, subject = flat.values(event), flat.whose(event)
            if not _NOTHING.isdisjoint(map(type, values)):
                event_id = f"{own_id}/{index}"
                data = self.seal(flat.name, flat.version, event_id, _encode(event), flat.node)
                sealed.append(msgspec.Raw(data))
                continue
            if type(subject) is not str:
                subject = _as_subject(subject, flat.node.owner)
            key = keys.get(subject)
            if key is None:
                key = keys[subject] = self._key(subject)
            prefix, version, encrypt, whose = key
            where = b'%b"%b/%d",%b,%d]' % (flat.bound, commit, index, whose, version)
            nonce = sha256(where).digest()[:_NONCE_BYTES]
            content = _base64(b"".join((prefix, nonce, encrypt(nonce, _encode(values), where))))
            copied = event.__copy__()
            for number, name in enumerate(flat.fields):
                _set(copied, name, msgspec.Raw(_stand_in(number, content, whose)))
            sealed.append(copied)
        return sealed

    def _key(self, subject: str) -> _Key:
        """The newest key of a subject."""
        version, cipher = self.vault.newest(subject)
        return _FORMAT + version.to_bytes(4, "big"), version, cipher.encrypt, _encode(subject)

    def seal_plain(self, type_name: str, version: int, event_id: str, data: bytes) -> bytes:
        """Plain data with each ``{"$personal": value, "subject": "ann"}`` in it sealed.

        That is how the personal values of types that aren't declared are shown and written.
        Raises `InvalidEventError` for a value that claims to be sealed already.
        """
        if SEALED in data:
            refuse_marks(data, type_name, only=SEALED)
        if PERSONAL not in data:
            return data
        marked: list[tuple[_Place, _Personal]] = []
        tree = _marked(data, "", PERSONAL, _decode_personal, marked)
        found: _Found = {}
        for place, mark in marked:
            value = bytes(mark.value)
            if _stays(value):
                place.parts[place.key] = mark.value
            else:
                found.setdefault(check_subject(mark.subject), []).append((place, value))
        self._seal(found, (event_id, type_name, version))
        return _encode(tree)

    def _seal(self, found: _Found, bound: _Bound) -> None:
        """Put what stands for each value in its place."""
        for subject, items in found.items():
            values = b"[%b]" % b",".join([value for _, value in items])
            paths = tuple([place.path for place, _ in items])
            stand_ins = self._stand_ins(subject, values, paths, bound)
            for (place, _), stand_in in zip(items, stand_ins, strict=True):
                place.parts[place.key] = stand_in

    def _stand_ins(
        self, subject: str, values: bytes, paths: tuple[str, ...], bound: _Bound
    ) -> list[msgspec.Raw]:
        """What stands in the places of one subject's values."""
        prefix, version, encrypt, whose = self._key(subject)
        where = _where(bound, paths, subject, version)
        nonce = sha256(where).digest()[:_NONCE_BYTES]
        content = _base64(prefix + nonce + encrypt(nonce, values, where))
        return [msgspec.Raw(_stand_in(number, content, whose)) for number in range(len(paths))]

    def open(
        self, type_name: str, version: int, event_id: str, data: bytes, *, marked: bool
    ) -> bytes:
        """The data with what is sealed opened, or `Erased`.

        ``marked`` leaves a mark around each value, so that it is sealed when it is written again.
        Raises `SealedError`.
        """
        if SEALED not in data:
            return data
        found: list[tuple[_Place, _Sealed]] = []
        tree = _marked(data, "", SEALED, _decode_sealed, found)
        subjects: dict[str, list[tuple[_Place, _Sealed]]] = {}
        for item in found:
            subjects.setdefault(item[1].subject, []).append(item)
        for subject, items in subjects.items():
            places = _in_order(items, event_id)
            head = next(sealed.sealed for _, sealed in items if isinstance(sealed.sealed, str))
            paths = tuple([place.path for place in places])
            values = self._opened(subject, head, paths, (event_id, type_name, version))
            if values is None:
                for place in places:
                    place.parts[place.key] = Erased(subject)
            elif marked:
                for place, value in zip(places, values, strict=True):
                    place.parts[place.key] = {"$personal": value, "subject": subject}
            else:
                for place, value in zip(places, values, strict=True):
                    place.parts[place.key] = value
        return _encode(tree)

    def open_flat(self, event_id: str, data: bytes, flat: Flat) -> bytes:
        """What `open` makes of the data: in half the time where no personal value is missing."""
        opened = self._opened_flat(event_id, data, flat)
        if opened is None:
            return self.open(flat.name, flat.version, event_id, data, marked=False)
        return opened

    def _opened_flat(self, event_id: str, data: bytes, flat: Flat) -> bytes | None:
        try:
            found: tuple[_Sealed, ...] = msgspec.structs.astuple(flat.stand_ins(data))
        except msgspec.MsgspecError:
            return None
        subject, head = found[0].subject, found[0].sealed
        expected = [(head, subject), *((n, subject) for n in range(1, len(found)))]
        if not isinstance(head, str) or [(s.sealed, s.subject) for s in found] != expected:
            return None
        values = self._opened(subject, head, flat.paths, (event_id, flat.name, flat.version))
        if values is None:
            return None
        encoded, whose = head.encode(), _encode(subject)
        for number, value in enumerate(values):
            stand_in = _stand_in(number, encoded, whose)
            if data.count(stand_in) != 1:
                return None
            data = data.replace(stand_in, value)
        return data

    def _opened(
        self, subject: str, head: str, paths: tuple[str, ...], bound: _Bound
    ) -> list[msgspec.Raw] | None:
        """The values in the order of their paths; None once the subject has been forgotten."""
        from cryptography.exceptions import InvalidTag

        event_id, path = bound[0], paths[0]
        try:
            content = base64.b64decode(head, validate=True)
        except (ValueError, binascii.Error):
            content = b""
        if content[:1] != _FORMAT:
            why = "it is damaged; run check(), and restore from a backup"
            raise SealedError(subject, event_id, path, why)
        version = int.from_bytes(content[1:5], "big")
        try:
            cipher = self.vault.cipher(subject, version)
            if cipher is None:
                return None
            where = _where(bound, paths, subject, version)
            nonce = content[5 : 5 + _NONCE_BYTES]
            return _decode_list(cipher.decrypt(nonce, content[5 + _NONCE_BYTES :], where))
        except VaultError as error:
            raise SealedError(subject, event_id, path, str(error)) from error
        except (InvalidTag, ValueError) as error:
            raise SealedError(subject, event_id, path, _MOVED) from error


class Traced(Sealing):
    """Seals, and makes a secret of whose data it was: of the keys of all of them, as they came.

    Who has lost the key of one of them can't make it any more.
    """

    def __init__(self, vault: Vault) -> None:
        super().__init__(vault)
        self._sum = 0
        self._count = 0
        self._taken = (0, 0)

    @property
    def secret(self) -> bytes:
        """The secret so far; empty where nothing was sealed."""
        return self._sum.to_bytes(_TAG_BYTES, "big") if self._count else b""

    def take_own(self) -> bytes:
        """The same of what was sealed since this was last called."""
        (before, counted), now = self._taken, (self._sum, self._count)
        self._taken = now
        own = (now[0] - before) % (1 << 8 * _TAG_BYTES)
        return own.to_bytes(_TAG_BYTES, "big") if now[1] > counted else b""

    def _key(self, subject: str) -> _Key:
        found = super()._key(subject)
        first = self.vault.cipher(subject, 1)  # whatever was rotated since
        if first is None:
            raise ErasedSubjectError(subject)
        tag = first.encrypt(bytes(_NONCE_BYTES), b"", _TRACE)
        self._sum = (self._sum + int.from_bytes(tag, "big")) % (1 << 8 * _TAG_BYTES)
        self._count += 1
        return found


class Closed(Sealing):
    """Leaves what is sealed as it is, as in an export."""

    def open(
        self, type_name: str, version: int, event_id: str, data: bytes, *, marked: bool
    ) -> bytes:
        """The data as it is stored."""
        del type_name, version, event_id, marked
        return data

    def open_flat(self, event_id: str, data: bytes, flat: Flat) -> bytes:
        """The data as it is stored."""
        del event_id, flat
        return data


def personal_values(data: bytes, node: PersonalNode) -> list[str]:
    """The personal texts in an event's data."""
    found: list[str] = []
    _gather(_decode(data), node, found)
    return found


def _gather(value: Any, node: PersonalNode, found: list[str]) -> None:
    if isinstance(node, Leaf):
        found += _texts([value])
    elif isinstance(value, dict | list):
        parts = value if isinstance(value, dict) else dict(enumerate(value))
        for key, part in parts.items():
            inner = node.item if isinstance(node, PersonalItems) else node.fields.get(key)
            if inner is not None:
                _gather(part, inner, found)


def _texts(values: list[Any]) -> list[str]:
    """The texts among the values, and in those that are lists."""
    flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return [text for text in flat if isinstance(text, str) and text]


def refuse_marks(data: bytes, type_name: str, *, only: bytes | None = None) -> None:
    """Raises `InvalidEventError` for data that could be taken for something sealed."""
    for mark in _MARKS if only is None else (only,):
        if mark in data and _has_key(_decode(data), mark.decode()[1:-1]):
            raise InvalidEventError(
                f"{type_name}: the name {mark.decode()} is what sealed data is known by; name "
                f"yours otherwise"
            )


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(part, key) for part in value.values())
    return isinstance(value, list) and any(_has_key(part, key) for part in value)


def _personal(
    data: bytes, node: Fields | PersonalItems, path: str, subject: str | None, found: _Found
) -> Any:
    """The JSON taken apart as far as it holds personal values, and where those stand."""
    first = data[:1]
    if first not in (b"{", b"["):
        return msgspec.Raw(data)  # an absent optional, say
    parts: Any = _decode_object(data) if first == b"{" else _decode_list(data)
    keys: Iterable[str | int] = parts if first == b"{" else range(len(parts))
    if isinstance(node, Fields):
        if node.subject is not None:
            subject = _subject_in(parts[node.subject] if node.subject in keys else None, node.owner)
        inner: Any = [(key, node.fields[key]) for key in node.fields if key in keys]
    else:
        inner = [(key, node.item) for key in keys]
    for key, below in inner:
        value, where = bytes(parts[key]), _join(path, key)
        if not isinstance(below, Leaf):
            parts[key] = _personal(value, below, where, subject, found)
        elif not _stays(value):
            if subject is None:
                raise InvalidEventError(f"{where} is personal, and nothing says whose")
            found.setdefault(subject, []).append((_Place(parts, key, where), value))
    return parts


def _marked(
    data: bytes,
    path: str,
    mark: bytes,
    decode: Callable[[bytes], M],
    found: list[tuple[_Place, M]],
) -> Any:
    """The JSON taken apart as far as it holds objects with the mark, and where those stand."""
    parts: Any = _decode_object(data) if data[:1] == b"{" else _decode_list(data)
    for key, raw in parts.items() if isinstance(parts, dict) else enumerate(parts):
        part = bytes(raw)
        if mark not in part:
            continue
        where = _join(path, key)
        if part[:1] == b"{":
            try:
                found.append((_Place(parts, key, where), decode(part)))
            except msgspec.MsgspecError:
                parts[key] = _marked(part, where, mark, decode, found)
        elif part[:1] == b"[":
            parts[key] = _marked(part, where, mark, decode, found)
    return parts


def _in_order(items: list[tuple[_Place, _Sealed]], event_id: str) -> list[_Place]:
    """The places of a subject's values by their numbers. Raises `SealedError`."""
    numbered = {0 if isinstance(s.sealed, str) else s.sealed: place for place, s in items}
    places = [numbered.get(number) for number in range(len(items))]
    heads = [sealed for _, sealed in items if isinstance(sealed.sealed, str)]
    if len(heads) != 1 or None in places:
        place, sealed = items[0]
        raise SealedError(sealed.subject, event_id, place.path, _MOVED)
    return cast("list[_Place]", places)


def _where(bound: _Bound, paths: tuple[str, ...], subject: str, version: int) -> bytes:
    """What values are bound to."""
    event_id, type_name, schema_version = bound
    return _encode((_WHAT, type_name, schema_version, paths, event_id, subject, version))


def _stand_in(number: int, encoded: bytes, whose: bytes) -> bytes:
    """What stands in the place of a value: for the first of them, all that is encrypted."""
    if number:
        return b'{"$sealed":%d,"subject":%b}' % (number, whose)
    return b'{"$sealed":"%b","subject":%b}' % (encoded, whose)


def _base64(content: bytes) -> bytes:
    return binascii.b2a_base64(content, newline=False)


def _stays(value: bytes) -> bool:
    """Whether there is nothing to seal: no value, or one that has been erased."""
    return value == b"null" or (value.startswith(b"{") and _is_erased(value))


def flat_of(cls: type[Any], name: str, version: int, node: Fields) -> Flat | None:
    """How to seal a class's events without looking into their JSON; None where that is needed."""
    if not issubclass(cls, msgspec.Struct) or node.subject is None:
        return None
    if not all(isinstance(inner, Leaf) for inner in node.fields.values()):
        return None
    if cls.__struct_config__.array_like:
        return None
    stored = dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
    fields = tuple([stored[str(name)] for name in node.fields])
    paths = tuple([_join("", name) for name in node.fields])
    return Flat(
        name,
        version,
        node,
        operator.attrgetter(stored[str(node.subject)]),
        _reader_of(fields),
        fields,
        paths,
        _encode((_WHAT, name, version, paths))[:-1] + b",",
        msgspec.json.Decoder(_stand_ins_of(node)).decode,
    )


def _stand_ins_of(node: Fields) -> type[Any]:
    """A struct of what stands in the places of a type's personal values."""
    names = {f"at{number}": str(name) for number, name in enumerate(node.fields)}
    return msgspec.defstruct("StandIns", [(name, _Sealed) for name in names], rename=names)


def _reader_of(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads fields, as a tuple."""
    read = operator.attrgetter(*fields)
    return read if len(fields) > 1 else lambda event: (read(event),)


def texts_of(event: Any, flat: Flat) -> list[str]:
    """The personal texts in an event."""
    values = [value for value in flat.values(event) if type(value) not in _NOTHING]
    return _texts(_decode(_encode(values)))


def _join(path: str, key: str | int) -> str:
    """A path into data as text: every key just as in JSON, but for plain names."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if key.isidentifier() else _encode(key).decode()
    return f"{path}.{shown}" if path else shown


def _subject_in(raw: msgspec.Raw | None, owner: str) -> str:
    return _as_subject(None if raw is None else _decode(raw), owner)


def _as_subject(value: object, owner: str) -> str:
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
