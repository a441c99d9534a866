"""What becomes of a night's history: the nightly job, and that no answer is another after it.

When the casino has closed, the night is sealed in the books' own file, which is compacted. Months
later it goes to the archive. Whatever is asked is answered as before: that is checked here, by
asking before and after, with all read models built anew.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from bitcraps.casino import open_books
from bitcraps.game import Game, game
from bitcraps.ledger import Ledger, ledger
from bitcraps.places import Places
from bitcraps.projections import HouseEdge, Leaderboard, leaderboard
from bitcraps.questions import PROJECTIONS, EdgesSeen, LedgerTotal, Standing, TopPlayers, queries
from bitcraps.standings import standings
from bitcraps.surveillance import INSPECTOR, may_see
from everwhen import Query, Vault
from everwhen.aio import ProjectionRunner, Store
from everwhen.audit import AuditFilter, AuditRecord, AuditResult
from everwhen.audit.aio import AuditLog
from everwhen.merkle import LogReport
from everwhen.projections.aio import QueryBus
from everwhen.tiers import HistoryPolicy, HistoryStatus
from everwhen.tiers.aio import HistoryManager
from everwhen.vocabulary import Clock, Problem, system_clock

RETENTION: Final = HistoryPolicy(
    hot_duration=timedelta(0),
    small_segments=True,
    archive_after=timedelta(days=30),
    per_category={"audit": HistoryPolicy(archive_after=timedelta(days=90))},
)
"""A night is sealed when it is over, however short it was. The inspector wants a quarter's audit
entries at hand; each night has some, so that what a night was goes to the archive with them."""

ARCHIVED_AFTER: Final = timedelta(days=91)
"""When all of a night is in the archive."""


class Answers(msgspec.Struct, frozen=True):
    """What is asked of the books, all of it answered from events alone.

    The ``half_time`` leaderboard is as at a position; ``books``, ``edges`` and ``players`` are read
    models that were built anew; ``branches`` has what the books are on each branch, and ``refused``
    is what the audit log has on refusals. ``log`` is what came of verifying the Merkle log.
    """

    half_time: Leaderboard
    books: Ledger
    edges: HouseEdge
    players: list[Standing]
    games: dict[str, Game]
    branches: dict[str, Ledger]
    refused: list[AuditRecord]
    log: LogReport
    damages: list[Problem]


class Moved(msgspec.Struct, frozen=True):
    """What a move came to: sizes in bytes, of the store's file, and of the archive.

    Those of the file are 0 for a store in a database. ``before`` and ``after`` are what was
    answered.
    """

    status: HistoryStatus
    size_before: int
    size_after: int
    before: Answers
    after: Answers

    @property
    def differing(self) -> tuple[str, ...]:
        """Which answers are not what they were."""
        names = Answers.__struct_fields__
        return tuple(n for n in names if getattr(self.before, n) != getattr(self.after, n))

    @property
    def all_is_well(self) -> bool:
        """Whether the answers are the same, history is as it was signed, and nothing is damaged."""
        return not self.differing and self.after.log.is_sound and not self.after.damages


async def seal_night(places: Places, middle: int) -> Moved:
    """Do the nightly job: seal what happened, and compact the file.

    The casino must be closed. ``middle`` is a position of the past to ask about. Raises what the
    store, the vault and the log raise; `UnsupportedError` names a library that is missing.
    """
    with places.open_vault() as vault:
        return await _moved(places, vault, middle, system_clock)


async def try_archive(places: Places, middle: int) -> Moved:
    """Do the nightly job in a passing copy of the casino, on a day when the archive is due.

    Raises what `seal_night` raises.
    """
    with ExitStack() as stack:
        copy = places.copied_to(Path(stack.enter_context(_passing_folder())))
        vault = stack.enter_context(copy.open_vault())
        return await _moved(copy, vault, middle, lambda: system_clock() + ARCHIVED_AFTER)


def _passing_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bitcraps-")


async def _moved(places: Places, vault: Vault, middle: int, clock: Clock) -> Moved:
    """Age and compact, and ask before and after. The sizes are of a file that nobody has open."""
    size = places.size
    async with open_books(places.location, vault, clock=clock) as store:
        before = await answers(store, places, middle)
        manager = HistoryManager(store, RETENTION, archive=places.archive)
        await manager.age()
        if size:  # a database's server gives its pages back by itself
            await manager.compact()
        status = await manager.status()
    async with open_books(places.location, vault, clock=clock) as store:
        after = await answers(store, places, middle)
    return Moved(status, size, places.size, before, after)


async def answers(store: Store, places: Places, middle: int) -> Answers:
    """Ask everything. Raises what the store and the log raise."""
    async with ProjectionRunner(store, PROJECTIONS) as runner:
        await runner.catch_up()  # a copy of a store in a database comes without read models
        await runner.rebuild(standings)
        asks = QueryBus(store, queries, runner=runner)
        end = (await store.head()).position
        books = (await asks.ask(LedgerTotal(), at_least=end)).data
        edges = (await asks.ask(EdgesSeen(), at_least=end)).data
        players = (await asks.ask(TopPlayers(end), at_least=end)).data
    failures = AuditFilter(result=AuditResult.FAILURE)
    audit = AuditLog(store, policy=may_see)
    return Answers(
        await store.fold(leaderboard, Query().up_to(middle)),
        books,
        edges,
        players,
        {info.name: await store.fold(game, info.name) async for info in store.streams("game")},
        await _on_branches(store),
        [record async for record in audit.read(failures, by=INSPECTOR)],
        await places.log_of(store).verify(),
        await store.check(),
    )


async def _on_branches(store: Store) -> dict[str, Ledger]:
    found: dict[str, Ledger] = {}
    for info in await store.branches():
        async with await store.branch(info.name) as branch:
            found[info.name] = await branch.fold(ledger)
    return found
