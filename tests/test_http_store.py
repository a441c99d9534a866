"""A store over HTTP: failures in between, and what either side is sent that isn't right."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from tests.web.serving import served, store_app

from everwhen import UnknownEvent, open_store
from everwhen.backends.locations import shown
from everwhen.backends.outcome_messages import OutcomeMessage
from everwhen.backends.remote.address import ServerAddress
from everwhen.backends.remote.engine import HttpEngine
from everwhen.backends.remote.messages import (
    MEDIA,
    CommitMessage,
    PageMessage,
    decode_error,
    encode_message,
)
from everwhen.codec.commits import new_commit_id
from everwhen.errors import (
    CorruptStoreError,
    DeclarationError,
    EverwhenError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    UnsupportedError,
)
from everwhen.vocabulary.contract import Checkpoint, EncodedCommit, EncodedSlice
from everwhen.vocabulary.query import Query, Selector
from everwhen.web.access import OpenAccess

ALL = OpenAccess({"read", "append", "operate"})
NOTED = [UnknownEvent("Noted", {"n": 1})]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("served") / "store.db"
    with served(store_app(path, access=ALL)) as found:
        yield found


class Cutting:
    """Passes bytes on between a client and a server, until it is told to cut what comes next."""

    def __init__(self, url: str) -> None:
        self._server = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.cuts: list[Literal["asked", "answered"]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            while request := _message(client):
                if self.cuts[:1] == ["asked"]:
                    self.cuts.pop(0)
                    return
                server.sendall(request)
                answer = _message(server)
                if self.cuts[:1] == ["answered"]:
                    self.cuts.pop(0)
                    client.sendall(answer[: len(answer) // 2])
                    return
                client.sendall(answer)

    def close(self) -> None:
        self._listening.close()


def _message(source: socket.socket) -> bytes:
    """A whole HTTP message: its head, and as much as that says."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = source.recv(65_536)
        if not part:
            return b""
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields.get(b"content-length", b"0")):
        body += source.recv(65_536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def cutting(url: str) -> Iterator[Cutting]:
    proxy = Cutting(url)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("cut", ["asked", "answered"])
def test_a_commit_cut_off_on_its_way_is_written_once(
    cutting: Cutting, cut: Literal["asked", "answered"]
) -> None:
    with open_store(cutting.url) as store:
        stream = f"cut-{cut}"
        cutting.cuts += [cut, cut]
        first = store.append(stream, NOTED, expected=0)
        assert (first.versions, first.repeated) == ({stream: 1}, False)
        cutting.cuts.append(cut)
        given = store.append(stream, NOTED, expected=1, commit_id=UUID(int=len(cut)))
        assert given.versions == {stream: 2}
        cutting.cuts.append(cut)
        assert [event.version for event in store.read(stream)] == [1, 2]
        assert cutting.cuts == []


@pytest.mark.parametrize("cut", ["asked", "answered"])
def test_a_transaction_cut_off_is_not_repeated(
    cutting: Cutting, cut: Literal["asked", "answered"]
) -> None:
    with open_store(cutting.url) as store:
        with pytest.raises(StorageError, match="isn't known"):  # noqa: PT012
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint(f"cut-{cut}", 1))
                cutting.cuts.append(cut)
        written = store.checkpoint(f"cut-{cut}")
        assert (written is None) == (cut == "asked")


def test_an_outcome_that_stays_unknown_is_a_storage_error(cutting: Cutting) -> None:
    with open_store(cutting.url, busy_timeout=0.05) as store:
        cutting.cuts += ["answered"] * 100
        with pytest.raises(StorageError, match="the same commit id"):
            store.append("lost", NOTED)
        cutting.cuts.clear()
        assert store.version("lost") == 1


def test_a_client_goes_on_when_its_server_is_back(tmp_path: Path) -> None:
    app = store_app(tmp_path / "store.db", access=ALL)
    with served(app) as first:
        store = open_store(first)
        store.append("a", NOTED)
        following = store.subscribe()
        assert next(following).position == 1
    port = int(first.rpartition(":")[2])
    later = store_app(tmp_path / "store.db", access=ALL)
    starting = threading.Event()
    done = threading.Event()

    def serve_again() -> None:
        with served(later, port):
            starting.set()
            done.wait()

    thread = threading.Thread(target=serve_again)
    thread.start()
    try:
        assert store.append("a", NOTED, expected=1).position == 2
        assert next(following).position == 2
    finally:
        store.close()
        done.set()
        thread.join()


def test_two_clients_that_change_what_the_other_has_read(url: str) -> None:
    with open_store(url) as one, open_store(url) as other:

        def count(transaction: Any) -> None:
            known = transaction.checkpoint("count")
            position = 0 if known is None else known.position
            transaction.save_checkpoint(Checkpoint("count", position + 1))

        def times() -> None:
            for _ in range(10):
                other.kernel.backend.transact(count)

        thread = threading.Thread(target=times)
        thread.start()
        for _ in range(10):
            one.kernel.backend.transact(count)
        thread.join()
        assert one.checkpoint("count") == Checkpoint("count", 20)


def test_branches_are_the_servers(url: str) -> None:
    with open_store(url) as store:
        at = store.append("shared", NOTED).position
        with store.create_branch("try this", at) as branch:
            branch.append("shared", NOTED, expected=1)
            assert (branch.name, branch.version("shared")) == ("try this", 2)
            with branch.create_branch("below") as below:
                assert below.version("shared") == 2
        assert store.version("shared") == 1
        assert [info.name for info in store.branches()] == ["try this", "below"]
        with open_store(f"{url}/v1/branches/try%20this") as opened:
            assert opened.version("shared") == 2
        store.rename_branch("below", "beneath")
        store.delete_branch("try this", with_children=True)
        assert store.branches() == []
        with pytest.raises(EverwhenError, match="none of that name"):
            store.branch("try this")


def test_what_a_client_cannot_do_says_so(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        for call in (
            store.sql_connection,
            lambda: store.backup(tmp_path / "copy.db"),
            store.kernel.backend.scratch,
        ):
            with pytest.raises(UnsupportedError, match="http://127"):
                call()
        with pytest.raises(UnsupportedError, match="registers a branch"):
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint("branch/x", 1))


def test_scopes_and_names(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with served(store_app(path, access=OpenAccess({"read"}))) as url:
        with open_store(url) as store:
            assert list(store.read()) == []
            with pytest.raises(ReadOnlyError, match="'append'"):
                store.append("a", NOTED)
        with pytest.raises(NotAStoreError):
            open_store(f"{url}/elsewhere")
    with pytest.raises(StorageError, match="no answer"):
        open_store(url)
    with served(store_app(path, access=OpenAccess({"read", "append"}))) as url:
        with open_store(url) as store:
            store.append("a", NOTED)
            with pytest.raises(ReadOnlyError, match="'operate'"):
                with store.transaction() as transaction:
                    transaction.save_checkpoint(Checkpoint("a", 1))
            (outcome,) = store.kernel.backend.append(
                [msgspec.structs.replace(_commit(b'[["T",1,{}]]'), recorded_at=5)]
            )
            assert isinstance(outcome, ReadOnlyError)


def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://s3cret@example.org/shop/v1/branches/a%2Fb"
    address = ServerAddress.parsed(url)
    assert (address.token, address.log_path) == ("s3cret", "/shop/v1/branches/a%2Fb/log")
    assert shown(url) == address.place == "https://example.org:443/shop/v1/branches/a%2Fb"
    assert "s3cret" not in repr(address)
    monkeypatch.setenv("EVERWHEN_TOKEN", "from-outside")
    assert ServerAddress.parsed("http://127.0.0.1:1").token == "from-outside"  # noqa: S105
    for wrong in (
        "http://",
        "http://a:b@c/",
        "http://s3cret@h:x/",
        "http://s3cret@h/?a",
        "http://%0a@h",
    ):
        with pytest.raises(DeclarationError) as caught:
            ServerAddress.parsed(wrong)
        assert "s3cret" not in str(caught.value)


def _commit(*bodies: bytes) -> EncodedCommit:
    return EncodedCommit(
        new_commit_id(), tuple(EncodedSlice("a", 1, body, (), ()) for body in bodies), ()
    )


def _entry(data: bytes = b"{}", rest: bytes = b"", name: bytes = b'"T"', of: bytes = b"1") -> bytes:
    return b"[[%b,%b,%b%b]]" % (name, of, data, rest)


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"[[",
    "an object": b"{}",
    "no event": b"[]",
    "an event of two parts": b'[["T",1]]',
    "an event of six parts": _entry(rest=b',[],null,"x"'),
    "an event that is an object": b'[{"type":"T"}]',
    "no type": _entry(name=b'""'),
    "a type with a line end": _entry(name=b'"a\\n"'),
    "a number for a type": _entry(name=b"5"),
    "a long type": _entry(name=b'"%b"' % (b"x" * 513)),
    "version 0": _entry(of=b"0"),
    "a large version": _entry(of=b"2147483648"),
    "version true": _entry(of=b"true"),
    "data that is a list": _entry(b"[]"),
    "data that is null": _entry(b"null"),
    "not UTF-8": _entry(b'{"a":"\xff"}'),
    "a lone surrogate": _entry(b'{"a":"\\ud800"}'),
    "a number out of range": _entry(b'{"a":1e999}'),
    "too deep": _entry(b'{"a":' * 101 + b"1" + b"}" * 101),
    "much too deep": _entry(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a tag that is a number": _entry(rest=b",[5]"),
    "an empty tag": _entry(rest=b',[""]'),
    "a tag twice": _entry(rest=b',["a","a"]'),
    "tags that are a text": _entry(rest=b',"abc"'),
    "metadata that is a list": _entry(rest=b",[],[]"),
    "unknown metadata": _entry(rest=b',[],{"secret":1}'),
    "an empty event id": _entry(rest=b',[],{"id":""}'),
    "a time without a zone": _entry(rest=b',[],{"occurred_at":"2024-01-01T00:00:00"}'),
    "extras too deep": _entry(rest=b',[],{"extras":' + b'{"a":' * 101 + b"1" + b"}" * 101 + b"}"),
    "too many events": b"[%b]" % b",".join([b'["T",1,{}]'] * 1_001),
    "a slice too large": b'[["T",1,{"a":"%b"}],["T",1,{}]]' % (b"x" * (2 << 20)),
    "blanks around it": b' [["T",1,{}]] ',
}


def test_a_server_judges_every_commit(url: str) -> None:
    """All of them beside a good one: that is written, and nothing else."""
    engine = HttpEngine(url)
    before = engine.head().position
    bodies = dict(BAD_BODIES)
    outcomes = engine.write([*map(_commit, bodies.values()), _commit(_entry())])
    wrong = [
        what for what, outcome in zip(bodies, outcomes, strict=False) if not _is_refused(outcome)
    ]
    assert wrong == []
    assert engine.head().position == before + 1
    assert list(engine.check()) == []
    engine.close()


def _is_refused(outcome: object) -> bool:
    return isinstance(outcome, EverwhenError) and type(outcome).__name__.startswith("Invalid")


ID = b"0123456789abcdef"
GOOD = [("a", _entry())]
BAD_MESSAGES = {
    "a short id": CommitMessage(b"id", GOOD),
    "no slices": CommitMessage(ID, []),
    "a stream without a name": CommitMessage(ID, [("", _entry())]),
    "a stream with a line end": CommitMessage(ID, [("a\n", _entry())]),
    "a belief below 0": CommitMessage(ID, GOOD, [("a", -1)]),
    "two beliefs": CommitMessage(ID, GOOD, [("a", 1), ("a", 2)]),
    "a condition below 0": CommitMessage(ID, GOOD, [], ((Selector(),), -1)),
    "a condition on no name": CommitMessage(ID, GOOD, [], ((Selector(types=frozenset({""})),), 0)),
    "metadata that is no object": CommitMessage(ID, GOOD, [], None, b"[]"),
    "unknown metadata": CommitMessage(ID, GOOD, [], None, b'{"admin":true}'),
    "an empty user": CommitMessage(ID, GOOD, [], None, b'{"user_id":""}'),
    "a time before all": CommitMessage(ID, GOOD, [], None, None, -(1 << 62)),
}


def test_a_server_judges_what_no_client_of_ours_sends(url: str) -> None:
    import httpx2

    headers = {"Content-Type": MEDIA}
    with httpx2.Client(base_url=url, headers=headers) as client:
        body = encode_message([*BAD_MESSAGES.values()])
        answer = client.post("/v1/log/commits", content=body)
        found = msgspec.msgpack.decode(answer.content, type=list[OutcomeMessage])
        kinds = {w: o.error and o.error.kind for w, o in zip(BAD_MESSAGES, found, strict=True)}
        assert set(kinds.values()) <= {"InvalidCommitError", "InvalidEventError"}, kinds
        for path in ("reads", "commits", "changes", "branches", "purges"):
            for wrong in (b"", b"\xdd\xff\xff\xff\xff", b"\x91" * 10_000, b"\xc1", b"\x91\xa1x"):
                assert client.post(f"/v1/log/{path}", content=wrong).status_code == 400
            other = {"Content-Type": "application/json"}
            assert client.post(f"/v1/log/{path}", content=b"", headers=other).status_code == 415
        for ask in (
            ["page", {"after_position": 1 << 63}, 5],
            ["page", {"selectors": [{"types": [""]}]}, 5],
            ["page", {"share": {"by": "stream", "index": 5, "count": 2}}, 5],
            ["position", 1 << 63],
            ["snapshots", "a", 1 << 63, 5],
        ):
            answer = client.post("/v1/log/reads", content=encode_message(ask))
            assert answer.status_code == 400, ask
            assert decode_error(answer.content).kind == "InvalidQueryError"


SLICE = (5, "a", 5, 1, 0, ID, 0, None, b"[]")
STRANGE_PAGES = {
    "out of order": PageMessage([SLICE, SLICE], 5, end=True),
    "before the query": PageMessage([(1, *SLICE[1:])], 1, end=True),
    "no events": PageMessage([(5, "a", 5, 0, *SLICE[4:])], 5, end=True),
    "more events than positions": PageMessage([(5, "a", 9, 6, *SLICE[4:])], 5, end=True),
    "a short commit id": PageMessage([(*SLICE[:5], b"id", *SLICE[6:])], 5, end=True),
    "a time that can't be": PageMessage([(*SLICE[:4], 1 << 62, *SLICE[5:])], 5, end=True),
    "without an end": PageMessage([], 2, end=False),
    "a cursor before its slices": PageMessage([SLICE], 3, end=True),
    "no page": [1, 2, 3],
}


@contextmanager
def _answering(answers: list[bytes]) -> Iterator[str]:
    """A server that answers whatever it is told to."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Type", MEDIA)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_client_believes_no_page_that_cannot_be(url: str) -> None:
    import httpx2

    greeting = httpx2.post(
        f"{url}/v1/log/reads",
        content=encode_message(["greeting"]),
        headers={"Content-Type": MEDIA},
    ).content
    answers = [greeting]
    with _answering(answers) as strange:
        engine = HttpEngine(strange)
        for what, page in STRANGE_PAGES.items():
            answers.append(encode_message(page))
            with pytest.raises(CorruptStoreError, match="no log does"):
                engine.read(Query().after(2), 10)
            assert answers == [], what
        answers.append(encode_message([[None, None]]))
        with pytest.raises(CorruptStoreError, match="an outcome"):
            engine.write([_commit(_entry())])
        engine.close()
