"""The application inside another one, its compressed answers, and what ends a request."""

from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fastapi
import httpx2
import pytest
import zstandard
from tests.web.endless import ENDLESS
from tests.web.serving import hosted, lazily, served

from everwhen import UnknownEvent, open_store
from everwhen.audit import AuditEntry
from everwhen.privacy import PLAINTEXT
from everwhen.web import OpenAccess, RequestLimits, TokenAccess, application, new_token
from everwhen.web.api import ENDPOINTS

SECRET, TOKEN = new_token("anna", {"read", "append"})
BEARER = {"Authorization": f"Bearer {SECRET}"}
EVENT = {"events": [{"type": "Placed", "data": {"amount": 9}}]}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("mounted") / "shop.db"
    with open_store(made, events=[AuditEntry], vault=PLAINTEXT) as store:
        for number in range(1, 41):
            store.append("order-a/b", [UnknownEvent("Placed", {"amount": number})])
    return made


class _TakingThePrefix:
    """Mounts as Litestar does: the prefix is taken off the decoded path, and said nowhere."""

    def __init__(self, mounted: Any) -> None:
        self._mounted = mounted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI)."""
        await self._mounted(
            {**scope, "path": scope["path"].removeprefix("/in/here"), "root_path": ""},
            receive,
            send,
        )


def in_fastapi(path: Path) -> Any:
    """A FastAPI application with this one below /in/here."""

    @asynccontextmanager
    async def lifespan(outer: fastapi.FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            made = await opened.enter_async_context(hosted(path, access=TokenAccess([TOKEN])))
            outer.mount("/in/here", made)
            yield

    outer = fastapi.FastAPI(lifespan=lifespan)

    @outer.get("/own")
    def own() -> str:
        return "own"

    return outer


def taking_the_prefix(path: Path) -> Any:
    inner = lazily(hosted(path, access=TokenAccess([TOKEN])))
    mounted = _TakingThePrefix(inner)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (inner if scope["type"] == "lifespan" else mounted)(scope, receive, send)

    return app


@pytest.fixture(scope="module", params=[in_fastapi, taking_the_prefix])
def mounted(request: pytest.FixtureRequest, path: Path) -> Iterator[httpx2.Client]:
    with served(request.param(path)) as url, httpx2.Client(base_url=url) as client:
        yield client


def test_below_a_prefix_it_is_the_same(mounted: httpx2.Client) -> None:
    page = mounted.get("/in/here/v1/events?limit=3", headers=BEARER).json()
    assert page["next"].startswith("/in/here/v1/events?")
    following = mounted.get(page["next"], headers=BEARER).json()
    assert [event["position"] for event in following["events"]] == [4, 5, 6]
    one = mounted.get("/in/here/v1/streams/order-a%2Fb", headers=BEARER).json()
    assert (one["stream"], one["version"]) == ("order-a/b", 40)
    assert mounted.get("/in/here/v1/nothing", headers=BEARER).status_code == 404
    assert mounted.get("/in/here/v1").status_code == 401


def test_below_a_prefix_a_session_works_as_well(mounted: httpx2.Client) -> None:
    begun = mounted.post("/in/here/v1/session", headers=BEARER)
    cookie = begun.headers["set-cookie"].partition(";")[0]
    assert mounted.get("/in/here/v1", headers={"Cookie": cookie}).json()["caller"] == "anna"


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[httpx2.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "ENDPOINTS", (*ENDPOINTS, ENDLESS))
        app = hosted(path, access=OpenAccess())
        with served(lazily(app)) as url, httpx2.Client(base_url=url) as found:
            yield found


def as_sent(client: httpx2.Client, where: str, accepted: str) -> tuple[str | None, bytes]:
    """An answer's encoding, and the bytes that came."""
    with client.stream("GET", where, headers={"Accept-Encoding": accepted}) as answer:
        return answer.headers.get("content-encoding"), b"".join(answer.iter_raw())


def test_large_answers_are_compressed_where_they_may_be(client: httpx2.Client) -> None:
    encoding, plain = as_sent(client, "/v1/events", "identity")
    assert (encoding, len(plain) > 1024) == (None, True)
    for asked, given in (("gzip, deflate", "gzip"), ("gzip, deflate, br, zstd", "zstd")):
        encoding, sent = as_sent(client, "/v1/events", asked)
        assert encoding == given
        assert len(sent) < len(plain) / 2
        opened = (
            gzip.decompress(sent)
            if given == "gzip"
            else zstandard.ZstdDecompressor().decompressobj().decompress(sent)
        )
        assert opened == plain
    assert as_sent(client, "/v1/healthz", "gzip, zstd")[0] is None


@pytest.mark.parametrize("accepted", ["gzip", "zstd"])
def test_live_answers_are_never_compressed(client: httpx2.Client, accepted: str) -> None:
    with client.stream("GET", "/v1/endless", headers={"Accept-Encoding": accepted}) as live:
        assert "content-encoding" not in live.headers
        assert next(live.iter_raw()) == b"id: 1\n\n"


@pytest.mark.attack(
    "a request whose body never ends holds up a place for ever",
    about="web",
    answer="it ends after a time; of a change it is recorded that its outcome is open",
)
def test_a_request_has_its_time(path: Path) -> None:
    access, limits = TokenAccess([TOKEN]), RequestLimits(request_seconds=0.2)
    app = hosted(path, audit="here", access=access, limits=limits)
    with served(lazily(app)) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as sending:
            sending.sendall(
                f"POST /v1/streams/s/events HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {SECRET}\r\nContent-Type: application/json\r\n"
                "Content-Length: 10\r\n\r\n".encode()
            )
            assert sending.recv(12) == b"HTTP/1.1 503"
    with open_store(path, events=[AuditEntry], vault=PLAINTEXT) as store:
        last = [found.event for found in store.read()][-1]
    assert isinstance(last, AuditEntry)
    assert (last.user, last.details["outcome"], last.result.value) == ("anna", "open", "Failure")


def test_a_change_that_cannot_be_audited_is_said_to_be_so(tmp_path: Path) -> None:
    full = tmp_path / "shop.db"
    app = hosted(full, audit="closed", access=TokenAccess([TOKEN]))
    with served(lazily(app)) as url, httpx2.Client(base_url=url, headers=BEARER) as client:
        where = "/v1/streams/s/events"
        lost = client.post(where, json=EVENT)
        assert lost.status_code == 500
        assert lost.json()["type"].endswith("#unaudited")
        assert "answered with status 201" in lost.json()["detail"]
        again = client.post(where, json=EVENT, headers={"If-Match": '"7"'})
        assert again.json()["type"].endswith("#unaudited"), "a refusal needs its entry, too"
