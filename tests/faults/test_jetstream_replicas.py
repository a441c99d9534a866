"""A replica that is damaged, or another history's, stops; so does a log that is full, for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats as nats_client
import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import NatsCluster, nats_cluster
from tests.patience import PATIENCE_SECONDS

from everwhen import Store, open_store
from everwhen.backends.jetstream import engine, subject_log
from everwhen.backends.jetstream.messages import new_message
from everwhen.errors import (
    CorruptStoreError,
    NewerStoreError,
    NotAStoreError,
    StorageError,
    StorageFullError,
)


class Place:
    """A store on a server, what its stream has, and replicas of it."""

    def __init__(self, nats: NatsCluster, folder: Path) -> None:
        self._nats, self._folder = nats, folder
        self.name = nats.new_name()

    def file(self, replica: str) -> Path:
        return self._folder / f"{replica}.db"

    def open(self, replica: str, **options: Any) -> Store:
        url = self._nats.url(self.name, self.file(replica))
        return open_store(url, events=[Entry], **options)

    def api(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What JetStream answers."""
        found: dict[str, Any] = json.loads(
            self._asked(f"$JS.API.STREAM.{call}.EW_{self.name}", json.dumps(body or {}).encode())
        )
        assert "error" not in found, found
        return found

    def publish(self, data: bytes) -> None:
        """Write a message into the log, past all that writers look at."""
        assert b'"seq"' in self._asked(f"ew.{self.name}.log.main", data)

    def _asked(self, subject: str, data: bytes) -> bytes:
        async def asked() -> bytes:
            client = await nats_client.connect(f"nats://127.0.0.1:{self._nats.nodes[0].port}")
            try:
                return (await client.request(subject, data, 10)).data
            finally:
                await client.close()

        return asyncio.run(asked())

    def messages(self) -> int:
        """With one for each replica, by which it registered."""
        return int(self.api("INFO")["state"]["messages"])

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api("INFO")["config"]
        return found


@pytest.fixture
def place(nats: NatsCluster, tmp_path: Path) -> Place:
    return Place(nats, tmp_path)


def written(store: Store, *keys: str) -> None:
    for key in keys:
        store.append("s", entries(key, 1))


def keys_of(store: Store) -> list[str]:
    return [event.event.commit for event in store.read()]


# Damaged files


def zeroed(content: bytes) -> bytes:
    return bytes(4096) + content[4096:]


def torn(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing_but_noise(content: bytes) -> bytes:
    return b"\x5a" * len(content)


@pytest.mark.parametrize("damaged", [zeroed, torn, nothing_but_noise])
def test_a_damaged_replica_is_refused_and_made_anew_once_it_is_deleted(
    damaged: Callable[[bytes], bytes], place: Place
) -> None:
    with place.open("one") as store:
        written(store, *(f"k{number}" for number in range(50)))
    place.file("one").write_bytes(damaged(place.file("one").read_bytes()))
    with pytest.raises(StorageError, match=r"one\.db.* make it anew: everwhen cluster rebuild URL"):
        written(place.open("one"), "never")
    assert place.messages() == 1 + 50
    place.file("one").unlink()
    with place.open("one") as store:
        assert keys_of(store) == [f"k{number}" for number in range(50)]
        assert store.check() == []


# Another history, and what isn't from a store


def newer(previous: bytes) -> bytes:
    return b"\x7f" + new_message(previous, ())[1][1:]


def noise(previous: bytes) -> bytes:
    return b"\x01 nothing that was compressed"


def of_another_history(previous: bytes) -> bytes:
    return new_message(b"0123456789abcdef", ())[1]


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        (newer, NewerStoreError, "has format 127, .*; upgrade Everwhen on this node"),
        (noise, CorruptStoreError, "can't be read .*; something else writes to this log"),
        (of_another_history, CorruptStoreError, "doesn't follow on message 3, which this"),
    ],
)
def test_a_message_that_cant_be_taken_in_stops_a_replica_for_good(
    message: Callable[[bytes], bytes], error: type[StorageError], said: str, place: Place
) -> None:
    with place.open("one") as store:
        written(store, "a", "b")
        place.publish(message(b""))
        for _ in range(2):
            with pytest.raises(error, match=said):
                written(store, "never")
        with pytest.raises(error, match=said):
            store.head()
    for replica in ("one", "fresh"):
        with pytest.raises(error, match=said):
            place.open(replica)
    assert place.messages() == 1 + 3


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is shorter is believed to be so after a moment."""
    monkeypatch.setattr(subject_log, "_CONFIRMED_SECONDS", 0.5)


def remade(place: Place, *keys: str) -> None:
    """Delete the stream, and make it anew with another history."""
    config = place.config()
    place.api("DELETE")
    place.api("CREATE", config)
    if keys:
        with place.open("other") as other:
            written(other, *keys)


def purged(place: Place, *keys: str) -> None:
    place.api("PURGE", {"filter": f"ew.{place.name}.log.main"})


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("change", "keys", "said"),
    [
        (remade, (), "the log ends at message 0, and this replica has read message 3"),
        (remade, ("x",), "the log ends at message 2, and this replica has read message 3"),
        (remade, ("x", "y", "z"), "doesn't follow on message 3, which this"),
        (purged, (), "the log ends at message 0, and this replica has read message 3"),
    ],
    ids=["remade, empty", "remade, shorter", "remade, longer", "purged"],
)
def test_a_log_that_was_made_anew_stops_a_replica_for_good(
    change: Callable[..., None], keys: tuple[str, ...], said: str, place: Place
) -> None:
    with place.open("one") as store:
        written(store, "a", "b")
        change(place, *keys)
        for _ in range(2):
            with pytest.raises(CorruptStoreError, match=said):
                written(store, "never")
        with pytest.raises(CorruptStoreError, match=said):
            store.head()
    with pytest.raises(CorruptStoreError):
        place.open("one")
    assert place.messages() == bool(keys) + len(keys)


@pytest.mark.parametrize("is_written", [True, False], ids=["written to", "asked"])
def test_a_log_that_was_made_anew_with_as_many_messages_stops_a_replica_for_good(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    """By its number of messages alone, a write would be accepted, and spoil that history."""
    monkeypatch.setattr(engine, "_AGREED_SECONDS", 0.0)
    with place.open("one") as store:
        written(store, "a", "b")
        remade(place, "x", "y")
        for _ in range(2):
            with pytest.raises(CorruptStoreError, match="isn't the one that this replica has"):
                written(store, "never") if is_written else store.receipt(uuid4())
        with pytest.raises(CorruptStoreError, match="isn't the one that this replica has"):
            store.head()
    with place.open("other") as other:
        assert keys_of(other) == ["x", "y"]


def test_a_stream_that_was_deleted_is_said_to_be_gone(place: Place) -> None:
    with place.open("one", busy_timeout=PATIENCE_SECONDS) as store:
        receipt = store.append("s", entries("a", 1))
        place.api("DELETE")
        with pytest.raises(
            NotAStoreError, match=r"no stream EW_\w+ any more, nor what was written"
        ):
            written(store, "never")
        assert store.head().position == receipt.position
        with pytest.raises(NotAStoreError, match="find out who deleted it"):
            store.receipt(uuid4())


def test_where_all_servers_lost_their_disks_a_replica_follows_no_empty_log(place: Place) -> None:
    with place.open("one") as store:
        written(store, "a", "b")
    place.api("DELETE")
    for _ in range(2):
        with pytest.raises(NotAStoreError, match=r"was deleted, .* everwhen copy .*one\.db URL"):
            place.open("one")
    place.open("other").close()
    with pytest.raises(CorruptStoreError, match=r"another history.* a new log from the replica"):
        place.open("one")
    assert place.messages() == 1, "the other's registration"
    with open_store(place.file("one"), events=[Entry], read_only=True) as store:
        assert keys_of(store) == ["a", "b"]


# No room


def filled(store: Store, size: int) -> tuple[list[str], StorageError]:
    """The keys of what was acknowledged before the log was full, and how that was said."""
    done: list[str] = []
    while True:
        key = f"k{len(done)}"
        try:
            store.append("s", entries(key, 1, size))
        except StorageError as error:
            return done, error
        done.append(key)


def test_a_stream_that_is_full_takes_more_once_it_has_room(place: Place) -> None:
    with place.open("one") as store:
        place.api("UPDATE", {**place.config(), "max_bytes": 30_000})
        done, error = filled(store, 20_000)
        assert isinstance(error, StorageFullError)
        assert done
        assert keys_of(store) == done
        with pytest.raises(StorageFullError, match="nothing was written, give it room"):
            store.append("s", entries("never", 1, 20_000))
        place.api("UPDATE", {**place.config(), "max_bytes": -1})
        written(store, "again")
        assert keys_of(store) == [*done, "again"]
    with place.open("fresh") as store:
        assert keys_of(store) == [*done, "again"]
        assert store.check() == []


@pytest.mark.parametrize("size", [1, 3])
def test_servers_that_are_full_take_more_once_they_have_room(size: int, tmp_path: Path) -> None:
    """Of several, one may say so while another has accepted it: then the outcome is open."""
    with nats_cluster(size, room="200KB") as cluster:
        place = Place(cluster, tmp_path)
        with place.open("one", busy_timeout=10.0) as store:
            done, error = filled(store, 2_000)
            assert done
            is_certain = isinstance(error, StorageFullError)
            assert is_certain or "the outcome is open" in str(error)
            for node in cluster.nodes:
                node.give("1GB")
            written(store, "again")
            found = keys_of(store)
            more = [] if is_certain or len(found) == len(done) + 1 else [f"k{len(done)}"]
            assert found == [*done, *more, "again"]
        with place.open("fresh") as store:
            assert keys_of(store) == found
            assert store.check() == []


# Clocks


def test_times_never_step_back_though_the_nodes_clocks_are_minutes_apart(place: Place) -> None:
    apart = {"early": -10, "late": 10, "right": 0}

    def clock_of(minutes: int) -> Callable[[], datetime]:
        return lambda: datetime.now(UTC) + timedelta(minutes=minutes)

    receipts = []
    for turn in range(12):
        name = list(apart)[(turn + turn // 3) % 3]
        with place.open(name, clock=clock_of(apart[name])) as store:
            receipts.append(store.append("s", entries(f"{name}{turn}", 1)))
    told = [receipt.recorded_at for receipt in receipts]
    assert told == sorted(told)
    assert told[-1] - told[0] > timedelta(minutes=15)
    for name in (*apart, "fresh"):
        with place.open(name) as store:
            assert [event.recorded_at for event in store.read()] == told
            assert store.check() == []
