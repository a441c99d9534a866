"""No false alarm: whatever a store goes through that isn't tampering, all proofs still hold."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    EventTypes,
    Fold,
    KeyFile,
    Personal,
    ProjectionRunner,
    RecordedEvent,
    Repository,
    StateOf,
    Store,
    TableProjection,
    Tables,
    Undo,
    Vault,
    open_store,
)
from everwhen.backends.sqlite import schema
from everwhen.backends.sqlite.schema import migrations
from everwhen.codec import Upcast
from everwhen.exchange import export_events, import_events
from everwhen.merging import Merging
from everwhen.merkle import MerkleLog, TileFolder
from everwhen.merkle.log_writer import signed
from everwhen.state import EveryEvents
from everwhen.store import restore_store
from everwhen.undo import Compensations
from everwhen_verify.merkle import check_consistency
from everwhen_verify.notes import Signer
from everwhen_verify.program import run

COMMITS = 600
PROVEN = (1, 2, 255, 256, 257, 400, 606)
SIGNER = Signer.generate("example.org/log")


class Moved(Event):
    amount: int


class Paid(Event):
    """What became of `Moved` in its second version: an account has a currency since."""

    type_name = "Moved"
    schema_version = 2

    amount: int
    currency: str


class Joined(Event):
    data_subject = "player"

    player: str
    name: Personal[str]


class Move(msgspec.Struct, frozen=True):
    account: int
    amount: int


balance = Fold("balance", int)
balance.on(Moved)(lambda state, event: state + event.amount)

decisions = Decisions()
decisions.on(Move, StateOf(balance, lambda command: f"account-{command.account}"))(
    lambda command, state: [Moved(command.amount)]
)

compensations = Compensations()
compensations.on(Moved)(lambda event: Moved(-event.amount))

sums = TableProjection("sums", ["CREATE TABLE {sums} (amount INTEGER NOT NULL)"])


@sums.on(Moved)
def _(tables: Tables, moved: RecordedEvent[Moved]) -> None:
    tables.execute("INSERT INTO {sums} VALUES (?)", (moved.event.amount,))


@dataclass
class Sealed:
    """A store and its log, and at home what an auditor has of them: a checkpoint and proofs."""

    path: Path
    home: Path

    @property
    def checkpoint(self) -> bytes:
        return (self.home / "checkpoint").read_bytes()

    @contextmanager
    def opened(self, **options: Any) -> Iterator[Store]:
        keys = KeyFile(self.path.with_name("vault.key"))
        with (
            Vault(self.path.with_name("vault"), keys) as vault,
            open_store(self.path, vault=vault, **{"events": [Moved, Joined], **options}) as store,
        ):
            yield store

    def log(self, store: Store) -> MerkleLog:
        tiles = TileFolder.beside(self.path, store.branch_info)
        return MerkleLog(store, tiles, SIGNER, key=SIGNER.verifier)


def fill(store: Store) -> None:
    """Commits of facts, of commands, and of several events of people on one stream."""
    bus = CommandBus(store, decisions)
    for number in range(COMMITS):
        if number % 100 == 7:
            store.append(f"player-{number}", [Joined(str(number), "Ada"), Joined("9", "Bob")])
        elif number % 3:
            store.append(f"account-{number % 5}", [Moved(number)])
        else:
            bus.send(Move(number % 5, number))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untouched") / "original"
    sealed = Sealed(folder / "store.db", folder / "home")
    sealed.home.mkdir(parents=True)
    KeyFile.create(folder / "vault.key")
    with sealed.opened() as store:
        fill(store)
        log = sealed.log(store)
        (sealed.home / "checkpoint").write_bytes(log.sign().note)
        assert store.head().position == PROVEN[-1]
        for position in PROVEN:
            (sealed.home / f"{position}.tlog-proof").write_bytes(log.prove(position).encode())
    (sealed.home / "policy").write_text(f"log {SIGNER.verifier.vkey}\nquorum none\n")
    return folder


@pytest.fixture
def sealed(original: Path, tmp_path: Path) -> Sealed:
    folder = Path(shutil.copytree(original, tmp_path / "copy"))
    return Sealed(folder / "store.db", folder / "home")


def check_untouched(
    sealed: Sealed, capsys: pytest.CaptureFixture[str], branch: str | None = None, **options: Any
) -> None:
    """The log verifies, goes on from what was remembered, and proves what it has proven before."""
    remembered = sealed.checkpoint
    old = signed(remembered).checkpoint
    with sealed.opened(**options) as root:
        store = root if branch is None else root.branch(branch)
        log = sealed.log(store)
        for _ in ("before what is new is sealed", "after"):
            if log.checkpoint() is not None:
                assert log.verify(remembered=[remembered]).fault is None
                assert log.verify(since=remembered).fault is None
            new = log.sign().checkpoint
        path = log.consistency(old.size, new.size)
        check_consistency(old.size, old.root, new.size, new.root, path)
        for position in PROVEN:
            earlier = sealed.home / f"{position}.tlog-proof"
            now = sealed.home / "now.tlog-proof"
            now.write_bytes(log.prove(position).encode())
            said = [said_by_verifier(file, sealed, capsys) for file in (earlier, now)]
            assert said[0] == said[1], "it is the same commit"


def said_by_verifier(
    proof: Path, sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """What `everwhen-verify` says of the commit, without what it says of the tree."""
    assert run([str(proof), str(sealed.home / "policy"), "--json"]) == 0
    said: dict[str, Any] = msgspec.json.decode(capsys.readouterr().out)
    assert said["proven"]
    return {name: value for name, value in said.items() if name not in {"size", "root"}}


def read_again(sealed: Sealed) -> None:
    """Reading and checking write nothing that counts."""
    with sealed.opened() as store:
        assert store.check() == []
        assert len(list(store.read())) > COMMITS


def undo_and_redo(sealed: Sealed) -> None:
    with sealed.opened() as store:
        undo = Undo(store, compensations)
        position = next(store.read("account-1")).position
        undo.undo(position)
        sealed.log(store).sign()
        undo.undo(undo.redo(position))


def merge(sealed: Sealed) -> None:
    with sealed.opened() as store:
        with store.create_branch("plan") as branch:
            CommandBus(branch, decisions).send(Move(1, 5))
            CommandBus(branch, decisions).send(Move(2, 6))
            sealed.log(branch).sign()
            CommandBus(store, decisions).send(Move(3, 7))
            sealed.log(store).sign()
            receipt = Merging(store, decisions).merge(branch, strategy="redecide")
            assert receipt is not None
            assert receipt.position == store.head().position
            assert sealed.log(branch).verify().fault is None


def branches_come_and_go(sealed: Sealed) -> None:
    with sealed.opened() as store:
        with store.create_branch("a", 300) as branch:
            branch.append("account-1", [Moved(1)])
            with branch.create_branch("b") as inner:
                inner.append("account-1", [Moved(2)])
                assert sealed.log(inner).sign().checkpoint.size > 290
        store.rename_branch("a", "c")
        store.delete_branch("c", with_children=True)


def snapshots_and_read_models(sealed: Sealed) -> None:
    with sealed.opened() as store:
        accounts = Repository(store, balance, strategy=EveryEvents(10))
        assert accounts.snapshot_if_due(accounts.load("account-1"))
        with ProjectionRunner(store, [sums]) as runner:
            runner.catch_up()
            runner.rebuild(sums)
            runner.catch_up()


def forget(sealed: Sealed) -> None:
    with sealed.opened() as store:
        assert store.forget("9").subjects == ("9",)


def vacuum(sealed: Sealed) -> None:
    with sqlite3.connect(sealed.path, isolation_level=None) as connection:
        connection.execute("VACUUM")
        connection.execute("REINDEX")
        connection.execute("ANALYZE")
    connection.close()


def back_up(sealed: Sealed) -> None:
    """Another file of the same content takes the store's place."""
    copy = sealed.path.with_name("copy.db")
    with sealed.opened() as store:
        store.backup(copy)
    restore_store(copy, sealed.path, overwrite=True)


def rebuild_indexes(sealed: Sealed) -> None:
    """Whoever repairs an index of their own, or drops one that is only for speed, alters nothing."""
    with sqlite3.connect(sealed.path) as connection:
        connection.execute("CREATE INDEX mine ON slices (recorded_at)")
    connection.close()


def clock_steps_back(sealed: Sealed) -> None:
    with sealed.opened(clock=lambda: datetime(2001, 1, 1, tzinfo=UTC)) as store:
        store.append("account-1", [Moved(1)])


@pytest.mark.slow
@pytest.mark.attack(
    "personal data is erased",
    about="people",
    answer="the key is gone, the entry and its proof stay",
    needs="that is no attack, and looks like none",
)
@pytest.mark.parametrize(
    "live",
    [
        read_again,
        undo_and_redo,
        merge,
        branches_come_and_go,
        snapshots_and_read_models,
        forget,
        vacuum,
        back_up,
        rebuild_indexes,
        clock_steps_back,
    ],
    ids=lambda live: live.__name__,
)
def test_what_a_store_goes_through(
    sealed: Sealed, live: Callable[[Sealed], None], capsys: pytest.CaptureFixture[str]
) -> None:
    live(sealed)
    check_untouched(sealed, capsys)


def test_a_branch_that_was_merged_and_goes_on(
    sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    """A branch has a log of its own, which begins with its parent's commits."""
    merge(sealed)
    check_untouched(sealed, capsys, branch="plan")
    with sealed.opened() as store, store.branch("plan") as branch:
        Undo(branch, compensations).undo(branch.head().position)
    check_untouched(sealed, capsys, branch="plan")


def test_new_schema_versions_of_the_events(
    sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old events are read as new ones; what was written stays, and is what is signed."""
    upcast = Upcast("Moved", 1, lambda data: {**data, "currency": "EUR"})
    newer = EventTypes(Paid, Joined, upcasts=[upcast])
    with sealed.opened(events=newer) as store:
        assert next(store.read("account-1")).event == Paid(1, "EUR")
        store.append("account-1", [Paid(5, "CHF")])
    check_untouched(sealed, capsys, events=newer)


LATER = "ALTER TABLE snapshots ADD COLUMN taken_at INTEGER; CREATE TABLE later (body BLOB);"


def test_a_newer_format_of_the_file(
    sealed: Sealed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [*migrations(), (migrations()[-1][0] + 1, LATER)]
    monkeypatch.setattr(schema, "migrations", lambda: steps)
    with sealed.opened() as store:
        store.append("account-1", [Moved(1)])
    with sqlite3.connect(sealed.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (steps[-1][0],)
    connection.close()
    check_untouched(sealed, capsys)


def test_exported_and_imported(
    sealed: Sealed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A store that is made again from its export is the one that was signed."""
    with sealed.opened() as store:
        export_events(store, tmp_path / "all.jsonl.gz")
    sealed.path.unlink()
    for beside in ("-wal", "-shm"):
        Path(f"{sealed.path}{beside}").unlink(missing_ok=True)
    with sealed.opened() as store:
        import_events(store, tmp_path / "all.jsonl.gz")
        store.append("account-1", [Moved(1)])
    check_untouched(sealed, capsys)


WRITER = """
import sys
from everwhen import UnknownEvent, open_store
with open_store(sys.argv[1]) as store:
    while True:
        store.append("account-1", [UnknownEvent("Moved", {"amount": 1})])
        print("written", flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed(sealed: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, sealed.path], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(20):
            assert writer.stdout.readline() == b"written\n"
        writer.kill()
        writer.communicate()
        check_untouched(sealed, capsys)


def test_the_check_itself_notices(sealed: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(sealed.path) as connection:
        connection.execute("UPDATE slices SET recorded_at = recorded_at + 1 WHERE position = 300")
    connection.close()
    with pytest.raises(AssertionError, match="back-dated"):
        check_untouched(sealed, capsys)
