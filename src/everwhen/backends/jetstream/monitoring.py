"""What a server says of itself at its monitoring port."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import Any, Final

import msgspec

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


def asked_server(monitor: str) -> MonitoredServer:
    """The server at that ``host:port``."""
    host, _, port = monitor.rpartition(":")
    asking = HTTPConnection(host.strip("[]"), int(port), timeout=_ANSWER_SECONDS)
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
