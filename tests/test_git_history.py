"""Ground truth from outside: a Git repository's history, as events, is travelled as Git has it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import immutables
import pytest

from everwhen import Event, EventTypes, Fold, Store, TimeMachine, open_store
from everwhen.merging import Merging
from everwhen.state import diff
from everwhen.vocabulary import CommitMetadata

NAMES = [f"{folder}/{name}" for folder in ("src", "docs/deep") for name in ("a", "b", "c d", "ü")]


class Added(Event):
    path: str
    blob: str


class Modified(Event):
    path: str
    blob: str


class Removed(Event):
    path: str


TYPES = EventTypes(Added, Modified, Removed)
tree: Fold[Any] = Fold("tree", immutables.Map)


def _put(state: Any, event: Added | Modified) -> Any:
    return state.set(event.path, event.blob)


tree.on(Added)(_put)
tree.on(Modified)(_put)


@tree.on(Removed)
def _removed(state: Any, event: Removed) -> Any:
    return state.delete(event.path)


class Repository:
    """A real Git repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        own = {
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }
        settings = ("-c", "core.quotepath=false", "-c", "merge.renames=false")
        return subprocess.run(
            ["git", *settings, *words],
            cwd=self.folder,
            env={**os.environ, **own},
            check=check,
            capture_output=True,
            text=True,
        )

    def commit(self, changes: dict[str, str | None]) -> str:
        """Write files, or remove those whose content is None; the commit's hash."""
        for name, content in changes.items():
            file = self.folder / name
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD").stdout.strip()

    def tree(self, commit: str) -> dict[str, str]:
        """What Git says that the commit holds."""
        listed = self.git("ls-tree", "-r", "-z", commit).stdout.split("\0")
        entries = (line.split("\t") for line in listed if line)
        return {name: entry.split()[2] for entry, name in entries}

    def events(self, commit: str) -> list[Event]:
        """What the commit changed."""
        words = ("diff-tree", "-r", "-z", "--root", "--no-renames", "--no-commit-id", commit)
        parts = iter(self.git(*words).stdout.split("\0")[:-1])
        found: list[Event] = []
        for entry in parts:
            name, (_, _, _, blob, status) = next(parts), entry.split()
            match status:
                case "A":
                    found.append(Added(name, blob))
                case "M":
                    found.append(Modified(name, blob))
                case _:
                    found.append(Removed(name))
        return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return Repository(tmp_path / "repository")


def imported(store: Store, repository: Repository, commits: list[str]) -> dict[str, int]:
    """The position at which each commit ends."""
    found: dict[str, int] = {}
    for commit in commits:
        events = repository.events(commit)
        if events:
            store.append("repository", events, metadata=CommitMetadata(source=commit))
        found[commit] = store.head().position
    return found


def _some(rng: random.Random, present: dict[str, str]) -> dict[str, str | None]:
    names = rng.sample(NAMES, rng.randint(0, 4))
    return {
        name: None if name in present and rng.random() < 0.3 else f"{rng.random()}\n"
        for name in names
    }


@pytest.mark.slow
def test_the_state_at_each_commit_is_what_git_says(repository: Repository) -> None:
    rng = random.Random(7)
    commits: list[str] = []
    present: dict[str, str] = {}
    for _ in range(60):
        commits.append(repository.commit(_some(rng, present)))
        present = repository.tree(commits[-1])
    with open_store("memory:", events=TYPES) as store:
        ends = imported(store, repository, commits)
        machine = TimeMachine(store, tree)
        wanted = {commit: repository.tree(commit) for commit in commits}
        for commit in rng.sample(commits, len(commits)):
            assert dict(machine.travel_to(ends[commit]).state) == wanted[commit]
        for one, other in zip(commits, rng.sample(commits, len(commits)), strict=True):
            changes = machine.diff(ends[one], ends[other])
            told = repository.git("diff", "--name-only", "-z", "--no-renames", one, other)
            assert {c.path[0] for c in changes} == set(told.stdout.split("\0")[:-1])
        head = repository.tree("HEAD")
        for name in head:
            last = repository.git("log", "-1", "--format=%H", "--", name).stdout.strip()
            step = machine.last_write((name,))
            assert step is not None
            assert step.event.metadata.source == last


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_three_ways_conflict_where_git_says_so(repository: Repository, seed: int) -> None:
    rng = random.Random(seed)
    base = repository.commit({name: f"{name}\n" for name in NAMES[: rng.randint(0, 6)]})
    repository.git("branch", "theirs")
    present = repository.tree(base)
    few = rng.sample(NAMES, 3)
    both = [{n: v for n, v in _some(rng, present).items() if n in few} for _ in range(2)]
    if rng.random() < 0.5:
        both[1] |= dict(rng.sample(sorted(both[0].items()), min(1, len(both[0]))))
    ours = repository.commit(both[0])
    repository.git("checkout", "-q", "theirs")
    theirs = repository.commit(both[1])
    merged = repository.git("merge-tree", "--write-tree", ours, theirs, check=False)
    if merged.returncode > 1:
        pytest.skip(f"this git can't merge trees: {merged.stderr}")
    with open_store("memory:", events=TYPES) as store:
        imported(store, repository, [base])
        with store.create_branch("theirs") as branch:
            imported(store, repository, [ours])
            imported(branch, repository, [theirs])
            merging = Merging(store, compared_on=tree)
            plan = merging.plan(branch)
            assert bool(plan.unsettled) == (merged.returncode == 1)
            if not plan.unsettled:
                merging.merge(branch)
                wanted = repository.tree(merged.stdout.split()[0])
                assert not diff(dict(store.fold(tree)), wanted)
