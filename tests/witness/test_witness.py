"""The witness protocol from end to end: growth is signed; all else is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

import pytest
from tests.patience import PATIENCE_SECONDS
from tests.verify.logs import NOW, ORIGIN, Log, policy_text, witness
from tests.witness.serving import Program, everwhen

from everwhen.errors import (
    DeclarationError,
    NotAStoreError,
    StorageError,
    WitnessError,
    WitnessRefusedError,
)
from everwhen.witness import Witness, WitnessServer, WitnessService
from everwhen.witness.messages import MAX_REQUEST_BYTES, AddCheckpoint, parse_request
from everwhen_verify.errors import MalformedError
from everwhen_verify.merkle import EMPTY_ROOT
from everwhen_verify.notes import Note, Signer, open_note, parse_note, sign_note
from everwhen_verify.policy import Policy
from everwhen_verify.rollover import sign_rollover

WITNESS = witness()


@pytest.fixture
def log() -> Log:
    return Log.of(5)


@pytest.fixture
def service(tmp_path: Path, log: Log) -> Iterator[WitnessService]:
    opened = WitnessService(
        tmp_path / "witness.db", WITNESS, [log.signer.verifier], clock=lambda: NOW
    )
    yield opened
    opened.close()


@pytest.fixture
def server(service: WitnessService) -> Iterator[WitnessServer]:
    with WitnessServer(service) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def client(server: WitnessServer) -> Witness:
    return Witness(server.url, WITNESS.verifier)


def request(log: Log, old: int, size: int | None = None) -> AddCheckpoint:
    size = len(log.leaves) if size is None else size
    return AddCheckpoint(old, tuple(log.consistency(old, size)), log.signed(size=size))


def asked(service: WitnessService, request: AddCheckpoint) -> tuple[int, bytes]:
    reply = service.add_checkpoint(request.encode())
    return reply.status, reply.body


def test_a_growing_log_is_cosigned(log: Log, client: Witness, service: WitnessService) -> None:
    for size in (1, 2, 2, 5):
        note = log.signed(size=size)
        (signature,) = client.cosign(note, log.consistency)
        whole = parse_note(note).with_signatures([signature]).encode()
        endorsed = Policy.parse(policy_text(log, WITNESS)).check(whole, NOW)
        assert endorsed.cosigned == {"w1": NOW}
        assert service.checkpoint(sha256(ORIGIN.encode()).hexdigest()).body == whole


def test_a_client_that_knows_nothing_learns_the_size(
    log: Log, client: Witness, server: WitnessServer
) -> None:
    client.cosign(log.signed(size=3), log.consistency)
    for _ in range(4):
        log.append()
    assert Witness(server.url, WITNESS.verifier).cosign(log.signed(), log.consistency)


@pytest.mark.attack(
    "the witness is shown an older tree",
    about="witnesses",
    answer="it answers that it has seen a larger one",
)
def test_a_log_that_shrank_or_forked_is_refused(
    log: Log, client: Witness, server: WitnessServer
) -> None:
    client.cosign(log.signed(), log.consistency)
    fork = Log(log.signer)
    for _ in range(7):
        fork.append()
    fork.leaves[2] = fork.leaves[1]
    for known in (client, Witness(server.url, WITNESS.verifier)):
        with pytest.raises(
            WitnessRefusedError, match="a tree of 5 entries, and this one has only 4"
        ) as no:
            known.cosign(log.signed(size=4), log.consistency)
        assert no.value.status == HTTPStatus.CONFLICT
        with pytest.raises(WitnessRefusedError, match="consistency proof") as no:
            known.cosign(fork.signed(), fork.consistency)
        assert no.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
        with pytest.raises(WitnessRefusedError, match="same size differ"):
            known.cosign(fork.signed(size=5), fork.consistency)


def test_who_is_not_known_is_refused(log: Log, client: Witness) -> None:
    with pytest.raises(WitnessRefusedError, match="not signed by a known key") as no:
        client.cosign(Log.of(5).signed(), log.consistency)
    assert no.value.status == HTTPStatus.FORBIDDEN
    other = sign_note(log.checkpoint()._replace(origin="else").text, log.signer)
    with pytest.raises(WitnessRefusedError, match="unknown") as no:
        client.cosign(other, log.consistency)
    assert no.value.status == HTTPStatus.NOT_FOUND
    signed = parse_note(log.signed())
    wrong = Note(signed.text, (signed.signatures[0]._replace(body=bytes(64)),)).encode()
    with pytest.raises(WitnessRefusedError, match="is wrong") as no:
        client.cosign(wrong, log.consistency)
    assert no.value.status == HTTPStatus.FORBIDDEN


def test_every_refusal_of_the_protocol(log: Log, service: WitnessService) -> None:
    """In the order of the specification; and none of them is remembered."""
    path = (EMPTY_ROOT,)
    assert asked(service, request(log, 0, 3))[0] == 200
    nothing = log.checkpoint(0)._replace(root=log.leaves[0])
    forged_nothing = AddCheckpoint(0, (), sign_note(nothing.text, log.signer))
    for wrong, status in (
        (AddCheckpoint(4, (), log.signed(size=3)), 400),
        (request(log, 0, 3), 409),
        (request(log, 2, 5), 409),
        (forged_nothing, 409),
        (AddCheckpoint(3, path, log.signed(size=3)), 422),
        (AddCheckpoint(3, path, log.signed()), 422),
        (AddCheckpoint(3, (), log.signed()), 422),
    ):
        assert asked(service, wrong)[0] == status
    assert service.add_checkpoint(request(log, 0).encode()).content_type == "text/x.tlog.size"
    assert asked(service, request(log, 0)) == (409, b"3\n")
    assert asked(service, request(log, 3))[0] == 200


def test_the_empty_tree(log: Log, service: WitnessService) -> None:
    forged = log.checkpoint(0)._replace(root=log.leaves[0])
    assert asked(service, AddCheckpoint(0, (), sign_note(forged.text, log.signer)))[0] == 422
    assert asked(service, AddCheckpoint(0, (EMPTY_ROOT,), log.signed(size=5)))[0] == 422
    assert service.checkpoint(sha256(ORIGIN.encode()).hexdigest()).status == 404
    assert asked(service, request(log, 0, 0))[0] == 200
    assert asked(service, request(log, 0, 0))[0] == 200
    assert asked(service, request(log, 0, 5))[0] == 200


def test_two_at_once_never_roll_back(tmp_path: Path) -> None:
    """Many threads, two services on one file: every signed size is larger than the one before."""
    log = Log.of(60)
    services = [WitnessService(tmp_path / "w.db", WITNESS, [log.signer.verifier]) for _ in range(2)]
    signed: list[int] = []
    start = threading.Barrier(6)

    def grow(number: int) -> None:
        start.wait()
        for size in range(1 + number % 3, 60, 3):
            old = 0
            while True:
                status, body = asked(services[number % 2], request(log, old, size))
                if status == 200:
                    signed.append(size)
                if status != 409 or int(body) > size:
                    break
                old = int(body)

    threads = [threading.Thread(target=grow, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status, body = asked(services[0], request(log, 0))
    assert (status, int(body)) == (409, max(signed))
    assert asked(services[1], request(log, int(body)))[0] == 200
    for service in services:
        service.close()


def test_what_was_signed_is_remembered_when_it_is_opened_again(tmp_path: Path, log: Log) -> None:
    times = iter((NOW, NOW - 100))
    for old, size in ((0, 3), (3, 5)):
        service = WitnessService(
            tmp_path / "w.db", WITNESS, [log.signer.verifier], clock=lambda: next(times)
        )
        status, body = asked(service, request(log, old, size))
        assert status == 200
        whole = log.signed(size=size) + body
        opened = open_note(whole, [WITNESS.verifier])
        assert opened.verified[0].time == NOW  # the clock stepped back, the signatures don't
        service.close()


@pytest.mark.attack(
    "the witness's file is restored from a backup",
    about="witnesses",
    answer="not by itself: it signs a fork from there on",
    needs="a second witness",
)
def test_a_witness_that_was_set_back_signs_a_fork(tmp_path: Path, log: Log) -> None:
    """From a backup it knows no better; a second witness, which wasn't set back, does."""
    fork = Log(log.signer)
    fork.leaves[:] = [*log.leaves[:3], *reversed(log.leaves[3:])]

    def cosigned(path: Path, of: Log, old: int, size: int) -> int:
        service = WitnessService(path, WITNESS, [log.signer.verifier])
        with contextlib.closing(service):
            return asked(service, request(of, old, size))[0]

    first, second, backup = (tmp_path / name for name in ("first", "second", "backup"))
    assert [cosigned(path, log, 0, 3) for path in (first, second)] == [200, 200]
    shutil.copy(first, backup)
    assert [cosigned(path, log, 3, 5) for path in (first, second)] == [200, 200]
    assert [cosigned(path, fork, 3, 5) for path in (backup, second)] == [200, 409]


def test_what_can_t_be_remembered_is_not_signed(
    tmp_path: Path, log: Log, service: WitnessService, client: Witness
) -> None:
    client.cosign(log.signed(size=3), log.consistency)
    service._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageError):
        service.add_checkpoint(request(log, 3).encode())
    with pytest.raises(WitnessRefusedError) as no:
        client.cosign(log.signed(), log.consistency)
    assert no.value.status == HTTPStatus.SERVICE_UNAVAILABLE
    service._db.execute("PRAGMA query_only = 0")
    assert client.cosign(log.signed(), log.consistency)


def test_keys_and_files_of_another_kind_are_refused(tmp_path: Path, log: Log) -> None:
    with pytest.raises(DeclarationError, match="new-key"):
        WitnessService(tmp_path / "w.db", log.signer, [])
    with pytest.raises(DeclarationError, match="not a witness's key"):
        Witness("http://127.0.0.1:1", log.signer.verifier)
    for url in ("ftp://a", "a.example", "http://", "http://a/?b"):
        with pytest.raises(DeclarationError, match="this is not an address"):
            Witness(url, WITNESS.verifier)
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(NotAStoreError):
        WitnessService(tmp_path / "text", WITNESS, [])
    with pytest.raises(StorageError):
        WitnessService(tmp_path / "none" / "w.db", WITNESS, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0",
        b"old 0\n\n",
        b"old -1\n\nx",
        b"old 00\n\nx",
        b"new 0\n\nx",
        b"old 0\nAAAA\n\nx",
        b"old 0\n" + b"A" * 43 + b"=\n\nx",
        b"old \xff\n\nx",
    ],
)
def test_malformed_requests(service: WitnessService, body: bytes) -> None:
    assert service.add_checkpoint(body).status == HTTPStatus.BAD_REQUEST


def test_a_request_has_at_most_63_hashes(log: Log) -> None:
    most = AddCheckpoint(0, (EMPTY_ROOT,) * 63, log.signed())
    assert parse_request(most.encode()) == most
    with pytest.raises(MalformedError, match="63"):
        parse_request(AddCheckpoint(0, (EMPTY_ROOT,) * 64, log.signed()).encode())


def test_http_is_taken_strictly(log: Log, server: WitnessServer, client: Witness) -> None:
    client.cosign(log.signed(), log.consistency)
    address = server.url.removeprefix("http://")
    here = f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    for method, path, headers, status in (
        ("GET", here, {}, 200),
        ("GET", here.upper(), {}, 404),
        ("GET", f"/{'0' * 64}/checkpoint", {}, 404),
        ("GET", "/../etc/passwd", {}, 404),
        ("POST", "/else", {"Content-Length": "0"}, 404),
        ("POST", "/add-checkpoint", {"Content-Length": str(MAX_REQUEST_BYTES + 1)}, 413),
        ("POST", "/add-checkpoint", {"Content-Length": "-1"}, 411),
        ("POST", "/add-checkpoint", {"Transfer-Encoding": "chunked"}, 411),
        ("DELETE", "/add-checkpoint", {}, 501),
    ):
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_SECONDS)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as response:
            assert response.status == status, (method, path, headers)
        connection.close()


def answering(*answers: bytes) -> tuple[str, threading.Thread]:
    """A server that reads a request and sends these bytes as they are, then keeps still."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):  # the client hangs up
                    connection.settimeout(PATIENCE_SECONDS)
                    connection.recv(1 << 20)
                    connection.sendall(answer)
                    while connection.recv(1 << 20):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", thread


def http_answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b""], "time|closed|Remote"),
        ([b"HTTP/1.1 200"], "time|closed|Remote|cut|wrong"),
        ([b"nonsense\r\n\r\n"], "nonsense|Bad"),
        ([http_answer("200 OK", b"")], "the cosignature is wrong"),
        ([http_answer("200 OK", b"\xff")], "the cosignature is wrong"),
        (
            [http_answer("200 OK", "— witness1.example AAAAAAAA\n".encode())],
            "the cosignature is wrong",
        ),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000], "too long"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"], "time|IncompleteRead|cut off"),
        ([http_answer("409 Conflict", b"x\n")], "no size"),
        ([http_answer("409 Conflict", b"3\n")] * 3, "at the same time"),
        ([http_answer("302 Found", b"")], "status 302"),
        ([http_answer("500 No", b"\x1b[31mred")], r"status 500: \?\[31mred"),
    ],
)
def test_hostile_answers(log: Log, answers: list[bytes], why: str) -> None:
    url, thread = answering(*answers)
    waits = 0.5 if "time" in why else PATIENCE_SECONDS
    with pytest.raises(WitnessError, match=why):
        Witness(url, WITNESS.verifier, timeout=waits).cosign(log.signed(), log.consistency)
    thread.join()


def test_a_cosignature_of_something_else_is_none(log: Log) -> None:
    other = WITNESS.sign(log.checkpoint(3).text, NOW)
    url, thread = answering(http_answer("200 OK", other.line.encode()))
    with pytest.raises(WitnessError, match="the cosignature is wrong"):
        Witness(url, WITNESS.verifier).cosign(log.signed(), log.consistency)
    thread.join()


def test_nobody_there(log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WitnessError, match="refused"):
        Witness(f"http://127.0.0.1:{port}", WITNESS.verifier).cosign(log.signed(), log.consistency)


@pytest.mark.slow
def test_the_command_makes_a_key_serves_and_survives_being_killed(tmp_path: Path, log: Log) -> None:
    made = everwhen(tmp_path, "witness", "new-key", "key", "witness.example/1", "--json")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    signer = Signer.parse((tmp_path / "key").read_text())
    assert json.loads(made.stdout)["key"] == signer.verifier.vkey
    again = everwhen(tmp_path, "witness", "new-key", "key", "witness.example/1")
    assert (again.returncode, "key is never overwritten" in again.stderr) == (1, True)
    assert everwhen(tmp_path, "witness", "new-key", "other", "a b").returncode == 2
    vkey = log.signer.verifier.vkey
    assert everwhen(tmp_path, "witness", "serve", "state", "none", vkey).returncode == 66
    assert everwhen(tmp_path, "witness", "serve", "state", "key", "x").returncode == 2
    for name, code in (("none", 66), ("key", 2)):
        serve = ("serve", "state", "key", vkey, "--rollovers", name)
        refused = everwhen(tmp_path, "witness", *serve)
        assert (refused.returncode, "name a log's file" in refused.stderr) == (code, True)
        assert "PRIVATE" not in refused.stderr

    for size in (2, 3):
        program = Program(tmp_path, log.signer.verifier.vkey)
        witness = Witness(program.told["url"], signer.verifier)
        assert witness.cosign(log.signed(size=size), log.consistency)
        assert program.end(signal.SIGKILL) == -signal.SIGKILL
    second = Signer.generate(ORIGIN)
    (tmp_path / "rollovers").write_bytes(sign_rollover(ORIGIN, log.signer, second, 3, NOW))
    program = Program(tmp_path, log.signer.verifier.vkey, "--rollovers", "rollovers")
    witness = Witness(program.told["url"], signer.verifier)
    with pytest.raises(WitnessRefusedError, match="a tree of 3 entries"):
        witness.cosign(log.signed(size=2), log.consistency)
    with pytest.raises(WitnessRefusedError, match="signs no larger tree") as refusal:
        witness.cosign(log.signed(size=4), log.consistency)
    assert refusal.value.status == 403
    assert witness.cosign(sign_note(log.checkpoint(4).text, second), log.consistency)
    assert program.end(signal.SIGINT) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "rollovers", "state"]


@pytest.mark.slow
@pytest.mark.attack("a key file is copied")
def test_the_witness_s_key_is_encrypted_with_a_passphrase(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERWHEN_SIGNER_PASSPHRASE", "correct horse")
    assert everwhen(tmp_path, "witness", "new-key", "key", "witness.example/1").returncode == 0
    assert "PRIVATE" not in (tmp_path / "key").read_text()
    vkey = log.signer.verifier.vkey
    with Program(tmp_path, vkey) as program:
        assert program.told["name"] == "witness.example/1"
    for passphrase, why in (
        ("wrong horse", "passphrase is wrong"),
        ("", "is encrypted with a pass"),
    ):
        monkeypatch.setenv("EVERWHEN_SIGNER_PASSPHRASE", passphrase)
        refused = everwhen(tmp_path, "witness", "serve", "other", "key", vkey)
        assert (refused.returncode, why in refused.stderr) == (1, True)
    (tmp_path / "key").chmod(0o644)
    refused = everwhen(tmp_path, "witness", "serve", "other", "key", vkey)
    assert (refused.returncode, "chmod 600" in refused.stderr) == (1, True)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_killed_amid_its_work_it_has_never_signed_what_it_forgets(tmp_path: Path) -> None:
    log = Log.of(400)
    everwhen(tmp_path, "witness", "new-key", "key", "witness.example/1")
    verifier = Signer.parse((tmp_path / "key").read_text()).verifier
    signed = [0]

    def grow(url: str) -> None:
        client = Witness(url, verifier)
        with contextlib.suppress(WitnessError):
            for size in range(signed[-1] + 1, 401):
                client.cosign(log.signed(size=size), log.consistency)
                signed.append(size)

    for pause in (0.05, 0.15):
        program = Program(tmp_path, log.signer.verifier.vkey)
        thread = threading.Thread(target=grow, args=(program.told["url"],))
        thread.start()
        while len(signed) < 3:
            thread.join(0.01)
        thread.join(pause)
        program.end(signal.SIGKILL)
        thread.join()
        service = WitnessService(
            tmp_path / "state", Signer.parse((tmp_path / "key").read_text()), [log.signer.verifier]
        )
        status, body = asked(service, request(log, 0))
        service.close()
        assert status == HTTPStatus.CONFLICT
        assert signed[-1] <= int(body) <= signed[-1] + 1
        signed.append(int(body))
