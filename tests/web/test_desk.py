"""The example application: several processes, one store, and a client that knows only HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from tests.patience import PATIENCE_SECONDS

from desk.lending import EVENTS
from everwhen import open_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextmanager
def desk(store: Path, workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The desk as a process, and its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "desk", str(store), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/docs", timeout=PATIENCE_SECONDS)
                break
            except httpx2.TransportError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk") / "desk.db"


@pytest.fixture(scope="module")
def client(place: Path) -> Iterator[httpx2.Client]:
    with (
        desk(place, workers=2) as (url, _),
        httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS) as found,
    ):
        yield found


def test_what_one_did_is_in_the_next_answer_of_any_process(client: httpx2.Client) -> None:
    ann = {"member": "ann"}
    for book in ("Emma", "Persuasion"):
        taken = client.post(f"/books/{book}/loan", headers=ann | {"Connection": "close"}).json()
        seen = client.get(
            "/members/ann/loans",
            params={"at_least": taken["position"]},
            headers={"Connection": "close"},  # so that any of the processes may answer
        ).json()
        assert book in [loan["book"] for loan in seen["loans"]]


def test_a_refusal_says_which_rule_and_its_facts(client: httpx2.Client) -> None:
    client.post("/books/Sanditon/loan", headers={"member": "ann"})
    answer = client.post("/books/Sanditon/loan", headers={"member": "bob"})
    told = answer.json()
    assert answer.status_code == 409
    assert (told["refusal"], told["member"]) == ("OnLoanError", "ann")
    assert client.post(f"/books/{'x' * 101}/loan", headers={"member": "bob"}).status_code == 422


def test_a_key_borrows_once_and_the_commit_says_who_and_in_what_conversation(
    client: httpx2.Client, place: Path
) -> None:
    given = {"member": "cleo", "x-request-id": "r-1", "Idempotency-Key": str(uuid4())}
    answers = [client.post("/books/Lady Susan/loan", headers=given) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["position"] for answer in answers}) == 1
    with open_store(place, events=EVENTS, read_only=True) as store:
        (event,) = store.read("book-Lady Susan")
    assert (event.metadata.user_id, event.metadata.correlation_id) == ("cleo", "r-1")


def test_history_is_mounted_beside_it_for_reading(client: httpx2.Client) -> None:
    client.post("/books/Love and Freindship/loan", headers={"member": "ann"})
    asked = {"stream": "book-Love and Freindship"}
    assert client.get("/history/v1/states/holder", params=asked).json()["state"] == "ann"
    written = client.post("/history/v1/streams/x/events", json={"events": []})
    assert written.status_code == 403


def test_it_ends_while_somebody_follows(tmp_path: Path) -> None:
    with desk(tmp_path / "desk.db", workers=1) as (url, process):
        with httpx2.stream("GET", f"{url}/loans/live", timeout=PATIENCE_SECONDS) as following:
            httpx2.post(f"{url}/books/Emma/loan", headers={"member": "ann"})
            lines = following.iter_lines()
            assert [next(lines) for _ in range(2)] == ["id: 1", "event: Borrowed"]
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)
        assert process.returncode in {0, -signal.SIGTERM}
