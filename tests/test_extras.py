"""What users install: the wheel with each extra, in an environment with nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.postgres_server import PostgresServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
CORE = {"everwhen", "apsw", "msgspec"}
FOLD = """
from everwhen import Event, Fold, UnknownEvent, open_store
import everwhen.aio, everwhen.exchange, everwhen.testing, everwhen.testing.aio

class Paid(Event):
    amount: int

total = Fold("total", lambda: 0)
total.on(Paid)(lambda state, event: state + event.amount)
with open_store("shop.db", events=[Paid]) as store:
    store.append("order-1", [Paid(40), Paid(2)])
    assert store.fold(total, "order-1") == 42
    store.backup("copy.db", overwrite=True)
    with store.sql_connection() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(2,)]
"""
LACKING = """
import contextlib
from everwhen import KeyFile, Vault, open_store
from everwhen.errors import StorageError, UnsupportedError, VaultError
from everwhen.expressions import Expression

def said(call):
    try:
        call()
    except (ImportError, UnsupportedError, VaultError) as error:
        return str(error)

def merkle():
    from everwhen.merkle import MerkleLog

def witness():
    import everwhen.witness

KeyFile.create("people.key")
assert "'everwhen[expressions]'" in said(lambda: Expression("1 < 2"))
assert "'everwhen[trust]'" in said(lambda: Vault("people", KeyFile("people.key")).newest("ann"))
postgres = said(lambda: open_store("postgresql://127.0.0.1/shop"))
assert "'everwhen[postgres]'" in postgres, postgres
try:
    open_store("http://127.0.0.1:1")  # which needs no library
except StorageError as error:
    assert "no answer" in str(error)
assert "'everwhen[trust]'" in said(merkle), said(merkle)
assert "'everwhen[trust]'" in said(witness), said(witness)
"""
POSTGRES = """
from everwhen import Event, Fold, open_store

class Paid(Event):
    amount: int

total = Fold("total", lambda: 0)
total.on(Paid)(lambda state, event: state + event.amount)
with open_store("URL", events=[Paid]) as store:
    store.append("order-1", [Paid(40), Paid(2)])
    assert store.fold(total, "order-1") == 42
"""
SEALED = """
from everwhen import UnknownEvent, open_store
from everwhen.tiers import HistoryManager, HistoryPolicy
from datetime import timedelta

with open_store("old.db") as store:
    store.append("a", [UnknownEvent("Noted", {"n": n}) for n in range(9)])
    (moved,) = HistoryManager(
        store, HistoryPolicy(hot_duration=timedelta(0), small_segments=True)
    ).age()
    assert moved.segment.last == store.head().position == len(list(store.read())) == 9
    assert store.check() == []
"""
UNSEALED = """
from everwhen import Query, UnknownEvent, open_store
from everwhen.errors import StatementError, UnsupportedError

with open_store("old.db") as store:
    assert store.head().position == 9
    asked = lambda: store.sql_connection().execute("SELECT * FROM events")
    for wanted in (store.read, store.read_pages, asked, store.check):
        try:
            list(wanted())
        except (UnsupportedError, StatementError) as error:
            assert "'everwhen[tiers]'" in str(error)
        else:
            raise AssertionError(wanted)
    assert store.append("a", [UnknownEvent("Noted", {"n": 9})]).position == 10
    assert [event.position for event in store.read(Query().after(9))] == [10]
"""
SQL = """
from everwhen import UnknownEvent, open_store

with open_store("asked.db") as store:
    store.append("a", [UnknownEvent("Noted", {"n": n}) for n in range(9)])
    assert store.sql("SELECT count(*), max(recorded_at) IS NULL FROM events").fetchall() == [(9, False)]
    assert store.arrow("a", columns=["position"]).reader().read_all().num_rows == 9
"""
SQL_OF_SEALED = """
from everwhen import open_store

with open_store("old.db", read_only=True) as store:
    assert store.sql("SELECT count(*) FROM events").fetchall() == [(9,)]
"""
NO_SQL = """
from everwhen import open_store
from everwhen.errors import UnsupportedError
from everwhen.store import ArrowEvents, SqlResult

with open_store("memory:") as store:
    for asked in (lambda: store.sql("SELECT 1"), store.arrow):
        try:
            asked()
        except UnsupportedError as error:
            assert "'everwhen[sql]'" in str(error)
        else:
            raise AssertionError(asked)
"""
EXPRESSION = """
from everwhen.expressions import Expression
assert Expression("state.total > 5").names == {"state"}
"""
TRUST = """
from everwhen import KeyFile, UnknownEvent, Vault, open_store
from everwhen.errors import DeclarationError
from everwhen.merkle import MemoryTiles, MerkleLog, TimestampAuthority
from everwhen_verify.notes import Signer
KeyFile.create("trust.key")
with Vault("people", KeyFile("trust.key")) as vault:
    vault.newest("ann")
    assert vault.subjects() == ["ann"]
with open_store("memory:") as store:
    store.append("a", [UnknownEvent("Noted", {})])
    log = MerkleLog(store, MemoryTiles(), Signer.generate("example.org/log"))
    log.sign()
    assert log.verify().is_sound
"""
NO_TIMESTAMPS = """
try:
    TimestampAuthority("http://127.0.0.1:1/").stamp(b"note")
except DeclarationError as error:
    assert "'everwhen[timestamps]'" in str(error)
"""
TIMESTAMPS = """
from everwhen.errors import TimestampError
try:
    TimestampAuthority("http://127.0.0.1:1/").stamp(b"note")
except TimestampError as error:
    assert "127.0.0.1" in str(error)  # asked for, where nobody answers
"""


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    return subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def done(*command: str | Path, folder: Path) -> str:
    ended = run(*command, folder=folder)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions that are pinned here, as constraints: those have no hashes."""
    lines = {
        line.removesuffix("\\").strip()
        for name in ("build.txt", "develop.txt")
        for line in (ROOT / "requirements" / name).read_text().splitlines()
        if re.match(r"[A-Za-z0-9_.-]+==", line)
    }
    file = tmp_path_factory.mktemp("pins") / "constraints.txt"
    file.write_text("\n".join(sorted(lines)) + "\n")
    return file


Installed = Callable[..., Path]


@pytest.fixture
def installed(pins: Path, tmp_path: Path) -> Installed:
    """Installs something into an empty environment, whose commands' folder it returns."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert uv is not None, "uv comes with requirements/develop.txt"

    def install(what: str) -> Path:
        made = tmp_path / "environment"
        done(uv, "venv", "--quiet", "--python", sys.executable, made, folder=tmp_path)
        python = made / "bin" / "python"
        install = (uv, "pip", "install", "--quiet", "--python", python)
        limits = ("--constraint", pins, "--build-constraint", pins)
        ended = run(*install, *limits, what, folder=tmp_path)
        if ended.returncode and re.search(
            r"[Ff]ailed to fetch|error sending request", ended.stderr
        ):
            pytest.skip(f"the package registry can't be reached: {ended.stderr.strip()[-200:]}")
        assert ended.returncode == 0, ended.stderr
        return made / "bin"

    return install


def packages(binaries: Path) -> set[str]:
    found = (binaries.parent / "lib").glob("python*/site-packages/*.dist-info")
    return {path.name.partition("-")[0].replace("_", "-").lower() for path in found}


def test_the_core_needs_two_packages(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    binaries = installed(str(wheel))
    assert packages(binaries) == CORE
    done(binaries / "python", "-W", "error", "-c", FOLD, folder=tmp_path)
    done(binaries / "python", "-c", LACKING + NO_SQL, folder=tmp_path)
    command = run(binaries / "everwhen", "info", "shop.db", folder=tmp_path)
    assert (command.returncode, "'everwhen[cli]'" in command.stderr) == (2, True)


def test_what_the_readme_says(installed: Installed, tmp_path: Path) -> None:
    """From a checkout, and then what the docs show of the command line."""
    told = re.findall(r"pip install '\.(\[\w+\])'", (ROOT / "README.md").read_text())
    assert told == ["[cli]"]
    binaries = installed(f"{ROOT}{told[0]}")
    everwhen = binaries / "everwhen"
    done(binaries / "python", "-W", "error", "-c", FOLD, folder=tmp_path)
    done(everwhen, "--help", folder=tmp_path)
    found = done(everwhen, "when", "shop.db", 'state["order-1"].data.amount < 40', folder=tmp_path)
    assert "2" in found.split()
    debugged = done(everwhen, "debug", "--help", folder=tmp_path)
    assert "debug" in debugged
    no = run(everwhen, "sign", "shop.db", "--new-key", "example.org/x", folder=tmp_path)
    assert (no.returncode, "'everwhen[trust]'" in no.stderr) == (2, True)


def test_sealed_history_without_its_extra(
    wheel: Path, installed: Installed, tmp_path: Path
) -> None:
    """Without the extra, what is sealed says so, and what isn't goes on."""
    done(sys.executable, "-c", SEALED, folder=tmp_path)
    binaries = installed(str(wheel))
    done(binaries / "python", "-c", UNSEALED, folder=tmp_path)
    lacking = run(binaries / "python", "-c", SEALED.replace("old", "new"), folder=tmp_path)
    assert (lacking.returncode, "'everwhen[tiers]'" in lacking.stderr) == (1, True)


def test_tiers(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    binaries = installed(f"{wheel}[tiers]")
    assert packages(binaries) == CORE | {"zstandard"}
    done(binaries / "python", "-c", SEALED, folder=tmp_path)


def test_sql(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    binaries = installed(f"{wheel}[sql]")
    assert packages(binaries) == CORE | {"duckdb", "pyarrow", "zstandard"}
    done(binaries / "python", "-W", "error", "-c", SQL, folder=tmp_path)
    done(binaries / "python", "-c", SEALED, folder=tmp_path)
    asked = run(binaries / "everwhen", "sql", "old.db", "SELECT 1", folder=tmp_path)
    assert (asked.returncode, "'everwhen[cli]'" in asked.stderr) == (2, True)
    done(binaries / "python", "-c", SQL_OF_SEALED, folder=tmp_path)


def test_trust(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    binaries = installed(f"{wheel}[trust]")
    done(binaries / "python", "-c", FOLD + TRUST + NO_TIMESTAMPS, folder=tmp_path)
    asked = run(binaries / "everwhen-verify", "--help", folder=tmp_path)
    assert asked.returncode == 0, asked.stderr


def test_postgres(
    wheel: Path, installed: Installed, tmp_path: Path, postgres: PostgresServer
) -> None:
    binaries = installed(f"{wheel}[postgres]")
    with postgres.schema() as url:
        done(binaries / "python", "-c", POSTGRES.replace("URL", url), folder=tmp_path)


def test_timestamps_and_expressions(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    binaries = installed(f"{wheel}[timestamps,expressions]")
    assert "rich" not in packages(binaries)
    done(binaries / "python", "-c", EXPRESSION + TRUST + TIMESTAMPS, folder=tmp_path)


def test_all_has_everything(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    others = {name for extra in extras if extra not in {"all", "ray"} for name in extras[extra]}
    assert set(extras["all"]) == others
    binaries = installed(f"{wheel}[all]")
    done(binaries / "python", "-c", FOLD + EXPRESSION + TRUST + TIMESTAMPS, folder=tmp_path)
    done(
        binaries / "everwhen",
        "sign",
        "shop.db",
        "--new-key",
        "example.org/x",
        folder=tmp_path,
    )
    done(binaries / "everwhen", "verify", "shop.db", folder=tmp_path)
