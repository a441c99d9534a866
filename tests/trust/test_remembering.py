"""An attacker at store, log and key together: whoever looks twice notices, by their memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.trust.attacks import change_body, commits_in, sql

from everwhen import Event, open_store
from everwhen.errors import MerkleLogError
from everwhen.merkle import FaultKind, LogReport, MerkleLog, TileFolder
from everwhen_verify.memory import Memory
from everwhen_verify.notes import Signer

ORIGIN = "example.org/log"
SIGNER, NEXT = Signer.generate(ORIGIN), Signer.generate(ORIGIN)


class Noted(Event):
    number: int


def fill(path: Path, commits: int) -> None:
    with open_store(path, events=[Noted]) as store:
        for number in range(commits):
            store.append(f"s-{number % 5}", [Noted(number)])


def seal(path: Path, signer: Signer = SIGNER, roll_to: Signer | None = None) -> None:
    with open_store(path) as store:
        log = MerkleLog(store, TileFolder.beside(path), signer)
        log.sign()
        if roll_to is not None:
            log.roll_over(roll_to)


def look(path: Path, memory: Memory, key: Signer | None = None, **given: object) -> LogReport:
    with open_store(path, read_only=True) as store:
        tiles = TileFolder.beside(path)
        known = None if key is None else key.verifier
        log = MerkleLog(store, tiles, key=known, memory=memory)
        return log.verify(**given)  # type: ignore[arg-type]


def kept(path: Path, name: str) -> Path:
    """A copy of the store and its log, to be put back later."""
    to = path.with_name(name)
    shutil.copy(path, to)
    shutil.copytree(f"{path}-log", f"{to}-log")
    return to


def put_back(copy: Path, path: Path, *, store: bool = True, log: bool = True) -> None:
    if store:
        for beside in ("-wal", "-shm"):
            Path(f"{path}{beside}").unlink(missing_ok=True)
        shutil.copy(copy, path)
    if log:
        shutil.rmtree(f"{path}-log")
        shutil.copytree(f"{copy}-log", f"{path}-log")


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "memory")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    fill(path, 300)
    seal(path)
    return path


def found(path: Path, memory: Memory, key: Signer | None = None) -> FaultKind:
    report = look(path, memory, key)
    assert report.fault is not None, "it was not noticed"
    assert report.remembered is not None
    again = look(path, memory, key)
    assert again.fault == report.fault, "a fault is not remembered as if it were sound"
    return report.fault.kind


def test_who_looks_twice_sees_it_grow(path: Path, memory: Memory) -> None:
    first = look(path, memory)
    assert first.remembered is not None
    assert (first.key_from, first.remembered.checkpoint.size) == ("log", 300)
    fill(path, 76)
    seal(path)
    second = look(path, memory)
    assert second.is_sound
    assert second.remembered is not None
    assert (second.key_from, second.remembered.checkpoint.size) == ("remembered", 376)
    assert second.remembered.first == first.remembered.first
    assert look(path, memory, SIGNER).key_from == "given"


@pytest.mark.slow
@pytest.mark.attack(
    "the log alone is set back",
    about="history",
    answer="the store has what a remembered signed checkpoint is over",
    needs="the store's own word where it was signed, a reader's memory, or a kept signed checkpoint",
)
@pytest.mark.parametrize("key", [None, SIGNER], ids=["remembered key", "given key"])
@pytest.mark.parametrize(
    ("store", "log", "kind"),
    [
        (True, True, FaultKind.CUT_TAIL),
        (False, True, FaultKind.SET_BACK),
        (True, False, FaultKind.CUT_TAIL),
    ],
    ids=["both set back", "the log alone set back", "the store alone set back"],
)
def test_a_rollback(
    path: Path, memory: Memory, key: Signer | None, store: bool, log: bool, kind: FaultKind
) -> None:
    copy = kept(path, "copy.db")
    fill(path, 76)
    seal(path)
    assert look(path, memory, key).is_sound
    put_back(copy, path, store=store, log=log)
    assert found(path, memory, key) is kind
    if log:
        fault = look(path, Memory(path.with_name("another reader"))).fault
        assert (fault and fault.kind) == (None if store else FaultKind.SET_BACK), "the store's word"


def test_a_log_that_was_set_back_may_be_sealed_again(path: Path, memory: Memory) -> None:
    copy = kept(path, "copy.db")
    fill(path, 76)
    seal(path)
    assert look(path, memory).is_sound
    put_back(copy, path, store=False)
    assert found(path, memory) is FaultKind.SET_BACK
    seal(path)
    assert look(path, memory).is_sound


@pytest.mark.attack(
    "history that was looked at is rewritten and signed with the key",
    about="history",
    answer="a remembered signed checkpoint isn't of it",
    needs="a reader's memory, or a kept signed checkpoint",
)
def test_a_history_rewritten_with_the_key(path: Path, memory: Memory) -> None:
    assert look(path, memory).is_sound
    connection = sql(path)
    change_body(connection, commits_in(connection), 7)
    connection.close()
    shutil.rmtree(f"{path}-log")
    fill(path, 20)
    seal(path)
    assert look(path, Memory(path.with_name("another reader"))).is_sound
    assert found(path, memory) is FaultKind.REWRITTEN


@pytest.mark.attack(
    "two histories are shown at two places",
    about="history",
    answer="the second isn't the one that is remembered",
    needs="one reader's memory",
)
def test_a_fork_shown_at_another_place(path: Path, memory: Memory) -> None:
    """An older copy is no fork; one that was signed on differently is."""
    copy = kept(path, "copy.db")
    fill(path, 10)
    seal(path)
    assert look(path, memory).is_sound
    older = look(copy, memory)
    assert older.is_sound
    assert older.remembered is not None
    assert older.remembered.checkpoint.size == 300
    fill(copy, 3)
    with open_store(copy, events=[Noted]) as store:
        for _ in range(20):
            store.append("x", [Noted(0)])
    seal(copy)
    assert found(copy, memory) is FaultKind.REWRITTEN
    assert look(path, memory).is_sound


@pytest.mark.attack(
    "a later start is named to skip what was rewritten",
    about="history",
    answer="verification begins at the oldest that is remembered",
    needs="a reader's memory",
)
def test_since_does_not_leave_out_what_is_remembered(path: Path, memory: Memory) -> None:
    assert look(path, memory).is_sound
    connection = sql(path)
    change_body(connection, commits_in(connection), 7)
    connection.close()
    shutil.rmtree(f"{path}-log")
    fill(path, 500)
    seal(path)
    forged = Path(f"{path}-log/checkpoint").read_bytes()
    fault = look(path, memory, since=forged).fault
    assert fault is not None
    assert fault.kind is FaultKind.REWRITTEN
    with open_store(path, read_only=True) as store:
        log = MerkleLog(store, TileFolder.beside(path), key=SIGNER.verifier)
        old = memory.recall(str(TileFolder.beside(path).path))
        assert old is not None
        assert log.verify(since=forged).is_sound
        assert not log.verify(since=forged, remembered=[old.note.encode()]).is_sound


@pytest.mark.attack(
    "the log is replaced by another key's",
    about="signatures",
    answer="the remembered key hasn't signed it",
    needs="a reader's memory, or the key",
)
@pytest.mark.parametrize("key", [None, NEXT], ids=["the log's word", "given key"])
def test_a_log_replaced_by_another_keys(path: Path, memory: Memory, key: Signer | None) -> None:
    assert look(path, memory).is_sound
    shutil.rmtree(f"{path}-log")
    seal(path, NEXT)
    assert found(path, memory, key) is FaultKind.FOREIGN


@pytest.mark.attack(
    "the log is taken away",
    about="history",
    answer="a signed checkpoint of it is remembered",
    needs="a reader's memory",
)
def test_a_log_taken_away(path: Path, memory: Memory) -> None:
    assert look(path, memory).is_sound
    shutil.rmtree(f"{path}-log")
    assert found(path, memory) is FaultKind.NOT_SIGNED


def test_a_log_handed_over(path: Path, memory: Memory) -> None:
    """The memory goes over to the new key, and not back: nor to before it was handed over."""
    copy = kept(path, "copy.db")
    assert look(path, memory).is_sound
    seal(path, roll_to=NEXT)
    assert look(path, memory).is_sound
    fill(path, 5)
    seal(path, NEXT)
    after = look(path, memory)
    assert after.is_sound
    assert after.remembered is not None
    assert after.remembered.key == NEXT.verifier.vkey
    assert look(path, memory, SIGNER).is_sound
    put_back(copy, path)
    for key in (None, SIGNER):
        assert found(path, memory, key) is FaultKind.FOREIGN


def test_a_log_made_anew_on_purpose(path: Path, memory: Memory) -> None:
    assert look(path, memory).is_sound
    shutil.rmtree(f"{path}-log")
    seal(path, NEXT)
    with open_store(path, read_only=True) as store:
        log = MerkleLog(store, TileFolder.beside(path), memory=memory)
        assert not log.verify().is_sound
        assert log.forget_remembered()
        assert log.verify().is_sound
        assert not MerkleLog(store, TileFolder.beside(path)).forget_remembered()


def test_a_memory_that_can_not_be_kept_is_said(path: Path) -> None:
    barrier = path.with_name("a file")
    barrier.touch()
    report = look(path, Memory(barrier / "memory"), SIGNER)
    assert report.is_sound
    assert report.remembered is None
    assert report.not_remembered is not None
    assert str(barrier) in report.not_remembered


def test_two_histories_looked_at_at_once(
    path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reader keeps its checkpoint while the other still verifies another of that size."""
    fork = path.with_name("fork.db")
    fill(fork, 299)
    with open_store(fork, events=[Noted]) as store:
        store.append("x", [Noted(9)])
    seal(fork)
    place, note = str(TileFolder.beside(path).path), Path(f"{fork}-log/checkpoint").read_bytes()
    keep: Callable[..., object] = Memory.keep

    def keep_later(self: Memory, *given: object) -> object:
        monkeypatch.undo()
        self.keep(place, note, SIGNER.verifier, 1)
        return keep(self, *given)

    monkeypatch.setattr(Memory, "keep", keep_later)
    report = look(path, memory)
    assert report.fault is not None
    assert report.fault.kind is FaultKind.REWRITTEN
    assert found(path, memory) is FaultKind.REWRITTEN


def test_nothing_known_of_the_key_is_said(tmp_path: Path, memory: Memory) -> None:
    fill(tmp_path / "new.db", 1)
    with pytest.raises(MerkleLogError, match="the log's key is not known"):
        look(tmp_path / "new.db", memory)
