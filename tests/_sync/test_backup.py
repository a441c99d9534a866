# Generated from tests/_async/test_backup.py by tools/unasync.py: edit that, then run `make sync`.
"""Backups: one moment of a store that others write, as a whole or not at all, and back again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from everwhen import BusyError, Event, KeyFile, Personal, UnknownEvent, Vault
from everwhen.backends._sync.concurrency import Cancelled
from everwhen.backends._sync.restore import restore_store
from everwhen.errors import (
    BackupError,
    CorruptStoreError,
    DeclarationError,
    NotAStoreError,
    OutdatedVaultError,
    UnsupportedError,
)
from everwhen.merkle import FaultKind, MerkleLog, TileFolder
from everwhen.privacy import Erased
from everwhen.store import BackupProgress
from everwhen.store._sync.store import Store, open_store
from everwhen.testing._sync.concurrency import Beside, pause
from everwhen_verify.notes import Signer

WRITER = """
import sys
from everwhen import Commit, UnknownEvent, Write, open_store
store = open_store(sys.argv[1])
number = 0
while True:
    number += 1
    noted = [UnknownEvent("Noted", {"n": number, "text": "x" * 2_000})]
    store.commit(Commit([Write("there", noted), Write("also-there", noted)]))
    print(number, flush=True)
"""
LEAVES_A_LOG = """
import os, sys
from everwhen import UnknownEvent, open_store
store = open_store(sys.argv[1])
for number in range(40):
    store.append("lost", [UnknownEvent("Noted", {"n": number, "text": "x" * 2_000})])
os._exit(0)
"""
HOLDS = """
import sys
from everwhen import open_store
with open_store(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.readline()
"""


class Joined(Event):
    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str]


def program(text: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def write(store: Store, stream: str, count: int, size: int = 10) -> None:
    for number in range(count):
        store.append(stream, [UnknownEvent("Noted", {"n": number, "text": "x" * size})])


def shown(store: Store) -> list[Any]:
    return [
        (e.position, e.stream, e.version, e.data, e.recorded_at, e.commit_id) for e in store.read()
    ]


def contents(path: Path, branch: str | None = None) -> list[Any]:
    with open_store(path, read_only=True) as store:
        assert store.check() == []
        if branch is None:
            return shown(store)
        with store.branch(branch) as opened:
            return shown(opened)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_one_moment_while_threads_and_processes_write(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    with open_store(path) as store:
        store.append("first", [UnknownEvent("Noted", {"text": "x" * 4_000_000})])
        other = program(WRITER, path)
        assert other.stdout is not None
        other.stdout.readline()
        is_over = False

        def work(name: str) -> None:
            while not is_over:
                write(store, name, 1, size=2_000)

        beside = [Beside(partial(work, name)) for name in ("a", "b", "c")]
        try:
            for _ in range(5):
                words: list[BackupProgress] = []
                before = (store.head()).position
                report = store.backup(copy, overwrite=True, progress=words.append)
                assert before <= report.position <= (store.head()).position
                copied = [word.done for word in words if word.stage == "copying"]
                assert copied == sorted(copied)
                assert copied[-1] == words[0].total == report.bytes == copy.stat().st_size
                assert {word.stage for word in words} == {"copying", "checking"}
                found = contents(copy)
                assert found[-1][0] == report.position
                assert found[-1][4] == report.recorded_at
                assert len(found) == report.position, "each is there, and once"
                assert found == (shown(store))[: report.position]
                while (store.head()).position == report.position:
                    pause(0.001)
        finally:
            is_over = True
            ended(other)
            for running in beside:
                running.result()
    assert {"copy.db"} == {name for name in files(tmp_path) if not name.startswith("store.db")}


def test_branches_are_of_the_same_moment(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    with open_store(path) as store:
        write(store, "first", 3)
        branch = store.create_branch("b")
        deep = branch.create_branch("deep")
        store.create_branch("unwritten")
        write(branch, "own", 1)
        write(deep, "deeper", 2)
        is_over = False

        def chase(one: Store, other: Store) -> None:
            """What is written to the one names what the other has written before."""
            while not is_over:
                seen = one.append("chased", [UnknownEvent("Step", {"seen": 0})])
                other.append("chased", [UnknownEvent("Step", {"seen": seen.position})])

        beside = [Beside(lambda: chase(store, branch)), Beside(lambda: chase(branch, store))]
        try:
            for _ in range(10):
                report = store.backup(copy, overwrite=True)
                assert report.branches == 2
                main, own = contents(copy), contents(copy, "b")
                assert max((row[3].get("seen", 0) for row in main), default=0) <= own[-1][0]
                assert max(row[3].get("seen", 0) for row in own) <= main[-1][0]
        finally:
            is_over = True
            for running in beside:
                running.result()
        assert contents(copy, "deep") == shown(deep)
        assert contents(copy, "unwritten") == (shown(store))[:3]
        deep.close()
        branch.close()


def test_what_its_progress_raises_ends_it(tmp_path: Path) -> None:
    for stage in ("copying", "checking"):

        def end(word: BackupProgress, stage: str = stage) -> None:
            if word.stage == stage:
                raise ZeroDivisionError

        with open_store(tmp_path / "store.db") as store:
            store.commit_batch([])
            store.append("a", [UnknownEvent("Noted", {"n": n}) for n in range(20_000)])
            for number in range(400):
                store.append(f"a-{number}", [UnknownEvent("Noted", {})])
            with pytest.raises(ZeroDivisionError):
                store.backup(tmp_path / "copy.db", progress=end)
            store.append("b", [UnknownEvent("Noted", {})])
        assert files(tmp_path) == {"store.db"}


def test_an_interrupted_one_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(word: BackupProgress) -> None:
        raise Cancelled

    with open_store(tmp_path / "store.db") as store:
        write(store, "a", 3)
        with pytest.raises(Cancelled):
            store.backup(tmp_path / "copy.db", progress=interrupt)
    assert files(tmp_path) == {"store.db"}


def test_places_where_none_is_made(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_store(path) as store:
        write(store, "a", 3)
        with store.create_branch("b") as branch:
            write(branch, "a", 1)
        (tmp_path / "hard.db").hardlink_to(path)
        (tmp_path / "soft.db").symlink_to(path)
        (tmp_path / "folder").mkdir()
        (tmp_path / "linked").symlink_to(tmp_path / "store.db-branches")
        os.mkfifo(tmp_path / "pipe")
        before, there = shown(store), files(tmp_path)
        for place, why in {
            "store.db": "needed as it is",
            "hard.db": "needed as it is",
            "soft.db": "needed as it is",
            "store.db-wal": "needed as it is",
            "store.db-signer": "needed as it is",
            "store.db-branches/x.db": "a folder of the store's own",
            "store.db-log/x.db": "a folder of the store's own",
            "linked/x.db": "a folder of the store's own",
            "folder": "a folder; name a file",
            "missing/copy.db": "is missing; make it first",
            "pipe": "not an ordinary file",
            "x" * 250: "too long",
        }.items():
            with pytest.raises(BackupError, match=why):
                store.backup(tmp_path / place, overwrite=True)
        assert shown(store) == before
        assert files(tmp_path) == there


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"dear to somebody")
    with open_store(tmp_path / "store.db") as store:
        write(store, "a", 3)
        with pytest.raises(BackupError, match="already exists") as caught:
            store.backup(copy)
        assert caught.value.exists
        assert copy.read_bytes() == b"dear to somebody"
        store.backup(copy, overwrite=True)
        assert contents(copy) == shown(store)


@pytest.mark.parametrize("left", ["copy.db-wal", "copy.db-shm", "copy.db-branches/x.db"])
def test_what_is_left_of_another_store_is_not_taken_in(left: str, tmp_path: Path) -> None:
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_bytes(b"old")
    with open_store(tmp_path / "store.db") as store:
        write(store, "a", 3)
        with pytest.raises(BackupError, match="left over"):
            store.backup(tmp_path / "copy.db")
        assert (tmp_path / left).read_bytes() == b"old"
        store.backup(tmp_path / "copy.db", overwrite=True)
        assert not (tmp_path / left).exists()
        assert contents(tmp_path / "copy.db") == shown(store)


def test_a_branch_or_a_store_in_memory_has_none_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db") as store:
        with store.create_branch("b") as branch:
            with pytest.raises(UnsupportedError, match="back up that store"):
                branch.backup(tmp_path / "copy.db")
    with open_store("memory:") as store:
        with pytest.raises(UnsupportedError, match="no file to copy"):
            store.backup(tmp_path / "copy.db")
    assert files(tmp_path) == {"store.db"}


def test_a_store_of_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db") as store:
        report = store.backup(tmp_path / "copy.db")
    assert (report.position, report.recorded_at, report.branches) == (0, None, 0)
    assert contents(tmp_path / "copy.db") == []


def test_a_read_only_store_has_backups_too(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db") as store:
        write(store, "a", 3)
    with open_store(tmp_path / "store.db", read_only=True) as store:
        store.backup(tmp_path / "copy.db")
        assert contents(tmp_path / "copy.db") == shown(store)


def test_a_copy_is_for_the_same_eyes(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db") as store:
        write(store, "a", 1)
        (tmp_path / "store.db").chmod(0o640)
        store.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o640


def test_a_damaged_store_replaces_no_good_backup(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    with open_store(path) as store:
        write(store, "a", 30, size=1_000)
        store.backup(copy)
    good = copy.read_bytes()
    damage(path)
    with open_store(path) as store:
        with pytest.raises(CorruptStoreError, match="'everwhen check'"):
            store.backup(copy, overwrite=True)
    assert copy.read_bytes() == good
    assert "copy.db" in files(tmp_path)
    assert not [name for name in files(tmp_path) if "partial" in name]


def damage(path: Path) -> None:
    """Overwrite some bytes of an event, in the middle of the file."""
    whole = bytearray(path.read_bytes())
    at = whole.rindex(b'"Noted"')
    whole[at : at + 4] = bytes(4)
    path.write_bytes(whole)


# Back again


def a_store(path: Path) -> list[Any]:
    """A store with branches, with a backup beside it; returns what the backup shows."""
    with open_store(path) as store:
        write(store, "a", 30, size=1_000)
        with store.create_branch("b") as branch:
            write(branch, "own", 5)
            store.backup(path.with_name("backup.db"))
            write(branch, "own", 2)
        with store.create_branch("later") as branch:
            write(branch, "own", 2)
        found = shown(store)
        write(store, "a", 3)
    return found


def test_restoring_to_an_older_moment(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    then = a_store(path)
    with pytest.raises(BackupError, match="already exists"):
        restore_store(backup, path)
    assert len(contents(path)) == len(then) + 3
    report = restore_store(backup, path, overwrite=True)
    assert (report.position, report.branches) == (len(then), 1)
    assert contents(path) == then
    assert len(contents(path, "b")) == len(then) + 5
    with open_store(path) as store:
        assert [branch.name for branch in store.branches()] == ["b"]
        write(store, "a", 1)
        assert store.check() == []
    branches = [
        name
        for name in files(tmp_path)
        if name.startswith("store.db-branches/") and name.endswith(".db")
    ]
    assert len(branches) == 1, "what no branch refers to is gone"


def test_restoring_where_nothing_is(tmp_path: Path) -> None:
    then = a_store(tmp_path / "store.db")
    restore_store(tmp_path / "backup.db", tmp_path / "new.db")
    assert contents(tmp_path / "new.db") == then
    assert len(contents(tmp_path / "new.db", "b")) == len(then) + 5


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True], ids=["there", "gone"])
def test_a_log_of_changes_that_was_left_is_not_read_into_it(is_gone: bool, tmp_path: Path) -> None:
    """The classic disaster: the old file's write-ahead log beside the restored file."""
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    then = a_store(path)
    process = program(LEAVES_A_LOG, path)
    process.communicate()
    assert (tmp_path / "store.db-wal").stat().st_size > 40_000, "its commits are there only"
    if is_gone:
        path.unlink()
        with pytest.raises(BackupError, match="left over"):
            restore_store(backup, path)
    restore_store(backup, path, overwrite=True)
    assert not (tmp_path / "store.db-wal").exists()
    assert contents(path) == then
    with open_store(path) as store:
        assert shown(store) == then
        write(store, "a", 1)
        assert store.check() == []


def test_an_open_store_is_not_replaced(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    then = a_store(path)
    now = contents(path)
    with open_store(path) as store:
        with pytest.raises(BusyError, match="open"):
            restore_store(backup, path, overwrite=True)
        write(store, "a", 1)
    process = program(HOLDS, path)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(BusyError, match="open"):
        restore_store(backup, path, overwrite=True)
    process.communicate("\n")
    assert (contents(path))[:-1] == now
    restore_store(backup, path, overwrite=True)
    assert contents(path) == then


def test_an_open_branch_is_not_replaced(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    a_store(path)
    now, branch = contents(path), contents(path, "b")
    (file,) = (tmp_path / "backup.db-branches").iterdir()
    with open_store(tmp_path / "store.db-branches" / file.name):
        with pytest.raises(BusyError, match="open"):
            restore_store(backup, path, overwrite=True)
    assert contents(path) == now
    assert contents(path, "b") == branch


@pytest.mark.parametrize(
    "spoil",
    [
        damage,
        lambda path: path.write_bytes(b"no store at all" * 1_000),
        lambda path: path.write_bytes(path.read_bytes()[:10_000]),
        lambda path: path.write_bytes(b""),
    ],
    ids=["damaged", "foreign", "cut", "empty"],
)
def test_a_damaged_store_is_replaced(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    then = a_store(tmp_path / "store.db")
    spoil(tmp_path / "store.db")
    (tmp_path / "store.db-wal").write_bytes(b"nonsense" * 1_000)
    restore_store(tmp_path / "backup.db", tmp_path / "store.db", overwrite=True)
    assert contents(tmp_path / "store.db") == then
    assert not [name for name in files(tmp_path) if "wal" in name or "partial" in name]


def test_a_damaged_backup_replaces_nothing(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    a_store(path)
    now = contents(path)
    damage(backup)
    with pytest.raises(CorruptStoreError):
        restore_store(backup, path, overwrite=True)
    backup.write_bytes(backup.read_bytes()[:9_000])
    with pytest.raises(CorruptStoreError):
        restore_store(backup, path, overwrite=True)
    backup.write_bytes(b"nonsense" * 1_000)
    with pytest.raises(NotAStoreError):
        restore_store(backup, path, overwrite=True)
    with pytest.raises(BackupError, match="needed as it is"):
        restore_store(path, path, overwrite=True)
    assert contents(path) == now


# What goes along


def test_a_vault_has_the_keys_of_all_that_is_in_the_store(tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "people.key")
    with Vault(tmp_path / "people", KeyFile(tmp_path / "people.key")) as vault:
        with open_store(tmp_path / "store.db", events=[Joined], vault=vault) as store:
            store.append("ann", [Joined("ann", "Ann")])
            store.append("bob", [Joined("bob", "Bob")])
            is_over = False

            def join() -> None:
                number = 0
                while not is_over:
                    number += 1
                    store.append(f"p-{number}", [Joined(f"p-{number}", "Pat")])

            joining = Beside(join)
            try:
                for number in range(3):
                    store.backup(tmp_path / f"copy-{number}.db", vault=tmp_path / f"kept-{number}")
            finally:
                is_over = True
                joining.result()
            store.forget("ann")
            for place in ("people", "people.key", "store.db"):
                with pytest.raises((BackupError, BusyError)):
                    store.backup(tmp_path / place, overwrite=True)
                with pytest.raises((BackupError, BusyError)):
                    store.backup(tmp_path / "copy.db", vault=tmp_path / place, overwrite=True)
            with pytest.raises(BackupError, match="needed as it is"):
                store.backup(tmp_path / "copy.db", vault=tmp_path / "copy.db")
            assert not (tmp_path / "copy.db").exists()
        for number in range(3):
            kept = tmp_path / f"kept-{number}"
            assert kept.stat().st_mode & 0o777 == 0o600
            copy = tmp_path / f"copy-{number}.db"
            with Vault(kept, KeyFile(tmp_path / "people.key"), create=False) as old:
                assert names_in(copy, old) == {"Ann", "Bob", "Pat"}
            assert names_in(copy, vault) == {"Bob", "Pat", Erased("ann")}
            with Vault(kept, KeyFile(tmp_path / "people.key"), create=False) as old:
                with pytest.raises(OutdatedVaultError, match="ann"):
                    names_in(copy, old)


def names_in(path: Path, vault: Vault) -> set[object]:
    with open_store(path, events=[Joined], vault=vault) as store:
        return {e.event.name for e in store.read() if e.type == "Joined"} | {"Pat"}


def test_without_a_vault_none_is_copied(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db") as store:
        with pytest.raises(DeclarationError, match="no vault"):
            store.backup(tmp_path / "copy.db", vault=tmp_path / "kept")
    assert files(tmp_path) == {"store.db"}


def test_a_signed_log_is_never_ahead_of_its_store(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    signer = Signer.generate("example.org/log")
    with open_store(path) as store:
        write(store, "a", 3)
        branch = store.create_branch("b")
        write(branch, "a", 2)
        own = TileFolder.beside(path, branch.branch_info)
        MerkleLog(branch, own, Signer.generate("example.org/b")).sign()
        is_over = False

        def work() -> None:
            while not is_over:
                write(store, "a", 20)
                log.sign()

        log = MerkleLog(store, TileFolder.beside(path), signer)
        log.sign()
        working = Beside(work)
        try:
            for _ in range(5):
                store.backup(copy, log=True, overwrite=True)
                with open_store(copy, read_only=True) as opened:
                    report = MerkleLog(opened, TileFolder.beside(copy)).verify()
                    assert report.fault is None
                    copied = opened.branch("b")
                    tiles = TileFolder.beside(copy, copied.branch_info)
                    assert (MerkleLog(copied, tiles).verify()).fault is None
                    copied.close()
        finally:
            is_over = True
            working.result()
        log.sign()
        branch.close()
    restore_store(copy, path, overwrite=True)
    with open_store(path) as store:
        fault = (MerkleLog(store, TileFolder.beside(path)).verify()).fault
        assert fault is not None, "the log that was there knows what came after the backup"
        assert fault.kind == FaultKind.CUT_TAIL
    restore_store(copy, tmp_path / "new.db")
    with open_store(tmp_path / "new.db") as store:
        assert (MerkleLog(store, TileFolder.beside(tmp_path / "new.db")).verify()).is_sound
    assert not (tmp_path / "new.db-signer").exists()


def listed(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("url", ["postgresql://ada:s3cret@db/shop", "memory:", "https://a.b/c"])
def test_a_url_is_no_file(tmp_path: Path, url: str) -> None:
    KeyFile.create(tmp_path / "people.key")
    with Vault(tmp_path / "people", KeyFile(tmp_path / "people.key")) as vault:
        with open_store(tmp_path / "store.db", vault=vault) as store:
            store.append("a", [UnknownEvent("Noted", {})])
            store.backup(tmp_path / "copy.db")
            before = listed(tmp_path)
            with pytest.raises(BackupError, match="is a URL; name a file") as refused:
                store.backup(url)
            assert "s3cret" not in str(refused.value)
            with pytest.raises(BackupError, match="is a URL; name a file"):
                store.backup(tmp_path / "other.db", vault=url)
            with pytest.raises(BackupError, match="is a URL; name a file"):
                restore_store(tmp_path / "copy.db", url, overwrite=True)
            assert listed(tmp_path) == before
