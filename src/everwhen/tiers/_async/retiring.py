"""Retiring old history: what it would lose is found out, it is recorded, and then carried out."""

from __future__ import annotations

from everwhen.backends.engine import EngineView
from everwhen.merkle.store_notes import signed_commits
from everwhen.store._async.erasure import carry_over
from everwhen.store._async.store import Store
from everwhen.store.retirement_records import (
    HistoryRetired,
    RetirementRecord,
    newest_record,
    retired_end,
)
from everwhen.tiers.retirement_records import Retirement, Survey
from everwhen.vocabulary.contract import Retire, Segment, SnapshotInfo
from everwhen.vocabulary.errors import MerkleLogError, TamperedError
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

_SNAPSHOTS_PER_PAGE = 1_000


async def last_retirement(store: Store) -> HistoryRetired | None:
    """What is recorded of the history that was retired; None where none was.

    What anybody else wrote or imported into the stream is left alone. Raises `TamperedError` where
    history is gone, and no event says so.
    """
    end, record = await store.kernel.backend.view(_newest_of_retired)
    if not end:
        return None
    if record is None or record.event.last != end:
        raise TamperedError(
            f"everything up to position {end} is gone, and no event of the history says that it "
            f"was retired: nothing more is; see what 'everwhen verify' finds"
        )
    return record.event


def _newest_of_retired(view: EngineView) -> tuple[int, RetirementRecord | None]:
    end = retired_end(view.read)
    return end, newest_record(view.read, end) if end else None


async def surveyed(store: Store, last: int) -> tuple[Survey, Retirement]:
    """What would be retired up to the position, which ends a segment."""
    before = await last_retirement(store)
    survey = Survey(before)
    query = Query().after(0 if before is None else before.last).up_to(last)
    while True:
        page = await store.kernel.backend.read(query, PAGE_EVENTS)
        survey.take(page.slices, end=page.end)
        if page.end:
            return survey, survey.retirement(last, await _snapshots(store))
        query = next_page(query, page)


async def retired(
    store: Store, survey: Survey, retirement: Retirement, *, allow_loss: bool = False
) -> Segment | None:
    """Record a retirement, and carry it out; the last segment of it.

    Raises `MerkleLogError`, before anything is lost, where a log that the store knows of hasn't
    signed all of it: that log could never go on. ``allow_loss`` gives such a log up.
    """
    if not allow_loss:
        await _check_signed(store, survey.commits, retirement.last)
    await carry_over(store.kernel.backend, retirement.last)
    (outcome,) = await store.kernel.backend.append([survey.record(retirement)])
    if isinstance(outcome, Exception):
        raise outcome
    return await store.kernel.backend.move(Retire(retirement.last, outcome.position))


async def finished(store: Store, segments: list[Segment]) -> Segment | None:
    """Carry out a retirement that was recorded and cut off before it began.

    Only where the record says of what is there what Everwhen would: it isn't one of another store.
    """
    newest = await store.kernel.backend.view(lambda view: newest_record(view.read, 0))
    if newest is None:
        return None
    last = newest.event.last
    if not any(one.last == last and one.retired_at is None for one in segments):
        return None
    survey, retirement = await surveyed(store, last)
    if not survey.is_recorded_by(newest.event, retirement):
        return None
    return await store.kernel.backend.move(Retire(last, newest.stored.position))


async def _check_signed(store: Store, commits: int, last: int) -> None:
    for checkpoint in await store.kernel.backend.checkpoints():
        size = signed_commits(checkpoint)
        if size is not None and size < commits:
            raise MerkleLogError(
                f"nothing was retired: up to position {last} there are {commits:,} commits, and a "
                f"log of this store has signed only {size:,} of them, so that it could never go "
                f"on; sign first, or give that log up with allow_loss=True"
            )


async def _snapshots(store: Store) -> list[SnapshotInfo]:
    found: list[SnapshotInfo] = []
    subject, position = "", 0
    while True:
        some = await store.kernel.backend.snapshots_after(subject, position, _SNAPSHOTS_PER_PAGE)
        if not some:
            return found
        found += some
        subject, position = some[-1].subject, some[-1].position
