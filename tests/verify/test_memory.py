"""What a reader remembers: kept whole, never mixed up, and never silently lost."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from tests.verify.logs import ORIGIN, Log

from everwhen_verify.errors import MemoryFileError
from everwhen_verify.memory import Memory
from everwhen_verify.notes import Signer, sign_note

PLACE = "/data/shop.db-log"


@pytest.fixture
def log() -> Log:
    return Log.of(9)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "state" / "remembered")


def note(log: Log, size: int) -> bytes:
    return sign_note(log.checkpoint(size).text, log.signer)


def test_the_newest_is_remembered_and_since_when(log: Log, memory: Memory) -> None:
    key = log.signer.verifier
    assert memory.recall(PLACE) is None
    for now, size in ((100, 3), (200, 7), (150, 7), (300, 5)):
        memory.keep(PLACE, note(log, size), key, now)
    found = memory.recall(PLACE)
    assert found is not None
    assert (found.first, found.last, found.checkpoint) == (100, 200, log.checkpoint(7))
    assert found.key == key.vkey
    assert memory.folder.stat().st_mode & 0o777 == 0o700
    assert memory.path_of(PLACE).stat().st_mode & 0o777 == 0o600
    assert memory.recall("/data/other.db-log") is None
    assert memory.forget(PLACE)
    assert not memory.forget(PLACE)
    assert memory.recall(PLACE) is None
    assert [path.name for path in memory.folder.iterdir()] == ["lock"]


def test_a_fork_at_the_same_time_is_not_written_over(log: Log, memory: Memory) -> None:
    memory.keep(PLACE, note(log, 9), log.signer.verifier, 1)
    fork = Log(signer=log.signer)
    for _ in range(9):
        fork.append(*log.commits[0])
    kept = memory.keep(PLACE, note(fork, 9), log.signer.verifier, 2)
    assert kept.checkpoint == log.checkpoint(9) != fork.checkpoint(9)


def test_odd_places_are_told_apart(log: Log, memory: Memory) -> None:
    places = ["", "a\nb", "ü", os.fsdecode(b"/\xff"), "x" * 9000, 'quoted"']
    for number, place in enumerate(places, 1):
        memory.keep(place, note(log, number), log.signer.verifier, number)
    for number, place in enumerate(places, 1):
        found = memory.recall(place)
        assert found is not None
        assert (found.place, found.checkpoint.size) == (place, number)
    seen = memory.others(log.signer.verifier.vkey, places[0])
    assert sorted(one.checkpoint.size for one in seen) == [2, 3, 4, 5, 6]
    assert memory.others(Signer.generate(ORIGIN).verifier.vkey, "") == []


DAMAGE = {
    "cut": lambda data, _: data[:-2],
    "empty": lambda *_: b"",
    "another format": lambda data, _: data.replace(b"remembered/v1", b"remembered/v2"),
    "another root": lambda data, log: data.replace(
        log.checkpoint(9).text.split("\n")[2][:9].encode(), b"AAAAAAAAA"
    ),
    "another size": lambda data, _: data.replace(b"\\n9\\n", b"\\n8\\n"),
    "another key": lambda data, log: data.replace(
        log.signer.verifier.vkey.encode(), Signer.generate(ORIGIN).verifier.vkey.encode()
    ),
    "another place": lambda data, _: data.replace(b"shop.db", b"ship.db"),
    "one more field": lambda data, _: json.dumps({**json.loads(data), "more": 1}).encode(),
    "a number as text": lambda data, _: json.dumps({**json.loads(data), "first": "1"}).encode(),
    "a truth as number": lambda data, _: json.dumps({**json.loads(data), "first": True}).encode(),
    "times turned round": lambda data, _: json.dumps({**json.loads(data), "first": 99}).encode(),
    "a list": lambda *_: b"[]",
    "deep": lambda *_: b"[" * 200_000,
    "NaN": lambda data, _: data.replace(b'"first": 1', b'"first": NaN'),
    "no text": lambda *_: b"\xff\xfe",
    "huge": lambda data, _: data + b" " * 3_000_000,
}


@pytest.mark.attack(
    "a reader's memory is damaged, or others may change it",
    about="inputs",
    answer="it is never taken for an empty one, nor believed",
)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_file_is_no_missing_one(log: Log, memory: Memory, damage: object) -> None:
    memory.keep(PLACE, note(log, 9), log.signer.verifier, 1)
    path = memory.path_of(PLACE)
    whole = path.read_bytes()
    damaged = damage(whole, log)  # type: ignore[operator]
    assert damaged != whole
    path.write_bytes(damaged)
    with pytest.raises(MemoryFileError, match="is damaged") as caught:
        memory.recall(PLACE)
    assert caught.value.path == str(path)
    with pytest.raises(MemoryFileError):
        memory.keep(PLACE, note(log, 9), log.signer.verifier, 2)
    assert path.read_bytes() == damaged, "nothing was written over it"
    assert memory.forget(PLACE)
    assert memory.keep(PLACE, note(log, 9), log.signer.verifier, 3).first == 3


@pytest.mark.attack(
    "a reader's memory is damaged, or others may change it",
)
def test_what_others_may_change_is_not_believed(log: Log, memory: Memory) -> None:
    memory.keep(PLACE, note(log, 9), log.signer.verifier, 1)
    path = memory.path_of(PLACE)
    for shared in (path, memory.folder):
        mode = shared.stat().st_mode
        shared.chmod(mode | 0o022)
        with pytest.raises(MemoryFileError, match="other users can change it"):
            memory.recall(PLACE)
        shared.chmod(mode)
    elsewhere = path.rename(memory.folder / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises(MemoryFileError, match=r"symbolic links|Too many"):
        memory.recall(PLACE)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(MemoryFileError, match="it is not a file"):
        memory.recall(PLACE)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Memory().folder == tmp_path / "everwhen" / "remembered"
    monkeypatch.setenv("HOME", "/home/reader")
    for ignored in ("", "state", "./state"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert Memory().folder == Path("/home/reader/.local/state/everwhen/remembered")
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(MemoryFileError, match="no home"):
        Memory()


def test_many_at_once_leave_the_largest_whole(log: Log, memory: Memory) -> None:
    key = log.signer.verifier

    def keep(size: int) -> None:
        for _ in range(5):
            memory.keep(PLACE, note(log, size), key, size)

    threads = [threading.Thread(target=keep, args=(size,)) for size in range(1, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = memory.recall(PLACE)
    assert found is not None
    assert found.checkpoint.size == 9
    assert len(list(memory.folder.iterdir())) == 2
