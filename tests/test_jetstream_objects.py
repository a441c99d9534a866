"""Objects on a JetStream server, and those that no message refers to."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats as nats_client
import pytest
from tests.nats_cluster import NatsCluster
from tests.nats_proxy import NatsProxy, nats_proxy
from tests.patience import PATIENCE_SECONDS

from everwhen import Store, UnknownEvent, open_store
from everwhen.backends.jetstream import subject_log
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.large_messages import LargeMessageName, LargeMessages
from everwhen.backends.jetstream.subject_log import SubjectLog
from everwhen.cluster import sweep_objects
from everwhen.errors import StorageFullError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LOG = r"ew\.[^.]+\.log\.main"
DESCRIPTIONS = r"\$O\.[^.]+\.M\..*"
ENDLESS = 10**6


def large(number: int) -> list[UnknownEvent]:
    """The events of a commit that is larger than a message."""
    chance = random.Random(number)
    texts = [chance.randbytes(4_500_000).hex() for _ in range(2)]
    return [UnknownEvent("Stored", {"text": text}) for text in texts]


def small() -> list[UnknownEvent]:
    return [UnknownEvent("Counted", {})]


class Place:
    """A store on the server, and its objects."""

    def __init__(self, nats: NatsCluster, proxy: NatsProxy, folder: Path) -> None:
        self._nats, self._proxy, self._folder = nats, proxy, folder
        self._opened = ExitStack()
        self.name = nats.new_name()
        self.address = ClusterAddress.parsed(self.url("none"))
        self.connection = Connection(self.address, PATIENCE_SECONDS)
        self._opened.callback(self.connection.close)
        self.objects = LargeMessages(
            self.connection, self.address.stream, self.address.copies, PATIENCE_SECONDS
        )

    def url(self, replica: str, *, slow: bool = False) -> str:
        """``slow``: through the proxy."""
        port = self._proxy.port if slow else self._nats.nodes[0].port
        direct = self._nats.url(self.name, self._folder / f"{replica}.db")
        return direct.replace(f":{self._nats.nodes[0].port}/", f":{port}/")

    def open(self, replica: str, *, slow: bool = False) -> Store:
        return self._opened.enter_context(open_store(self.url(replica, slow=slow)))

    def log(self, name: str) -> SubjectLog:
        beside = self.address.beside(name, Path())
        return SubjectLog(self.connection, beside.stream, beside.subject, PATIENCE_SECONDS)

    def in_nats(self, work: Callable[[Any], Any]) -> Any:
        """What is done by nats-py's own client of JetStream."""

        async def done() -> Any:
            client = await nats_client.connect(f"nats://127.0.0.1:{self._nats.nodes[0].port}")
            try:
                return await work(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(done())

    def messages(self) -> int:
        """How many there are of all objects: chunks, descriptions and what else there is."""

        async def counted(context: Any) -> int:
            return int((await context.stream_info(f"OBJ_{self.objects.bucket}")).state.messages)

        return int(self.in_nats(counted))

    def close(self) -> None:
        self._opened.close()


@pytest.fixture
def proxy(nats: NatsCluster) -> Iterator[NatsProxy]:
    with nats_proxy(nats.nodes[0].port) as found:
        yield found


@pytest.fixture
def place(nats: NatsCluster, proxy: NatsProxy, tmp_path: Path) -> Iterator[Place]:
    with closing(Place(nats, proxy, tmp_path)) as found:
        yield found


# Objects


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (9 << 20) + 1], ids=str)
def test_an_object_is_what_was_put_for_nats_own_tools_too(place: Place, size: int) -> None:
    data = random.randbytes(size)
    place.objects.put("a/b.c", b"before")
    place.objects.put("a/b.c", data)
    assert place.objects.read("a/b.c", size) == data
    assert place.objects.size("a/b.c") == size
    assert place.objects.names() == ["a/b.c"]

    async def got(context: Any) -> Any:
        bucket = await context.object_store(place.objects.bucket)
        return await bucket.get("a/b.c")

    assert place.in_nats(got).data == data
    if size:
        assert place.objects.read("a/b.c", size - 1) is None, "more than is allowed"


def test_an_object_that_is_deleted_leaves_nothing(place: Place) -> None:
    assert place.objects.names() == []
    assert place.objects.read("a", 1) is None
    assert place.objects.size("a") is None
    place.objects.delete("a")
    place.objects.put("a", b"1")
    place.objects.put("a.b", b"2")
    place.objects.delete("a")
    place.objects.delete("a")
    assert place.objects.names() == ["a.b"]
    assert place.objects.read("a", 1) is None
    assert place.objects.read("a.b", 1) == b"2"

    place.objects.delete("a.b")
    assert place.messages() == 0


def test_an_object_that_is_half_there_is_none(place: Place) -> None:
    place.objects.put("a", random.randbytes(3 << 20))

    async def lessened(context: Any) -> None:
        stream = f"OBJ_{place.objects.bucket}"
        info = await context.stream_info(stream, subjects_filter="$O.*.C.>")
        (chunks,) = info.state.subjects
        await context.purge_stream(stream, subject=chunks, keep=1)

    place.in_nats(lessened)
    assert place.objects.read("a", 3 << 20) is None
    assert place.objects.names() == ["a"]


def test_a_bucket_that_is_full_says_so_and_keeps_nothing(place: Place) -> None:
    place.objects.put("a", b"1")

    async def limited(context: Any) -> None:
        config = (await context.stream_info(f"OBJ_{place.objects.bucket}")).config
        await context.update_stream(config.evolve(max_bytes=4 << 20))

    place.in_nats(limited)
    with pytest.raises(StorageFullError, match="nothing was written, give it room"):
        place.objects.put("b", random.randbytes(6 << 20))
    assert place.objects.names() == ["a"]
    with place.open("one") as store, pytest.raises(StorageFullError, match="give it room"):
        store.append("s", large(1))
    assert place.objects.names() == ["a"]


@pytest.mark.parametrize("what", ["request", "answer"])
def test_an_object_is_whole_whatever_is_lost_of_it(
    place: Place, proxy: NatsProxy, what: Any
) -> None:
    store = place.open("one", slow=True)
    proxy.lose(what, r"\$O\..*", 3, "cut")
    store.append("s", large(1))
    assert proxy.struck == 3
    assert [event.event for event in place.open("two").read()] == large(1)
    assert len(place.objects.names()) == 1


def test_an_object_that_is_put_again_leaves_nothing_of_the_first_time(
    place: Place, proxy: NatsProxy
) -> None:
    store = place.open("one", slow=True)
    proxy.lose("request", DESCRIPTIONS, 1)
    store.append("s", large(1))
    assert proxy.struck == 1
    (name,) = place.objects.names()
    size = place.objects.size(name) or 0
    assert place.messages() == -(-size // (1 << 20)) + 1
    assert [event.event for event in place.open("two").read()] == large(1)


# Orphans


WRITING = """
import sys
from tests.test_jetstream_objects import large
from everwhen import open_store
with open_store(sys.argv[1]) as store:
    store.append("s", large(7))
"""


def killed_while_writing(place: Place, *, described: bool = False) -> list[str]:
    """A writer through the proxy is killed once there is something new; the names of that.

    Or once that is ``described``, which is the last that is written of an object.
    """

    def is_there(names: list[str]) -> bool:
        new = [name for name in names if name not in before]
        return bool(new) and (not described or place.objects.size(new[0]) is not None)

    before = place.objects.names()
    command = [sys.executable, "-c", WRITING, place.url("killed", slow=True)]
    with subprocess.Popen(command, cwd=ROOT) as writer:
        until = time.monotonic() + PATIENCE_SECONDS
        while not is_there(found := place.objects.names()):
            assert time.monotonic() < until
            assert writer.poll() is None
            time.sleep(0.05)
        writer.kill()
    return [name for name in found if name not in before]


@pytest.mark.parametrize("lost", [LOG, DESCRIPTIONS], ids=["its message", "its description"])
def test_what_a_killed_writer_has_left_is_swept_once_a_message_stands_behind(
    place: Place, proxy: NatsProxy, lost: str
) -> None:
    store = place.open("one")
    store.append("s", large(1))
    place.open("killed", slow=True).close()
    proxy.lose("request", lost, ENDLESS)
    (orphan,) = killed_while_writing(place, described=lost == LOG)
    assert LargeMessageName.parsed(orphan) is not None
    assert sweep_objects(place.url("one")) == [], "it could still be written"
    store.append("s", small())
    (swept,) = sweep_objects(place.url("one"))
    assert swept.name == orphan
    assert (swept.bytes is None) == (lost == DESCRIPTIONS)
    assert len(place.objects.names()) == 1
    assert sweep_objects(place.url("one")) == []
    assert [event.event for event in place.open("two").read()] == [*large(1), *small()]


def test_an_object_whose_message_is_under_way_stays_and_one_that_was_overtaken_goes(
    place: Place, proxy: NatsProxy
) -> None:
    slow, fast = place.open("slow", slow=True), place.open("fast")
    slow.append("s", small())
    for is_overtaken in (False, True):
        before = place.objects.names()
        held = proxy.hold("request", LOG)
        writing = threading.Thread(target=slow.append, args=("s", large(2)))
        writing.start()
        held.come()
        (under_way,) = {*place.objects.names()} - {*before}
        assert sweep_objects(place.url("fast")) == []
        if is_overtaken:
            fast.append("s", small())
            assert [one.name for one in sweep_objects(place.url("fast"))] == [under_way]
        held.release()
        writing.join(PATIENCE_SECONDS)
        proxy.let_be()
        assert sweep_objects(place.url("fast")) == []
    expected = [*small(), *large(2), *small(), *large(2)]
    assert [event.event for event in place.open("late").read()] == expected
    assert len(place.objects.names()) == 2


def test_a_writer_that_was_overtaken_takes_its_object_away_itself(
    place: Place, proxy: NatsProxy
) -> None:
    slow, fast = place.open("slow", slow=True), place.open("fast")
    held = proxy.hold("request", LOG)
    writing = threading.Thread(target=slow.append, args=("s", large(2)))
    writing.start()
    held.come()
    (first,) = place.objects.names()
    fast.append("s", small())
    held.release()
    writing.join(PATIENCE_SECONDS)
    (second,) = place.objects.names()
    assert second != first
    fast.wait_for(3, timeout=PATIENCE_SECONDS)
    assert [event.event for event in fast.read()] == [*small(), *large(2)]


def test_the_objects_of_a_branch_go_with_it(place: Place) -> None:
    store = place.open("one")
    store.append("s", large(1))
    with store.create_branch("what-if") as branch:
        branch.append("s", large(2))
        assert [event.event for event in branch.read()] == [*large(1), *large(2)]
    assert len(place.objects.names()) == 2
    store.delete_branch("what-if")
    (left,) = place.objects.names()
    assert left.startswith("main.")


def test_what_a_deleted_branch_has_left_is_swept_and_a_new_branch_isnt_hurt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_log, "_CONFIRMED_SECONDS", 0.5)
    store = place.open("one")
    store.append("s", small())
    new = uuid4().hex
    with store.create_branch("what-if") as branch:
        branch.append("s", small())
    deleted = store.branches()[0].id
    seq = place.log(deleted).last()
    place.log(deleted).purge()
    left = [str(LargeMessageName(deleted, after, uuid4().bytes)) for after in (0, seq)]
    stays = str(LargeMessageName(new, 0, uuid4().bytes))
    for name in (*left, stays):
        place.objects.put(name, b"anything")
    place.objects.put(f"{new}.9.zzz", b"no message's")
    assert sorted(one.name for one in sweep_objects(place.url("one"))) == sorted(left)
    assert place.objects.names() == sorted([stays, f"{new}.9.zzz"])


def test_what_would_stand_behind_a_message_that_a_log_hasnt_got_stays_but_for_a_branch(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's own log doesn't end before it did, unless somebody is restoring it."""
    monkeypatch.setattr(subject_log, "_CONFIRMED_SECONDS", 0.5)
    store = place.open("one")
    with store.create_branch("what-if") as branch:
        branch.append("s", small())
    stays: list[LargeMessageName] = []
    goes: list[LargeMessageName] = []
    for name in ("main", store.branches()[0].id):
        last = place.log(name).last()
        stays.append(LargeMessageName(name, last, uuid4().bytes))
        beyond = LargeMessageName(name, last + 100, uuid4().bytes)
        (stays if name == "main" else goes).append(beyond)
    for one in (*stays, *goes):
        place.objects.put(str(one), b"anything")
    assert [one.name for one in sweep_objects(place.url("one"))] == [*map(str, goes)]
    assert place.objects.names() == sorted(map(str, stays))
