"""Appends over HTTP: once, whole, and by nobody who is mistaken about where a stream is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from starlette.requests import Request
from tests.patience import PATIENCE_SECONDS
from tests.web.serving import served, served_store, store_app

from everwhen import open_store
from everwhen.web.access import Caller, OpenAccess

ONE = {"events": [{"type": "Placed", "data": {"amount": 5}}]}
JSON_EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/till/4",
    "type": "Paid",
    "subject": "order-9",
    "time": "2026-03-01T09:00:00Z",
    "data": {"amount": 7},
    "correlationid": "c-1",
    "causationid": "e-0",
    "region": "eu",
}
READ_AND_APPEND = OpenAccess({"read", "append"})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    path = tmp_path_factory.mktemp("appending") / "shop.db"
    with served_store(path, access=READ_AND_APPEND) as found:
        yield found


def events_of(client: httpx2.Client, stream: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/v1/streams/{stream}/events").json()["events"]
    return found


def test_everything_that_belongs_to_an_event_is_recorded(client: httpx2.Client) -> None:
    event = {
        "type": "Placed",
        "data": {"amount": 5},
        "tags": ["player:ann"],
        "schema_version": 3,
        "occurred_at": "2026-03-01T10:00:00+02:00",
        "event_id": "mine",
        "extras": {"a": [1, None]},
    }
    metadata = {"correlation_id": "c", "causation_id": "d", "user_id": "bob", "source": "web"}
    answer = client.post("/v1/streams/whole/events", json={"events": [event], "metadata": metadata})
    assert answer.status_code == 201
    (found,) = events_of(client, "whole")
    assert {name: found[name] for name in (event | metadata)} == event | metadata
    commit = client.get(answer.headers["location"])
    assert commit.json()["events"] == [found]
    assert commit.json()["commit_id"] == answer.json()["commit_id"]
    again = client.get(
        answer.headers["location"], headers={"If-None-Match": commit.headers["etag"]}
    )
    assert again.status_code == 304


def test_the_name_of_the_token_is_the_user(tmp_path: Path) -> None:
    class Named:
        async def caller(self, request: Request) -> Caller:
            return Caller("carl", frozenset({"read", "append"}))

    with served_store(tmp_path / "shop.db", access=Named()) as client:
        client.post("/v1/streams/s/events", json=ONE).raise_for_status()
        told = {**ONE, "metadata": {"user_id": "somebody else"}}
        client.post("/v1/streams/s/events", json=told).raise_for_status()
        assert [event["user_id"] for event in events_of(client, "s")] == ["carl", "carl"]


@pytest.mark.parametrize("form", ["binary", "structured", "batch"])
def test_cloud_events_are_taken_in_each_form(client: httpx2.Client, form: str) -> None:
    stream, event = f"cloud-{form}", dict(JSON_EVENT)
    url = f"/v1/streams/{stream}/events"
    if form == "binary":
        data = event.pop("data")
        headers = {f"ce-{name}": str(value) for name, value in event.items()}
        answer = client.post(url, json=data, headers=headers)
    elif form == "structured":
        media = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        answer = client.post(
            url, content=httpx2.Request("POST", "/", json=event).read(), headers=media
        )
    else:
        media = {"Content-Type": "application/cloudevents-batch+json"}
        body = httpx2.Request("POST", "http://x/", json=[event]).read()
        answer = client.post(url, content=body, headers=media)
    assert answer.status_code == 201, answer.text
    (found,) = events_of(client, stream)
    assert (found["type"], found["data"], found["event_id"]) == ("Paid", {"amount": 7}, "e-1")
    assert found["occurred_at"] == "2026-03-01T09:00:00+00:00"
    assert (found["correlation_id"], found["causation_id"]) == ("c-1", "e-0")
    assert found["extras"] == {
        "cloudevent": {"subject": "order-9", "source": "/till/4", "region": "eu"}
    }


def test_a_binary_cloud_event_may_have_any_content(client: httpx2.Client) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "p",
        "ce-source": "/camera",
        "ce-type": "Seen",
        "ce-subject": "stra%C3%9Fe",
        "Content-Type": "image/png",
    }
    client.post("/v1/streams/seen/events", content=b"\x89PNG", headers=headers).raise_for_status()
    (found,) = events_of(client, "seen")
    assert found["data"] == {"base64": "iVBORw=="}
    assert found["extras"]["cloudevent"]["subject"] == "straße"
    assert found["extras"]["cloudevent"]["datacontenttype"] == "image/png"


def test_a_page_of_cloud_events_can_be_sent_again(client: httpx2.Client) -> None:
    told: dict[str, Any] = {
        "events": [
            {"type": "A", "data": {"n": 1}, "tags": ["x"], "occurred_at": "2026-01-01T00:00:00Z"},
            {"type": "B", "data": {"n": 2}, "extras": {"e": 1}},
        ],
        "metadata": {"correlation_id": "c", "source": "here", "extras": {"m": 1}},
    }
    client.post("/v1/streams/origin/events", json=told).raise_for_status()
    batch = "application/cloudevents-batch+json"
    page = client.get("/v1/streams/origin/events", headers={"Accept": batch})
    sent = client.post(
        "/v1/streams/copy/events", content=page.content, headers={"Content-Type": batch}
    )
    assert sent.status_code == 201, sent.text
    kept = ("type", "data", "tags", "occurred_at", "event_id", "correlation_id", "source", "extras")
    copies = [[e[name] for name in kept] for e in events_of(client, "copy")]
    assert copies == [[e[name] for name in kept] for e in events_of(client, "origin")]


def test_a_commit_is_whole_or_nothing(client: httpx2.Client) -> None:
    writes: list[dict[str, Any]] = [
        {"stream": "from", "expected": "none", "events": ONE["events"]},
        {"stream": "to", "expected": "none", "events": ONE["events"]},
    ]
    answer = client.post("/v1/commits", json={"writes": writes})
    assert (answer.status_code, answer.json()["versions"]) == (201, {"from": 1, "to": 1})
    writes = [
        {"stream": "from", "expected": 1, "events": ONE["events"]},
        {"stream": "to", "expected": 7},
    ]
    refused = client.post("/v1/commits", json={"writes": writes})
    problem = refused.json()
    assert (refused.status_code, problem["type"].partition("#")[2]) == (409, "conflict")
    assert (problem["stream"], problem["expected"], problem["actual"]) == ("to", 7, 1)
    assert client.get("/v1/streams/from").json()["version"] == 1


def test_a_condition_is_about_what_a_query_selects(client: httpx2.Client) -> None:
    seat = {"events": [{"type": "Taken", "data": {}, "tags": ["seat:4"]}]}
    before = client.post("/v1/streams/plan-1/events", json=seat).json()["position"]
    commit: dict[str, Any] = {
        "writes": [{"stream": "plan-2", **seat}],
        "condition": {"query": {"types": ["Taken"], "tags": ["seat:4"]}, "after": before},
    }
    assert client.post("/v1/commits", json=commit).status_code == 201
    refused = client.post("/v1/commits", json=commit)
    assert (refused.status_code, refused.json()["after"]) == (409, before)
    assert refused.json()["type"].endswith("#condition-failed")
    several = [{"streams": ["nobody"]}, {"categories": ["plan"]}]
    commit["condition"] = {"query": several, "after": before + 1}
    assert client.post("/v1/commits", json=commit).status_code == 201
    assert client.post("/v1/commits", json=commit).status_code == 409


def test_a_key_is_for_one_content_for_ever(client: httpx2.Client) -> None:
    key = {"Idempotency-Key": f'"{uuid4()}"'}
    first = client.post("/v1/streams/once/events", json=ONE, headers=key | {"If-None-Match": "*"})
    second = client.post("/v1/streams/once/events", json=ONE, headers=key | {"If-None-Match": "*"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json() | {"repeated": True}
    other = client.post("/v1/streams/other/events", json=ONE, headers=key)
    assert (other.status_code, other.json()["type"].partition("#")[2]) == (422, "commit-id-used")
    wrong = client.post("/v1/streams/once/events", json=ONE, headers={"Idempotency-Key": "1"})
    assert wrong.status_code == 400
    assert len(events_of(client, "once")) == 1


def test_of_64_who_expect_the_same_version_one_wins_each_time(tmp_path: Path) -> None:
    rounds, clients = 3, 64

    async def race(url: str) -> list[Counter[int]]:
        limits = httpx2.Limits(max_connections=clients)
        async with httpx2.AsyncClient(
            base_url=url, limits=limits, timeout=PATIENCE_SECONDS
        ) as client:
            found = []
            for version in range(rounds):
                match = {"If-Match": f'"{version}"'} if version else {"If-None-Match": "*"}
                answers = await asyncio.gather(
                    *(
                        client.post("/v1/streams/race/events", json=ONE, headers=match)
                        for _ in range(clients)
                    )
                )
                found.append(Counter(answer.status_code for answer in answers))
            return found

    with served(store_app(tmp_path / "shop.db", access=READ_AND_APPEND)) as url:
        assert asyncio.run(race(url)) == [Counter({201: 1, 412: clients - 1})] * rounds
        assert httpx2.get(f"{url}/v1/streams/race").json()["version"] == rounds


def test_one_key_a_thousand_times_writes_once(tmp_path: Path) -> None:
    connections, each = 8, 125
    body = json.dumps(ONE)
    request = (
        f"POST /v1/streams/s/events HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {uuid4()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()

    async def repeat(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        last = request.replace(b"Host:", b"Connection: close\r\nHost:")
        writer.write(request * (each - 1) + last)
        answers = await reader.read(-1)
        writer.close()
        return answers

    async def all_at_once(port: int) -> bytes:
        return b"".join(await asyncio.gather(*(repeat(port) for _ in range(connections))))

    path = tmp_path / "shop.db"
    with served(store_app(path, access=READ_AND_APPEND)) as url:
        answers = asyncio.run(all_at_once(int(url.rpartition(":")[2])))
    statuses = Counter(re.findall(rb"HTTP/1.1 (\d+)", answers))
    assert statuses == {b"200": connections * each - 1, b"201": 1}
    assert set(re.findall(rb'"position":(\d+)', answers)) == {b"1"}
    with open_store(path) as store:
        assert store.head().position == 1


KILLED = """
import os, signal, socket, sys
import uvicorn
from everwhen.web.access import OpenAccess
from tests.web.serving import store_app

inner = store_app(sys.argv[1], access=OpenAccess({"read", "append"}))

async def app(scope, receive, send):
    async def dying(message):
        if scope["type"] == "http" and scope["method"] == "POST":
            os.kill(os.getpid(), signal.SIGKILL)
        await send(message)
    await inner(scope, receive, dying)

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run([listening])
"""


@pytest.mark.slow
def test_after_a_kill_between_append_and_answer_a_repeat_has_the_receipt(tmp_path: Path) -> None:
    path, key = tmp_path / "shop.db", str(uuid4())
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1/streams/s/events"
        transport = httpx2.HTTPTransport(retries=20)
        with httpx2.Client(transport=transport, timeout=PATIENCE_SECONDS) as client:
            with pytest.raises(httpx2.TransportError):
                client.post(url, json=ONE, headers={"Idempotency-Key": key})
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    with served_store(path, access=READ_AND_APPEND) as client:
        settled = client.get(f"/v1/commits/{key}").json()
        again = client.post("/v1/streams/s/events", json=ONE, headers={"Idempotency-Key": key})
        assert (again.status_code, again.json()["repeated"]) == (200, True)
        assert again.json()["recorded_at"] == settled["recorded_at"]
        assert (again.json()["position"], settled["position"]) == (1, 1)
        assert len(events_of(client, "s")) == 1


CE = "application/cloudevents+json"


@pytest.mark.parametrize(
    ("request_", "status", "name"),
    [
        (("POST", "/v1/streams/s/events", {}, b"{"), 400, "bad-request"),
        (("POST", "/v1/streams/s/events", {}, b'{"events": 3}'), 422, "invalid"),
        (("POST", "/v1/streams/s/events", {}, b'{"events": []}'), 422, "invalid"),
        (("POST", "/v1/streams/s/events", {}, b'{"events": [], "x": 1}'), 422, "invalid"),
        (("POST", "/v1/streams/s/events", {"Content-Type": "text/plain"}, b""), 415, "unsupported-media-type"),
        (("POST", "/v1/streams/s/events", {"Content-Type": CE}, b"{}"), 422, "invalid"),
        (("POST", "/v1/streams/s/events", {"Content-Type": CE}, b"[]"), 422, "invalid"),
        (("POST", "/v1/streams/s/events", {"If-Match": "7"}, b""), 400, "bad-request"),
        (("POST", "/v1/streams/s/events", {"If-None-Match": '"7"'}, b""), 400, "bad-request"),
        (("POST", "/v1/streams/s/events", {"Idempotency-Key": "x"}, b""), 400, "bad-request"),
        (("POST", "/v1/streams/%FF/events", {}, b""), 400, "bad-request"),
        (("POST", "/v1/commits", {}, b'{"writes": []}'), 422, "invalid"),
        (("POST", "/v1/commits", {}, b'{"writes": [{"stream": "", "events": []}]}'), 422, "invalid"),
        (("GET", "/v1/commits/7", {}, b""), 400, "bad-request"),
        (("GET", "/v1/commits/00000000-0000-4000-8000-000000000001", {}, b""), 404, "unknown"),
        (("GET", "/v1/events/0", {}, b""), 400, "bad-request"),
        (("GET", "/v1/events/1000000", {}, b""), 404, "unknown"),
        (("GET", "/v1/events?limit=0", {}, b""), 400, "bad-request"),
        (("GET", "/v1/events?nonsense=1", {}, b""), 400, "bad-request"),
        (("GET", "/v1/events?as_at=soon", {}, b""), 400, "bad-request"),
        (("GET", "/v1/events?where=event.", {}, b""), 400, "expression"),
        (("GET", "/v1/events?where=state.n", {}, b""), 400, "expression"),
        (("GET", "/v1/streams/nobody", {}, b""), 404, "unknown"),
        (("GET", "/v1/streams/nobody/events", {}, b""), 404, "unknown"),
        (("GET", "/v1/branches/nobody/events", {}, b""), 404, "unknown"),
        (("GET", "/v1/nothing", {}, b""), 404, "unknown"),
        (("DELETE", "/v1/events", {}, b""), 405, "method-not-allowed"),
    ],
    ids=lambda given: re.sub(r"[^\w/?=-]+", " ", str(given))[:60],
)  # fmt: skip
def test_an_error_has_its_status_and_its_type(
    client: httpx2.Client, request_: tuple[str, str, dict[str, str], bytes], status: int, name: str
) -> None:
    method, path, headers, content = request_
    json = {} if method == "GET" else {"Content-Type": "application/json"}
    answer = client.request(method, path, content=content, headers=json | headers)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["type"].partition("#")[2]) == (status, name)
    assert problem["status"] == status
    assert problem["detail"]
    assert answer.headers["cache-control"] == "no-store"
