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
from everwhen.backends._async.concurrency import Cancelled
from everwhen.backends._async.restore import restore_store
from everwhen.errors import (
    BackupError,
    CorruptStoreError,
    DeclarationError,
    NotAStoreError,
    OutdatedVaultError,
    UnsupportedError,
)
from everwhen.merkle.aio import FaultKind, MerkleLog, TileFolder
from everwhen.privacy import Erased
from everwhen.store import BackupProgress
from everwhen.store._async.store import Store, open_store
from everwhen.testing._async.concurrency import Beside, pause
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


async def write(store: Store, stream: str, count: int, size: int = 10) -> None:
    for number in range(count):
        await store.append(stream, [UnknownEvent("Noted", {"n": number, "text": "x" * size})])


async def shown(store: Store) -> list[Any]:
    return [
        (e.position, e.stream, e.version, e.data, e.recorded_at, e.commit_id)
        async for e in store.read()
    ]


async def contents(path: Path, branch: str | None = None) -> list[Any]:
    async with open_store(path, read_only=True) as store:
        assert await store.check() == []
        if branch is None:
            return await shown(store)
        async with store.branch(branch) as opened:
            return await shown(opened)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
async def test_one_moment_while_threads_and_processes_write(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    async with open_store(path) as store:
        await store.append("first", [UnknownEvent("Noted", {"text": "x" * 4_000_000})])
        other = program(WRITER, path)
        assert other.stdout is not None
        other.stdout.readline()
        is_over = False

        async def work(name: str) -> None:
            while not is_over:
                await write(store, name, 1, size=2_000)

        beside = [Beside(partial(work, name)) for name in ("a", "b", "c")]
        try:
            for _ in range(5):
                words: list[BackupProgress] = []
                before = (await store.head()).position
                report = await store.backup(copy, overwrite=True, progress=words.append)
                assert before <= report.position <= (await store.head()).position
                copied = [word.done for word in words if word.stage == "copying"]
                assert copied == sorted(copied)
                assert copied[-1] == words[0].total == report.bytes == copy.stat().st_size
                assert {word.stage for word in words} == {"copying", "checking"}
                found = await contents(copy)
                assert found[-1][0] == report.position
                assert found[-1][4] == report.recorded_at
                assert len(found) == report.position, "each is there, and once"
                assert found == (await shown(store))[: report.position]
                while (await store.head()).position == report.position:
                    await pause(0.001)
        finally:
            is_over = True
            ended(other)
            for running in beside:
                await running.result()
    assert {"copy.db"} == {name for name in files(tmp_path) if not name.startswith("store.db")}


async def test_branches_are_of_the_same_moment(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    async with open_store(path) as store:
        await write(store, "first", 3)
        branch = await store.create_branch("b")
        deep = await branch.create_branch("deep")
        await store.create_branch("unwritten")
        await write(branch, "own", 1)
        await write(deep, "deeper", 2)
        is_over = False

        async def chase(one: Store, other: Store) -> None:
            """What is written to the one names what the other has written before."""
            while not is_over:
                seen = await one.append("chased", [UnknownEvent("Step", {"seen": 0})])
                await other.append("chased", [UnknownEvent("Step", {"seen": seen.position})])

        beside = [Beside(lambda: chase(store, branch)), Beside(lambda: chase(branch, store))]
        try:
            for _ in range(10):
                report = await store.backup(copy, overwrite=True)
                assert report.branches == 2
                main, own = await contents(copy), await contents(copy, "b")
                assert max((row[3].get("seen", 0) for row in main), default=0) <= own[-1][0]
                assert max(row[3].get("seen", 0) for row in own) <= main[-1][0]
        finally:
            is_over = True
            for running in beside:
                await running.result()
        assert await contents(copy, "deep") == await shown(deep)
        assert await contents(copy, "unwritten") == (await shown(store))[:3]
        await deep.close()
        await branch.close()


async def test_what_its_progress_raises_ends_it(tmp_path: Path) -> None:
    for stage in ("copying", "checking"):

        def end(word: BackupProgress, stage: str = stage) -> None:
            if word.stage == stage:
                raise ZeroDivisionError

        async with open_store(tmp_path / "store.db") as store:
            await store.commit_batch([])
            await store.append("a", [UnknownEvent("Noted", {"n": n}) for n in range(20_000)])
            for number in range(400):
                await store.append(f"a-{number}", [UnknownEvent("Noted", {})])
            with pytest.raises(ZeroDivisionError):
                await store.backup(tmp_path / "copy.db", progress=end)
            await store.append("b", [UnknownEvent("Noted", {})])
        assert files(tmp_path) == {"store.db"}


async def test_an_interrupted_one_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(word: BackupProgress) -> None:
        raise Cancelled

    async with open_store(tmp_path / "store.db") as store:
        await write(store, "a", 3)
        with pytest.raises(Cancelled):
            await store.backup(tmp_path / "copy.db", progress=interrupt)
    assert files(tmp_path) == {"store.db"}


async def test_places_where_none_is_made(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store:
        await write(store, "a", 3)
        async with store.create_branch("b") as branch:
            await write(branch, "a", 1)
        (tmp_path / "hard.db").hardlink_to(path)
        (tmp_path / "soft.db").symlink_to(path)
        (tmp_path / "folder").mkdir()
        (tmp_path / "linked").symlink_to(tmp_path / "store.db-branches")
        os.mkfifo(tmp_path / "pipe")
        before, there = await shown(store), files(tmp_path)
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
                await store.backup(tmp_path / place, overwrite=True)
        assert await shown(store) == before
        assert files(tmp_path) == there


async def test_what_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"dear to somebody")
    async with open_store(tmp_path / "store.db") as store:
        await write(store, "a", 3)
        with pytest.raises(BackupError, match="already exists") as caught:
            await store.backup(copy)
        assert caught.value.exists
        assert copy.read_bytes() == b"dear to somebody"
        await store.backup(copy, overwrite=True)
        assert await contents(copy) == await shown(store)


@pytest.mark.parametrize("left", ["copy.db-wal", "copy.db-shm", "copy.db-branches/x.db"])
async def test_what_is_left_of_another_store_is_not_taken_in(left: str, tmp_path: Path) -> None:
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_bytes(b"old")
    async with open_store(tmp_path / "store.db") as store:
        await write(store, "a", 3)
        with pytest.raises(BackupError, match="left over"):
            await store.backup(tmp_path / "copy.db")
        assert (tmp_path / left).read_bytes() == b"old"
        await store.backup(tmp_path / "copy.db", overwrite=True)
        assert not (tmp_path / left).exists()
        assert await contents(tmp_path / "copy.db") == await shown(store)


async def test_a_branch_or_a_store_in_memory_has_none_of_its_own(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        async with store.create_branch("b") as branch:
            with pytest.raises(UnsupportedError, match="back up that store"):
                await branch.backup(tmp_path / "copy.db")
    async with open_store("memory:") as store:
        with pytest.raises(UnsupportedError, match="no file to copy"):
            await store.backup(tmp_path / "copy.db")
    assert files(tmp_path) == {"store.db"}


async def test_a_store_of_nothing(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        report = await store.backup(tmp_path / "copy.db")
    assert (report.position, report.recorded_at, report.branches) == (0, None, 0)
    assert await contents(tmp_path / "copy.db") == []


async def test_a_read_only_store_has_backups_too(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        await write(store, "a", 3)
    async with open_store(tmp_path / "store.db", read_only=True) as store:
        await store.backup(tmp_path / "copy.db")
        assert await contents(tmp_path / "copy.db") == await shown(store)


async def test_a_copy_is_for_the_same_eyes(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        await write(store, "a", 1)
        (tmp_path / "store.db").chmod(0o640)
        await store.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o640


async def test_a_damaged_store_replaces_no_good_backup(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    async with open_store(path) as store:
        await write(store, "a", 30, size=1_000)
        await store.backup(copy)
    good = copy.read_bytes()
    damage(path)
    async with open_store(path) as store:
        with pytest.raises(CorruptStoreError, match="'everwhen check'"):
            await store.backup(copy, overwrite=True)
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


async def a_store(path: Path) -> list[Any]:
    """A store with branches, with a backup beside it; returns what the backup shows."""
    async with open_store(path) as store:
        await write(store, "a", 30, size=1_000)
        async with store.create_branch("b") as branch:
            await write(branch, "own", 5)
            await store.backup(path.with_name("backup.db"))
            await write(branch, "own", 2)
        async with store.create_branch("later") as branch:
            await write(branch, "own", 2)
        found = await shown(store)
        await write(store, "a", 3)
    return found


async def test_restoring_to_an_older_moment(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    then = await a_store(path)
    with pytest.raises(BackupError, match="already exists"):
        await restore_store(backup, path)
    assert len(await contents(path)) == len(then) + 3
    report = await restore_store(backup, path, overwrite=True)
    assert (report.position, report.branches) == (len(then), 1)
    assert await contents(path) == then
    assert len(await contents(path, "b")) == len(then) + 5
    async with open_store(path) as store:
        assert [branch.name for branch in await store.branches()] == ["b"]
        await write(store, "a", 1)
        assert await store.check() == []
    branches = [
        name
        for name in files(tmp_path)
        if name.startswith("store.db-branches/") and name.endswith(".db")
    ]
    assert len(branches) == 1, "what no branch refers to is gone"


async def test_restoring_where_nothing_is(tmp_path: Path) -> None:
    then = await a_store(tmp_path / "store.db")
    await restore_store(tmp_path / "backup.db", tmp_path / "new.db")
    assert await contents(tmp_path / "new.db") == then
    assert len(await contents(tmp_path / "new.db", "b")) == len(then) + 5


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True], ids=["there", "gone"])
async def test_a_log_of_changes_that_was_left_is_not_read_into_it(
    is_gone: bool, tmp_path: Path
) -> None:
    """The classic disaster: the old file's write-ahead log beside the restored file."""
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    then = await a_store(path)
    process = program(LEAVES_A_LOG, path)
    process.communicate()
    assert (tmp_path / "store.db-wal").stat().st_size > 40_000, "its commits are there only"
    if is_gone:
        path.unlink()
        with pytest.raises(BackupError, match="left over"):
            await restore_store(backup, path)
    await restore_store(backup, path, overwrite=True)
    assert not (tmp_path / "store.db-wal").exists()
    assert await contents(path) == then
    async with open_store(path) as store:
        assert await shown(store) == then
        await write(store, "a", 1)
        assert await store.check() == []


async def test_an_open_store_is_not_replaced(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    then = await a_store(path)
    now = await contents(path)
    async with open_store(path) as store:
        with pytest.raises(BusyError, match="open"):
            await restore_store(backup, path, overwrite=True)
        await write(store, "a", 1)
    process = program(HOLDS, path)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(BusyError, match="open"):
        await restore_store(backup, path, overwrite=True)
    process.communicate("\n")
    assert (await contents(path))[:-1] == now
    await restore_store(backup, path, overwrite=True)
    assert await contents(path) == then


async def test_an_open_branch_is_not_replaced(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    await a_store(path)
    now, branch = await contents(path), await contents(path, "b")
    (file,) = (tmp_path / "backup.db-branches").iterdir()
    async with open_store(tmp_path / "store.db-branches" / file.name):
        with pytest.raises(BusyError, match="open"):
            await restore_store(backup, path, overwrite=True)
    assert await contents(path) == now
    assert await contents(path, "b") == branch


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
async def test_a_damaged_store_is_replaced(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    then = await a_store(tmp_path / "store.db")
    spoil(tmp_path / "store.db")
    (tmp_path / "store.db-wal").write_bytes(b"nonsense" * 1_000)
    await restore_store(tmp_path / "backup.db", tmp_path / "store.db", overwrite=True)
    assert await contents(tmp_path / "store.db") == then
    assert not [name for name in files(tmp_path) if "wal" in name or "partial" in name]


async def test_a_damaged_backup_replaces_nothing(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    await a_store(path)
    now = await contents(path)
    damage(backup)
    with pytest.raises(CorruptStoreError):
        await restore_store(backup, path, overwrite=True)
    backup.write_bytes(backup.read_bytes()[:9_000])
    with pytest.raises(CorruptStoreError):
        await restore_store(backup, path, overwrite=True)
    backup.write_bytes(b"nonsense" * 1_000)
    with pytest.raises(NotAStoreError):
        await restore_store(backup, path, overwrite=True)
    with pytest.raises(BackupError, match="needed as it is"):
        await restore_store(path, path, overwrite=True)
    assert await contents(path) == now


# What goes along


async def test_a_vault_has_the_keys_of_all_that_is_in_the_store(tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "people.key")
    with Vault(tmp_path / "people", KeyFile(tmp_path / "people.key")) as vault:
        async with open_store(tmp_path / "store.db", events=[Joined], vault=vault) as store:
            await store.append("ann", [Joined("ann", "Ann")])
            await store.append("bob", [Joined("bob", "Bob")])
            is_over = False

            async def join() -> None:
                number = 0
                while not is_over:
                    number += 1
                    await store.append(f"p-{number}", [Joined(f"p-{number}", "Pat")])

            joining = Beside(join)
            try:
                for number in range(3):
                    await store.backup(
                        tmp_path / f"copy-{number}.db", vault=tmp_path / f"kept-{number}"
                    )
            finally:
                is_over = True
                await joining.result()
            await store.forget("ann")
            for place in ("people", "people.key", "store.db"):
                with pytest.raises((BackupError, BusyError)):
                    await store.backup(tmp_path / place, overwrite=True)
                with pytest.raises((BackupError, BusyError)):
                    await store.backup(tmp_path / "copy.db", vault=tmp_path / place, overwrite=True)
            with pytest.raises(BackupError, match="needed as it is"):
                await store.backup(tmp_path / "copy.db", vault=tmp_path / "copy.db")
            assert not (tmp_path / "copy.db").exists()
        for number in range(3):
            kept = tmp_path / f"kept-{number}"
            assert kept.stat().st_mode & 0o777 == 0o600
            copy = tmp_path / f"copy-{number}.db"
            with Vault(kept, KeyFile(tmp_path / "people.key"), create=False) as old:
                assert await names_in(copy, old) == {"Ann", "Bob", "Pat"}
            assert await names_in(copy, vault) == {"Bob", "Pat", Erased("ann")}
            with Vault(kept, KeyFile(tmp_path / "people.key"), create=False) as old:
                with pytest.raises(OutdatedVaultError, match="ann"):
                    await names_in(copy, old)


async def names_in(path: Path, vault: Vault) -> set[object]:
    async with open_store(path, events=[Joined], vault=vault) as store:
        return {e.event.name async for e in store.read() if e.type == "Joined"} | {"Pat"}


async def test_without_a_vault_none_is_copied(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db") as store:
        with pytest.raises(DeclarationError, match="no vault"):
            await store.backup(tmp_path / "copy.db", vault=tmp_path / "kept")
    assert files(tmp_path) == {"store.db"}


async def test_a_signed_log_is_never_ahead_of_its_store(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    signer = Signer.generate("example.org/log")
    async with open_store(path) as store:
        await write(store, "a", 3)
        branch = await store.create_branch("b")
        await write(branch, "a", 2)
        own = TileFolder.beside(path, branch.branch_info)
        await MerkleLog(branch, own, Signer.generate("example.org/b")).sign()
        is_over = False

        async def work() -> None:
            while not is_over:
                await write(store, "a", 20)
                await log.sign()

        log = MerkleLog(store, TileFolder.beside(path), signer)
        await log.sign()
        working = Beside(work)
        try:
            for _ in range(5):
                await store.backup(copy, log=True, overwrite=True)
                async with open_store(copy, read_only=True) as opened:
                    report = await MerkleLog(opened, TileFolder.beside(copy)).verify()
                    assert report.fault is None
                    copied = await opened.branch("b")
                    tiles = TileFolder.beside(copy, copied.branch_info)
                    assert (await MerkleLog(copied, tiles).verify()).fault is None
                    await copied.close()
        finally:
            is_over = True
            await working.result()
        await log.sign()
        await branch.close()
    await restore_store(copy, path, overwrite=True)
    async with open_store(path) as store:
        fault = (await MerkleLog(store, TileFolder.beside(path)).verify()).fault
        assert fault is not None, "the log that was there knows what came after the backup"
        assert fault.kind == FaultKind.CUT_TAIL
    await restore_store(copy, tmp_path / "new.db")
    async with open_store(tmp_path / "new.db") as store:
        assert (await MerkleLog(store, TileFolder.beside(tmp_path / "new.db")).verify()).is_sound
    assert not (tmp_path / "new.db-signer").exists()


def listed(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("url", ["postgresql://ada:s3cret@db/shop", "memory:", "https://a.b/c"])
async def test_a_url_is_no_file(tmp_path: Path, url: str) -> None:
    KeyFile.create(tmp_path / "people.key")
    with Vault(tmp_path / "people", KeyFile(tmp_path / "people.key")) as vault:
        async with open_store(tmp_path / "store.db", vault=vault) as store:
            await store.append("a", [UnknownEvent("Noted", {})])
            await store.backup(tmp_path / "copy.db")
            before = listed(tmp_path)
            with pytest.raises(BackupError, match="is a URL; name a file") as refused:
                await store.backup(url)
            assert "s3cret" not in str(refused.value)
            with pytest.raises(BackupError, match="is a URL; name a file"):
                await store.backup(tmp_path / "other.db", vault=url)
            with pytest.raises(BackupError, match="is a URL; name a file"):
                await restore_store(tmp_path / "copy.db", url, overwrite=True)
            assert listed(tmp_path) == before
