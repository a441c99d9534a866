"""The HTTP API end to end: a store in a file, a server, and a client that knows only HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.web.serving import served_store

from everwhen import UnknownEvent, open_store
from everwhen.web.access import OpenAccess


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    path: Path = tmp_path_factory.mktemp("web") / "shop.db"
    with open_store(path) as store:
        for number in range(1, 6):
            store.append("order-a/b", [UnknownEvent("Placed", {"amount": number})])
    with served_store(path, access=OpenAccess({"read", "append"})) as found:
        yield found


def test_a_page_leads_to_the_next_and_the_last_one_says_so(client: httpx2.Client) -> None:
    page = client.get("/v1/events", params={"limit": 3}).json()
    assert [event["position"] for event in page["events"]] == [1, 2, 3]
    following = client.get(page["next"]).json()
    assert [event["data"]["amount"] for event in following["events"]] == [4, 5]
    assert following["next"] is None


def test_a_name_with_a_slash_is_one_segment(client: httpx2.Client) -> None:
    found = client.get("/v1/streams/order-a%2Fb").json()
    assert (found["stream"], found["version"]) == ("order-a/b", 5)
    assert client.get("/v1/branches/main/streams/order-a%2Fb").json() == found


def test_a_state_is_that_of_its_moment(client: httpx2.Client) -> None:
    asked = {"stream": "order-a/b", "at": "v2"}
    assert client.get("/v1/states/document", params=asked).json()["state"]["data"] == {"amount": 2}


def test_an_append_at_a_version_that_is_past_changes_nothing(client: httpx2.Client) -> None:
    events = {"events": [{"type": "Placed", "data": {"amount": 9}}]}
    answer = client.post("/v1/streams/other/events", json=events, headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    again = client.post("/v1/streams/other/events", json=events, headers={"If-None-Match": "*"})
    problem = again.json()
    assert (again.status_code, problem["actual"], problem["stream"]) == (412, 1, "other")
    assert client.get("/v1/streams/other").json()["version"] == 1


def test_the_document_names_each_path_and_can_be_made(client: httpx2.Client) -> None:
    document = client.get("/v1/openapi.json").raise_for_status().json()
    assert {"/v1/events/live", "/v1/commits", "/v1/density"} <= document["paths"].keys()
