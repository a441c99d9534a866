"""Personal fields, encrypted in an event's JSON and decrypted again.

What an event holds of one subject is encrypted at once: the values, as a JSON array in the order of
their places, are encrypted in one call. In the first place stands
``{"$sealed": "<base64>", "subject": "ann"}``, whose bytes are::

    1 byte    format, 1
    4 bytes   the version of the subject's key
    12 bytes  the nonce
    …         AES-GCM-SIV's ciphertext of the array, and the tag

and in each other ``{"$sealed": 1, "subject": "ann"}``, with the value's number in the array.

What it is authenticated with says where it stands: the event, its type and schema version, the
subject, the key's version, and the path of each value in order. Moved anywhere else it can't be
decrypted, nor can values that have changed places, and none can be added or left out. The nonce is
a digest of the same, so that a commit that is repeated is the same to the last byte; and since the
cipher doesn't break where a nonce is used twice, nothing hangs on that.
"""

from __future__ import annotations

import base64
import binascii
from binascii import b2a_base64
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any, Final, NamedTuple, cast

import msgspec

from everwhen.privacy.flat_types import NO_VALUES, PURPOSE, FlatType
from everwhen.privacy.personal_values import (
    ENCRYPTED,
    PERSONAL,
    PersonalValues,
    StandIn,
    ValuePlace,
    as_subject,
    decode_list,
    encode,
    has_no_value,
    marked_in,
    personal_in,
    refuse_marks,
    stand_ins_in,
)
from everwhen.privacy.vault import Vault, check_subject
from everwhen.vocabulary.errors import ErasedSubjectError, SealedError, VaultError
from everwhen.vocabulary.personal_data import Erased, Fields

_FORMAT: Final = b"\x01"
_KEY_VERSION_BYTES: Final = 4
_NONCE_BYTES: Final = 12
"""What AES-GCM-SIV takes."""
_TAG_BYTES: Final = 16
"""What AES-GCM-SIV gives."""
_NONCE_FROM: Final = len(_FORMAT) + _KEY_VERSION_BYTES
_VALUES_FROM: Final = _NONCE_FROM + _NONCE_BYTES
_HEAD: Final = b'{"$sealed":"'
_TAIL: Final = b'","subject":%b}'
"""What is around all that is encrypted, in base64, in the place of a subject's first value."""
_LATER: Final = b'{"$sealed":%d,"subject":%b}'
"""What stands in the place of another value, by its number."""
_TRACE: Final = b"everwhen-import/v1"
_MOVED: Final = "it was altered, or moved here from elsewhere; restore from a backup"

_set: Final = msgspec.structs.force_setattr


class NewestKey(NamedTuple):
    """A subject's key, and all that it makes the same of each time it encrypts.

    ``bound`` ends what values are bound to, ``prefix`` begins their content, and what stands in
    the place of the first of them ends with ``tail``. ``later`` is what stands in the places of
    the second and those that follow, as far as needed yet.
    """

    encrypt: Callable[[bytes, bytes, bytes], bytes]
    bound: bytes
    prefix: bytes
    tail: bytes
    whose: bytes
    later: list[msgspec.Raw]


class FieldEncryption:
    """Encrypts and decrypts personal fields, by a vault's keys."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.decryptor = Decryptor(vault)

    def encryptor(self) -> Encryptor:
        """For one batch of events: each subject's newest key is looked up once."""
        return Encryptor(self.newest_key)

    def newest_key(self, subject: str) -> NewestKey:
        """The newest key of a subject. Raises `ErasedSubjectError`."""
        version, cipher = self.vault.newest(subject)
        whose = encode(subject)
        return NewestKey(
            cipher.encrypt,
            b",%b,%d]" % (whose, version),
            _FORMAT + version.to_bytes(_KEY_VERSION_BYTES, "big"),
            _TAIL % whose,
            whose,
            [],
        )


class TracedEncryption(FieldEncryption):
    """Encrypts, and makes a secret of whose data it was: of the keys of all of them, as they came.

    Who has lost the key of one of them can't make it any more.
    """

    def __init__(self, vault: Vault) -> None:
        super().__init__(vault)
        self._sum = 0
        self._count = 0
        self._taken = (0, 0)

    @property
    def secret(self) -> bytes:
        """The secret so far; empty where nothing was encrypted."""
        return self._sum.to_bytes(_TAG_BYTES, "big") if self._count else b""

    def take_own(self) -> bytes:
        """The same of what was encrypted since this was last called."""
        (before, counted), now = self._taken, (self._sum, self._count)
        self._taken = now
        own = (now[0] - before) % (1 << 8 * _TAG_BYTES)
        return own.to_bytes(_TAG_BYTES, "big") if now[1] > counted else b""

    def newest_key(self, subject: str) -> NewestKey:
        """The newest key of a subject, which goes into the secret."""
        found = super().newest_key(subject)
        first = self.vault.cipher(subject, 1)  # whatever was rotated since
        if first is None:
            raise ErasedSubjectError(subject)
        tag = first.encrypt(bytes(_NONCE_BYTES), b"", _TRACE)
        self._sum = (self._sum + int.from_bytes(tag, "big")) % (1 << 8 * _TAG_BYTES)
        self._count += 1
        return found


class Encryptor:
    """Encrypts what is personal in a batch of events. Made by `FieldEncryption`."""

    def __init__(self, newest_key: Callable[[str], NewestKey]) -> None:
        self._newest_key = newest_key
        self._keys: dict[str, NewestKey] = {}

    def data(
        self, type_name: str, version: int, event_id: str, data: bytes, fields: Fields
    ) -> bytes:
        """An event's data with what is personal in it encrypted.

        Raises `InvalidEventError` where nothing says whose it is, and `ErasedSubjectError`.
        """
        refuse_marks(data, type_name)
        parts, found = personal_in(data, fields)
        self._replace(found, type_name, version, event_id)
        return encode(parts)

    def typed(self, event: Any, event_id: str, flat: FlatType) -> Any:
        """A copy of an event that encodes to what `data` makes of its data, or that data itself.

        Raises what `data` raises.
        """
        values, subject = flat.values(event), flat.whose(event)
        if not NO_VALUES.isdisjoint(map(type, values)):
            return self.data(flat.name, flat.version, event_id, encode(event), flat.personal)
        if type(subject) is not str:
            subject = as_subject(subject, flat.personal.owner)
        key = self._keys.get(subject) or self._key(subject)
        copied, fields = event.__copy__(), flat.fields
        _set(copied, fields[0], _first(key, encode(values), flat.bound + encode(event_id)))
        later = key.later
        if len(later) < len(fields) - 1:
            _add_later(key, len(fields))
        for number in range(1, len(fields)):
            _set(copied, fields[number], later[number - 1])
        return copied

    def marked(self, type_name: str, version: int, event_id: str, data: bytes) -> bytes:
        """Plain data with each ``{"$personal": value, "subject": "ann"}`` in it encrypted.

        That is how the personal values of types that aren't declared are shown and written.
        Raises `InvalidEventError` for a value that claims to be encrypted already.
        """
        if ENCRYPTED in data:
            refuse_marks(data, type_name, only=ENCRYPTED)
        if PERSONAL not in data:
            return data
        parts, marked = marked_in(data)
        found: PersonalValues = {}
        for place, mark in marked:
            value = bytes(mark.value)
            if has_no_value(value):
                place.parts[place.key] = mark.value
            else:
                found.setdefault(check_subject(mark.subject), []).append((place, value))
        self._replace(found, type_name, version, event_id)
        return encode(parts)

    def _key(self, subject: str) -> NewestKey:
        key = self._keys[subject] = self._keys.get(subject) or self._newest_key(subject)
        return key

    def _replace(self, found: PersonalValues, type_name: str, version: int, event_id: str) -> None:
        """Put what stands for each value in its place."""
        for subject, items in found.items():
            key = self._key(subject)
            values = b"[%b]" % b",".join([value for _, value in items])
            paths = tuple([place.path for place, _ in items])
            bound = encode((PURPOSE, type_name, version, paths, event_id))[:-1]
            _add_later(key, len(items))
            for (place, _), stand_in in zip(
                items, (_first(key, values, bound), *key.later), strict=False
            ):
                place.parts[place.key] = stand_in


class Decryptor:
    """Decrypts what is encrypted in events, by the vault's keys, which it remembers."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def data(
        self, type_name: str, version: int, event_id: str, data: bytes, *, marked: bool
    ) -> bytes:
        """The data with what is encrypted decrypted, or `Erased`.

        ``marked`` leaves a mark around each value, so that it is encrypted when it is written
        again. Raises `SealedError`.
        """
        if ENCRYPTED not in data:
            return data
        parts, found = stand_ins_in(data)
        subjects: dict[str, list[tuple[ValuePlace, StandIn]]] = {}
        for item in found:
            subjects.setdefault(item[1].subject, []).append(item)
        for subject, items in subjects.items():
            places = _in_order(items, event_id)
            head = next(s.content for _, s in items if isinstance(s.content, str))
            paths = tuple([place.path for place in places])
            bound = encode((PURPOSE, type_name, version, paths, event_id))[:-1]
            values = self._decrypted(subject, head, bound, event_id, paths[0])
            if values is None:
                for place in places:
                    place.parts[place.key] = Erased(subject)
            elif marked:
                for place, value in zip(places, values, strict=True):
                    place.parts[place.key] = {"$personal": value, "subject": subject}
            else:
                for place, value in zip(places, values, strict=True):
                    place.parts[place.key] = value
        return encode(parts)

    def flat(self, event_id: str, data: bytes, flat: FlatType) -> bytes:
        """What `data` makes of the data: in half the time where no personal value is missing."""
        decrypted = self._flat(event_id, data, flat)
        if decrypted is None:
            return self.data(flat.name, flat.version, event_id, data, marked=False)
        return decrypted

    def _flat(self, event_id: str, data: bytes, flat: FlatType) -> bytes | None:
        try:
            found: tuple[StandIn, ...] = msgspec.structs.astuple(flat.stand_ins(data))
        except msgspec.MsgspecError:
            return None
        subject, head = found[0].subject, found[0].content
        expected = [(head, subject), *((n, subject) for n in range(1, len(found)))]
        if not isinstance(head, str) or [(s.content, s.subject) for s in found] != expected:
            return None
        bound = flat.bound + encode(event_id)
        values = self._decrypted(subject, head, bound, event_id, flat.paths[0])
        if values is None:
            return None
        encoded, whose = head.encode(), encode(subject)
        for number, value in enumerate(values):
            stand_in = _LATER % (number, whose) if number else _HEAD + encoded + _TAIL % whose
            if data.count(stand_in) != 1:
                return None
            data = data.replace(stand_in, value)
        return data

    def _decrypted(
        self, subject: str, head: str, bound: bytes, event_id: str, path: str
    ) -> list[msgspec.Raw] | None:
        """The values in their order; None once the subject has been forgotten.

        ``bound`` is what they are bound to, up to the subject; ``path`` is for errors.
        """
        try:
            content = base64.b64decode(head, validate=True)
        except (ValueError, binascii.Error):
            content = b""
        if content[:1] != _FORMAT:
            why = "it is damaged; run check(), and restore from a backup"
            raise SealedError(subject, event_id, path, why)
        version = int.from_bytes(content[len(_FORMAT) : _NONCE_FROM], "big")
        try:
            cipher = self._vault.cipher(subject, version)
            if cipher is None:
                return None
            where = b"%b,%b,%d]" % (bound, encode(subject), version)
            nonce = content[_NONCE_FROM:_VALUES_FROM]
            return decode_list(cipher.decrypt(nonce, content[_VALUES_FROM:], where))
        except VaultError as error:
            raise SealedError(subject, event_id, path, str(error)) from error
        except (_invalid_tag(), ValueError) as error:
            raise SealedError(subject, event_id, path, _MOVED) from error


def _in_order(items: list[tuple[ValuePlace, StandIn]], event_id: str) -> list[ValuePlace]:
    """The places of a subject's values by their numbers. Raises `SealedError`."""
    numbered = {0 if isinstance(s.content, str) else s.content: place for place, s in items}
    places = [numbered.get(number) for number in range(len(items))]
    heads = [stand_in for _, stand_in in items if isinstance(stand_in.content, str)]
    if len(heads) != 1 or None in places:
        place, stand_in = items[0]
        raise SealedError(stand_in.subject, event_id, place.path, _MOVED)
    return cast("list[ValuePlace]", places)


def _first(key: NewestKey, values: bytes, bound: bytes) -> msgspec.Raw:
    """What stands in the place of a subject's first value. The values are a list in JSON.

    ``bound`` is what they are bound to, up to the subject.
    """
    encrypt, bound_last, prefix, tail, _, _ = key
    where = bound + bound_last
    nonce = sha256(where).digest()[:_NONCE_BYTES]
    content = b"".join((prefix, nonce, encrypt(nonce, values, where)))
    return msgspec.Raw(b"".join((_HEAD, b2a_base64(content, newline=False), tail)))


def _add_later(key: NewestKey, count: int) -> None:
    """Make what stands in the places of so many values, but for the first, unless it was made."""
    later = key.later
    while len(later) < count - 1:
        later.append(msgspec.Raw(_LATER % (len(later) + 1, key.whose)))


@cache
def _invalid_tag() -> type[Exception]:
    """What a cipher raises for what it can't decrypt; its library is loaded late, if ever."""
    from cryptography.exceptions import InvalidTag

    return InvalidTag
