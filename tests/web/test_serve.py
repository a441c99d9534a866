"""``everwhen serve`` as a program, the tokens it takes, and its connections."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.cli.everwhen_shell import PROGRAM, Shell, environment
from tests.patience import PATIENCE_SECONDS
from tests.web.serving import hosted, lazily, served

from everwhen import Query, UnknownEvent, open_store
from everwhen.audit import AuditEntry
from everwhen.merkle import MerkleLog
from everwhen.privacy import PLAINTEXT
from everwhen.web import TokenAccess, new_token
from everwhen.web.connections import CarefulConnection
from everwhen.web.serving import Served, listen, serve
from everwhen_verify.notes import Signer

APP = """
from endless import ENDLESS
import msgspec
from everwhen import Decisions, Event, EventTypes, Fold, Projection, Query, StateOf
from everwhen import TableProjection
from everwhen.merging import Invariant
from everwhen.undo import Compensations
from everwhen.web import application, create_app

application.ENDPOINTS = (*application.ENDPOINTS, ENDLESS)
total = Fold("total", int)

class Placed(Event):
    amount: int

class Place(msgspec.Struct):
    order: str
    amount: int

decisions, undoing = Decisions(), Compensations()
rules = Invariant("sound", total, lambda state: state >= 0, Query().category("order"))

@decisions.on(Place, StateOf(total, lambda command: command.order))
def place(command, state):
    return [Placed(command.amount)]

@undoing.on(Placed)
def undone(event):
    return Placed(-event.amount)

TYPES = EventTypes(Placed)
orders = TableProjection("orders", ["CREATE TABLE {orders} (amount INT)"])
kept = [Projection(total), orders]

@orders.on(Placed)
def counted(tables, placed):
    tables.execute("INSERT INTO {orders} VALUES (?)", (placed.event.amount,))

def app(store, **given):
    return create_app(store, folds={"total": total}, **given)
"""
BROWSER = """#!/bin/sh
echo "$1" > opened-argument
cp "${1#file://}" opened-page
"""
MODELS = ("orders", "total")
EVENT = {"events": [{"type": "Placed", "data": {"amount": 9}}]}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("serve") / "shop.db"
    with open_store(made) as store:
        store.append("order-1", [UnknownEvent("Placed", {"amount": 1})])
        MerkleLog(store, f"{made}-log", Signer.generate("example.org/shop")).sign()
    return made


@pytest.fixture(scope="module")
def program(path: Path) -> Iterator[Any]:
    folder = path.parent
    (folder / "shop.py").write_text(APP)
    shutil.copy(Path(__file__).with_name("endless.py"), folder)
    browser = folder / "browser"
    browser.write_text(BROWSER)
    browser.chmod(0o700)
    running = subprocess.Popen(
        [
            *PROGRAM,
            *[
                "serve",
                "shop.db",
                "--port",
                "0",
                "--write",
                "--audit",
                "--open",
                *["--app", "shop:app", "--log", "shop.db-log"],
                *["--decisions", "shop:decisions", "--invariants", "shop:rules"],
                *["--compensations", "shop:undoing", "--events", "shop:TYPES"],
                *["--projection", "shop:kept"],
            ],
        ],
        cwd=folder,
        env=environment(BROWSER=str(browser)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.mark.attack(
    "a token is read from the list of processes",
    about="web",
    answer="it is in no argument: the browser is given a file that only its owner reads",
)
@pytest.mark.slow
def test_a_server_from_its_url_to_its_end(program: Any, path: Path, shell: Shell) -> None:
    url = (program.stdout.readline().split() or [program.stderr.read()])[-1]
    address, _, token = url.partition("#token=")
    assert len(token) > 40
    argument = path.with_name("opened-argument")
    with httpx2.Client(base_url=address, timeout=PATIENCE_SECONDS) as client:
        assert client.get("/v1").status_code == 401
        assert client.post("/v1/session", headers=bearer(token)).json()["name"] == "local"
        about = client.get("/v1", headers=bearer(token)).json()
        assert about["scopes"] == ["append", "operate", "read"]
        assert "total" in about["folds"]
        parts = {"audit", "commands", "compensations", "decisions", "invariants", "log", "runner"}
        assert set(about["governance"]) == parts
        proof = client.get("/v1/proofs/1", headers=bearer(token))
        assert proof.text.startswith("c2sp.org/tlog-proof@v1")
        posted = client.post("/v1/streams/order-2/events", json=EVENT, headers=bearer(token))
        assert posted.status_code == 201
        kept = {one: _kept(client, token, one, posted.json()["position"]) for one in MODELS}
        assert kept == {"orders": "live", "total": "memory"}
        assert token not in argument.read_text()
        assert token in path.with_name("opened-page").read_text()
        assert token not in Path(f"/proc/{program.pid}/cmdline").read_text()
        port = urlsplit(address).port
        taken = shell("serve", path, "--port", port)
        assert (taken.code, f"port {port}" in taken.err, "in use" in taken.err) == (75, True, True)
        live = client.stream("GET", "/v1/endless", headers=bearer(token))
        with live as following:
            lines = following.iter_lines()
            assert next(lines) == "id: 1"
            program.terminate()
            for _ in lines:  # to its end, which would be an error if the answer were broken off
                pass
    said, wrong = program.communicate(timeout=PATIENCE_SECONDS)
    assert (program.returncode, said, wrong) == (0, "", "")
    assert not list(Path(argument.read_text().strip().removeprefix("file://")).parent.glob("*"))
    with open_store(path, events=[AuditEntry], vault=PLAINTEXT) as store:
        entries = [found.event for found in store.read(Query().category("audit"))]
    assert [(entry.user, entry.result.value) for entry in entries] == [("local", "Success")]


def _kept(client: httpx2.Client, token: str, name: str, position: int) -> str:
    """How a projection is kept, once it is at the position."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        found = client.get("/v1/projections", headers=bearer(token)).json()["projections"]
        (one,) = [one for one in found if one["name"] == name]
        if one["position"] >= position:
            return str(one["state"])
        time.sleep(0.05)
    raise AssertionError(found)


def test_a_log_beside_the_store_is_served_unasked(path: Path) -> None:
    secret, token = new_token("anna", frozenset({"read"}))
    listening, found = listen("127.0.0.1", 0), []
    port = listening.getsockname()[1]

    def ask() -> None:
        try:
            url = f"http://127.0.0.1:{port}/v1/signed-log"
            found.append(httpx2.get(url, headers=bearer(secret), timeout=PATIENCE_SECONDS).json())
        finally:
            signal.raise_signal(signal.SIGTERM)

    asking = threading.Thread(target=ask)
    served = Served(location=str(path), store_file=path, tokens=(token,))
    assert asyncio.run(serve(served, listening, asking.start)) == signal.SIGTERM
    asking.join()
    assert (found[0]["origin"], found[0]["size"]) == ("example.org/shop", 1)


def test_no_answer_waits_for_the_client_to_acknowledge_its_headers() -> None:
    def said(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        writer.write(bytes([connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)]))
        writer.close()

    async def found() -> bytes:
        server = await asyncio.start_server(said, sock=listen("127.0.0.1", 0))
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            told = await reader.read()
            writer.close()
            return told

    assert asyncio.run(found()) == b"\x01"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.attack(
    "a server is opened to other machines by mistake",
    about="web",
    answer="another address needs to be allowed, tokens, and TLS",
)
@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ([], "--allow-remote, --tokens, --certificate or --behind-proxy"),
        (["--allow-remote"], "--tokens, --certificate or --behind-proxy"),
        (["--allow-remote", "--tokens", "t"], "--certificate or --behind-proxy"),
        (["--allow-remote", "--behind-proxy"], "--tokens"),
        (["--behind-proxy", "--tokens", "t"], "--allow-remote"),
    ],
)
def test_another_address_needs_all_of_it(
    shell: Shell, path: Path, options: list[str], missing: str
) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "shop.example"):  # noqa: S104
        refused = shell("serve", path, "--host", host, *options)
        assert refused.code == 2
        assert refused.err.endswith(f"it also needs {missing}\n")


def test_what_makes_no_sense_is_said(shell: Shell, path: Path, tmp_path: Path) -> None:
    assert "give --write too" in shell("serve", path, "--audit").err
    assert "give that too" in shell("serve", path, "--private-key", "k").err
    assert shell("serve", tmp_path / "none.db").code == 66
    assert shell("serve", path, "--certificate", tmp_path / "none.pem").code == 66
    assert shell("serve", path, "--tokens", tmp_path / "none").code == 66
    assert shell("serve", path, "--log", tmp_path / "none").code == 66
    assert shell("serve", path, "--tokens", "env:NONE").code == 66
    refused = shell("serve", path, "--projection", "tests.web.governed:balances")
    assert "'balances' keeps tables; give --write too" in refused.err
    assert "a TableProjection, or a list" in shell("serve", path, "--projection", "json:loads").err
    assert "a function that takes a store" in shell("serve", path, "--app", "json:decoder").err
    with_password = shell("serve", "postgresql://anna:s3cr3t@127.0.0.1:1/shop", "--port", "0")
    assert with_password.code != 0
    assert "s3cr3t" not in with_password.out + with_password.err


def test_a_token_is_shown_once_and_its_digest_kept(shell: Shell, path: Path) -> None:
    file = path.with_name("tokens")
    made = shell("token", file, "importer", "--scope", "read", "--scope", "append")
    secret = made.fields["token"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("importer  read,append  sha256:")
    assert secret not in file.read_text()
    assert "two tokens are named" in shell("token", file, "importer").err
    assert shell("token", file, "page").code == 0
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["importer", "page"]
    assert shell("token", file, "x", "--scope", "root").code == 2
    assert shell("token", file, "no spaces").code == 2


@pytest.mark.attack(
    "somebody adds a token of their own to the file of tokens",
    about="web",
    answer="a file that others may change is not taken",
)
def test_a_file_that_others_may_change_is_not_taken(
    shell: Shell, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    assert shell("token", file, "anna").code == 0
    file.chmod(0o620)
    refused = shell("serve", path, "--tokens", file)
    assert (refused.code, "others can change it" in refused.err) == (77, True)


class _Impatient(CarefulConnection):
    header_seconds = 0.3
    most = 3


@pytest.fixture(scope="module")
def impatient(path: Path) -> Iterator[tuple[str, int]]:
    access = TokenAccess([new_token("a", {"read"})[1]])
    with served(lazily(hosted(path, access=access)), http=_Impatient) as url:
        yield "127.0.0.1", urlsplit(url).port or 0


def said_to(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    connection.settimeout(PATIENCE_SECONDS)
    said = b""
    try:
        while got := connection.recv(65536):
            said += got
    except ConnectionResetError:
        pass
    return said


@pytest.mark.attack(
    "connections that ask for nothing, or a byte at a time, are held open (slow loris)",
    about="web",
    answer="without a whole request in time they are closed",
    needs="everwhen serve, or a server with such limits",
)
@pytest.mark.parametrize("begun", [b"", b"GET /v1 HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_connection_that_asks_for_nothing_is_closed(
    impatient: tuple[str, int], begun: bytes
) -> None:
    with socket.create_connection(impatient) as idle:
        idle.sendall(begun)
        assert said_to(idle) == b""


def test_nor_does_a_request_before_it_help(impatient: tuple[str, int]) -> None:
    with socket.create_connection(impatient) as used:
        used.sendall(b"GET /v1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1 HT")
        said = said_to(used)
    assert said.count(b"HTTP/1.1 401 ") == 1


@pytest.mark.attack(
    "connections are opened until there are no more",
    about="web",
    answer="there is a number of them; beyond it each is told so, and closed",
    needs="everwhen serve, or a server with such limits",
)
def test_connections_have_a_limit(path: Path) -> None:
    class Few(CarefulConnection):
        most = 3

    request = b"GET /v1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(lazily(hosted(path)), http=Few) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        held = [socket.create_connection(address) for _ in range(3)]
        for one in held:
            one.sendall(request)
            assert one.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(address) as one_too_many:
            one_too_many.sendall(request)
            said = said_to(one_too_many)
        assert said.startswith(b"HTTP/1.1 429 ")
        assert b"content-security-policy" in said
        for one in held:
            one.close()


def test_what_is_no_request_is_answered_carefully(impatient: tuple[str, int]) -> None:
    with socket.create_connection(impatient) as wrong:
        wrong.sendall(b"GET /v1 HTTP/1.1\r\nHost: a b\r\nno header\r\n\r\n")
        said = said_to(wrong)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"content-security-policy: default-src 'none'" in said
    assert b"application/problem+json" in said


HEAD = b"POST /v1/streams/s/events HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.attack(
    "headers without an end fill the server's memory",
    about="web",
    answer="what is held of a request before its headers have ended has a limit",
    needs="everwhen serve, or a server with such limits",
)
@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"GET /", b"x"),
        (b"GET /v1 HTTP/1.1\r\nX-Name", b"e"),
        (b"GET /v1 HTTP/1.1\r\nX: ", b"x"),
        (b"GET /v1 HTTP/1.1\r\n", b"X: y\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["path", "name", "value", "headers", "chunk", "trailers"],
)
def test_what_comes_before_a_request_has_a_limit(path: Path, begun: bytes, more: bytes) -> None:
    with served(lazily(hosted(path)), http=CarefulConnection) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        with socket.create_connection(address, PATIENCE_SECONDS) as endless:
            endless.sendall(begun)
            sent = 0
            try:
                while sent < 16 << 20:
                    sent += endless.send(more * 1_000)
            except (BrokenPipeError, ConnectionResetError):
                pass
    assert sent < 16 << 20


@pytest.mark.attack(
    "a header that a proxy would take away comes after the body",
    about="web",
    answer="what follows a body is no header",
)
def test_what_follows_a_body_is_no_header(path: Path) -> None:
    secret, token = new_token("a", {"read", "append"})
    body = b'{"events":[{"type":"T","data":{}}]}'
    head = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    shown = f"Authorization: Bearer {secret}\r\n".encode()
    chunk = b"\r\n%x\r\n%b\r\n" % (len(body), body)
    access = TokenAccess([token])
    with served(lazily(hosted(path, access=access)), http=CarefulConnection) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        for before, after, status in ((shown, b"", b"201"), (b"", shown, b"401")):
            with socket.create_connection(address, PATIENCE_SECONDS) as sending:
                ended = b"0\r\n" + after + b"\r\n"
                sending.sendall(head + before + b"Connection: close\r\n" + chunk + ended)
                assert said_to(sending).startswith(b"HTTP/1.1 " + status)


@pytest.mark.attack(
    "thousands of requests are sent at once on one connection",
    about="web",
    answer="so many may wait for the answers before theirs; with more it is closed",
    needs="everwhen serve, or a server with such limits",
)
def test_requests_that_wait_on_one_connection_have_a_limit(path: Path) -> None:
    class Few(CarefulConnection):
        most_waiting = 5

    request = b"GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\n"
    with served(lazily(hosted(path)), http=Few) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        with socket.create_connection(address, PATIENCE_SECONDS) as sending:
            sending.sendall((request + b"\r\n") * 5 + request + b"Connection: close\r\n\r\n")
            assert said_to(sending).count(b"HTTP/1.1 200 ") == 6
        with socket.create_connection(address, PATIENCE_SECONDS) as sending:
            sending.sendall((request + b"\r\n") * 1_000)
            assert said_to(sending).count(b"HTTP/1.1 ") <= 7


def test_another_protocol_is_not_spoken(path: Path) -> None:
    offers = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    request = b"GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\n"
    with served(lazily(hosted(path)), http=CarefulConnection) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        with socket.create_connection(address, PATIENCE_SECONDS) as sending:
            sending.sendall(request + offers + b"\r\n")
            said = said_to(sending)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in said


@pytest.mark.attack(
    "a request is hidden in another one, which a proxy reads otherwise (request smuggling)",
    about="web",
    answer="what can be read in two ways is no request",
)
@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: +4\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: y\r\n folded: z\r\n",
        b"X: y\rZ: z\r\n",
        b"X: \x00\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_no_request(path: Path, headers: bytes) -> None:
    with served(lazily(hosted(path)), http=CarefulConnection) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        with socket.create_connection(address, PATIENCE_SECONDS) as sending:
            sending.sendall(HEAD + headers + b"\r\n0\r\n\r\n")
            said = said_to(sending)
    assert said.count(b"HTTP/1.1 ") == 1
    assert said.startswith(b"HTTP/1.1 400 ")


_OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
    "-out cert.pem"
)


def test_with_tls_the_cookie_is_of_this_host_alone(path: Path) -> None:
    secret, token = new_token("a", {"read"})
    folder = path.parent
    done = subprocess.run(
        f"{_OPENSSL} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1".split(),
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tls: dict[str, Any] = {"ssl_certfile": folder / "cert.pem", "ssl_keyfile": folder / "key.pem"}
    app = hosted(path, access=TokenAccess([token]))
    with served(lazily(app), http=CarefulConnection, **tls) as url:
        begun = httpx2.post(f"{url}/v1/session", headers=bearer(secret), verify=False)
    assert begun.headers["set-cookie"].startswith("__Host-everwhen=")
    assert "; Secure" in begun.headers["set-cookie"]
