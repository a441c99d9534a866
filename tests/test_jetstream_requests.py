"""Requests: each thread gets its own answer, or hears that there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from tests.nats_cluster import NatsCluster
from tests.patience import PATIENCE_SECONDS

from everwhen import UnknownEvent, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.registration import question_subject
from everwhen.backends.jetstream.subject_log import SubjectLog

pytestmark = pytest.mark.slow


def _listen(connection: Connection, subject: str, heard: Callable[[Msg], None]) -> None:
    """Returns once the server knows that somebody listens."""
    connection.listen(subject, heard)
    connection.request("$JS.API.INFO", b"", PATIENCE_SECONDS)


@pytest.fixture
def address(nats: NatsCluster, tmp_path: Path) -> ClusterAddress:
    return ClusterAddress.parsed(nats.url(nats.new_name(), tmp_path / "replica.db"))


@pytest.fixture
def connection(address: ClusterAddress) -> Iterator[Connection]:
    with closing(Connection(address, PATIENCE_SECONDS)) as found:
        yield found


def test_each_thread_gets_its_own_answer(connection: Connection, address: ClusterAddress) -> None:
    with closing(Connection(address, PATIENCE_SECONDS)) as other:

        def answer(asked: Msg) -> None:
            other.say(asked.reply, asked.data + b"!")

        _listen(other, address.subject, answer)
        texts = [b"%d" % number for number in range(400)]

        def ask(text: bytes) -> bytes:
            return bytes(connection.request(address.subject, text, PATIENCE_SECONDS).data)

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(ask, texts)) == [text + b"!" for text in texts]
    assert not len(connection._open_requests)


def test_a_request_to_nobody_isnt_waited_for(connection: Connection) -> None:
    with pytest.raises(UnansweredError, match="no responders"):
        connection.request("nobody.listens.here", b"", PATIENCE_SECONDS)


def test_what_nobody_answers_ends_in_its_time_and_a_late_answer_is_nobodys(
    connection: Connection, address: ClusterAddress
) -> None:
    heard: list[Msg] = []
    with closing(Connection(address, PATIENCE_SECONDS)) as other:
        _listen(other, address.subject, heard.append)
        with pytest.raises(UnansweredError, match="timeout"):
            connection.request(address.subject, b"1", 0.05)
        _listen(other, f"{address.subject}.2", lambda asked: other.say(asked.reply, b"second"))
        (late,) = heard
        other.say(late.reply, b"first")
        answer = connection.request(f"{address.subject}.2", b"2", PATIENCE_SECONDS)
        assert answer.data == b"second"


def test_closing_ends_what_is_being_waited_for(address: ClusterAddress) -> None:
    asking, silent = (Connection(address, PATIENCE_SECONDS) for _ in "12")
    heard = threading.Event()
    with closing(silent), ThreadPoolExecutor(1) as thread:
        _listen(silent, address.subject, lambda _: heard.set())
        began = time.monotonic()
        waiting = thread.submit(asking.request, address.subject, b"", 10 * PATIENCE_SECONDS)
        assert heard.wait(PATIENCE_SECONDS)
        asking.close()
        with pytest.raises(UnansweredError, match="connection closed"):
            waiting.result(PATIENCE_SECONDS)
        assert time.monotonic() - began < 10 * PATIENCE_SECONDS


class Reconnecting(SubjectLog):
    """Its connection takes a server anew as soon as one has said for the first time that it leads."""

    def __init__(self, connection: Connection, address: ClusterAddress) -> None:
        super().__init__(connection, address.stream, address.subject, PATIENCE_SECONDS)
        self.asked = 0

    def _is_led(self) -> bool:
        is_led = super()._is_led()
        self.asked += is_led
        if is_led and self.asked == 1:
            taken = self._connection.servers_taken
            self._connection._call(self._connection._client.force_reconnect())
            until = time.monotonic() + PATIENCE_SECONDS
            while self._connection.servers_taken == taken:
                assert time.monotonic() < until
                time.sleep(0.01)
        return is_led


def test_what_is_newest_is_asked_again_where_a_server_was_taken_in_between(
    connection: Connection, address: ClusterAddress
) -> None:
    with open_store(address.url) as store:
        store.append("a-1", [UnknownEvent("Happened", {})])
        log = Reconnecting(connection, address)
        newest = log.newest()
    assert newest is not None
    assert newest.seq == 2
    assert log.asked > 1


def test_a_node_is_had_to_write_into_no_log(
    connection: Connection, address: ClusterAddress
) -> None:
    with open_store(address.url) as store:
        store.append("a-1", [UnknownEvent("Happened", {})])
        asked = question_subject(address.subject)

        async def ask(reply: str) -> None:
            await connection._client.publish(asked, b"", reply=reply)

        def is_enough(data: bytes) -> bool:
            answers.append(data)
            return True

        connection._call(ask(address.subject))
        answers: list[bytes] = []
        connection.ask_all(asked, PATIENCE_SECONDS, is_enough)
        assert len(answers) == 1
        store.append("a-1", [UnknownEvent("Happened", {})])
        newest = SubjectLog(connection, address.stream, address.subject, PATIENCE_SECONDS).newest()
        assert newest is not None
        assert newest.seq == 3, "its registration, and two commits"
        assert store.check() == []
