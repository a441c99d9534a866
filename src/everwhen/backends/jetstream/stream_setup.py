"""The stream that has a store's logs: made where there is none, and looked at before it is used."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.monitoring import MonitoredServer, asked_servers
from everwhen.vocabulary.errors import NotAStoreError, ReadOnlyError, StorageError

_ANSWER_SECONDS: Final = 2.0
_BETWEEN_TRIES: Final = 0.1
_GONE_SECONDS: Final = 4.0
"""How long a leader hasn't heard from a server that takes no part in what is acknowledged now."""
_GOING_SECONDS: Final = 6.0
"""For how long it is asked anew about a server that doesn't answer: it may have just ended."""
NO_STREAM: Final = 10059
_SYNC: Final = "jetstream { sync_interval: always }"


class ApiError(msgspec.Struct):
    """What JetStream says of a call that it refuses, by its number."""

    err_code: int = 0
    description: str = ""


class StreamConfig(msgspec.Struct):
    """What of a stream's configuration a log rests on."""

    subjects: list[str] = []
    retention: str = ""
    storage: str = ""
    discard: str = ""
    num_replicas: int = 1
    max_age: int = 0
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    deny_delete: bool = False
    allow_direct: bool = False


class _Peer(msgspec.Struct):
    name: str
    current: bool = False
    offline: bool = False
    lag: int = 0
    active: int = 0
    """Nanoseconds since the leader has heard from it; 0 where it never has."""


class _Cluster(msgspec.Struct):
    leader: str = ""
    replicas: list[_Peer] = []


class _State(msgspec.Struct):
    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    subjects: dict[str, int] | None = None


class LogStream(msgspec.Struct):
    """What the cluster says of a stream."""

    error: ApiError | None = None
    config: StreamConfig = msgspec.field(default_factory=StreamConfig)
    created: str = ""
    state: _State = msgspec.field(default_factory=_State)
    cluster: _Cluster | None = None

    def gone(self, watched: float) -> set[str]:
        """The names of those that, as the leader says, aren't there.

        A leader that is new hasn't heard from them at all; that counts when it was ``watched`` for
        so many seconds.
        """
        peers = self.cluster.replicas if self.cluster is not None else []
        silent = _GONE_SECONDS * 1_000_000_000
        is_long = watched > _GONE_SECONDS
        return {
            peer.name
            for peer in peers
            if peer.offline
            or peer.active > silent
            or (is_long and not peer.active and not peer.current)
        }

    @property
    def servers(self) -> list[str]:
        """The names of the servers that keep it; none for a server that is alone."""
        if self.cluster is None:
            return []
        names = [self.cluster.leader, *(peer.name for peer in self.cluster.replicas)]
        return [name for name in names if name]

    def is_led(self, within: float) -> bool:
        """Whether who says this has heard from a majority, itself included, within those seconds.

        A server that was cut off takes itself for the leader for up to 20 s; others elect one.
        """
        if self.error is not None:
            return False
        peers = self.cluster.replicas if self.cluster is not None else []
        heard = sum(0 < peer.active < within * 1_000_000_000 for peer in peers)
        return 2 * (heard + 1) > len(peers) + 1


decode_stream: Final = msgspec.json.Decoder(LogStream).decode


def opened_stream(
    connection: Connection, address: ClusterAddress, *, read_only: bool, patience: float
) -> LogStream:
    """The store's stream, made where there is none.

    Raises `NotAStoreError` where it can't be a log's, or there is none though this node has a
    replica of one, and `StorageError` where what it acknowledges may not be on disks.
    """
    until = time.monotonic() + patience
    info = _asked(connection, f"STREAM.INFO.{address.stream}", {}, until)
    if info.error is not None and info.error.err_code == NO_STREAM:
        if address.replica.exists():
            raise NotAStoreError(
                f"{address.place}: the cluster has no stream {address.stream}, and the replica's "
                f"file is there already. Where it was a replica before, the stream was deleted, or "
                f"the servers set up anew: find out which. A new log is made of it, or of a store "
                f"of its own, with another file for the replica: everwhen copy {address.replica} "
                f"URL"
            )
        if read_only:
            raise ReadOnlyError(
                f"{address.place}: the cluster has no store of that name; open it for writing to "
                f"make one"
            )
        info = _asked(connection, f"STREAM.CREATE.{address.stream}", _wanted(address), until)
    if info.error is not None:
        raise StorageError(
            f"{address.place}: the stream {address.stream} can't be used: {info.error.description}"
        )
    _check(info.config, address)
    if not address.assume_durable:
        _check_synced(connection, address, info, until)
    return info


def stream_status(connection: Connection, address: ClusterAddress, *, patience: float) -> LogStream:
    """What the cluster says of the store's stream, with how many messages each subject has."""
    until = time.monotonic() + patience
    question = {"subjects_filter": ">"}
    return _asked(connection, f"STREAM.INFO.{address.stream}", question, until)


def _asked(connection: Connection, call: str, question: dict[str, Any], until: float) -> LogStream:
    """What JetStream answers. While it has no leader, it is asked again."""
    began = time.monotonic()
    while True:
        try:
            answer = connection.request(
                f"$JS.API.{call}", msgspec.json.encode(question), _ANSWER_SECONDS
            )
            info = decode_stream(answer.data)
        except UnansweredError:
            if time.monotonic() > until:
                raise
        else:
            error = info.error
            passing = error is not None and error.err_code != NO_STREAM
            if not passing or time.monotonic() > until:
                return info
        connection.pause(_BETWEEN_TRIES, began)


def _wanted(address: ClusterAddress) -> dict[str, Any]:
    return {
        "name": address.stream,
        "subjects": [f"ew.{address.store}.log.*"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": address.copies,
        "max_age": 0,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": -1,
        "deny_delete": True,
        "allow_direct": True,
    }


def _check(config: StreamConfig, address: ClusterAddress) -> None:
    """Raises `NotAStoreError` for a stream that loses messages, or takes others than a log's."""
    wanted = _wanted(address)
    for name in StreamConfig.__struct_fields__:
        found, due = getattr(config, name), wanted[name]
        if found != due and name != "num_replicas":
            raise NotAStoreError(
                f"{address.place}: the stream {address.stream} has {name} {found!r}, and a log "
                f"needs {due!r}; find out who made it, or take another name for the store"
            )


def _check_synced(
    connection: Connection, address: ClusterAddress, info: LogStream, until: float
) -> None:
    """Raises `StorageError` unless all servers that keep the stream say that they sync always.

    One that is gone says nothing, and acknowledges nothing, so a majority without it will do.
    """
    begun = time.monotonic()
    while True:
        watched = time.monotonic() - begun
        problem = _unsynced(info, asked_servers(address), watched)
        if problem is None:
            return
        if not problem.may_be_going or watched > _GOING_SECONDS:
            raise StorageError(
                f"{address.place}: it isn't certain that every server of the log syncs what it "
                f"acknowledges to its disk ({problem.heard}). Set {_SYNC} on each and say in the "
                f"URL where their monitoring ports are: monitor=host1:8222,host2:8222,…; or, where "
                f"you know it, add assume_durable=yes"
            )
        time.sleep(_BETWEEN_TRIES)
        info = _asked(connection, f"STREAM.INFO.{address.stream}", {}, until)


class _Unsynced(NamedTuple):
    heard: str
    may_be_going: bool


def _unsynced(
    info: LogStream, servers: Iterable[MonitoredServer], watched: float
) -> _Unsynced | None:
    """What isn't certain of them; None where all is. For ``watched`` see ``gone``."""
    synced, said = set[str](), list[str]()
    is_denied = False
    for server in servers:
        if server.problem is not None:
            said.append(f"{server.monitor} doesn't say ({server.problem})")
        elif server.syncs and server.name:
            synced.add(server.name)
        else:
            is_denied = True
            said.append(f"{server.name or server.monitor} doesn't")
    missing = [name for name in info.servers if name not in synced]
    lasting = {*missing} - info.gone(watched)
    is_majority = not info.servers or 2 * len(missing) < len(info.servers)
    if synced and is_majority and not lasting and not (missing and is_denied):
        return None
    heard = "; ".join(said) or f"nobody spoke for {', '.join(missing)}"
    return _Unsynced(heard, may_be_going=bool(synced) and is_majority and not is_denied)
