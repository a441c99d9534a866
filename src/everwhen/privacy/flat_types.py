"""Event types whose personal fields need no look into JSON: the usual ones, and the fast ones."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from everwhen.privacy.personal_values import StandIn, decode, encode, path_to, texts_among
from everwhen.vocabulary.personal_data import Erased, Fields, Leaf

PURPOSE: Final = "everwhen-sealed/v1"
"""What begins all that an encrypted value is bound to."""
NO_VALUES: Final = frozenset((type(None), msgspec.UnsetType, Erased))
"""The types of which nothing is encrypted."""


class FlatType(NamedTuple):
    """A type whose personal fields are all its own, and all of one subject.

    ``whose`` and ``values`` read the subject and the personal ``fields``, whose ``paths``
    are where they stand in JSON; ``bound`` begins what those are bound to, up to the event's id.
    ``stand_ins`` decodes what stands in their places in encrypted data.
    """

    name: str
    version: int
    personal: Fields
    whose: Callable[[Any], Any]
    values: Callable[[Any], tuple[Any, ...]]
    fields: tuple[str, ...]
    paths: tuple[str, ...]
    bound: bytes
    stand_ins: Callable[[bytes], Any]


def flat_type(cls: type[Any], name: str, version: int, node: Fields) -> FlatType | None:
    """How to encrypt a class's events without a look into their JSON; None where one is needed."""
    if not issubclass(cls, msgspec.Struct) or node.subject is None:
        return None
    if not all(isinstance(inner, Leaf) for inner in node.fields.values()):
        return None
    if cls.__struct_config__.array_like:
        return None
    stored = dict(zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True))
    fields = tuple([stored[str(name)] for name in node.fields])
    paths = tuple([path_to("", name) for name in node.fields])
    return FlatType(
        name,
        version,
        node,
        operator.attrgetter(stored[str(node.subject)]),
        _reader_of(fields),
        fields,
        paths,
        encode((PURPOSE, name, version, paths))[:-1] + b",",
        msgspec.json.Decoder(_stand_ins_of(node)).decode,
    )


def _stand_ins_of(node: Fields) -> type[Any]:
    """A struct of what stands in the places of a type's personal values."""
    names = {f"at{number}": str(name) for number, name in enumerate(node.fields)}
    return msgspec.defstruct("StandIns", [(name, StandIn) for name in names], rename=names)


def _reader_of(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads fields, as a tuple."""
    read = operator.attrgetter(*fields)
    return read if len(fields) > 1 else lambda event: (read(event),)


def texts_of(event: Any, flat: FlatType) -> list[str]:
    """The personal texts in an event."""
    values = [value for value in flat.values(event) if type(value) not in NO_VALUES]
    return texts_among(decode(encode(values)))
