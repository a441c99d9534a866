# Generated from src/everwhen/tiers/_async/retiring.py by tools/unasync.py: edit that, then run `make sync`.
"""Retiring old history: what it would lose is found out, it is recorded, and then carried out."""

from __future__ import annotations

from everwhen.merkle.store_notes import signed_commits
from everwhen.store._sync.erasure import carry_over
from everwhen.store._sync.store import Store
from everwhen.store.retirement_records import RETIREMENTS, HistoryRetired, recorded_in
from everwhen.tiers.retirement_records import Retirement, Survey
from everwhen.vocabulary.contract import Retire, Segment, SnapshotInfo
from everwhen.vocabulary.errors import MerkleLogError
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

_SNAPSHOTS_PER_PAGE = 1_000


def last_retirement(store: Store) -> tuple[HistoryRetired, int] | None:
    """The newest retirement that is recorded, and the position of the record."""
    query = Query().stream(RETIREMENTS).backwards().skipping_retired()
    while True:
        page = store.kernel.backend.read(query, PAGE_EVENTS)
        for stored in page.slices:
            record = recorded_in(stored)
            if record is not None:
                return record, stored.position
        if page.end:
            return None
        query = next_page(query, page)


def surveyed(store: Store, last: int) -> tuple[Survey, Retirement]:
    """What would be retired up to the position, which ends a segment."""
    known = last_retirement(store)
    before = None if known is None else known[0]
    survey = Survey(before)
    query = Query().after(0 if before is None else before.last).up_to(last)
    while True:
        page = store.kernel.backend.read(query, PAGE_EVENTS)
        survey.take(page.slices, end=page.end)
        if page.end:
            return survey, survey.retirement(last, _snapshots(store))
        query = next_page(query, page)


def retired(
    store: Store, survey: Survey, retirement: Retirement, *, allow_loss: bool = False
) -> Segment | None:
    """Record a retirement, and carry it out; the last segment of it.

    Raises `MerkleLogError`, before anything is lost, where a log that the store knows of hasn't
    signed all of it: that log could never go on. ``allow_loss`` gives such a log up.
    """
    if not allow_loss:
        _check_signed(store, survey.commits, retirement.last)
    carry_over(store.kernel.backend, retirement.last)
    (outcome,) = store.kernel.backend.append([survey.record(retirement)])
    if isinstance(outcome, Exception):
        raise outcome
    return store.kernel.backend.move(Retire(retirement.last, outcome.position))


def finished(store: Store, segments: list[Segment]) -> Segment | None:
    """Carry out a retirement that was recorded and cut off before it began."""
    known = last_retirement(store)
    if known is None:
        return None
    record, position = known
    due = [one for one in segments if one.last == record.last and one.retired_at is None]
    return store.kernel.backend.move(Retire(record.last, position)) if due else None


def _check_signed(store: Store, commits: int, last: int) -> None:
    for checkpoint in store.kernel.backend.checkpoints():
        size = signed_commits(checkpoint)
        if size is not None and size < commits:
            raise MerkleLogError(
                f"nothing was retired: up to position {last} there are {commits:,} commits, and a "
                f"log of this store has signed only {size:,} of them, so that it could never go "
                f"on; sign first, or give that log up with allow_loss=True"
            )


def _snapshots(store: Store) -> list[SnapshotInfo]:
    found: list[SnapshotInfo] = []
    subject, position = "", 0
    while True:
        some = store.kernel.backend.snapshots_after(subject, position, _SNAPSHOTS_PER_PAGE)
        if not some:
            return found
        found += some
        subject, position = some[-1].subject, some[-1].position
