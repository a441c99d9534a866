"""Random lives of a log, tampered with at random moments: untouched is sound, touched is named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.trust import attacks
from tests.trust.attacks import Commits, commits_in, sql

from everwhen import Commit, Event, Store, Write, open_store
from everwhen.merkle import Fault, FaultKind, MerkleLog, TileFolder
from everwhen.merkle.log_writer import history, newest, signed
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata
from everwhen_verify.checkpoints import Checkpoint
from everwhen_verify.notes import Signer, sign_note
from everwhen_verify.tiles import tile_path, tile_width

pytestmark = pytest.mark.slow

ORIGIN = "example.org/log"
SIGNER, STRANGER = Signer.generate(ORIGIN), Signer.generate(ORIGIN)
SOMEBODY = Signer.generate("example.org/somebody")
MOST = 1_500


class Noted(Event):
    number: int
    text: str = ""


def a_commit(number: int) -> Commit:
    writes = [Write(f"s-{number % 5}", [Noted(number)] * (1 + number % 3))]
    if number % 7 == 0:
        writes = [Write(f"m-{i}", [Noted(number), Noted(i)]) for i in range(3)]
    elif number % 97 == 1:
        writes = [Write("large", [Noted(number, "x" * 70_000)])]
    metadata = CommitMetadata(user_id="ann") if number % 4 == 0 else None
    return Commit(writes, None, UUID(int=number + 1, version=4), metadata)


@dataclass
class Victim:
    """A copy of a store and its log, for one attack."""

    path: Path
    remembered: bytes
    size: int
    """How many commits are under the newest checkpoint, `remembered`."""
    commits: Commits
    draw: Callable[[int, int], int]

    @property
    def log(self) -> Path:
        return Path(f"{self.path}-log")

    def by_sql(self, attack: attacks.Mutation, place: int) -> None:
        connection = sql(self.path)
        attack(connection, self.commits, place)
        connection.close()

    def fault(self, *, remembers: bool = False) -> Fault | None:
        with open_store(self.path, read_only=True) as store:
            log = MerkleLog(store, TileFolder(self.log), key=SIGNER.verifier)
            return log.verify(remembered=[self.remembered] if remembers else []).fault

    def single(self, place: int) -> bool:
        return len(self.commits[place]) == 1


Found = tuple[FaultKind, int | None]


def anywhere(attack: attacks.Mutation, kind: FaultKind, spare: int) -> Callable[[Victim], Found]:
    """That attack at any signed commit, so many before the last one."""

    def at_some_place(victim: Victim) -> Found:
        place = victim.draw(1, victim.size - 1 - spare)
        if attack in {attacks.remove_first_slice, attacks.remove_last_slice}:
            while victim.single(place):
                place -= 1
        if attack in {attacks.swap, attacks.swap_contents}:
            while not (victim.single(place) and victim.single(place + 1)):
                place -= 1
        victim.by_sql(attack, place)
        return kind, place

    at_some_place.__name__ = attack.__name__
    return at_some_place


def edit_tile(victim: Victim) -> Found:
    """Any byte of any tile that the newest checkpoint rests on."""
    level, tiles = 0, []
    while victim.size >> 8 * level:
        tiles += [(level, i) for i in range(((victim.size >> 8 * level) + 255) // 256)]
        level += 1
    level, index = tiles[victim.draw(0, len(tiles) - 1)]
    width = tile_width(victim.size, level, index)
    path = victim.log / tile_path(level, index, width)
    whole = path.read_bytes()
    at = victim.draw(0, len(whole) - 1)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    if level:
        first = index * 256 + at // 32  # it may be found with the last leaf of what it covers
        found = victim.fault()
        assert found is not None
        assert found.index in {None, first * 256}
        return FaultKind.TREE, found.index
    return FaultKind.TREE, index * 256 + at // 32


def lose_tile(victim: Victim) -> Found:
    index = victim.draw(0, (victim.size - 1) // 256)
    (victim.log / tile_path(0, index, tile_width(victim.size, 0, index))).unlink()
    return FaultKind.TREE, index * 256


def strip(victim: Victim) -> Found:
    return _signed_again(victim, b"")


def sign_as_stranger(victim: Victim) -> Found:
    text = signed(victim.remembered).checkpoint.text
    by = victim.draw(0, 1)
    (victim.log / "checkpoint").write_bytes(sign_note(text, (STRANGER, SOMEBODY)[by]))
    return (FaultKind.FOREIGN, FaultKind.STRIPPED)[by], None


def _signed_again(victim: Victim, signatures: bytes) -> Found:
    text = victim.remembered.partition(b"\n\n")[0]
    (victim.log / "checkpoint").write_bytes(text + b"\n\n" + signatures)
    return FaultKind.STRIPPED, None


def sign_another_size(victim: Victim) -> Found:
    at = signed(victim.remembered).checkpoint
    text = at._replace(size=victim.draw(0, victim.size - 1)).text
    _, _, signatures = victim.remembered.partition(b"\n\n")
    (victim.log / "checkpoint").write_bytes(text.encode() + b"\n" + signatures)
    return FaultKind.BAD_SIGNATURE, None


def lose_checkpoint(victim: Victim) -> Found:
    (victim.log / "checkpoint").unlink()
    return FaultKind.NOT_SIGNED, None


def fork(victim: Victim) -> Found:
    """The key has signed another tree as well."""
    other = Checkpoint(ORIGIN, victim.draw(1, victim.size), bytes(32))
    sizes = {one.checkpoint.size for one in history(TileFolder(victim.log))}
    with (victim.log / "checkpoints").open("ab") as file:
        file.write(sign_note(other.text, SIGNER) + b"\n")
    return FaultKind.FORK, max((size for size in sizes if size < other.size), default=0)


def set_back(victim: Victim) -> Found:
    """Store and log both end earlier, at a checkpoint that was rightly signed."""
    size = victim.draw(1, victim.size - 1)
    victim.by_sql(attacks.cut, size)
    attacks.tidy(victim.path)
    shutil.rmtree(victim.log)
    with open_store(victim.path) as store:
        MerkleLog(store, TileFolder(victim.log), SIGNER).sign()
    assert victim.fault() is None, "only a remembered checkpoint tells"
    return FaultKind.CUT_TAIL, size


def rewrite(victim: Victim) -> Found:
    """Who holds the key signs another history."""
    place = victim.draw(1, victim.size - 1)
    victim.by_sql(attacks.change_body, place)
    shutil.rmtree(victim.log)
    with open_store(victim.path) as store:
        MerkleLog(store, TileFolder(victim.log), SIGNER).sign()
    assert victim.fault() is None, "only a remembered checkpoint tells"
    return FaultKind.REWRITTEN, 0


SPARE = {"swap": 1, "swap_contents": 1, "remove": 1, "remove_two": 2, "remove_and_close_up": 1}
ATTACKS = [
    *(anywhere(one, kind, SPARE.get(one.__name__, 0)) for one, kind in attacks.MUTATIONS),
    anywhere(attacks.remove_first_slice, FaultKind.CHANGED, 0),
    anywhere(attacks.remove_last_slice, FaultKind.CHANGED, 0),
    edit_tile,
    lose_tile,
    strip,
    sign_as_stranger,
    sign_another_size,
    lose_checkpoint,
    fork,
    set_back,
    rewrite,
]


class Tampering(RuleBasedStateMachine):
    """One store with a log, and a branch with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "store.db"
        self.clock = ManualClock()
        self.count = self.size = 0
        self.remembered: dict[bool, list[bytes]] = {False: [], True: []}

    def opened(self) -> Store:
        return open_store(self.path, events=[Noted], clock=self.clock)

    def log(self, store: Store) -> MerkleLog:
        return MerkleLog(store, TileFolder.beside(self.path, store.branch_info), SIGNER)

    def append(self, store: Store, commits: int) -> None:
        self.clock.advance(0.01)
        numbers = range(self.count, self.count + commits)
        store.commit_batch([a_commit(number) for number in numbers])
        self.count += commits

    def sign(self, log: MerkleLog, *, branch: bool = False) -> None:
        self.remembered[branch].append(log.sign().note)
        if not branch:
            self.size = signed(self.remembered[False][-1]).checkpoint.size

    @initialize(commits=st.integers(8, 300))
    def begin(self, commits: int) -> None:
        self.live([commits], 1)

    @precondition(lambda self: self.count < MOST)
    @rule(batches=st.lists(st.integers(1, 130), min_size=1, max_size=3), seals=st.integers(0, 3))
    def live(self, batches: list[int], seals: int) -> None:
        """Append, now and then sign, by one and the same log."""
        with self.opened() as store:
            log = self.log(store)
            for number, commits in enumerate(batches):
                self.append(store, commits)
                if number < seals:
                    self.sign(log)

    @precondition(lambda self: self.count < MOST)
    @rule(data=st.data(), commits=st.integers(0, 60))
    def branch_off(self, data: st.DataObject, commits: int) -> None:
        at = data.draw(st.sampled_from(_ends(self.path)))
        with self.opened() as store:
            if not self.remembered[True]:
                store.create_branch("b", at).close()
            with store.branch("b") as branch:
                self.append(branch, commits)
                self.sign(self.log(branch), branch=True)

    @rule(data=st.data())
    def untouched(self, data: st.DataObject) -> None:
        """All of it, and what is newer than a checkpoint, for the store and for its branch."""
        with self.opened() as store:
            for branch, notes in self.remembered.items():
                if notes:
                    log = self.log(store.branch("b") if branch else store)
                    assert log.verify(remembered=notes).fault is None
                    since = data.draw(st.sampled_from(notes))
                    assert log.verify(since=since).fault is None

    @rule(
        attacks=st.lists(st.sampled_from(ATTACKS), min_size=2, max_size=4, unique=True),
        data=st.data(),
    )
    def touched(self, attacks: list[Callable[[Victim], Found]], data: st.DataObject) -> None:
        """Found and named, whichever; and what was attacked is forgotten again."""
        for attack in attacks:
            with TemporaryDirectory() as folder:
                victim = self.victim(Path(folder), data)
                kind, index = attack(victim)
                found = victim.fault(remembers=attack in {set_back, rewrite})
                assert found is not None, "it was not noticed"
                assert (found.kind, found.index) == (kind, index), found

    @precondition(lambda self: self.remembered[True])
    @rule(data=st.data())
    def touched_below_a_branch(self, data: st.DataObject) -> None:
        """What a branch has from its parent is under its checkpoints as well."""
        with TemporaryDirectory() as folder:
            victim = self.victim(Path(folder), data)
            with open_store(victim.path) as store, store.branch("b") as branch:
                info = branch.branch_info
                assert info is not None
                below = sum(commit[-1] <= info.position for commit in victim.commits)
                place = data.draw(st.integers(0, below - 1))
            victim.by_sql(attacks.change_body, place)
            with open_store(victim.path) as store, store.branch("b") as branch:
                tiles = TileFolder.beside(victim.path, branch.branch_info)
                found = MerkleLog(branch, tiles, key=SIGNER.verifier).verify().fault
            assert found is not None
            assert (found.kind, found.index) == (FaultKind.CHANGED, place)

    @rule(data=st.data())
    def touched_before_it_is_signed(self, data: st.DataObject) -> None:
        """Nobody can know: what isn't signed yet isn't sound or unsound."""
        with TemporaryDirectory() as folder:
            victim = self.victim(Path(folder), data)
            if victim.size < len(victim.commits):
                place = data.draw(st.integers(victim.size, len(victim.commits) - 1))
                victim.by_sql(attacks.change_body, place)
            assert victim.fault(remembers=True) is None

    def victim(self, folder: Path, data: st.DataObject) -> Victim:
        shutil.copytree(self.path.parent, folder, dirs_exist_ok=True)
        path = folder / self.path.name
        at = newest(TileFolder.beside(path))
        assert at is not None
        connection = sql(path)
        commits = commits_in(connection)
        connection.close()
        return Victim(
            path, at.note, self.size, commits, lambda low, high: data.draw(st.integers(low, high))
        )

    def teardown(self) -> None:
        self.folder.cleanup()


def _ends(path: Path) -> list[int]:
    """Where a branch can begin: the last positions of commits."""
    with sqlite3.connect(path) as connection:
        ends = [commit[-1] for commit in commits_in(connection)]
    connection.close()
    return ends


TestTampering = pytest.mark.filterwarnings("ignore::ResourceWarning")(Tampering.TestCase)
TestTampering.settings = settings(
    max_examples=5, stateful_step_count=10, deadline=None, phases=[Phase.generate]
)
