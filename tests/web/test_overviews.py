"""What the page asks for to find its way: where moments are, density, streams, types, categories."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.web.serving import served_store

from everwhen import Commit, UnknownEvent, Write, open_store
from everwhen.web.api.density import _positions, _width

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = [FIRST + timedelta(minutes=n * n) for n in range(60)]
STREAMS = [f"order-{n % 7}" for n in range(50)] + [
    "a",
    "a!b",
    "a-1",
    "a-2",
    "a.c",
    "b",
    "c-é",
    "c-x",
    "d",
    "e",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("overviews") / "shop.db"
    with open_store(found) as store:
        for time, stream in zip(TIMES, STREAMS, strict=True):
            event = UnknownEvent(f"T{len(stream)}", {})
            store.commit(Commit([Write(stream, [event])], recorded_at=time))
    return found


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[httpx2.Client]:
    with served_store(path) as found:
        yield found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("asked", [{}, {"buckets": 7}, {"from": "2026-01-01 02:00", "to": "20"}])
def test_density_counts_each_event_in_its_time(
    client: httpx2.Client, asked: dict[str, Any]
) -> None:
    for _ in range(2):  # the second time much of it is remembered
        found = client.get("/v1/density", params=asked).raise_for_status().json()
        assert len(found["starts"]) <= asked.get("buckets", 200)
        assert found["starts"][1:] == found["ends"][:-1]
        for start, end, position, count in zip(
            found["starts"], found["ends"], found["positions"], found["counts"], strict=True
        ):
            within = [time for time in TIMES if moment(start) <= time < moment(end)]
            assert count == len(within)
            assert position == sum(time < moment(end) for time in TIMES)
    if not asked:
        assert sum(found["counts"]) == len(TIMES)


def test_bisection_asks_nothing_between_equal_positions() -> None:
    asked: list[int] = []

    def position_at(micros: int) -> int:
        asked.append(micros)
        return int(micros >= 700)

    assert _positions(range(1_000), position_at) == [0] * 700 + [1] * 300
    assert len(asked) < 15
    assert _width(0, 10**12, 100) == 3 * 3_600 * 10**6


def test_a_moment_has_a_position(client: httpx2.Client) -> None:
    found = client.get("/v1/positions", params={"at": "2026-01-01 01:00"}).json()
    assert (found["position"], moment(found["recorded_at"])) == (8, TIMES[7])
    assert client.get("/v1/positions", params={"at": "head"}).json()["position"] == len(TIMES)
    assert client.get("/v1/positions", params={"at": "a-2@1"}).json()["position"] == 54
    before = client.get("/v1/positions", params={"at": "2025-01-01"}).json()
    assert before == {"position": 0, "recorded_at": None}
    assert client.get("/v1/positions", params={"at": "soon"}).status_code == 400


def test_streams_are_found_by_a_part_of_their_name(client: httpx2.Client) -> None:
    asked: dict[str, Any] = {"contains": "-", "limit": 4}
    names: list[str] = []
    url: str | None = str(httpx2.URL("/v1/streams", params=asked))
    while url is not None:
        page = client.get(url).json()
        names += [stream["stream"] for stream in page["streams"]]
        assert page["more"] == (page["next"] is not None)
        url = page["next"]
    assert names == sorted({name for name in STREAMS if "-" in name})
    found = client.get("/v1/streams", params={"category": "c", "limit": 2}).json()
    assert ([one["stream"] for one in found["streams"]], found["more"]) == (["c-x", "c-é"], False)
    stream = client.get("/v1/streams/a-1")
    known = client.get("/v1/streams/a-1", headers={"If-None-Match": stream.headers["etag"]})
    assert (stream.headers["etag"], known.status_code) == ('"1"', 304)


def test_types_and_categories_are_listed(client: httpx2.Client) -> None:
    categories = client.get("/v1/categories").json()
    assert categories == {
        "categories": sorted({name.partition("-")[0] for name in STREAMS}),
        "more": False,
    }
    types = client.get("/v1/types").json()
    assert types["sampled"] == len(STREAMS)
    assert {one["type"]: one["events"] for one in types["types"]} == {"T1": 4, "T3": 6, "T7": 50}
