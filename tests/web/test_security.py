"""What must not get through: each test fails when its defence is taken out."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.web.endless import ENDLESS
from tests.web.serving import hosted, lazily, served

from everwhen import Query, UnknownEvent, open_store
from everwhen.audit import AuditEntry
from everwhen.privacy import PLAINTEXT
from everwhen.web import RequestLimits, TokenAccess, application, new_token
from everwhen.web.access import SCOPES
from everwhen.web.api import ENDPOINTS
from everwhen.web.endpoints import Endpoint
from everwhen.web.tokens import AccessToken, read_tokens, token_line

TOKENS: dict[str, tuple[str, AccessToken]] = {
    "everything": new_token("anna@example.com", frozenset(SCOPES)),
    **{scope: new_token(f"for-{scope}", {scope}) for scope in SCOPES},
}
SECRET = TOKENS["everything"][0]
EVENT = {"events": [{"type": "Placed", "data": {"amount": 9}}]}
MOST_BYTES = 100_000


def bearer(name: str = "everything") -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name][0]}"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("web") / "shop.db"
    with open_store(made, events=[AuditEntry], vault=PLAINTEXT) as store:
        for number in range(1, 41):
            store.append("order-1", [UnknownEvent("Placed", {"amount": number})])
    return made


@pytest.fixture(scope="module")
def url(path: Path) -> Iterator[str]:
    app = hosted(
        path,
        audit="here",
        access=TokenAccess([token for _, token in TOKENS.values()]),
        cors=["https://dash.example"],
        limits=RequestLimits(body_bytes=MOST_BYTES, header_bytes=4_000, live_answers=2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "ENDPOINTS", (*ENDPOINTS, ENDLESS))
        with served(lazily(app)) as found:
            yield found


@pytest.fixture
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url) as found:
        yield found


def problem(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].partition("#")[2]


def events_of(path: Path, category: str) -> list[Any]:
    with open_store(path, events=[AuditEntry], vault=PLAINTEXT, read_only=True) as store:
        return [recorded.event for recorded in store.read(Query().category(category))]


def raw(url: str, request: bytes) -> bytes:
    """What a server says to these bytes, until it has nothing more to say."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as sending:
        sending.sendall(request)
        said = b""
        while b"\r\n\r\n" not in said or not said.endswith((b"}", b"0\r\n\r\n")):
            got = sending.recv(65536)
            if not got:
                break
            said += got
        return said


@pytest.mark.attack(
    "a page makes its name lead to this machine (DNS rebinding)",
    about="web",
    answer="a request for a host that isn't on the list is refused",
)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8737",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "2130706433",
        "0.0.0.1",
        "",
    ],
)
def test_a_foreign_host_is_refused(client: httpx2.Client, host: str) -> None:
    answer = client.get("/v1/events", headers={**bearer(), "Host": host})
    assert problem(answer) == (400, "bad-request")


def test_two_hosts_are_none(url: str) -> None:
    said = raw(url, b"GET /v1 HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.attack(
    "a page of another site has the browser ask or change something here",
    about="web",
    answer="Origin and Sec-Fetch-Site tell where it comes from, and it is refused",
)
@pytest.mark.parametrize(
    "whence",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_another_sites_page_is_refused(
    client: httpx2.Client, path: Path, whence: dict[str, str]
) -> None:
    headers = {**bearer(), **whence}
    assert problem(client.get("/v1/events", headers=headers)) == (403, "forbidden")
    posted = client.post("/v1/streams/forged/events", json=EVENT, headers=headers)
    assert problem(posted) == (403, "forbidden")
    assert events_of(path, "forged") == []


def test_another_sites_page_may_link_here_but_not_post(client: httpx2.Client) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    link |= {"Sec-Fetch-Dest": "document", **bearer()}
    assert client.get("/v1", headers=link).status_code == 200
    assert client.post("/v1/streams/s/events", json=EVENT, headers=link).status_code == 403


def test_no_other_origin_reads_answers_unless_it_is_named(client: httpx2.Client) -> None:
    named = client.get("/v1", headers={**bearer(), "Origin": "https://dash.example"})
    assert named.headers["access-control-allow-origin"] == "https://dash.example"
    assert "access-control-allow-credentials" not in named.headers
    asked = {"Origin": "https://dash.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,if-match"
    assert client.options("/v1/commits", headers=asked).status_code == 200
    own = client.get("/v1", headers={**bearer(), "Origin": str(client.base_url).rstrip("/")})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers
    foreign = client.options("/v1/commits", headers={**asked, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.attack(
    "a form of another page posts to it",
    about="web",
    answer="only JSON is taken, which no form can send",
)
@pytest.mark.parametrize(
    "media", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_a_form_changes_nothing(client: httpx2.Client, path: Path, media: str) -> None:
    headers = {**bearer(), "Content-Type": media}
    content = b'{"events":[{"type":"Placed","data":{}}]}'
    answer = client.post("/v1/streams/forged/events", content=content, headers=headers)
    assert problem(answer) == (415, "unsupported-media-type")
    bodiless = client.post("/v1/session", content=content, headers=headers)
    assert bodiless.status_code == 415, "also where no body is read"
    without = client.post("/v1/streams/forged/events", content=content, headers=bearer())
    assert without.status_code == 415
    assert events_of(path, "forged") == []


@pytest.mark.attack(
    "a path climbs out of the folder of static files",
    about="web",
    answer="there is no such file",
)
@pytest.mark.parametrize("folder", ["", "/static", "/v1"])
@pytest.mark.parametrize(
    "up", ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd"]
)
def test_no_path_leads_out(url: str, folder: str, up: str) -> None:
    said = raw(url, f"GET {folder}{up} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert said.split()[1] in {b"400", b"401", b"404"}
    assert b"root:" not in said


@pytest.mark.attack(
    "a body without an end, or too large, fills the memory",
    about="web",
    answer="it is refused at the limit, also without Content-Length",
)
def test_a_body_has_a_limit(client: httpx2.Client, url: str) -> None:
    where, headers = "/v1/streams/large/events", {**bearer(), "Content-Type": "application/json"}
    said = client.post(where, content=b" " * (MOST_BYTES + 1), headers=headers)
    assert problem(said) == (413, "too-large")
    fits = b'{"events":[]' + b" " * (MOST_BYTES - 13) + b"}"
    assert client.post(where, content=fits, headers=headers).status_code != 413
    unfinished = (
        f"POST {where} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"%x\r\n%b\r\n" % (10_000, b" " * 10_000)
    told = raw(url, unfinished.encode() + chunk * (MOST_BYTES // 10_000 + 1))
    assert told.startswith(b"HTTP/1.1 413 "), "before the body has an end"


def test_headers_have_a_limit(client: httpx2.Client) -> None:
    answer = client.get("/v1", headers={**bearer(), "X-Long": "x" * 4_000})
    assert problem(answer) == (431, "headers-too-large")


@pytest.mark.attack(
    "one caller follows until nobody else can",
    about="web",
    answer="each has a number of live answers",
)
def test_live_answers_have_a_limit_for_each_caller(client: httpx2.Client) -> None:
    def follow(name: str) -> Any:
        return client.stream("GET", "/v1/endless", headers=bearer(name))

    with follow("read") as one, follow("read") as two:
        assert (one.status_code, two.status_code) == (200, 200)
        refused = client.get("/v1/endless", headers=bearer("read"))
        assert problem(refused) == (429, "too-many")
        with follow("everything") as other:
            assert other.status_code == 200
            text = client.get("/v1/metrics", headers=bearer("read")).text
            assert "everwhen_http_live_answers 3\n" in text


def filled(endpoint: Endpoint) -> str:
    return "/v1" + endpoint.path.replace("{", "").replace("}", "")


@pytest.mark.attack(
    "a token is used for more than it is for",
    about="web",
    answer="each endpoint needs a scope",
)
@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: str(endpoint.name))
def test_an_endpoint_takes_its_scope_and_no_other(
    client: httpx2.Client, endpoint: Endpoint
) -> None:
    def ask(headers: dict[str, str]) -> tuple[int, Any]:
        body: Any = {} if endpoint.method == "POST" else None
        sent = client.build_request(endpoint.method, filled(endpoint), json=body, headers=headers)
        answer = client.send(sent, stream=True)  # some have no end
        try:
            said = json.loads(answer.read()) if answer.status_code >= 400 else {}
            return answer.status_code, said
        finally:
            answer.close()

    assert ask({})[0] == 401
    assert ask({"Authorization": "Bearer ew_wrong"})[0] == 401
    assert ask({"Authorization": f"Basic {TOKENS[endpoint.scope][0]}"})[0] == 401
    for scope in SCOPES:
        status, said = ask(bearer(scope))
        is_refused = status == 403 and said.get("scope") == endpoint.scope
        assert is_refused == (scope != endpoint.scope), scope
        assert status != 401


def test_most_is_what_anybody_gets(path: Path) -> None:
    secret, token = new_token("writer", frozenset(SCOPES))
    app = hosted(path, access=TokenAccess([token], most={"read"}))
    with served(lazily(app)) as url, httpx2.Client(base_url=url) as client:
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.get("/v1", headers=headers).json()["scopes"] == ["read"]
        posted = client.post("/v1/streams/s/events", json=EVENT, headers=headers)
        assert posted.json()["scope"] == "append"


def cookie_of(answer: httpx2.Response) -> tuple[str, str, set[str]]:
    first, *flags = answer.headers["set-cookie"].split("; ")
    name, _, value = first.partition("=")
    return name, value, {flag.lower() for flag in flags}


@pytest.mark.attack(
    "a script of the page, or another site, takes or uses the session's cookie",
    about="web",
    answer="it is HttpOnly and SameSite=Strict, with TLS __Host-, and holds no token",
)
def test_a_token_is_exchanged_once_for_a_careful_cookie(client: httpx2.Client) -> None:
    begun = client.post("/v1/session", headers=bearer())
    assert begun.json() == {"name": "anna@example.com", "scopes": sorted(SCOPES)}
    name, value, flags = cookie_of(begun)
    assert name == f"everwhen-{client.base_url.port}"
    assert flags == {"httponly", "samesite=strict", "path=/", "max-age=86400"}
    assert SECRET not in value
    session = {"Cookie": f"{name}={value}"}
    assert client.get("/v1", headers=session).json()["caller"] == "anna@example.com"
    ended = client.delete("/v1/session", headers={**session, "Sec-Fetch-Site": "same-origin"})
    assert "max-age=0" in cookie_of(ended)[2]


def test_with_tls_before_it_the_cookie_is_bound_to_the_host(path: Path) -> None:
    secret, token = new_token("a", {"read"})
    app = hosted(path, access=TokenAccess([token], behind_tls=True))
    with served(lazily(app)) as url:
        begun = httpx2.post(f"{url}/v1/session", headers={"Authorization": f"Bearer {secret}"})
    name, _, flags = cookie_of(begun)
    assert (name, "secure" in flags, "path=/" in flags) == ("__Host-everwhen", True, True)


def test_a_cookie_is_only_what_this_server_made_and_not_for_ever(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value, _ = cookie_of(client.post("/v1/session", headers=bearer("read")))
    until, whose, mac = value.split(":")
    for forged in (
        f"{until}:anna@example.com:{mac}",
        f"{int(until) + 1}:{whose}:{mac}",
        f"{until}:{whose}:{'0' * 64}",
        f"{until}:{whose}:é",
        f"x:{whose}:{mac}",
        "",
    ):
        cookie = f"{name}={forged}".encode()
        assert client.get("/v1", headers=[(b"cookie", cookie)]).status_code == 401, forged
    other = TokenAccess([TOKENS["read"][1]])
    stolen = client.build_request("GET", "/v1", headers={"Cookie": f"{name}={value}"})
    assert client.send(stolen).status_code == 200
    later = time.time() + 25 * 3600
    monkeypatch.setattr("everwhen.web.token_access.time.time", lambda: later)
    assert client.send(stolen).status_code == 401
    assert repr(other).startswith("<everwhen.web.token_access.TokenAccess")


@pytest.mark.attack(
    "a cookie comes along with a request that no page of ours has made",
    about="web",
    answer="a change by cookie has to say where it comes from",
)
def test_a_change_by_cookie_says_where_it_comes_from(client: httpx2.Client) -> None:
    name, value, _ = cookie_of(client.post("/v1/session", headers=bearer()))
    session = {"Cookie": f"{name}={value}"}
    where = "/v1/streams/by-cookie/events"
    assert problem(client.post(where, json=EVENT, headers=session)) == (403, "forbidden")
    own = {**session, "Origin": str(client.base_url).rstrip("/")}
    assert client.post(where, json=EVENT, headers=own).status_code == 201
    session["Sec-Fetch-Site"] = "same-origin"
    assert client.post(where, json=EVENT, headers=session).status_code == 201


@pytest.mark.attack(
    "a token is read from a log, a traceback, a metric or an object that is printed",
    about="web",
    answer="only its SHA-256 is kept, and no text has it",
)
def test_no_text_has_a_token(
    client: httpx2.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        for where in ("/v1", "/v1/nothing", "/v1/events?limit=x"):
            assert SECRET not in client.get(where, headers=bearer()).text
        client.post("/v1/streams/s/events", content=b"{", headers=bearer())
        assert SECRET not in client.get("/v1/metrics", headers=bearer()).text
    server_said = [record.getMessage() for record in caplog.records if "http" not in record.name]
    assert SECRET not in "".join(server_said) + "".join(capfd.readouterr())
    token = TOKENS["everything"][1]
    assert token.digest.hex() not in repr(token)
    assert repr(token.digest) not in repr(token)


def test_a_file_of_tokens_is_read_back_and_a_wrong_line_is_never_shown() -> None:
    secret, token = new_token("importer", {"read", "append"})
    text = f"# whose it is\n\n{token_line(token)}"
    assert read_tokens(text) == (token,)
    assert secret not in text
    for wrong in (f"importer read {secret}", secret, "a b c d", f"a root {'sha256:' + '0' * 64}"):
        with pytest.raises(Exception, match="line 2") as caught:
            read_tokens(f"# tokens\n{wrong}\n")
        assert secret not in "".join(map(str, (caught.value, caught.value.__cause__)))
    with pytest.raises(Exception, match="two tokens are named 'importer'"):
        TokenAccess([token, token])


def test_every_answer_keeps_browsers_careful(client: httpx2.Client) -> None:
    answers = [
        client.get("/v1", headers=bearer()),
        client.get("/v1"),
        client.get("/nothing"),
        client.get("/v1", headers={"Host": "evil.example"}),
        client.put("/v1/events", headers=bearer()),
        client.post("/v1/streams/s/events", content=b" " * (MOST_BYTES + 1), headers=bearer()),
        client.post("/v1/session", headers=bearer()),
    ]
    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 405, 413}
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.attack(
    "somebody changes or tries to change something, and nobody knows who",
    about="web",
    answer="an audit entry has the token's name, of what was done, refused or failed",
    needs="an audit log",
)
def test_each_change_is_audited_with_the_tokens_name(client: httpx2.Client, path: Path) -> None:
    where = "/v1/streams/audited/events"
    before = len(events_of(path, "audit"))
    client.get("/v1/events", headers=bearer())
    client.post(where, json=EVENT, headers={**bearer(), "User-Agent": "a browser"})
    client.post(where, json=EVENT, headers={**bearer(), "If-Match": '"7"'})
    client.post(where, json=EVENT, headers=bearer("read"))
    client.post(where, json=EVENT)
    entries = events_of(path, "audit")[before:]
    assert [
        (entry.user, entry.result.value, entry.details["outcome"], entry.details["operation"])
        for entry in entries
    ] == [
        ("anna@example.com", "Success", "done", "append_events"),
        ("anna@example.com", "Failure", "refused", "append_events"),
        ("for-read", "Failure", "refused", "append_events"),
    ]
    assert {entry.resource for entry in entries} == {"v1/streams/audited/events"}
    assert (entries[0].ip_address, entries[0].user_agent) == ("127.0.0.1", "a browser")
