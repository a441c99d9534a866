"""Live events: everything once and in order, however often and wherever the connection is cut."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.patience import PATIENCE_SECONDS
from tests.web.serving import served_store

from everwhen import Query, Store, UnknownEvent, open_store
from everwhen.aio import open_store as open_async
from everwhen.web import live_hub
from everwhen.web.live_hub import LiveFilter, LiveFollower, LiveHub

Sent = list[dict[str, str]]


def parsed(text: bytes) -> Sent:
    """The server-sent events that came whole; comments are left out."""
    found = []
    for block in text.split(b"\n\n")[:-1]:
        lines = [line.partition(b": ") for line in block.split(b"\n") if not line.startswith(b":")]
        if lines:
            found.append({name.decode(): value.decode() for name, _, value in lines})
    return found


def positions(sent: Sent) -> list[int]:
    return [msgspec.json.decode(one["data"])["position"] for one in sent if "event" not in one]


def last_id(sent: Sent, before: str = "0") -> str:
    return next((one["id"] for one in reversed(sent) if "id" in one), before)


def follow(
    client: httpx2.Client, until: Callable[[bytes], bool], last: str = "0", **asked: Any
) -> bytes:
    """What comes until there is enough of it; then the connection is cut."""
    text = b""
    with client.stream(
        "GET", "/v1/events/live", params=asked, headers={"Last-Event-ID": last}
    ) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            text += piece
            if until(text):
                break
    return text


def is_caught_up(text: bytes) -> bool:
    return any(one.get("event") == "caught-up" for one in parsed(text))


def fill(store: Store, events: int) -> None:
    for number in range(events):
        many = 1 + number % 3
        store.append(f"order-{number % 4}", [UnknownEvent(f"T{number % 2}", {"n": number})] * many)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("live") / "shop.db"
    with open_store(found) as store:
        fill(store, 60)
    return found


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[httpx2.Client]:
    with served_store(path) as found:
        yield found


def test_it_catches_up_says_so_and_goes_on(client: httpx2.Client, path: Path) -> None:
    with open_store(path) as store:
        before = [event.position for event in store.read()]
        text = follow(client, is_caught_up)
        sent = parsed(text)
        assert positions(sent) == before
        assert sent[-1] == {
            "id": str(before[-1]),
            "event": "caught-up",
            "data": f'{{"position":{before[-1]}}}',
        }
        page = client.get("/v1/events", params={"limit": 3}).json()
        assert [msgspec.json.decode(one["data"]) for one in sent[:3]] == page["events"]

        writing = threading.Timer(0, lambda: store.append("new", [UnknownEvent("T0", {})] * 2))

        def until(text: bytes) -> bool:
            if is_caught_up(text) and writing.ident is None:
                writing.start()
            return b"event: head" in text

        # Last-Event-ID goes before the parameter.
        sent = parsed(follow(client, until, str(before[-1]), after=1))
        assert positions(sent) == [before[-1] + 1, before[-1] + 2]
        head = next(one for one in sent if one.get("event") == "head")
        assert msgspec.json.decode(head["data"])["position"] == before[-1] + 2
        writing.join()


def test_cut_at_every_byte_it_goes_on_without_a_gap_or_a_double(client: httpx2.Client) -> None:
    whole = follow(client, is_caught_up)
    wanted = positions(parsed(whole))
    second = whole.index(b"id: ", 4)
    for cut in range(second - 20, second + 40):
        before = parsed(whole[:cut])
        after = parsed(follow(client, is_caught_up, last_id(before)))
        assert positions(before) + positions(after) == wanted, cut


def test_followers_that_are_cut_while_others_write_get_what_a_read_gives(tmp_path: Path) -> None:
    path, events = tmp_path / "busy.db", 150
    found: dict[int, list[int]] = {}

    def follower(number: int, client: httpx2.Client) -> None:
        randomly = random.Random(number)
        got: list[dict[str, Any]] = []
        last = "0"
        wanted = {"type": "T1"} if number % 2 else {}
        while not got or got[-1]["stream"] != "end":
            most = randomly.randint(100, 6_000)

            def is_enough(text: bytes, most: int = most) -> bool:
                return len(text) > most or b'"stream":"end"' in text

            sent = parsed(follow(client, is_enough, last, **wanted))
            got += [msgspec.json.decode(one["data"]) for one in sent if "event" not in one]
            last = last_id(sent, last)
        found[number] = [event["position"] for event in got]

    with open_store(path) as store, served_store(path) as client:
        threads = [threading.Thread(target=follower, args=(n, client)) for n in range(6)]
        for thread in threads:
            thread.start()
        fill(store, events)
        store.append("end", [UnknownEvent("T1", {"End": "End"})])
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        every = [event.position for event in store.read()]
        some = [event.position for event in store.read(Query().types("T1"))]
    for number in range(6):
        assert found[number] == (some if number % 2 else every), number


def test_conditions_and_selections_hold_before_and_after_catching_up(
    client: httpx2.Client, path: Path
) -> None:
    asked = {"where": "event.n % 10 == 1", "category": "order"}
    with open_store(path) as store:
        text = follow(client, is_caught_up, **asked)
        wanted = [
            e.position for e in store.read(Query().category("order")) if e.data["n"] % 10 == 1
        ]
        assert positions(parsed(text)) == wanted
        last = last_id(parsed(text))

        def write() -> None:
            store.append("other-1", [UnknownEvent("T0", {"n": 1})])
            store.append("order-1", [UnknownEvent("T0", {"n": n}) for n in range(3)])

        threading.Timer(0.2, write).start()
        more = follow(client, lambda text: bool(positions(parsed(text))), last, **asked)
        (found,) = positions(parsed(more))
        assert found == store.head().position - 1


def test_who_asks_for_heads_gets_no_event(client: httpx2.Client, path: Path) -> None:
    def is_told(text: bytes) -> bool:
        if b"event: head" not in text and b"caught-up" in text:
            with open_store(path) as store:
                store.append("heads", [UnknownEvent("Seen", {})])
        return b"event: head" in text

    head = client.get("/v1").json()["head"]
    sent = parsed(follow(client, is_told, heads="true"))
    assert {one["event"] for one in sent} == {"caught-up", "head"}
    first, *_, last = (msgspec.json.decode(one["data"])["position"] for one in sent)
    assert first == head
    assert last > head


def test_who_does_not_read_is_sent_away_and_resumes(tmp_path: Path) -> None:
    path, events = tmp_path / "large.db", 150
    with open_store(path) as store, served_store(path) as client:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.settimeout(PATIENCE_SECONDS)
        slow.connect((client.base_url.host, client.base_url.port))
        slow.sendall(b"GET /v1/events/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        text = slow.recv(1)
        while b"caught-up" not in text:
            text += slow.recv(4_096)
        for number in range(events):
            store.append("s", [UnknownEvent("T", {"n": number, "text": "x" * 60_000})])
        while piece := slow.recv(1 << 20):
            text += piece
        slow.close()
        came = text.count(b'"position":') - 1
        assert came < events  # it was sent away, as the end of the answer says
        assert text.endswith(b"0\r\n\r\n")
        rest = parsed(follow(client, is_caught_up, str(came)))
        assert positions(rest) == list(range(came + 1, events + 1))


def test_a_long_silence_is_broken_by_a_comment(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_hub, "COMMENT_SECONDS", 0.3)
    head = client.get("/v1/events?order=backwards&limit=1").json()["events"][0]["position"]
    text = follow(client, lambda text: text.count(b": still here\n\n") == 2, str(head))
    assert [one["event"] for one in parsed(text)] == ["caught-up"]


def test_a_hundred_followers_are_one_look_at_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look() -> None:
        nonlocal looks
        async with await open_async("memory:") as store:
            read = store.kernel.one_page

            async def counted(*asked: Any) -> Any:
                nonlocal looks
                looks += 1
                return await read(*asked)

            monkeypatch.setattr(store.kernel, "one_page", counted)
            hub = LiveHub(store, lambda: None)
            followers = [LiveFollower(LiveFilter(Query(), None, None), 0) for _ in range(100)]
            for follower in followers:
                hub.join(follower, 0)
            await store.append("s", [UnknownEvent("T", {})])
            for follower in followers:
                block = await anext(follower.blocks())
                assert positions(parsed(block)) == [1]
            for follower in followers:
                hub.leave(follower)
            assert hub.position is None

    asyncio.run(look())
    assert 1 <= looks <= 3


SERVER = """
import asyncio, socket, sys
import uvicorn
from everwhen.aio import open_store
from everwhen.web import create_app

async def main():
    async with open_store(sys.argv[1]) as store:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        print(listening.getsockname()[1], flush=True)
        await uvicorn.Server(uvicorn.Config(create_app(store), log_level="error")).serve([listening])

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_server_with_followers_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path / "shop.db")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            with client.stream("GET", "/v1/events/live") as answer:
                pieces = answer.iter_raw()
                assert b"caught-up" in next(pieces)
                os.kill(process.pid, signal.SIGTERM)
                assert parsed(b"".join(pieces)) == []  # it ends as an answer does, unbroken
        assert process.wait(PATIENCE_SECONDS) in (0, -signal.SIGTERM)
