"""Personal fields, sealed in an event's JSON and opened again.

A sealed value is ``{"$sealed": "<base64url>", "subject": "ann"}``, whose bytes are::

    1 byte    format, 1
    4 bytes   the version of the subject's key
    12 bytes  the nonce
    …         AES-GCM-SIV's ciphertext of the value's JSON, and the tag

What it is authenticated with says where it stands: the event, its type and schema version, the
path in it, the subject and the key's version. Moved anywhere else it doesn't open. The nonce is a
digest of the same, so that a commit that is repeated is the same to the last byte; and since the
cipher doesn't break where a nonce is used twice, nothing hangs on that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from everwhen.errors import InvalidEventError, SealedError, VaultError
from everwhen.personal import Erased, Fields, Items, Leaf, Node
from everwhen.vault import Vault, check_subject

SEALED: Final = b'"$sealed"'
PERSONAL: Final = b'"$personal"'
_MARKS: Final = (SEALED, PERSONAL)
_ERASED: Final = b'"$erased"'
_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12

_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode: Final = msgspec.json.decode


class _Sealed(msgspec.Struct, forbid_unknown_fields=True):
    sealed: str = msgspec.field(name="$sealed")
    subject: str


class _Personal(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw = msgspec.field(name="$personal")
    subject: str


_decode_sealed: Final = msgspec.json.Decoder(_Sealed).decode
_decode_personal: Final = msgspec.json.Decoder(_Personal).decode
_decode_erased: Final = msgspec.json.Decoder(Erased).decode


class Sealing:
    """Seals and opens the personal fields of events, by a vault's keys."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def seal(self, type_name: str, version: int, event_id: str, data: bytes, node: Fields) -> bytes:
        """An event's data with what is personal in it sealed.

        Raises `InvalidEventError` where nothing says whose it is, and `ErasedSubjectError`.
        """
        refuse_marks(data, type_name)
        bound = f"everwhen-sealed/v1\n{event_id}\n{type_name}\n{version}\n"
        return bytes(self._sealed(data, node, "", None, bound))

    def _sealed(
        self, data: bytes, node: Node, path: str, subject: str | None, bound: str
    ) -> bytes | msgspec.Raw:
        if isinstance(node, Leaf):
            return self._value(data, path, subject, bound)
        first = data[:1]
        if first not in (b"{", b"["):
            return data  # an absent optional, say
        parts: Any = _decode_object(data) if first == b"{" else dict(enumerate(_decode_list(data)))
        if isinstance(node, Items):
            for key, found in parts.items():
                new = self._sealed(bytes(found), node.item, _join(path, key), subject, bound)
                parts[key] = msgspec.Raw(new)
        else:
            if node.subject is not None:
                subject = _subject_in(parts.get(node.subject), node.owner)
            for name, inner in node.fields.items():
                found = parts.get(name)
                if found is not None:
                    new = self._sealed(bytes(found), inner, _join(path, name), subject, bound)
                    parts[name] = msgspec.Raw(new)
        return _encode(parts if first == b"{" else list(parts.values()))

    def _value(self, data: bytes, path: str, subject: str | None, bound: str) -> bytes:
        if data == b"null" or (data.startswith(b"{") and _is_erased(data)):
            return data
        if subject is None:
            raise InvalidEventError(f"{path} is personal, and nothing says whose")
        version, cipher = self.vault.newest(subject)
        where = f"{bound}{path}\n{subject}\n{version}".encode()
        nonce = hashlib.sha256(where).digest()[:_NONCE_BYTES]
        content = b"\x01%b%b%b" % (
            version.to_bytes(4, "big"),
            nonce,
            cipher.encrypt(nonce, data, where),
        )
        return b'{"$sealed":"%b","subject":%b}' % (
            base64.urlsafe_b64encode(content),
            _encode(subject),
        )

    def seal_plain(self, type_name: str, version: int, event_id: str, data: bytes) -> bytes:
        """Plain data with each ``{"$personal": value, "subject": "ann"}`` in it sealed.

        That is how the personal values of types that aren't declared are shown and written.
        Raises `InvalidEventError` for a value that claims to be sealed already.
        """
        if SEALED in data:
            refuse_marks(data, type_name, only=SEALED)
        if PERSONAL not in data:
            return data
        bound = f"everwhen-sealed/v1\n{event_id}\n{type_name}\n{version}\n"

        def sealed(raw: bytes, path: str) -> bytes | None:
            try:
                found = _decode_personal(raw)
            except msgspec.MsgspecError:
                return None
            return self._value(bytes(found.value), path, check_subject(found.subject), bound)

        return _replaced(data, "", PERSONAL, sealed)

    def open(
        self, type_name: str, version: int, event_id: str, data: bytes, *, marked: bool
    ) -> bytes:
        """The data with what is sealed opened, or `Erased`.

        ``marked`` leaves a mark around each value, so that it is sealed when it is written again.
        Raises `SealedError`.
        """
        if SEALED not in data:
            return data
        bound = f"everwhen-sealed/v1\n{event_id}\n{type_name}\n{version}\n"

        def opened(raw: bytes, path: str) -> bytes | None:
            try:
                found = _decode_sealed(raw)
            except msgspec.MsgspecError:
                return None
            value = self._opened(found, path, bound, event_id)
            if not marked or value.startswith(b'{"$erased"'):
                return value
            return b'{"$personal":%b,"subject":%b}' % (value, _encode(found.subject))

        return _replaced(data, "", SEALED, opened)

    def _opened(self, found: _Sealed, path: str, bound: str, event_id: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        subject = found.subject
        try:
            content = base64.b64decode(found.sealed, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            content = b""
        if content[:1] != _FORMAT:
            why = "it is damaged; run check(), and restore from a backup"
            raise SealedError(subject, event_id, path, why)
        version = int.from_bytes(content[1:5], "big")
        try:
            cipher = self.vault.cipher(subject, version)
            if cipher is None:
                return _encode(Erased(subject))
            where = f"{bound}{path}\n{subject}\n{version}".encode()
            nonce = content[5 : 5 + _NONCE_BYTES]
            return bytes(cipher.decrypt(nonce, content[5 + _NONCE_BYTES :], where))
        except VaultError as error:
            raise SealedError(subject, event_id, path, str(error)) from error
        except (InvalidTag, ValueError) as error:
            why = "it was altered, or moved here from elsewhere; restore from a backup"
            raise SealedError(subject, event_id, path, why) from error


class Closed(Sealing):
    """Leaves what is sealed as it is, as in an export."""

    def open(
        self, type_name: str, version: int, event_id: str, data: bytes, *, marked: bool
    ) -> bytes:
        """The data as it is stored."""
        del type_name, version, event_id, marked
        return data


def personal_values(data: bytes, node: Node) -> list[str]:
    """The personal texts in an event's data."""
    found: list[str] = []
    _gather(_decode(data), node, found)
    return found


def _gather(value: Any, node: Node, found: list[str]) -> None:
    if isinstance(node, Leaf):
        texts = value if isinstance(value, list) else [value]
        found.extend(text for text in texts if isinstance(text, str) and text)
    elif isinstance(value, dict | list):
        parts = value if isinstance(value, dict) else dict(enumerate(value))
        for key, part in parts.items():
            inner = node.item if isinstance(node, Items) else node.fields.get(key)
            if inner is not None:
                _gather(part, inner, found)


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


def _replaced(
    data: bytes, path: str, mark: bytes, replace: Callable[[bytes, str], bytes | None]
) -> bytes:
    """The JSON with each object that holds the mark replaced, where it is one of those meant."""
    first = data[:1]
    if first == b"{":
        if path:
            new = replace(data, path)
            if new is not None:
                return new
        parts: Any = _decode_object(data)
    elif first == b"[":
        parts = dict(enumerate(_decode_list(data)))
    else:
        return data
    for key, part in parts.items():
        raw = bytes(part)
        if mark in raw:
            parts[key] = msgspec.Raw(_replaced(raw, _join(path, key), mark, replace))
    return _encode(parts if first == b"{" else list(parts.values()))


def _join(path: str, key: str | int) -> str:
    """A path into data as text: every key just as in JSON, but for plain names."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if key.isidentifier() else _encode(key).decode()
    return f"{path}.{shown}" if path else shown


def _subject_in(raw: msgspec.Raw | None, owner: str) -> str:
    value = None if raw is None else _decode(raw)
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
