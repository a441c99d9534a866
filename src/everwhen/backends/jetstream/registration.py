"""Which replicas read a log: each says so in the log, once, and tells how far it is when asked.

What a registered replica has still to take in is not dropped from the log.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from everwhen.backends.engine import LOG_RECORDS, EngineTransaction
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.replica_state import ReplicaState
from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.errors import CorruptStoreError

REPLICAS: Final = f"{LOG_RECORDS}replicas/"
_ANSWER_SECONDS: Final = 2.0
"""How long replicas are waited for; one that is busy for longer counts as one that isn't there."""


class ReplicaPlace(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A replica, by its ``id``, and the newest ``message`` that it has of its log.

    ``node`` is the name of its host, and ``path`` its file there.
    """

    id: str
    node: str
    path: str
    message: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Host(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    node: str
    path: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_place: Final = msgspec.msgpack.Decoder(ReplicaPlace).decode
_decode_host: Final = msgspec.msgpack.Decoder(_Host).decode


def new_replica_id() -> str:
    """For a new file."""
    return secrets.token_hex(8)


def place_of(state: ReplicaState, path: Path) -> ReplicaPlace:
    """Where a replica of this node is."""
    return ReplicaPlace(state.id, socket.gethostname(), str(path.resolve()), state.seq)


def place_message(place: ReplicaPlace) -> bytes:
    """What a replica answers."""
    return _encode(place)


def record_of(place: ReplicaPlace) -> Checkpoint:
    """What the log has of a replica: how far it was when that was written."""
    return Checkpoint(REPLICAS + place.id, place.message, _encode(_Host(place.node, place.path)))


def register(transaction: EngineTransaction, place: ReplicaPlace) -> None:
    """Write down a replica, in the place of those that were the same file of the same node."""
    for other in recorded_replicas(transaction.checkpoints(REPLICAS)):
        if (other.node, other.path) == (place.node, place.path):
            transaction.delete_checkpoint(REPLICAS + other.id)
    transaction.save_checkpoint(record_of(place))


def recorded_replicas(found: Iterable[Checkpoint]) -> list[ReplicaPlace]:
    """The replicas that checkpoints tell of. Raises `CorruptStoreError` where one can't be read."""
    places = []
    for kept in found:
        try:
            host = _decode_host(kept.data)
        except msgspec.DecodeError as error:
            raise CorruptStoreError(
                f"the checkpoint {kept.name!r} can't be read ({error}); find out who wrote it, and "
                f"delete it"
            ) from error
        name = kept.name.removeprefix(REPLICAS)
        places.append(ReplicaPlace(name, host.node, host.path, kept.position))
    return places


def question_subject(subject: str) -> str:
    """Where the replicas of a log are asked how far they have come."""
    return f"{subject}.replicas"


def answering_replicas(
    connection: Connection, subject: str, expected: Iterable[str]
) -> dict[str, ReplicaPlace]:
    """Those that are open somewhere, by id, with the least that one of that id says.

    Waits until all that are ``expected`` have answered, and not for long.
    """
    missing = set(expected)
    found: dict[str, ReplicaPlace] = {}

    def is_enough(data: bytes) -> bool:
        try:
            place = _decode_place(data)
        except msgspec.DecodeError:  # nothing that a replica says
            return False
        known = found.get(place.id)
        if known is None or place.message < known.message:
            found[place.id] = place
        missing.discard(place.id)
        return not missing

    connection.ask_all(question_subject(subject), _ANSWER_SECONDS, is_enough)
    return found
