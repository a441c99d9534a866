"""How one gets into a PostgreSQL server: by libpq's ways, and nothing shows the password."""

from __future__ import annotations

import logging
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import replayed_elsewhere as elsewhere
from tests.postgres_server import PostgresServer, give_to_server, postgres_server

from everwhen import Fold, open_store
from everwhen.errors import StorageError

SECRET = "s3cret"  # noqa: S105
DEBIAN = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that asks for a password by SCRAM."""
    with postgres_server() as running:
        running.execute(f"CREATE ROLE shop LOGIN PASSWORD '{SECRET}'")
        running.execute("CREATE DATABASE shop OWNER shop")
        running.ask_for_passwords()
        yield running


@pytest.fixture(params=["PGPASSFILE", "PGSERVICEFILE", "URL"])
def url(
    request: pytest.FixtureRequest,
    server: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    schema = f"by_{request.param.lower()}"
    if request.param == "URL":
        return f"postgresql://shop:{SECRET}@127.0.0.1:{server.port}/shop?schema={schema}"
    file = tmp_path / "secrets"
    monkeypatch.setenv(request.param, str(file))
    if request.param == "PGPASSFILE":
        file.write_text(f"127.0.0.1:{server.port}:shop:shop:{SECRET}\n")
        file.chmod(0o600)
        return f"postgresql://shop@127.0.0.1:{server.port}/shop?schema={schema}"
    file.write_text(
        f"[shop]\nhost=127.0.0.1\nport={server.port}\nuser=shop\ndbname=shop\npassword={SECRET}\n"
    )
    return f"postgresql:///?service=shop&schema={schema}"


command_lines: Fold[frozenset[str]] = Fold("command_lines", frozenset)


@command_lines.on(elsewhere.Paid)
def _(state: frozenset[str], event: elsewhere.Paid) -> frozenset[str]:
    """Of the process that this is folded in."""
    return state | {Path("/proc/self/cmdline").read_text()}


@command_lines.merge
def _(earlier: frozenset[str], later: frozenset[str]) -> frozenset[str]:
    return earlier | later


def test_a_password_opens_the_log_and_is_not_shown(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), open_store(url, events=[elsewhere.Paid]) as store:
        store.append("a-1", [elsewhere.Paid("x", number) for number in range(50)])
        assert store.head().position == 50
        assert store.check() == []
        assert SECRET not in f"{store!r} {store.kernel.backend!r} {store.capabilities}"
        lines = store.replay(command_lines, workers=2)
        assert not lines & {Path("/proc/self/cmdline").read_text()}, "others have done it"
        assert SECRET not in str(lines)
    said = capfd.readouterr()
    assert SECRET not in caplog.text + said.out + said.err


def test_a_wrong_password_is_not_shown_either(server: PostgresServer) -> None:
    wrong = f"postgresql://shop:{SECRET}no@127.0.0.1:{server.port}/shop"
    with pytest.raises(StorageError, match="password authentication failed") as raised:
        open_store(wrong)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[PostgresServer, Path]]:
    """A server with TLS, which the wheel's hasn't, and the authority that vouches for it."""
    if not (DEBIAN / "postgres").exists():
        pytest.skip("no PostgreSQL server with TLS is installed here")
    for words in (
        "-x509 -subj /CN=authority -keyout ca.key -out ca.crt",
        (
            "-x509 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
            "-CA ca.crt -CAkey ca.key -keyout server.key -out server.crt"
        ),
    ):
        command = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-days", "2", *words.split()]
        try:
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("no OpenSSL that makes certificates is installed here")
    with postgres_server(programs=DEBIAN) as running:
        for name in ("server.key", "server.crt"):
            copied = running.data / name
            copied.write_bytes((tmp_path / name).read_bytes())
            copied.chmod(0o600)
            give_to_server(copied)
        running.execute("ALTER SYSTEM SET ssl = on")
        running.execute("SELECT pg_reload_conf()")
        running.until("SELECT (current_setting('ssl') = 'on')::int")
        yield running, tmp_path / "ca.crt"


def test_a_server_is_asked_who_it_is(
    certified: tuple[PostgresServer, Path], tmp_path: Path
) -> None:
    server, authority = certified
    url = server.url("postgres", sslmode="verify-full", sslrootcert=str(authority))
    named = url.replace("127.0.0.1", "localhost")
    with open_store(named, events=[elsewhere.Paid]) as store:
        with store.transaction() as transaction:
            found = transaction.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert found == [(True,)]
        assert store.append("a", [elsewhere.Paid("x", 1)]).position == 1
    with pytest.raises(StorageError, match="does not match host name"):
        open_store(url)
    (tmp_path / "other.crt").write_bytes((tmp_path / "server.crt").read_bytes())
    with pytest.raises(StorageError, match="certificate verify failed"):
        open_store(named.replace("ca.crt", "other.crt"))
