"""What a server says of itself at its monitoring port."""

from __future__ import annotations

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final

import msgspec

from everwhen.backends.jetstream.address import ENCRYPTED, ClusterAddress
from everwhen.backends.jetstream.ways_in import tls_context

_ANSWER_SECONDS: Final = 2.0
_MOST_BYTES: Final = 4 << 20
"""Of what a server says about itself."""


class MonitoredServer(msgspec.Struct, frozen=True):
    """``syncs``: whether it syncs what it acknowledges. What it doesn't say is None.

    ``problem`` is why nothing was heard of it.
    """

    monitor: str
    name: str | None = None
    version: str | None = None
    syncs: bool | None = None
    problem: str | None = None


class _JetStream(msgspec.Struct):
    config: dict[str, Any] = {}


class _Server(msgspec.Struct):
    server_name: str = ""
    version: str = ""
    jetstream: _JetStream | None = None


_decode: Final = msgspec.json.Decoder(_Server).decode


def asked_servers(address: ClusterAddress) -> list[MonitoredServer]:
    """What each says whose monitoring port the URL names; over TLS where it says https."""
    is_encrypted = any(monitor.startswith(ENCRYPTED) for monitor in address.monitors)
    tls = tls_context(address) if is_encrypted else None
    return [_asked(monitor, tls) for monitor in address.monitors]


def _asked(monitor: str, tls: ssl.SSLContext | None) -> MonitoredServer:
    host, _, port = monitor.removeprefix(ENCRYPTED).rpartition(":")
    where = (host.strip("[]"), int(port))
    asking = (
        HTTPSConnection(*where, timeout=_ANSWER_SECONDS, context=tls)
        if monitor.startswith(ENCRYPTED)
        else HTTPConnection(*where, timeout=_ANSWER_SECONDS)
    )
    try:
        asking.request("GET", "/varz")
        said = _decode(asking.getresponse().read(_MOST_BYTES))
    except (OSError, HTTPException, msgspec.DecodeError, UnicodeError) as error:
        return MonitoredServer(monitor, problem=str(error) or type(error).__name__)
    finally:
        asking.close()
    config = said.jetstream.config if said.jetstream is not None else {}
    return MonitoredServer(
        monitor, said.server_name, said.version, syncs=config.get("sync_always") is True
    )
