"""How a cluster is: its servers, the stream that has the store's logs, and this node's replica."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.monitoring import MonitoredServer, asked_servers
from everwhen.backends.jetstream.registration import (
    REPLICAS,
    ReplicaPlace,
    recorded_replicas,
)
from everwhen.backends.jetstream.replica_state import ReplicaState, state_in
from everwhen.backends.jetstream.stream_setup import LogStream, stream_status
from everwhen.backends.jetstream.subject_log import SubjectLog
from everwhen.cluster.replica_files import ReplicaFile, files_of, opened_file
from everwhen.cluster.replicas import ReplicaStatus, known_replicas, replica_statuses
from everwhen.vocabulary.errors import StorageError

ServerRole: TypeAlias = Literal["leader", "current", "behind", "offline", ""]
"""What a server is to the stream; empty where it has no copy of it, or nobody says."""

_PATIENCE_SECONDS: Final = 10.0


class ClusterServer(msgspec.Struct, frozen=True):
    """One server. What isn't known of it is None, and ``problem`` says why.

    ``lag`` is how many operations of the cluster it has still to take in. ``syncs`` says whether it
    syncs what it acknowledges to its disk.
    """

    name: str
    role: ServerRole
    lag: int | None = None
    monitor: str | None = None
    version: str | None = None
    syncs: bool | None = None
    problem: str | None = None


class LogStatus(msgspec.Struct, frozen=True):
    """One log: of the store itself (``main``), or of the branch of that id.

    ``messages`` is how many the cluster has of it, ``replica`` its file on this node, and
    ``message`` the newest that the file has. ``behind`` is 0 where that is the log's newest, else
    the most that it may have still to take in, for all logs of a store are numbered together; None
    where there is no file, or no leader.
    """

    log: str
    messages: int | None
    replica: str
    message: int | None
    behind: int | None
    problem: str | None = None


class ClusterStatus(msgspec.Struct, frozen=True):
    """``messages`` and ``bytes`` are the whole stream's; None, with a ``problem``, without leader.

    ``replicas`` are those of all nodes: those that this node's has read of in the log, and those
    that are open somewhere.

    ``is_well`` says that there is a leader, that each server that keeps the stream is current and
    says that it syncs to its disk, and that nothing else is known to be wrong.
    """

    store: str
    stream: str
    created: str | None = None
    leader: str | None = None
    copies: int | None = None
    messages: int | None = None
    bytes: int | None = None
    servers: list[ClusterServer] = []
    logs: list[LogStatus] = []
    replicas: list[ReplicaStatus] = []
    problem: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing needs anybody's attention."""
        servers = all(one.role in {"leader", "current"} and one.syncs for one in self.servers)
        return servers and self.problem is None and all(log.problem is None for log in self.logs)


def cluster_status(url: str, *, busy_timeout: float = _PATIENCE_SECONDS) -> ClusterStatus:
    """Ask the servers, and look at this node's replica. Makes and changes nothing.

    Where no server answers, or none leads, ``problem`` says so, and what the monitoring ports and
    the files say is there all the same. Raises `DeclarationError` for a URL, or a file that it
    names, that can't be used, and `StorageError` where the servers don't let this user in.
    """
    address = ClusterAddress.parsed(url)
    monitored = asked_servers(address)
    stream: LogStream | None = None
    problem: str | None
    newest: dict[str, int] = {}
    recorded = _recorded(address)
    replicas = replica_statuses(recorded, {})
    try:
        connection = Connection(address, busy_timeout)
        try:
            stream = stream_status(connection, address, patience=busy_timeout)
            if stream.error is None:
                newest = _newest(connection, address, busy_timeout)
                replicas = known_replicas(connection, address.subject, recorded)
        finally:
            connection.close()
    except UnansweredError as error:
        problem = str(error)
    else:
        problem = None if stream.error is None else _refused(address, stream.error.description)
    if stream is None or problem is not None:
        return ClusterStatus(
            address.place,
            address.stream,
            servers=_servers(monitored, None),
            logs=_logs(address, None, newest),
            replicas=replicas,
            problem=problem,
        )
    return ClusterStatus(
        address.place,
        address.stream,
        stream.created,
        stream.cluster.leader if stream.cluster is not None else None,
        stream.config.num_replicas,
        stream.state.messages,
        stream.state.bytes,
        _servers(monitored, stream),
        _logs(address, stream, newest),
        replicas,
    )


def _recorded(address: ClusterAddress) -> list[ReplicaPlace]:
    """The replicas that this node's has read of; none where it can't be read."""
    if not address.replica.exists():
        return []
    try:
        with opened_file(address.replica) as engine, engine.view() as view:
            own = state_in(view)
            return [
                replace(place, message=own.seq) if own is not None and place.id == own.id else place
                for place in recorded_replicas(view.checkpoints(REPLICAS))
            ]
    except StorageError:  # which the log's status says
        return []


def _refused(address: ClusterAddress, why: str) -> str:
    return f"the cluster says of the stream {address.stream}: {why}"


def _servers(monitored: list[MonitoredServer], stream: LogStream | None) -> list[ClusterServer]:
    """Those that keep the stream, and those that answered otherwise, by name."""
    roles = _roles(stream)
    alone = stream is not None and not roles
    found = []
    for one in monitored:
        role, lag = roles.pop(one.name or "", ("leader" if alone else "", None))
        found.append(
            ClusterServer(
                one.name or one.monitor, role, lag, one.monitor, one.version, one.syncs, one.problem
            )
        )
    unheard = "no monitoring port is named that speaks for it; add it to monitor= in the URL"
    found += [
        ClusterServer(name, role, lag, problem=unheard) for name, (role, lag) in roles.items()
    ]
    return sorted(found, key=lambda server: server.name)


def _roles(stream: LogStream | None) -> dict[str, tuple[ServerRole, int | None]]:
    if stream is None or stream.cluster is None:
        return {}
    roles: dict[str, tuple[ServerRole, int | None]] = {}
    if stream.cluster.leader:
        roles[stream.cluster.leader] = ("leader", 0)
    for peer in stream.cluster.replicas:
        role: ServerRole = "offline" if peer.offline else "current" if peer.current else "behind"
        roles[peer.name] = (role, peer.lag)
    return roles


def _newest(connection: Connection, address: ClusterAddress, patience: float) -> dict[str, int]:
    """The newest message of each log that this node has a file for, by the leader's word."""
    logs = [address.beside(file.log, file.path) for file in files_of(address.replica)]
    return {
        log.log: SubjectLog(connection, log.stream, log.subject, patience).last() for log in logs
    }


def _logs(
    address: ClusterAddress, stream: LogStream | None, newest: dict[str, int]
) -> list[LogStatus]:
    return [_log(address, file, stream, newest.get(file.log)) for file in files_of(address.replica)]


def _log(
    address: ClusterAddress, file: ReplicaFile, stream: LogStream | None, newest: int | None
) -> LogStatus:
    subject = address.beside(file.log, file.path).subject
    messages = None if stream is None else (stream.state.subjects or {}).get(subject, 0)
    state, problem = _state(file)
    if state is None or stream is None or newest is None:
        return LogStatus(
            file.log, messages, str(file.path), None if state is None else state.seq, None, problem
        )
    if state.stream != stream.created:
        problem = f"{file.path}: is a replica of another stream, made at {state.stream}"
    elif newest < state.seq:
        problem = f"{file.path}: has read message {state.seq}, and the log ends at {newest}"
    behind = min(max(0, newest - state.seq), messages or 0)
    return LogStatus(file.log, messages, str(file.path), state.seq, behind, problem)


def _state(file: ReplicaFile) -> tuple[ReplicaState | None, str | None]:
    """What the file says, and what is wrong with it; neither where there is none."""
    if not file.path.exists():
        return None, None
    try:
        with opened_file(file.path) as engine, engine.view() as view:
            state = state_in(view)
    except StorageError as error:
        return None, str(error)
    return state, f"{file.path}: is no replica" if state is None else None
