# Generated from src/everwhen/branches/_async/branch_writer.py by tools/unasync.py: edit that, then run `make sync`.
"""Writing on a branch: what speaks against a commit before the fork, and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from everwhen.backends.commit_checks import refusal_of, repeated, time_of_commit
from everwhen.branches._sync.own_log import OwnLog
from everwhen.branches._sync.parent_log import ParentLog
from everwhen.branches.commit_translation import outcome_of, own_commit, streams_of
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Receipt
from everwhen.vocabulary.errors import CommitIdError, ConflictError, EverwhenError, RefusedError
from everwhen.vocabulary.streams import holds


class _Ready(NamedTuple):
    """A commit, as it is for the own log, and the versions of its streams at the fork."""

    number: int
    commit: EncodedCommit
    own: EncodedCommit
    bases: Mapping[str, int]


class BranchWriter:
    """Writes commits to the own log, once nothing before the fork speaks against them."""

    def __init__(self, parent: ParentLog, own: OwnLog) -> None:
        self._fork = parent.fork
        self._parent = parent
        self._own = own

    def append(self, commits: Sequence[EncodedCommit], connection: object = None) -> list[Outcome]:
        """Write the commits in order, each whole or not at all; one outcome for each."""
        outcomes: list[Outcome | None] = [None] * len(commits)
        ready: list[_Ready] = []
        for index, commit in enumerate(commits):
            bases = self._parent.versions(streams_of(commit))
            judged = self._judged(commit, bases)
            if isinstance(judged, EncodedCommit):
                ready.append(_Ready(index, commit, judged, bases))
            elif isinstance(judged, Receipt | CommitIdError):  # known before the fork
                outcomes[index] = judged
            else:
                self._write(ready, outcomes, connection)
                ready = []
                outcomes[index] = self._refused(commit, bases, judged)
        self._write(ready, outcomes, connection)
        return [outcome for outcome in outcomes if outcome is not None]

    def _write(
        self, ready: Sequence[_Ready], outcomes: list[Outcome | None], connection: object
    ) -> None:
        if not ready:
            return
        own = self._own.made()
        written = own.append([one.own for one in ready], connection)
        for one, outcome in zip(ready, written, strict=True):
            outcomes[one.number] = outcome_of(outcome, one.commit, self._fork, one.bases)

    def _judged(self, commit: EncodedCommit, bases: Mapping[str, int]) -> EncodedCommit | Outcome:
        """The commit for the own log, once nothing before the fork speaks against it.

        That part never changes, so what was found there holds when the commit is written.
        """
        fork = self._fork
        if not commit.is_fresh:
            stored = self._parent.stored_commit(commit.id)
            if stored:
                try:
                    return repeated(commit, stored)
                except RefusedError as error:
                    return error
        own = own_commit(commit, fork, bases)
        if isinstance(own, EncodedCommit):
            try:
                if commit.condition is not None:
                    self._parent.check_condition(commit.condition)
                time_of_commit(commit, lambda: fork.recorded_at, fork.recorded_at)
            except Exception as error:
                if not isinstance(error, RefusedError) and (
                    isinstance(error, EverwhenError) or is_interrupt(error)
                ):
                    raise
                return refusal_of(commit, error)
        return own

    def _refused(
        self, commit: EncodedCommit, bases: Mapping[str, int], refusal: Outcome
    ) -> Outcome:
        """The error for a commit that can't be written: that which a store would raise first."""
        own = self._own.existing()
        if not commit.is_fresh:
            stored = own.stored_commit(commit.id)
            if stored:
                try:
                    known: Outcome = repeated(commit, stored)
                except RefusedError as error:
                    known = error
                return outcome_of(known, commit, self._fork, bases)
        for stream, expected in commit.expected:
            info = own.stream(stream)
            actual = bases[stream] + (0 if info is None else info.version)
            if not holds(expected, actual):
                return ConflictError(stream, expected, actual)
        return refusal
