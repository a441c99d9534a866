"""Which replicas read a log, and how far each has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.registration import ReplicaPlace, answering_replicas


class ReplicaStatus(msgspec.Struct, frozen=True):
    """A replica by its ``id``: the file at ``path`` on the host ``node``.

    ``message`` is the newest of the log that it has; where it doesn't answer, the newest that it
    was known to have. ``answers`` says whether it is open somewhere, and ``is_registered`` whether
    messages that it lacks are kept for it: one that is only read isn't.
    """

    id: str
    node: str
    path: str
    message: int
    answers: bool
    is_registered: bool


def known_replicas(
    connection: Connection, subject: str, recorded: Sequence[ReplicaPlace]
) -> list[ReplicaStatus]:
    """Those that the log has recorded, and others that answer, by node and path."""
    expected = [place.id for place in recorded]
    return replica_statuses(recorded, answering_replicas(connection, subject, expected))


def replica_statuses(
    recorded: Sequence[ReplicaPlace], answers: Mapping[str, ReplicaPlace]
) -> list[ReplicaStatus]:
    """The same, where the answers are there, by id."""
    registered = {place.id: place for place in recorded}
    found = [
        ReplicaStatus(
            place.id,
            place.node,
            place.path,
            place.message,
            answers=place.id in answers,
            is_registered=place.id in registered,
        )
        for place in (registered | dict(answers)).values()
    ]
    return sorted(found, key=lambda one: (one.node, one.path, one.id))
