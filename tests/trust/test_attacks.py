"""An attacker at the file: each way to falsify history, at random places, is found and named."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.trust.attacks import (
    MUTATIONS,
    Mutation,
    change_body,
    change_first_index,
    commits_in,
    cut,
    lengthen_id,
    remove,
    remove_and_close_up,
    remove_two,
    sign_as_retired,
    sql,
    tidy,
)

from everwhen import Commit, Event, Write, open_store
from everwhen.errors import DeclarationError, MerkleLogError, TamperedError
from everwhen.merkle import Fault, FaultKind, LogReport, MerkleLog, TileFolder
from everwhen.witness import WitnessService
from everwhen.witness.messages import AddCheckpoint
from everwhen_verify.checkpoints import Checkpoint
from everwhen_verify.errors import SignatureError
from everwhen_verify.notes import Kind, Signer, sign_note
from everwhen_verify.policy import Policy
from everwhen_verify.rollover import open_rollovers

COMMITS = 700
SIGNER, STRANGER = Signer.generate("example.org/log"), Signer.generate("example.org/log")
NEXT = Signer.generate("example.org/log")


class Noted(Event):
    number: int


def fill(path: Path, commits: int, first: int = 0) -> None:
    with open_store(path, events=[Noted]) as store:
        for start in range(first, first + commits, 50):
            store.commit_batch(
                Commit([Write(f"s-{n % 9}", [Noted(n)] * (1 + n % 3))])
                for n in range(start, min(start + 50, first + commits))
            )


def seal(path: Path, signer: Signer = SIGNER) -> bytes:
    with open_store(path) as store:
        return MerkleLog(store, TileFolder.beside(path), signer).sign().note


def report(path: Path, **given: object) -> LogReport:
    with open_store(path, read_only=True) as store:
        log = MerkleLog(store, TileFolder.beside(path), key=SIGNER.verifier)
        return log.verify(**given)  # type: ignore[arg-type]


def fault(path: Path, **given: object) -> Fault:
    found = report(path, **given).fault
    assert found is not None, "it was not noticed"
    return found


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "store.db"
    fill(path, 300)
    seal(path)
    fill(path, COMMITS - 300, 300)
    seal(path)
    assert report(path).is_sound
    return path


def places(name: str, count: int = 6, last: int = COMMITS - 3) -> Iterator[int]:
    dice = random.Random(name)
    return (dice.randrange(1, last) for _ in range(count))


def restore(original: Path, path: Path) -> None:
    for beside in ("", "-wal", "-shm"):
        Path(f"{path}{beside}").unlink(missing_ok=True)
    shutil.copy(original, path)


@pytest.mark.slow
@pytest.mark.attack(
    "the tail of the store is cut off",
    about="history",
    answer="the store ends before its signed checkpoint",
    needs="the store's signed checkpoint",
)
@pytest.mark.attack(
    "a commit is back-dated",
    about="history",
    answer="the time is part of the entry",
    needs="a signed checkpoint over it",
)
@pytest.mark.attack(
    "a commit is removed, inserted, or moved",
    about="history",
    answer="all leaf hashes from there on differ",
    needs="a signed checkpoint over it",
)
@pytest.mark.attack(
    "a stored commit is changed",
    about="history",
    answer="its leaf hash is another one than the signed tree's",
    needs="a signed checkpoint over it",
)
@pytest.mark.parametrize(("mutate", "kind"), MUTATIONS, ids=lambda x: getattr(x, "__name__", ""))
def test_without_the_key(original: Path, victim: Path, mutate: Mutation, kind: FaultKind) -> None:
    for place in places(mutate.__name__):
        restore(original, victim)
        connection = sql(victim)
        mutate(connection, commits_in(connection), place)
        connection.close()
        found = fault(victim)
        assert (found.kind, found.index) == (kind, place), found


@pytest.mark.slow
@pytest.mark.attack(
    "the whole history is rewritten and signed by who holds the key",
    about="history",
    answer="no consistency proof from the remembered signed checkpoint",
    needs="a remembered signed checkpoint or a witness",
)
@pytest.mark.parametrize(("mutate", "kind"), MUTATIONS, ids=lambda x: getattr(x, "__name__", ""))
def test_with_the_key(victim: Path, mutate: Mutation, kind: FaultKind) -> None:
    """Who holds the key signs what was falsified; only who remembers better can tell."""
    remembered = (Path(f"{victim}-log") / "checkpoint").read_bytes()
    (place,) = places(mutate.__name__, 1)
    connection = sql(victim)
    mutate(connection, commits_in(connection), place)
    connection.close()
    shutil.rmtree(f"{victim}-log")
    if mutate in {lengthen_id, change_first_index}:
        return  # no log can be made of that at all
    tidy(victim)
    seal(victim)
    assert report(victim).is_sound, "that is what one log alone can't know"
    found = fault(victim, remembered=[remembered])
    expected = FaultKind.REWRITTEN
    if mutate in {cut, remove, remove_two, remove_and_close_up}:
        expected = FaultKind.CUT_TAIL
    assert found.kind is expected, found
    assert kind


def log_file(path: Path, name: str) -> Path:
    return Path(f"{path}-log") / name


@pytest.mark.attack(
    "signatures are stripped, wrong, or a stranger's",
    about="signatures",
    answer="no signature by a key of the policy, or a wrong one",
    needs="a policy with keys from elsewhere than the log",
)
def test_signatures(victim: Path) -> None:
    checkpoint = log_file(victim, "checkpoint")
    note = checkpoint.read_bytes()
    text, _, lines = note.partition(b"\n\n")
    stranger = Signer.generate("example.org/stranger")
    cases = [
        (sign_note(text.decode() + "\n", stranger), FaultKind.STRIPPED),
        (sign_note(text.decode() + "\n", STRANGER), FaultKind.FOREIGN),
        (note.replace(b"\n700\n", b"\n600\n"), FaultKind.BAD_SIGNATURE),
        (text + b"\n\n", FaultKind.STRIPPED),
        (
            sign_note(text.decode().replace("org/log", "org/other") + "\n", SIGNER),
            FaultKind.FOREIGN,
        ),
    ]
    assert lines
    for forged, kind in cases:
        checkpoint.write_bytes(forged)
        assert fault(victim).kind is kind
    checkpoint.unlink()
    assert fault(victim).kind is FaultKind.NOT_SIGNED


@pytest.mark.attack(
    "tiles are changed, but not the store", about="history", answer="tree and chain disagree"
)
def test_a_tree_that_is_not_the_chains(victim: Path) -> None:
    dice = random.Random(5)
    tiles = sorted((log_file(victim, "tile")).rglob("*"))
    for path in [path for path in tiles if path.is_file() and "300" not in str(path)]:
        whole = path.read_bytes()
        if path.parent.name.endswith(".p") and int(path.name) < 2:
            continue
        at = dice.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        is_used = path.parent.name.endswith(".p") is False or path.name in {"188", "2"}
        if is_used:
            assert fault(victim).kind is FaultKind.TREE, path
        path.write_bytes(whole[:-1])
        if is_used:
            assert fault(victim).kind is FaultKind.TREE, path
        path.unlink()
        if is_used:
            assert fault(victim).kind is FaultKind.TREE, path
        path.write_bytes(whole)
    assert report(victim).is_sound


@pytest.mark.attack(
    "two trees of one size are signed",
    about="history",
    answer="both are named, and are proof of the fork",
)
def test_a_fork(victim: Path) -> None:
    """The same key signs another tree of a size that it has signed before."""
    forked = Checkpoint("example.org/log", 500, bytes(32))
    with log_file(victim, "checkpoints").open("ab") as file:
        file.write(sign_note(forked.text, SIGNER) + b"\n")
    found = fault(victim)
    assert found.kind is FaultKind.FORK
    assert found.expected == forked.root.hex()


@pytest.mark.attack("the whole history is rewritten and signed by who holds the key")
@pytest.mark.parametrize(("place", "agreed"), [(40, 0), (450, 300)])
def test_where_two_histories_may_part(victim: Path, place: int, agreed: int) -> None:
    """What the key signs afterwards says nothing of the history that is remembered."""
    notes = log_file(victim, "checkpoints").read_bytes().split(b"\n\n")
    remembered = [b"\n\n".join(notes[at : at + 2]) + b"\n" for at in (0, 2)]
    connection = sql(victim)
    change_body(connection, commits_in(connection), place)
    cut(connection, commits_in(connection), 500)
    connection.close()
    shutil.rmtree(f"{victim}-log")
    for last in (600, COMMITS):
        seal(victim)
        fill(victim, last - 500, 500)
    seal(victim)
    found = fault(victim, remembered=remembered)
    assert (found.kind, found.index) == (FaultKind.REWRITTEN, agreed)


@pytest.mark.attack(
    "the tail is cut off, of store and log together",
    about="history",
    answer="the log ends before the remembered signed checkpoint",
    needs="a remembered signed checkpoint or a witness",
)
def test_a_log_that_is_set_back_with_its_store(original: Path, victim: Path) -> None:
    """To an older checkpoint, rightly signed: only a remembered one tells."""
    remembered = log_file(victim, "checkpoint").read_bytes()
    shutil.rmtree(f"{victim}-log")
    connection = sql(victim)
    cut(connection, commits_in(connection), 400)
    connection.close()
    tidy(victim)
    seal(victim)
    assert report(victim).is_sound
    assert fault(victim, remembered=[remembered]).kind is FaultKind.CUT_TAIL


@pytest.mark.attack(
    "a commit is changed, and chain and tree recomputed",
    about="history",
    answer="the root is another one than was signed",
    needs="a signed checkpoint over it; the attacker without the key",
)
def test_store_and_tiles_changed_together_without_the_key(victim: Path) -> None:
    checkpoint = log_file(victim, "checkpoint").read_bytes()
    history = log_file(victim, "checkpoints").read_bytes()
    connection = sql(victim)
    change_body(connection, commits_in(connection), 450)
    connection.close()
    shutil.rmtree(f"{victim}-log")
    seal(victim, STRANGER)
    log_file(victim, "checkpoint").write_bytes(checkpoint)
    log_file(victim, "checkpoints").write_bytes(history)
    found = fault(victim)
    assert found.kind is FaultKind.CHANGED
    assert found.index == 300, "behind the last checkpoint that agrees"


@pytest.mark.attack(
    "what came after the last signed checkpoint is changed",
    about="history",
    answer="not at all, until it is signed",
    needs="a shorter delay; witnesses often",
)
def test_what_is_not_signed_yet_is_not_noticed(victim: Path) -> None:
    fill(victim, 3, COMMITS)
    connection = sql(victim)
    change_body(connection, commits_in(connection), COMMITS + 1)
    connection.close()
    assert report(victim).is_sound
    seal(victim)
    connection = sql(victim)
    change_body(connection, commits_in(connection), COMMITS + 1)
    connection.close()
    assert fault(victim).index == COMMITS + 1


@pytest.mark.slow
@pytest.mark.attack("a stored commit is changed")
def test_edited_bytes(original: Path, victim: Path) -> None:
    """Whatever byte of a commit is edited in the file, it is never taken for sound."""
    dice = random.Random(9)
    connection = sql(victim)
    bodies = [row[0] for row in connection.execute("SELECT body FROM slices ORDER BY position")]
    connection.execute("VACUUM")
    connection.close()
    clean = victim.read_bytes()
    for _ in range(16):
        number = dice.randrange(COMMITS)
        at = clean.find(bodies[number])
        if at < 0:
            continue
        at += dice.randrange(len(bodies[number]))
        victim.write_bytes(clean[:at] + bytes([clean[at] ^ 1]) + clean[at + 1 :])
        found = fault(victim)
        assert found.kind in {FaultKind.CHANGED, FaultKind.DAMAGED}
    victim.write_bytes(clean)
    assert report(victim).is_sound


@pytest.fixture
def handed_over(tmp_path: Path) -> Path:
    """Two commits by the first key, which then hands over, and three more by the next."""
    path = tmp_path / "store.db"
    fill(path, 2)
    with open_store(path) as store:
        MerkleLog(store, TileFolder.beside(path), SIGNER).roll_over(NEXT)
    fill(path, 3, 2)
    seal(path, NEXT)
    found = report(path)
    assert found.is_sound
    assert [(one.size, one.new) for one in found.rollovers] == [(2, NEXT.verifier)]
    return path


@pytest.mark.attack(
    "an old key is used after it was handed over",
    about="signatures",
    answer="the tree is larger than that key's last one: signing, verifying, proving, policies and witnesses refuse it",
    needs="the rollovers; for trees up to that size, a witness or a remembered signed checkpoint",
)
def test_a_retired_key_signs_no_more(handed_over: Path) -> None:
    """Whose key was handed over at two commits changes the fourth, and signs all five."""
    honest = log_file(handed_over, "checkpoint").read_bytes()
    connection = sql(handed_over)
    change_body(connection, commits_in(connection), 3)
    connection.close()
    forged = sign_as_retired(handed_over, SIGNER)
    found = fault(handed_over)
    assert found.kind is FaultKind.FOREIGN
    assert f"{SIGNER.verifier.vkey} was handed over at 2 entries" in found.what
    assert found.expected == NEXT.verifier.vkey
    with open_store(handed_over) as store:
        tiles = TileFolder.beside(handed_over)
        for given in ({}, {"key": SIGNER.verifier}, {"key": NEXT.verifier}):
            for log in (
                MerkleLog(store, tiles, NEXT, **given),  # type: ignore[arg-type]
                MerkleLog(store, tiles, **given),  # type: ignore[arg-type]
            ):
                with pytest.raises(TamperedError, match="not the log's own"):
                    log.prove(4)
        with pytest.raises(TamperedError, match="not the log's own"):
            MerkleLog(store, tiles, NEXT).sign()
        with pytest.raises(MerkleLogError, match=f"signed by {re.escape(NEXT.verifier.vkey)}"):
            MerkleLog(store, tiles, SIGNER).sign()
    log_file(handed_over, "vkey").unlink()
    for signer in (SIGNER, NEXT):
        with pytest.raises(MerkleLogError):
            seal(handed_over, signer)
    rollovers = open_rollovers(log_file(handed_over, "rollovers").read_bytes())
    policy = Policy.parse(f"log {SIGNER.verifier.vkey}\nquorum none\n".encode())
    with pytest.raises(SignatureError, match="signs no larger tree"):
        policy.with_rollovers(rollovers).check(forged)
    assert policy.with_rollovers(rollovers).check(honest).log == NEXT.verifier


@pytest.mark.attack("an old key is used after it was handed over")
def test_what_a_retired_key_signed_is_not_remembered(handed_over: Path) -> None:
    honest = log_file(handed_over, "checkpoint").read_bytes()
    by_retired = sign_note(honest.decode().partition("\n\n")[0] + "\n", SIGNER)
    for given in ({"remembered": [by_retired]}, {"since": by_retired}):
        with pytest.raises(MerkleLogError, match="doesn't count"):
            report(handed_over, **given)
    with log_file(handed_over, "checkpoints").open("ab") as file:
        forked = Checkpoint("example.org/log", 4, bytes(32))
        file.write(sign_note(forked.text, SIGNER) + b"\n")
    assert fault(handed_over).kind is FaultKind.FOREIGN, "no fork: the log never signed that"


@pytest.mark.attack("an old key is used after it was handed over")
def test_a_witness_takes_no_retired_key(handed_over: Path, tmp_path: Path) -> None:
    witness = Signer.generate("witness.example", Kind.COSIGNATURE)
    rollovers = open_rollovers(log_file(handed_over, "rollovers").read_bytes())
    honest = log_file(handed_over, "checkpoint").read_bytes()
    connection = sql(handed_over)
    change_body(connection, commits_in(connection), 3)
    connection.close()
    forged = sign_as_retired(handed_over, SIGNER)
    for number, known in enumerate((SIGNER, NEXT)):
        with closing(
            WitnessService(tmp_path / f"{number}", witness, [known.verifier], rollovers)
        ) as service:
            assert service.add_checkpoint(AddCheckpoint(0, (), forged).encode()).status == 403
            assert service.add_checkpoint(AddCheckpoint(0, (), honest).encode()).status == 200
    with pytest.raises(DeclarationError, match="rollovers"):
        WitnessService(tmp_path / "w", witness, [SIGNER.verifier, NEXT.verifier])


@pytest.mark.attack("the tail is cut off, of store and log together")
def test_a_new_key_signs_nothing_smaller(handed_over: Path) -> None:
    """The tail is cut off together with the log's newest checkpoint, below the rollover."""
    connection = sql(handed_over)
    cut(connection, commits_in(connection), 1)
    connection.close()
    for name in ("checkpoint", "checkpoints"):
        log_file(handed_over, name).unlink()
    with pytest.raises(TamperedError, match="handed over at 2 commits"):
        seal(handed_over, NEXT)


@pytest.mark.attack(
    "a signed checkpoint of another log, by the same key",
    about="signatures",
    answer="its origin is another one",
)
def test_a_checkpoint_of_another_log_by_the_same_key(victim: Path) -> None:
    checkpoint = log_file(victim, "checkpoint")
    text = checkpoint.read_text().partition("\n\n")[0] + "\n"
    checkpoint.write_bytes(sign_note(text.replace("org/log", "org/other"), SIGNER))
    with pytest.raises(TamperedError, match="not the log's own"):
        seal(victim)
    with open_store(victim) as store, pytest.raises(TamperedError, match="not the log's own"):
        MerkleLog(store, TileFolder.beside(victim)).prove(1)
