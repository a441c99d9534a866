"""The network between a client and its cluster fails: each commit is written once, or not at all."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import NatsCluster
from tests.nats_proxy import NatsProxy, Way, What, nats_proxy
from tests.patience import PATIENCE_SECONDS
from tests.small_disks import fill, small_disk

from everwhen import NO_STREAM, Commit, Condition, Query, Store, Write, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.replayed_replica import ReplayedReplica
from everwhen.errors import StorageError

LOG = r"ew\.[^.]+\.log\.main"
ASKING = r"\$JS\.API\.STREAM\.MSG\.GET\..*"
ALL = rf"{LOG}|{ASKING}"
ENDLESS = 10**6


def commit(number: int) -> Commit:
    """Over two streams, one of them new, with all that an append may be asked to look at."""
    key = f"k{number}"
    condition = Condition(Query().tags(f"commit:{key}"), 0)
    writes = [
        Write(f"new-{number}", entries(key, 2)[:1], NO_STREAM),
        Write("shared-1", entries(key, 2)[1:]),
    ]
    return Commit(writes, condition=condition, id=UUID(int=number + 1))


@pytest.fixture
def proxy(nats: NatsCluster) -> Iterator[NatsProxy]:
    with nats_proxy(nats.nodes[0].port) as found:
        yield found


class Place:
    """A store on the server, direct and through the proxy."""

    def __init__(self, nats: NatsCluster, proxy: NatsProxy, folder: Path) -> None:
        self._nats, self._proxy, self._folder = nats, proxy, folder
        self.name = nats.new_name()

    def url(self, replica: str = "cut.db") -> str:
        direct = self._nats.url(self.name, self._folder / replica)
        return direct.replace(f":{self._nats.nodes[0].port}/", f":{self._proxy.port}/")

    @contextmanager
    def direct(self) -> Iterator[Store]:
        url = self._nats.url(self.name, self._folder / "direct.db", consistency="fresh")
        with open_store(url, events=[Entry]) as store:
            yield store

    def check(self, numbers: list[int], elsewhere: int = 0) -> None:
        """Those commits are in the log, in that order, each once; and a registration a replica.

        Of the replicas some were ``elsewhere``.
        """
        with self.direct() as store:
            keys = [event.event.commit for event in store.read()]
            assert keys == [f"k{number}" for number in numbers for _ in range(2)]
            assert store.check() == []
        replicas = len([*self._folder.glob("*.db")]) + elsewhere
        assert self.messages() == replicas + len(numbers)

    def messages(self) -> int:
        """How many the stream has."""
        asking = HTTPConnection("127.0.0.1", self._nats.nodes[0].monitor)
        asking.request("GET", "/jsz?streams=1")
        said = json.loads(asking.getresponse().read())
        asking.close()
        streams = {
            found["name"]: int(found["state"]["messages"])
            for account in said["account_details"]
            for found in account["stream_detail"]
        }
        return streams[f"EW_{self.name}"]


@pytest.fixture
def place(nats: NatsCluster, proxy: NatsProxy, tmp_path: Path) -> Place:
    return Place(nats, proxy, tmp_path)


@pytest.mark.parametrize("way", ["lose", "cut"])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("what", ["request", "answer"])
def test_a_commit_is_written_once_whatever_is_lost_of_it(
    what: What, times: int, way: Way, proxy: NatsProxy, place: Place
) -> None:
    with open_store(place.url(), events=[Entry]) as store:
        store.commit(commit(0))
        proxy.lose(what, ALL, times, way)
        receipt = store.commit(commit(1))
        assert (receipt.position, receipt.repeated) == (4, False)
        assert proxy.struck == times
        proxy.let_be()
        again = store.commit(commit(1))
        assert (again.position, again.repeated) == (4, True)
        assert store.commit(commit(2)).position == 6
    place.check([0, 1, 2])


@pytest.mark.parametrize("what", ["request", "answer"])
def test_a_commit_is_written_once_when_a_message_of_it_is_late(
    what: What, proxy: NatsProxy, place: Place
) -> None:
    """The late one is sent again meanwhile, or asked for: then there are two."""
    with open_store(place.url(), events=[Entry]) as store, ThreadPoolExecutor() as pool:
        store.commit(commit(0))
        held = proxy.hold(what, LOG)
        writing = pool.submit(store.commit, commit(1))
        held.come()
        with pytest.raises(TimeoutError):
            writing.result(2.5)  # twice what an answer is waited for
        held.release()
        assert writing.result(PATIENCE_SECONDS).position == 4
        assert store.commit(commit(1)).repeated
        assert store.commit(commit(2)).position == 6
    place.check([0, 1, 2])


@pytest.mark.parametrize(("what", "was_written"), [("request", False), ("answer", True)])
def test_a_commit_of_which_nothing_is_heard_is_open_and_can_be_repeated(
    what: What, *, was_written: bool, proxy: NatsProxy, place: Place
) -> None:
    with open_store(place.url(), events=[Entry], busy_timeout=2.0) as store:
        store.commit(commit(0))
        proxy.lose(what, ALL, ENDLESS)
        with pytest.raises(StorageError, match="the outcome is open, repeat the commit with the"):
            store.commit(commit(1))
        assert store.head().position == 2, "what is open isn't shown as written"
        proxy.let_be()
        receipt = store.commit(commit(1))
        assert (receipt.position, receipt.repeated) == (4, was_written)
    place.check([0, 1])


def test_a_request_that_arrives_after_its_caller_has_given_up_is_written_once(
    proxy: NatsProxy, place: Place
) -> None:
    with (
        open_store(place.url(), events=[Entry], busy_timeout=2.0) as store,
        place.direct() as other,
    ):
        store.commit(commit(0))
        held = proxy.hold("request", LOG)
        with pytest.raises(StorageError, match="the outcome is open"):
            store.commit(commit(1))
        assert other.commit(commit(2)).position == 4, "what is late is refused behind it"
        held.release()
        assert store.commit(commit(1)).position == 6
        assert store.commit(commit(2)).repeated
    place.check([0, 2, 1])


def test_a_commit_that_another_one_overtakes_while_it_is_under_way_comes_after_it(
    proxy: NatsProxy, place: Place
) -> None:
    with (
        open_store(place.url(), events=[Entry]) as store,
        place.direct() as other,
        ThreadPoolExecutor() as pool,
    ):
        held = proxy.hold("request", LOG)
        writing = pool.submit(store.commit, commit(0))
        held.come()
        assert other.commit(commit(1)).position == 2
        held.release()
        assert writing.result(PATIENCE_SECONDS).position == 4
    place.check([1, 0])


# Between the acknowledgement and the replica's own commit


WRITING = """
import sys
from tests.faults.faults_ledger import Entry
from tests.faults.test_jetstream_cuts import commit
from everwhen import open_store
with open_store(sys.argv[1], events=[Entry]) as store:
    store.commit(commit(0))
    print("written", flush=True)
    sys.stdin.readline()
    store.commit(commit(1))
"""


def test_a_client_killed_before_it_hears_of_its_commit_finds_it_when_it_is_back(
    proxy: NatsProxy, place: Place
) -> None:
    command = [sys.executable, "-c", WRITING, place.url()]
    piped = subprocess.PIPE
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=piped, stdout=piped, cwd=root) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline() == b"written\n"
        held = proxy.hold("answer", LOG)
        client.stdin.write(b"\n")
        client.stdin.flush()
        held.come()
        client.kill()
        client.wait()
        held.release()
    with open_store(place.url(), events=[Entry]) as store:
        assert store.head().position == 4
        assert store.commit(commit(1)).repeated
    place.check([0, 1])


def first_failure(store: Store) -> tuple[int, StorageError]:
    """The number of the first commit, from 1, that fails, and how."""
    for number in count(1):
        try:
            store.commit(commit(number))
        except StorageError as error:
            return number, error
    raise AssertionError


def test_a_commit_that_the_replicas_disk_has_no_room_for_is_open_and_in_the_log(
    place: Place, tmp_path: Path
) -> None:
    with small_disk(tmp_path, megabytes=24) as disk:
        url = place.url().replace(str(tmp_path / "cut.db"), str(disk / "cut.db"))
        with open_store(url, events=[Entry]) as store:
            store.commit(commit(0))
            fill(disk / "fill", leaving=0)
            number, error = first_failure(store)
            assert re.search("is in the log, .* repeat the commit with the same", str(error))
            (disk / "fill").unlink()
            receipt = store.commit(commit(number))
            assert (receipt.position, receipt.repeated) == (2 * number + 2, True)
    place.check(list(range(number + 1)), elsewhere=1)


def test_a_commit_that_is_in_the_log_is_said_to_be_where_the_disk_has_no_room_for_it(
    place: Place, tmp_path: Path
) -> None:
    """It is where another node, to which it was handed over, has written it."""
    with small_disk(tmp_path, megabytes=24) as disk:
        url = place.url().replace(str(tmp_path / "cut.db"), str(disk / "cut.db"))
        with place.direct() as writing, open_store(url, events=[Entry]) as store:
            store.commit(commit(0))
            fill(disk / "fill", leaving=0)
            number, is_said = 0, False
            while not is_said:
                writing.commit(commit(1_000 + number))
                number += 1
                assert number < 200
                try:
                    store.commit(commit(number))
                except StorageError as error:
                    is_said = " is in the log" in str(error)
            written = writing.receipt(UUID(int=number + 1))
            assert written is not None
            (disk / "fill").unlink()
            receipt = store.commit(commit(number))
            assert (receipt.position, receipt.repeated) == (written.position, True)


class InterruptedAt:
    """Raises `KeyboardInterrupt` at one line of the backend, in this thread."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __enter__(self) -> InterruptedAt:
        sys.settrace(self._called)
        return self

    def __exit__(self, *failure: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._at if "backends/jetstream" in frame.f_code.co_filename else None

    def _at(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.left -= event == "line"
        if self.left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self._at


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_commit_is_written_once_wherever_an_interrupt_ends_it(place: Place) -> None:
    """And it is repeated; in the log stands what the replica has, too."""
    numbers = []
    with place.direct() as store:
        for line in range(1, 10_000):
            numbers.append(line)
            interrupted = InterruptedAt(line)
            try:
                with interrupted:
                    store.commit(commit(line))
            except KeyboardInterrupt:
                assert store.commit(commit(line)).position == 2 * line
            else:
                break
        assert len(numbers) > 50
    place.check(numbers)


class InterruptedAfter:
    """Raises `KeyboardInterrupt` as one call of what is written in C returns to the method."""

    def __init__(self, method: str, calls: int) -> None:
        self._method = method
        self.left = calls

    def __enter__(self) -> InterruptedAfter:
        sys.setprofile(self._returned)
        return self

    def __exit__(self, *failure: object) -> None:
        sys.setprofile(None)

    def _returned(self, frame: FrameType, event: str, argument: Any) -> None:
        self.left -= event == "c_return" and frame.f_code.co_name == self._method
        if self.left == 0:
            sys.setprofile(None)
            raise KeyboardInterrupt


def test_a_read_that_an_interrupt_ends_leaves_nothing_locked(place: Place) -> None:
    """Wherever it comes while the replica takes in what is new."""
    address = ClusterAddress.parsed(place.url("replayed.db"))
    calls, is_over = 0, False
    with (
        place.direct() as store,
        contextlib.closing(ReplayedReplica(address, patience=PATIENCE_SECONDS)) as replica,
    ):
        while not is_over:
            calls += 1
            receipt = store.commit(commit(calls))
            interrupted = InterruptedAfter("_reach_newest", calls)
            with contextlib.suppress(KeyboardInterrupt), interrupted:
                replica.stored_commit(UUID(int=0).bytes)
            is_locked = replica.lock.mutex.locked()
            if is_locked:
                replica.lock.mutex.release()  # or the test could not even end
            assert not is_locked, calls
            is_over = interrupted.left > 0
            replica.stored_commit(UUID(int=0).bytes)
            assert replica.head().position == receipt.position
    assert calls > 1


def test_an_interrupt_while_an_answer_is_waited_for_leaves_the_commit_open(
    proxy: NatsProxy, place: Place
) -> None:
    with open_store(place.url(), events=[Entry]) as store:
        held = proxy.hold("answer", LOG)

        def interrupt() -> None:
            held.come()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            store.commit(commit(0))
        interrupting.join()
        held.release()
        assert store.commit(commit(0)).repeated
    place.check([0])
