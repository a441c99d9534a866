"""A log and real witnesses over the network, from the append to the auditor without one."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pytest
from tests.trust.attacks import change_body, commits_in, cut, sql
from tests.witness.serving import Program

from everwhen import Event, open_store
from everwhen.errors import WitnessError, WitnessRefusedError
from everwhen.merkle import FaultKind, MerkleLog, Signed, TileFolder
from everwhen.system.durable_files import write_secret
from everwhen.witness import Witness, WitnessServer, WitnessService
from everwhen_verify.notes import Kind, Signer, Verifier
from everwhen_verify.policy import Policy
from everwhen_verify.rollover import Rollover, open_rollovers

pytestmark = pytest.mark.slow

ORIGIN = "shop.example/log"
SIGNER = Signer.generate(ORIGIN)
OFFLINE = """
import os, sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and os._exit(99))
from everwhen_verify.program import run
sys.exit(run(sys.argv[1:]))
"""


class Noted(Event):
    number: int


@dataclass
class World:
    """A store and its log, and a witness each in three hands."""

    folder: Path
    logs: list[Verifier] = field(default_factory=lambda: [SIGNER.verifier])
    signers: list[Signer] = field(default_factory=list)
    rollovers: list[Rollover] = field(default_factory=list)
    running: dict[int, ExitStack] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "store.db"

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    def found(self) -> World:
        lines = [f"log {SIGNER.verifier.vkey}"]
        for number in range(3):
            signer = Signer.generate(f"witness.example/{number}", Kind.COSIGNATURE)
            home = self.home(number)
            home.mkdir()
            write_secret(home / "key", signer.skey.encode())
            self.signers.append(signer)
            self.urls.append(f"http://127.0.0.1:{unused_port()}")
            lines.append(f"witness w{number} {signer.verifier.vkey}")
        lines += ["group most 2 w0 w1 w2", "quorum most", ""]
        self.policy.write_text("\n".join(lines))
        return self

    def home(self, number: int) -> Path:
        return self.folder / f"witness-{number}"

    def serve(self, *numbers: int, as_process: bool = False) -> None:
        for number in numbers:
            with ExitStack() as held:
                if as_process:
                    vkeys = [log.vkey for log in self.logs]
                    program = held.enter_context(Program(self.home(number), *vkeys))
                    self.urls[number] = program.told["url"]
                else:
                    state = self.home(number) / "state"
                    service = WitnessService(state, self.signers[number], self.logs, self.rollovers)
                    held.callback(service.close)
                    server = held.enter_context(WitnessServer(service))
                    thread = Thread(target=server.serve_forever, args=(0.01,))
                    thread.start()
                    held.callback(thread.join)
                    held.callback(server.shutdown)
                    self.urls[number] = server.url
                self.running[number] = held.pop_all()

    def stop(self, *numbers: int) -> None:
        for number in numbers:
            self.running.pop(number).close()

    def append(self, commits: int = 10, path: Path | None = None) -> None:
        with open_store(path or self.path, events=[Noted]) as store:
            for number in range(commits):
                store.append("a", [Noted(number)])

    def sign(
        self, path: Path | None = None, signer: Signer = SIGNER
    ) -> tuple[Signed, Exception | None]:
        """The newest checkpoint, and what went wrong with a witness."""
        where = path or self.path
        known = zip(self.urls, self.signers, strict=True)
        witnesses = [Witness(url, signer.verifier) for url, signer in known]
        with open_store(where) as store:
            log = MerkleLog(store, TileFolder.beside(where), signer, witnesses=witnesses)
            sealed = log.sign()
            assert log.sign() == sealed
            return sealed, log.failure

    def prove(self, position: int, path: Path | None = None) -> Path:
        where = path or self.path
        proof = self.folder / f"{position}.tlog-proof"
        with open_store(where, read_only=True) as store:
            proof.write_bytes(MerkleLog(store, TileFolder.beside(where)).prove(position).encode())
        return proof

    def witnesses_checkpoint(self, number: int) -> bytes:
        connection = http.client.HTTPConnection(self.urls[number].removeprefix("http://"))
        connection.request("GET", f"/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
        with connection.getresponse() as response:
            note = response.read()
        connection.close()
        return note


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path).found()
    yield world
    world.stop(*world.running)


def audited(proof: Path, policy: Path, *more: str | Path) -> tuple[int, dict[str, object]]:
    """What `everwhen-verify` says, in a process that ends where it opens a socket."""
    command: Sequence[str | Path] = [sys.executable, "-c", OFFLINE, proof, policy, *more, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_quorum_of_witnesses_while_one_is_down(world: World) -> None:
    world.serve(0, 1, as_process=True)
    world.append()
    sealed, failure = world.sign()
    assert isinstance(failure, WitnessError)
    assert failure.witness == world.urls[2]
    policy = Policy.parse(world.policy.read_bytes())
    assert set(policy.check(sealed.note).cosigned) == {"w0", "w1"}
    proof = world.prove(7)
    world.stop(0, 1)
    code, said = audited(proof, world.policy)
    assert (code, said["index"], said["size"]) == (0, 6, 10)
    assert set(said["cosigned"]) == {"w0", "w1"}  # type: ignore[call-overload]
    proof.write_bytes(proof.read_bytes().replace(b"index 6", b"index 5"))
    assert audited(proof, world.policy)[0] == 1


def test_too_few_witnesses_are_no_quorum_and_the_next_checkpoint_makes_up_for_it(
    world: World,
) -> None:
    world.serve(0)
    world.append()
    assert isinstance(world.sign()[1], WitnessError)
    code, said = audited(world.prove(1), world.policy)
    assert (code, said["error"]) == (1, "PolicyError")
    assert "needs 2 of 3; it has w0, and lacks w1, w2" in str(said["why"])
    world.serve(1, 2)
    world.append(300)
    sealed, failure = world.sign()
    assert failure is None, "they have never seen this log, or last when it was smaller"
    policy = Policy.parse(world.policy.read_bytes())
    assert set(policy.check(sealed.note).cosigned) == {"w0", "w1", "w2"}
    world.stop(1)
    world.serve(1)
    world.append(5)
    assert world.sign()[1] is None, "started again, it goes on from what it remembers"
    assert audited(world.prove(1), world.policy)[0] == 0


@pytest.mark.attack("the whole history is rewritten and signed by who holds the key")
@pytest.mark.parametrize(("last", "status"), [(10, 422), (30, 422), (6, 409)])
def test_a_history_that_its_key_has_rewritten_is_refused(
    world: World, last: int, status: int
) -> None:
    """With as many commits as before, with more, and with fewer."""
    world.serve(0, 1)
    world.append()
    world.sign()
    assert audited(world.prove(6), world.policy)[0] == 0
    shutil.rmtree(f"{world.path}-log")
    connection = sql(world.path)
    change_body(connection, commits_in(connection), 4)
    if last < 10:
        cut(connection, commits_in(connection), last)
    connection.close()
    world.append(max(last - 10, 0))
    sealed, failure = world.sign()
    assert isinstance(failure, WitnessError)
    assert sealed.checkpoint.size == last
    code, said = audited(world.prove(6), world.policy)
    assert (code, said["error"]) == (1, "PolicyError"), "signed by the log, and by nobody else"
    witness = Witness(world.urls[0], world.signers[0].verifier)
    with open_store(world.path, read_only=True) as store:
        log = MerkleLog(store, TileFolder.beside(world.path), key=SIGNER.verifier)
        with pytest.raises(WitnessRefusedError) as refused:
            witness.cosign(sealed.note, log.consistency)
        assert refused.value.status == status
        assert log.verify().is_sound, "by itself nobody can tell"
        fault = log.verify(remembered=[world.witnesses_checkpoint(1)]).fault
    assert fault is not None
    assert fault.kind is (FaultKind.CUT_TAIL if last < 10 else FaultKind.REWRITTEN)


@pytest.mark.attack(
    "a fork: two histories are shown to two people, both signed",
    about="history",
    answer="a witness refuses the second; two signed checkpoints that aren't consistent are proof of the fork",
    needs="a quorum of witnesses in the policy, or people who compare",
)
def test_of_two_histories_the_witnesses_take_one(world: World) -> None:
    world.serve(0, 1, 2)
    world.append()
    world.sign()
    other = world.folder / "other.db"
    shutil.copy(world.path, other)
    shutil.copytree(f"{world.path}-log", f"{other}-log")
    world.append(3)
    world.append(4, other)
    assert world.sign()[1] is None
    failure = world.sign(other)[1]
    assert isinstance(failure, WitnessRefusedError)
    assert failure.status == 422
    assert audited(world.prove(13), world.policy)[0] == 0
    code, said = audited(world.prove(13, other), world.policy)
    assert (code, said["error"]) == (1, "PolicyError")


@pytest.mark.attack(
    "a stolen key is handed over to the thief's",
    about="signatures",
    answer="the rollover is signed rightly: not by itself",
    needs="a witness that isn't told of the new key, or the owner reading `rollovers`",
)
def test_a_new_key_has_to_be_told_to_the_witnesses(world: World) -> None:
    world.serve(0, 1)
    world.append()
    world.sign()
    new = Signer.generate(ORIGIN)
    with open_store(world.path) as store:
        MerkleLog(store, TileFolder.beside(world.path), SIGNER).roll_over(new)
    world.append(5)
    _, failure = world.sign(signer=new)
    assert isinstance(failure, WitnessError), "two refuse, one is away"
    rollovers = Path(f"{world.path}-log") / "rollovers"
    proof = world.prove(15)
    assert audited(proof, world.policy, "--rollovers", rollovers)[1]["error"] == "PolicyError"
    world.stop(0, 1)
    world.rollovers += open_rollovers(rollovers.read_bytes())
    world.serve(0, 1, 2)
    world.append(1)
    assert world.sign(signer=new)[1] is None
    proof = world.prove(15)
    assert audited(proof, world.policy, "--rollovers", rollovers)[0] == 0
    code, said = audited(proof, world.policy)
    assert (code, said["error"]) == (1, "SignatureError"), "the new key, and nobody vouches for it"
