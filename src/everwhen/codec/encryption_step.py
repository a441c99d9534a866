"""Encryption of personal fields, as a step of the codec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from everwhen.codec.event_types import DeclaredType, EventTypes
from everwhen.codec.json_encoding import decode_json
from everwhen.codec.pipeline import StepEvent
from everwhen.privacy.field_encryption import Encryptor, FieldEncryption
from everwhen.privacy.flat_types import texts_of
from everwhen.privacy.personal_values import has_mark, personal_texts, refuse_marks
from everwhen.vocabulary.errors import InvalidEventError
from everwhen.vocabulary.personal_data import Fields

_TELLING_CHARACTERS: Final = 4
"""A personal text as long as this, anywhere in a tag, tells whose it is; shorter ones are in many
words by chance, and count only where they are all that a tag says."""


class EncryptionStep:
    """Encrypts what is personal, and decrypts it; each key is looked up once for all events.

    In plain data of types that aren't declared, what is personal is marked
    (`everwhen.privacy.field_encryption`), and so it is read.
    """

    name = "encryption"

    def __init__(self, types: EventTypes, encryption: FieldEncryption) -> None:
        self._types = types
        self._encryption = encryption
        self._flat = {d.name: d.flat for d in types.current().values() if d.flat is not None}

    def changes(self, declared: DeclaredType) -> bool:
        """Whether events of the type have personal fields."""
        return declared.personal is not None

    def takes_typed(self, data: bytes) -> bool:
        """Whether nothing in the JSON could be taken for something encrypted."""
        return not has_mark(data)

    def encode(self, events: Iterable[StepEvent]) -> None:
        """Encrypt what is personal.

        Raises `InvalidEventError` for personal values that nothing says the subject of or that
        tags repeat, and for data that could be taken for encrypted; and `ErasedSubjectError`.
        """
        encryptor, flats = self._encryption.encryptor(), self._flat
        typed = encryptor.typed
        for event in events:
            flat, content = flats.get(event.type_name), event.content
            if flat is None or type(content) is bytes:
                self._encode_data(event, encryptor)
                continue
            if event.tags:
                _check_tags(event, texts_of(content, flat), flat.personal)
            event.content = typed(content, event.event_id, flat)

    def _encode_data(self, event: StepEvent, encryptor: Encryptor) -> None:
        """The same for an event whose JSON has to be looked at."""
        name, version, own_id = event.type_name, event.schema_version, event.event_id
        personal = self._types.personal(name, version)
        if personal is not None:
            data = event.data
            if event.tags:
                _check_tags(event, personal_texts(data, personal), personal)
            event.content = encryptor.data(name, version, own_id, data, personal)
        elif not self._types.is_known(name, version):
            event.content = encryptor.marked(name, version, own_id, event.data)
        elif type(event.content) is bytes:  # where it is typed, `takes_typed` has looked
            refuse_marks(event.content, name)

    def decode(self, events: Iterable[StepEvent]) -> None:
        """Decrypt what is encrypted; what is of forgotten subjects becomes `Erased`.

        Raises `SealedError`.
        """
        decryptor = self._encryption.decryptor
        for event in events:
            name, version = event.type_name, event.schema_version
            flat = self._flat.get(name)
            if flat is not None and flat.version == version:
                event.content = decryptor.flat(event.event_id, event.content, flat)
            else:
                marked = not self._types.is_known(name, version)
                event.content = decryptor.data(
                    name, version, event.event_id, event.content, marked=marked
                )


def _check_tags(event: StepEvent, personal: list[str], fields: Fields) -> None:
    """Tags are not encrypted: what is personal may not be in them, unless it is in the open anyway.

    That is where a tag has all that a field says which isn't personal, or a path above it.
    """
    for tag in event.tags:
        value_of_tag = tag.partition(":")[2]
        if not any(
            value in (tag, value_of_tag) or (len(value) >= _TELLING_CHARACTERS and value in tag)
            for value in personal
        ):
            continue
        in_the_open = _open_texts(event.data, fields)
        if not any(
            text in (tag, value_of_tag) or text.startswith(f"{value_of_tag}/")
            for text in in_the_open
        ):
            raise InvalidEventError(
                f"a tag of {event.type_name} holds the value of one of its personal fields, and "
                f"tags are not encrypted; tag it with an id"
            )


def _open_texts(data: bytes, fields: Fields) -> list[str]:
    """The texts in an event's own fields that aren't personal."""
    decoded = decode_json(data)
    found = decoded.items() if isinstance(decoded, dict) else enumerate(decoded)
    return [value for key, value in found if key not in fields.fields and isinstance(value, str)]
