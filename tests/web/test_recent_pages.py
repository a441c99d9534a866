"""Pages that are kept as they were sent: the same until what they show is gone, never after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
from tests.web.serving import served_store

from everwhen import Event, EventTypes, KeyFile, Personal, Store, UnknownEvent, Vault, open_store
from everwhen.tiers._sync.retiring import retired, surveyed
from everwhen.vocabulary.contract import Seal, SegmentSize, StoredSlice
from everwhen.web.access import SCOPES, OpenAccess
from everwhen.web.recent_pages import KeptPage, RecentPages

FORMS = ("application/json", "application/x-ndjson", "application/cloudevents-batch+json")


def fill(store: Store, events: int = 400) -> None:
    for number in range(events):
        store.append(f"order-{number % 4}", [UnknownEvent("Placed", {"number": number})])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with open_store(tmp_path / "shop.db") as store:
        fill(store)
    return tmp_path / "shop.db"


@pytest.fixture
def client(path: Path) -> Iterator[httpx2.Client]:
    with served_store(path, access=OpenAccess(set(SCOPES))) as found:
        yield found


def told(client: httpx2.Client, url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    answer = client.get(url, headers=headers)
    names = ("etag", "link", "content-type", "cache-control", "vary")
    return answer.status_code, answer.content, {n: answer.headers.get(n, "") for n in names}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "asked",
    [
        "events?limit=50",
        "events?limit=50&after=100&category=order",
        "events?limit=5&order=backwards",
        "events?limit=50&where=event.number%20%3E%20200",
        "events?limit=50&as_at=now",
        "events?limit=1000",
        "streams/order-1/events?limit=20",
    ],
)
def test_a_page_that_is_asked_for_again_is_the_same(
    client: httpx2.Client, asked: str, form: str
) -> None:
    first = told(client, f"/v1/{asked}", Accept=form)
    assert first[0] == 200
    for _ in range(2):
        assert told(client, f"/v1/{asked}", Accept=form) == first
    known = told(client, f"/v1/{asked}", Accept=form, **{"If-None-Match": first[2]["etag"]})
    assert (known[0], known[1], known[2]["etag"]) == (304, b"", first[2]["etag"])


def test_what_is_appended_comes_in_where_a_page_was_not_full(client: httpx2.Client) -> None:
    before = {url: told(client, url)[1] for url in ("/v1/events?limit=50", "/v1/events?after=390")}
    new = {"events": [{"type": "New", "data": {}}]}
    client.post("/v1/streams/order-1/events", json=new).raise_for_status()
    after = {url: told(client, url)[1] for url in before}
    assert after["/v1/events?limit=50"] == before["/v1/events?limit=50"]
    assert after["/v1/events?after=390"].count(b'"New"') == 1


def retire(path: Path, wanted: int) -> int:
    """Retire at least so many events, as another process would; the last position that is gone."""
    with open_store(path) as store:
        backend = store.kernel.backend
        size = SegmentSize(slices=50, frame=10, frames=2)
        while backend.move(Seal(store.head().position, size)) is not None:
            pass
        last = next(one.last for one in backend.segments() if one.last >= wanted)
        retired(store, *surveyed(store, last))
        return last


@pytest.mark.attack(
    "a page that was kept shows what was retired meanwhile",
    about="web",
    answer="its first event is asked for again before it is given, and retiring takes that first",
)
@pytest.mark.parametrize("form", FORMS)
def test_what_was_retired_is_no_longer_given(client: httpx2.Client, path: Path, form: str) -> None:
    gone = [
        "/v1/events?limit=30",
        "/v1/events?limit=200",
        "/v1/events?limit=30&after=20",
        "/v1/events?limit=30&category=order",
        "/v1/streams/order-1/events?limit=20",
    ]
    kept = "/v1/events?limit=30&after=350"
    back = "/v1/events?limit=200&order=backwards&before=250"
    tags = {url: told(client, url, Accept=form)[2]["etag"] for url in (*gone, kept, back)}
    left = told(client, kept, Accept=form)
    assert b'"number":60' in told(client, back, Accept=form)[1]
    assert 100 <= retire(path, 100) < 350
    for url in gone:
        assert told(client, url, Accept=form)[0] == 410
        known = {"If-None-Match": tags[url]}
        assert told(client, url, Accept=form, **known)[0] == 410
    assert told(client, kept, Accept=form) == left
    assert b'"number":60' not in told(client, back, Accept=form)[1]


def test_what_moves_to_segments_is_given_as_before(client: httpx2.Client, path: Path) -> None:
    before = told(client, "/v1/events?limit=200")
    with open_store(path) as store:
        while store.kernel.backend.move(Seal(300, SegmentSize(slices=50, frame=10, frames=2))):
            pass
    assert told(client, "/v1/events?limit=200") == before


class Met(Event):
    data_subject: ClassVar[str] = "who"

    who: str
    name: Personal[str]


@pytest.mark.attack(
    "a page that was kept shows what is known of somebody who was forgotten",
    about="web",
    answer="of a store with a vault no page is kept",
)
def test_who_was_forgotten_is_on_no_page(tmp_path: Path) -> None:
    types = EventTypes(Met)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "keys")) as vault:
        with open_store(tmp_path / "shop.db", events=types, vault=vault) as store:
            for number in range(20):
                store.append("met", [Met(who="ann", name=f"Ann {number}")])
        given = {"events": types, "vault": vault}
        with served_store(tmp_path / "shop.db", opened=given) as client:
            for _ in range(2):
                assert told(client, "/v1/events?limit=10")[1].count(b"Ann ") == 10
            vault.forget("ann")
            status, content, _ = told(client, "/v1/events?limit=10")
            assert (status, content.count(b"Ann "), content.count(b'"met"')) == (200, 0, 10)


def test_another_branch_of_the_same_name_has_its_own_pages(client: httpx2.Client) -> None:
    def branch(number: int) -> bytes:
        made = client.post("/v1/branches", json={"name": "try", "at": "100"})
        assert made.status_code == 201, made.text
        new: dict[str, Any] = {"events": [{"type": "Tried", "data": {"number": number}}] * 3}
        where = "/v1/branches/try/streams/order-1/events"
        client.post(where, json=new).raise_for_status()
        found = [told(client, "/v1/branches/try/events?limit=2&after=100")[1] for _ in range(2)]
        assert found[0] == found[1]
        return found[0]

    first = branch(1)
    client.delete("/v1/branches/try").raise_for_status()
    assert client.get("/v1/branches/try/events?limit=2&after=100").status_code == 404
    second = branch(2)
    assert (first.count(b'{"number":1}'), second.count(b'{"number":2}')) == (2, 2)


def test_only_so_many_bytes_are_kept_of_those_asked_for_last() -> None:
    first = StoredSlice(1, "s", 1, 1, 0, bytes(16), 0, None, b"[]")
    pages = RecentPages(most_bytes=4_000)
    for number in range(4):
        pages.keep(number, KeptPage(first, bytes(1_000), str(number), None))
    assert pages.get(0) is not None
    pages.keep(4, KeptPage(first, bytes(1_000), "4", None))
    assert [number for number in range(5) if pages.get(number) is not None] == [0, 2, 3, 4]
    pages.keep(2, KeptPage(first, bytes(1_500), "2", None))
    pages.forget(3)
    pages.keep(5, KeptPage(first, bytes(1_500), "5", None))
    assert [number for number in range(6) if pages.get(number) is not None] == [2, 4, 5]
    pages.keep(6, KeptPage(first, bytes(2 << 20), "6", None))
    assert pages.get(6) is None
