"""How far a replica has come in its log, kept in its file beside what it says."""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from everwhen.backends.engine import REPLICA, EngineView
from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.statements import statements
from everwhen.vocabulary.contract import Checkpoint

_SQL: Final = statements("writing")


class ReplicaState(msgspec.Struct, frozen=True):
    """``seq`` is the newest message's that the file has, ``digest`` that message's.

    ``stream`` is when the stream was made, as its servers say: another one has another history.
    ``id`` is the replica's own, for as long as its file is the one of that ``inode``: a copy takes
    another.
    """

    seq: int
    digest: bytes
    stream: str
    id: str = ""
    inode: int = 0


class _Kept(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    digest: bytes
    stream: str
    id: str = ""
    inode: int = 0


def state_of(connection: apsw.Connection) -> ReplicaState | None:
    """What the file says; None for one that is no replica."""
    return _read(lookups.checkpoint(connection, REPLICA))


def state_in(view: EngineView) -> ReplicaState | None:
    """The same, of a file that is looked at."""
    return _read(view.checkpoint(REPLICA))


def _read(found: Checkpoint | None) -> ReplicaState | None:
    if found is None:
        return None
    kept = msgspec.msgpack.decode(found.data, type=_Kept)
    return ReplicaState(found.position, kept.digest, kept.stream, kept.id, kept.inode)


def save_state(connection: apsw.Connection, state: ReplicaState) -> None:
    """Have the file say so, with the transaction."""
    kept = checkpoint_of(state)
    connection.execute(_SQL["save_checkpoint"], (kept.name, kept.position, kept.data))


def checkpoint_of(state: ReplicaState) -> Checkpoint:
    """What the file has of it."""
    data = msgspec.msgpack.encode(_Kept(state.digest, state.stream, state.id, state.inode))
    return Checkpoint(REPLICA, state.seq, data)
