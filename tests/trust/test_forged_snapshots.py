"""An attacker at the file's snapshots: no decision and no journey rests on a state of theirs."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.patience import PATIENCE_SECONDS
from tests.trust.attacks import sql

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    KeyFile,
    Query,
    Refusal,
    RefusedError,
    Repository,
    StateOf,
    TimeMachine,
    Vault,
    open_store,
)
from everwhen.privacy.snapshot_keys import NO_KEY, SnapshotKey, SnapshotKeys
from everwhen.state import EveryEvents, Retention
from everwhen.state.snapshots import Place, sealed
from everwhen.vocabulary import Snapshot


class Moved(Event):
    amount: int


class Withdraw(msgspec.Struct, frozen=True):
    amount: int


balance = Fold("balance", int)
balance.on(Moved)(lambda state, event: state + event.amount)
decisions = Decisions()


@decisions.on(Withdraw, StateOf(balance, lambda _: "account-1"))
def _withdraw(command: Withdraw, state: int) -> list[Event]:
    if command.amount > state:
        raise Refusal(f"only {state} are there")
    return [Moved(-command.amount)]


KNOWN = [Moved]
MUCH = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with an account that has 500, and a snapshot of that."""
    found = tmp_path / "bank.db"
    with open_store(found, events=[Moved]) as store:
        store.append("account-1", [Moved(5)] * 100)
        accounts = Repository(store, balance)
        accounts.snapshot(accounts.load("account-1"))
    return found


def stored_in(path: Path) -> Snapshot:
    with open_store(path, read_only=True) as store:
        (found,) = store.snapshots("balance/account-1")
        return found


def place_in(path: Path, position: int = 100) -> Place:
    with open_store(path, read_only=True, events=[Moved]) as store:
        (last,) = store.read(Query().after(position - 1).up_to(position))
        moment = int(last.recorded_at.timestamp() * 1_000_000)
        return Place(position, position, moment, last.commit_id.bytes)


def put(path: Path, forged: Snapshot) -> None:
    """The snapshot written into the file, past Everwhen."""
    connection = sql(path)
    row = (forged.subject, forged.position, forged.fold, forged.fold_version, forged.state)
    connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", row)
    connection.close()


def forged(path: Path, key: SnapshotKey, subject: str = "balance/account-1") -> Snapshot:
    return sealed(balance, subject, MUCH, place_in(path), KNOWN, key)


def of_the_attacker(path: Path) -> Snapshot:
    return forged(path, SnapshotKey(b"attacker", b"of the attacker's own".ljust(32)))


def under_the_victims_name(path: Path) -> Snapshot:
    ((name, _),) = msgspec.msgpack.decode(stored_in(path).state)[1]
    return forged(path, SnapshotKey(name, b"guessed".ljust(32)))


def without_a_key(path: Path) -> Snapshot:
    return forged(path, NO_KEY)


def beside_the_victims_digest(path: Path) -> Snapshot:
    """The true digest, and under it another content."""
    true, made = stored_in(path), without_a_key(path)
    seal = msgspec.msgpack.decode(made.state)
    seal[1] = msgspec.msgpack.decode(true.state)[1]
    return msgspec.structs.replace(made, state=msgspec.msgpack.encode(seal))


def of_the_older_format(path: Path) -> Snapshot:
    """As it was before keys: a digest that anybody can compute."""
    made = without_a_key(path)
    _, _, content, shape = msgspec.msgpack.decode(made.state)
    bound = msgspec.msgpack.encode([made.subject, made.position, "balance", 1, ["Moved"]])
    digest = hashlib.blake2b(bound + content, digest_size=16).digest()
    return msgspec.structs.replace(made, state=msgspec.msgpack.encode([2, digest, content, shape]))


FORGERIES: list[Callable[[Path], Snapshot]] = [
    of_the_attacker,
    under_the_victims_name,
    without_a_key,
    beside_the_victims_digest,
    of_the_older_format,
]


@pytest.mark.attack(
    "a snapshot or waypoint is forged, to have commands decided on it",
    about="history",
    answer="it isn't authenticated with the reader's key: the log is folded instead",
    needs="the key apart from the store, as it is by default; or a vault",
)
@pytest.mark.parametrize("forge", FORGERIES)
def test_no_decision_rests_on_a_forged_state(path: Path, forge: Callable[[Path], Snapshot]) -> None:
    put(path, forge(path))
    with open_store(path, events=[Moved]) as store:
        with pytest.raises(RefusedError, match="only 500"):
            CommandBus(store, decisions).send(Withdraw(100_000))
        assert Repository(store, balance).load("account-1").state == 500
        CommandBus(store, decisions).send(Withdraw(300))
        assert store.fold(balance, "account-1") == 200


@pytest.mark.attack("a snapshot or waypoint is forged, to have commands decided on it")
@pytest.mark.parametrize("forge", FORGERIES)
def test_no_journey_starts_at_a_forged_state(path: Path, forge: Callable[[Path], Snapshot]) -> None:
    made = forge(path)
    put(path, made)
    put(path, msgspec.structs.replace(made, subject="travel/balance/account-1"))
    with open_store(path, events=[Moved]) as store:
        store.append("account-1", [Moved(1)])
        machine = TimeMachine(store, balance, "account-1")
        assert machine.travel_to(100).state == 500
        assert machine.travel_to(101).state == 501


@contextmanager
def at_home(folder: Path) -> Iterator[None]:
    """As another user, or on another host."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("XDG_STATE_HOME", str(folder))
        yield


def load(path: Path, **given: Any) -> int:
    """How many events are folded to load the state, which is right; a snapshot is left."""
    with open_store(path, events=[Moved], **given) as store:
        accounts = Repository(store, balance, strategy=EveryEvents(1))
        loaded = accounts.load("account-1")
        assert loaded.state == store.fold(balance, "account-1")
        if not given:
            accounts.snapshot_if_due(loaded)
        return loaded.since.events


@pytest.mark.attack(
    "a snapshot that the victim took of an altered copy is put into the original",
    about="history",
    answer="its key is that of the place where the copy lay: the log is folded instead",
)
def test_what_was_taken_of_an_altered_copy_counts_for_nothing_in_the_original(
    path: Path, tmp_path: Path
) -> None:
    """The victim's own key authenticates it, for the place where the copy lies."""
    copy = tmp_path / "have-a-look.db"
    shutil.copy(path, copy)
    connection = sql(copy)
    connection.execute("DELETE FROM snapshots")
    (body,) = connection.execute("SELECT body FROM slices").fetchone()
    altered = body.replace(b'{"amount":5}', b'{"amount":9}')
    assert altered != body
    connection.execute("UPDATE slices SET body = ?", (altered,))
    connection.close()
    with open_store(copy, events=[Moved]) as store:
        accounts = Repository(store, balance)
        accounts.snapshot(accounts.load("account-1"))
    put(path, stored_in(copy))
    with open_store(path, events=[Moved]) as store:
        assert Repository(store, balance).load("account-1").state == 500


@pytest.mark.attack("a snapshot or waypoint is forged, to have commands decided on it")
def test_a_vault_authenticates_its_stores_snapshots(path: Path, tmp_path: Path) -> None:
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        put(path, of_the_older_format(path))
        with open_store(path, events=[Moved], vault=vault) as store:
            accounts = Repository(store, balance)
            assert accounts.load("account-1").state == 500
            accounts.snapshot(accounts.load("account-1"))
            assert accounts.load("account-1").since.events == 0


def test_two_who_share_a_store_each_fold_once(path: Path, tmp_path: Path) -> None:
    """Neither believes the other, and neither overwrites what the other one needs."""
    ann, bob = tmp_path / "ann", tmp_path / "bob"
    folded: list[int] = []
    for home in (ann, bob, ann, bob):
        with at_home(home):
            folded.append(load(path))
    assert folded == [100, 100, 0, 0]
    with open_store(path, events=[Moved]) as store:
        store.append("account-1", [Moved(1)] * 3)
    for home in (bob, ann, ann, bob):
        with at_home(home):
            folded.append(load(path))
    assert folded[4:] == [3, 3, 0, 0]


def test_the_waypoints_of_two_who_share_a_store(path: Path, tmp_path: Path) -> None:
    slow = Fold("slow", int)
    slow.on(Moved)(lambda state, event: state + event.amount)

    def waypoints() -> set[int]:
        with open_store(path, events=[Moved]) as store:
            machine = TimeMachine(store, slow, "account-1")
            machine._timeline._apart = 0.0
            machine.prepare()
            kept = store.snapshots("travel/slow/account-1", limit=1_000)
            keys = {key.id for key in store.kernel.snapshot_keys.known()}
            digests = [(s.position, msgspec.msgpack.decode(s.state)[1]) for s in kept]
            return {at for at, found in digests if keys & {key_id for key_id, _ in found}}

    with at_home(tmp_path / "ann"):
        anns = waypoints()
    with at_home(tmp_path / "bob"):
        assert waypoints() & anns
    with at_home(tmp_path / "ann"):
        assert waypoints() >= anns > set()


def test_what_others_leave_behind_does_not_gather(path: Path, tmp_path: Path) -> None:
    """A container has a new home each time: of a few of them the newest is kept."""
    for number in range(12):
        with at_home(tmp_path / f"home-{number}"), open_store(path, events=[Moved]) as store:
            accounts = Repository(store, balance, retention=Retention(snapshots=2))
            for _ in range(3):
                store.append("account-1", [Moved(1)])
                accounts.snapshot(accounts.load("account-1"))
            assert len(store.snapshots("balance/account-1", limit=100)) <= 2 + 3
            assert accounts.load("account-1").since.events == 0


def test_who_only_reads_makes_no_key(path: Path, tmp_path: Path) -> None:
    home = tmp_path / "reader"
    with at_home(home):
        assert load(path, read_only=True) == 100
    assert not home.exists()


def test_the_key_is_its_owners_alone_and_apart_from_the_store(path: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with at_home(home):
        load(path)
        key = home / "everwhen" / "snapshots.key"
        assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    secret = key.read_text().split()[-1]
    assert secret.encode() not in path.read_bytes()
    with at_home(home):
        found = SnapshotKeys(str(path)).known()
    assert found[0].secret.hex() not in repr(found)


def test_threads_make_one_key(path: Path, tmp_path: Path) -> None:
    together = threading.Barrier(8)
    found: list[SnapshotKey] = []

    def make() -> None:
        keys = SnapshotKeys(str(path))
        together.wait(PATIENCE_SECONDS)
        found.append(keys.newest())

    with at_home(tmp_path / "home"):
        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(found), len(set(found))) == (8, 1)
        assert found[0].secret in {key.secret for key in SnapshotKeys(str(path)).known()}


def exposed(key: Path) -> None:
    key.parent.mkdir(parents=True)
    KeyFile.create(key)
    key.chmod(0o644)


def no_key(key: Path) -> None:
    key.parent.mkdir(parents=True)
    key.write_text("nothing of the kind\n")
    key.chmod(0o600)


def no_folder(key: Path) -> None:
    key.parents[1].mkdir(parents=True)
    key.parent.write_text("in the way")


@pytest.mark.parametrize("spoil", [exposed, no_key, no_folder])
def test_without_a_key_file_snapshots_are_the_processs_own(
    path: Path, tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """No error, and no trust: what cannot be kept in secret is not relied on."""
    home = tmp_path / "home"
    spoil(home / "everwhen" / "snapshots.key")
    with at_home(home), caplog.at_level(logging.WARNING, logger="everwhen"):
        assert [load(path), load(path)] == [100, 0]
    assert caplog.text.count("only used by the process that took them") == 1
    with at_home(tmp_path / "another"):
        assert load(path) == 100


def test_without_a_home(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert [load(path), load(path)] == [100, 0]
    assert "no home folder" in caplog.text


def test_a_branch_believes_its_stores_snapshots(path: Path) -> None:
    with open_store(path, events=[Moved]) as store, store.create_branch("what-if") as branch:
        assert Repository(branch, balance).load("account-1").since.events == 0


def test_a_store_in_memory_needs_no_key(tmp_path: Path) -> None:
    with at_home(tmp_path / "home"), open_store("memory:", events=[Moved]) as store:
        store.append("account-1", [Moved(1)])
        accounts = Repository(store, balance)
        accounts.snapshot(accounts.load("account-1"))
        assert accounts.load("account-1").since.events == 0
    assert not (tmp_path / "home").exists()
