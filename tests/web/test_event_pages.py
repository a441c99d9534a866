"""Pages of events over HTTP: every event once, in each form, under a tag that tells the truth."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.web.serving import served_store

from everwhen import Commit, Event, EventTypes, NewEvent, Query, UnknownEvent, Write, open_store
from everwhen.codec import Upcast
from everwhen.codec.json_encoding import encode_json
from everwhen.exchange.json_forms import event_form
from everwhen.vocabulary import CommitMetadata
from everwhen.web.access import OpenAccess
from everwhen.web.event_texts import event_text

EVENTS = 300


class Sold(Event):
    schema_version = 2

    item: str


def split(old: dict[str, Any]) -> list[UnknownEvent]:
    return [UnknownEvent("Sold", {"item": item}, 2) for item in old["items"]]


TYPES = EventTypes(Sold, upcasts=[Upcast("Sold", 1, split, into=("Sold",))])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("pages") / "shop.db")
    with open_store(found) as store:
        for number in range(EVENTS):
            new = NewEvent(
                event=UnknownEvent(
                    "Even" if number % 2 == 0 else "Odd", {"number": number, "é": "☃\n"}
                ),
                tags=(f"ten:{number // 10}",),
                occurred_at=datetime(2026, 1, 1, tzinfo=UTC) if number % 7 == 0 else None,
                extras={"note": number} if number % 5 == 0 else {},
            )
            metadata = CommitMetadata(user_id="ann") if number % 3 == 0 else None
            store.append(f"order-{number % 4}", [new], metadata=metadata)
    return found


@pytest.fixture(scope="module")
def client(path: str) -> Iterator[httpx2.Client]:
    with served_store(path, access=OpenAccess({"read", "append"})) as found:
        yield found


def read(path: str, query: Query) -> list[dict[str, Any]]:
    with open_store(path, read_only=True) as store:
        return [msgspec.json.decode(msgspec.json.encode(event_form(e))) for e in store.read(query)]


def all_pages(client: httpx2.Client, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    url: str | None = str(httpx2.URL("/v1/events", params=asked))
    while url is not None:
        page = client.get(url).raise_for_status().json()
        found += page["events"]
        url = page["next"]
    return found


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({}, Query()),
        ({"order": "backwards"}, Query().backwards()),
        ({"after": 20, "before": 90}, Query().after(20).up_to(89)),
        (
            {"after": 20, "before": 90, "order": "backwards"},
            Query().after(20).up_to(89).backwards(),
        ),
        ({"type": "Odd", "category": "order"}, Query().types("Odd").category("order")),
        ({"stream": ["order-1", "order-2"]}, Query().stream("order-1", "order-2")),
        ({"tag": "ten:4"}, Query().tags("ten:4")),
        ({"as_of": "2026-01-02"}, Query().as_of(datetime(2026, 1, 2, tzinfo=UTC))),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
def test_pages_are_what_a_read_gives(
    client: httpx2.Client, path: str, asked: dict[str, Any], query: Query
) -> None:
    assert all_pages(client, **asked, limit=7) == read(path, query)


def test_a_condition_is_asked_of_all_history(client: httpx2.Client, path: str) -> None:
    where = 'event.number % 50 == 3 || (recorded.user == "ann" && event.number > 297)'
    found = all_pages(client, where=where, limit=2)
    wanted = [3, 53, 103, 153, 203, 253]
    assert [event["data"]["number"] for event in found] == wanted
    back = all_pages(client, where=where, limit=2, order="backwards")
    assert back == found[::-1]


def test_a_rare_condition_stops_for_a_while_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with open_store(path, durable=False) as store:
        for start in range(0, 45_000, 1_000):
            store.append("s", [UnknownEvent("T", {"n": start + n}) for n in range(1_000)])
    with served_store(path) as client:
        page = client.get("/v1/events", params={"where": "event.n == 44999"}).json()
        assert page["events"] == []
        assert 20_000 <= page["end"] < 45_000
        found = all_pages(client, where="event.n == 44999")
        assert [event["position"] for event in found] == [45_000]


def test_the_other_forms_say_the_same(client: httpx2.Client, path: str) -> None:
    asked = {"limit": 50, "after": 10}
    events = client.get("/v1/events", params=asked).json()["events"]
    lines = client.get("/v1/events", params=asked, headers={"Accept": "application/x-ndjson"})
    assert [msgspec.json.decode(line) for line in lines.text.splitlines()] == events
    assert lines.links["next"]["url"] == client.get("/v1/events", params=asked).json()["next"]
    batch = client.get(
        "/v1/events",
        params=asked,
        headers={"Accept": "application/cloudevents-batch+json, */*;q=0.1"},
    )
    assert batch.headers["content-type"] == "application/cloudevents-batch+json"
    assert [int(event["ewposition"]) for event in batch.json()] == [e["position"] for e in events]
    assert [event["data"] for event in batch.json()] == [e["data"] for e in events]
    refused = client.get("/v1/events", headers={"Accept": "text/html"})
    assert (refused.status_code, refused.json()["type"].partition("#")[2]) == (
        406,
        "not-acceptable",
    )


def test_a_full_page_keeps_its_tag_and_the_last_one_has_the_head(client: httpx2.Client) -> None:
    full, last = "/v1/events?limit=100", "/v1/events?limit=500"
    tags = {url: client.get(url).headers["etag"] for url in (full, last)}
    for url, tag in tags.items():
        answer = client.get(url, headers={"If-None-Match": f'"x", {tag}'})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert client.get(last).json()["end"] == int(tags[last].strip('"').rpartition("-")[2])
    other = client.get(
        last, headers={"If-None-Match": tags[last], "Accept": "application/x-ndjson"}
    )
    assert other.status_code == 200
    new = {"events": [{"type": "New", "data": {}}]}
    client.post("/v1/streams/tagged/events", json=new).raise_for_status()
    assert client.get(full, headers={"If-None-Match": tags[full]}).status_code == 304
    assert client.get(last, headers={"If-None-Match": tags[last]}).status_code == 200


def test_what_an_upcast_made_of_one_event_is_on_one_page(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with open_store(path) as store:
        for number in range(4):
            items = [f"{number}{letter}" for letter in "abc"]
            store.append("s", [UnknownEvent("Sold", {"items": items})])
    with served_store(path, opened={"events": TYPES}) as client:
        for asked in ({"limit": 2}, {"limit": 2, "order": "backwards"}):
            found = all_pages(client, **asked)
            assert sorted(event["data"]["item"] for event in found) == [
                f"{number}{letter}" for number in range(4) for letter in "abc"
            ]


def test_an_event_is_the_same_text_however_it_is_made() -> None:
    quoted = Write('a"é-1', [UnknownEvent('T\u00e9"', {"x": "\n"}), UnknownEvent("U", {})])
    with open_store("memory:") as store:
        store.commit(
            Commit([Write("b-1", [NewEvent(event=UnknownEvent("T", {}), tags=("k:1",))]), quoted])
        )
        store.append("b-1", [UnknownEvent("T", {})])
        store.append("b-1", [NewEvent(event=UnknownEvent("T", {}), extras={"by": 1})])
        store.append("b-1", [UnknownEvent("T", {})], metadata=CommitMetadata(user_id="ann"))
        for _ in range(2):  # as made, and as kept
            for event in store.read():
                assert event_text(event) == encode_json(event_form(event))
