"""From a location, as users write it, to its engine. Engines load on first use."""

from __future__ import annotations

import os
import re
from typing import Final, TypedDict

from everwhen.backends.engine import Engine
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.errors import BackupError, StorageError, UnsupportedError

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)

_IN_NO_FILE: Final = {"memory", "postgresql", "postgres", "nats", "tls"}


class _Options(TypedDict):
    clock: Clock
    read_only: bool
    durable: bool
    busy_timeout: float


def engine_for(
    location: str | os.PathLike[str],
    *,
    clock: Clock,
    read_only: bool,
    durable: bool,
    busy_timeout: float,
) -> Engine:
    """The engine for a location.

    That is ``memory:``, ``postgresql:…`` as libpq has it, ``nats://…`` of a cluster, ``https://…``
    of a server, ``sqlite:PATH``, or a path: of a file, or of a partitioned store.

    Raises `StorageError` for others, and `UnsupportedError` where a library is missing.
    """
    options = _Options(clock=clock, read_only=read_only, durable=durable, busy_timeout=busy_timeout)
    scheme, rest = "sqlite", os.fspath(location)
    if isinstance(location, str) and (match := _SCHEME.fullmatch(location)):
        scheme, rest = match[1].lower(), match[2]
    match scheme:
        case "memory":
            from everwhen.backends.memory import MemoryEngine

            return MemoryEngine(clock)
        case "sqlite":
            path = rest.removeprefix("//") if rest.startswith("///") else rest
            if not path or path == ":memory:":
                raise StorageError(
                    f"{location!r} doesn't name a file; for a store in memory use 'memory:'"
                )
            return _of_files(path, options)
        case "postgresql" | "postgres":
            return _of_postgres(str(location), options)
        case "nats" | "tls":
            return _of_cluster(str(location), options)
        case "http" | "https":
            from everwhen.backends.remote.engine import HttpEngine

            return HttpEngine(str(location), read_only=read_only, busy_timeout=busy_timeout)
        case _:
            raise StorageError(
                f"no backend opens {scheme!r}, with which the location begins; use a path, "
                f"sqlite:PATH, postgresql://…, nats://…, https://… or memory:"
            )


def _of_files(path: str, options: _Options) -> Engine:
    if os.path.isdir(path):  # noqa: PTH112
        from everwhen.backends.partitioned.engine import PartitionedEngine

        return PartitionedEngine(path, **options)
    from everwhen.backends.sqlite.engine import SqliteEngine

    return SqliteEngine(path, **options)


def _of_postgres(url: str, options: _Options) -> Engine:
    try:
        from everwhen.backends.postgres.engine import PostgresEngine
    except ImportError as error:
        raise UnsupportedError(
            "a log in PostgreSQL needs the library psycopg: pip install 'everwhen[postgres]'"
        ) from error
    return PostgresEngine(url, **options)


def _of_cluster(url: str, options: _Options) -> Engine:
    try:
        from everwhen.backends.jetstream.engine import JetStreamEngine
    except ImportError as error:
        raise UnsupportedError(
            "a log on a JetStream cluster needs the library nats-py: pip install "
            "'everwhen[cluster]'"
        ) from error
    return JetStreamEngine(url, **options)


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises `BackupError` where a URL stands in the place of a file."""
    match = _SCHEME.fullmatch(path) if isinstance(path, str) else None
    if match is not None and (match[1].lower() in _IN_NO_FILE or match[2].startswith("//")):
        raise BackupError(f"{match[1]}:…", "a backup is a file, and this is a URL; name a file")


def shown(location: str) -> str:
    """A location as messages have it: without the password that may be in a URL."""
    match = _SCHEME.fullmatch(location)
    if match is None or match[1].lower() == "sqlite" or "//" not in match[2]:
        return location
    if match[1].lower() in {"postgresql", "postgres"}:
        from everwhen.backends.postgres.address import Address

        return Address.parsed(location).place
    if match[1].lower() in {"nats", "tls"}:
        from everwhen.backends.jetstream.address import ClusterAddress

        return ClusterAddress.parsed(location).place
    if match[1].lower() in {"http", "https"}:
        from everwhen.backends.remote.address import ServerAddress

        return ServerAddress.parsed(location).place
    return f"{match[1]}:…"
