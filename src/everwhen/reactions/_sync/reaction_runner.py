# Generated from src/everwhen/reactions/_async/reaction_runner.py by tools/unasync.py: edit that, then run `make sync`.
"""Reactions at work: events are followed, commands sent, timers kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from everwhen.backends._sync.concurrency import sleep
from everwhen.backends.engine import EngineTransaction
from everwhen.codec.commits import stored_query
from everwhen.codec.recorded_events import RecordedEvent, place_in_words
from everwhen.commands._sync.command_bus import CommandBus, check_bus
from everwhen.commands.decisions import StateOf, decrypted_command
from everwhen.projections._sync.followers import Follower, LeasedFollower, Moved
from everwhen.projections._sync.log_following import Following
from everwhen.projections._sync.statuses import projection_statuses
from everwhen.reactions.reactions import Reaction
from everwhen.reactions.timers import (
    CancelTimer,
    SetTimer,
    Timer,
    set_timer,
    timer_checkpoint,
    timer_name,
    timers_of,
)
from everwhen.store._sync.repository import Repository
from everwhen.store.page_decoding import events_of_page
from everwhen.store.projection_records import (
    Build,
    BuildRecord,
    ParkedEvent,
    ProjectionStatus,
    parked_checkpoint,
)
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.errors import (
    BranchError,
    DeclarationError,
    ErasedSubjectError,
    LeaseError,
    NotAllowedError,
    Refusal,
    StorageError,
)
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.query import query_of
from everwhen.vocabulary.validation import check_text

_LOG: Final = logging.getLogger("everwhen")


class ReactionFollower(LeasedFollower):
    """Sends what a reaction makes of each event, and what its timers have come due for."""

    def __init__(self, bus: CommandBus, reaction: Reaction, *, lease: float, clock: Clock) -> None:
        build = Build(reaction.name, kind="reaction")
        super().__init__(bus.store, reaction.name, reaction.of, reaction.on_error, build, lease)
        self.reaction = reaction
        self.timers: dict[str, SetTimer] = {}
        self._bus = bus
        self._encryption = bus.store.kernel.codec.encryption
        self._clock = clock
        self._first = 0
        self._changes: list[SetTimer | CancelTimer] = []
        self._failed_timers: set[str] = set()

    def start(self) -> bool:
        """Take the lease, and take over the timers."""
        if self.reaction.from_now:
            self._first = (self._store.head()).position
        started = self._take_lease()
        if started:
            self.timers = timers_of(self._store.checkpoints(), self.name)
            self._failed_timers.clear()
        return started

    def _create(self, transaction: EngineTransaction) -> None:
        del transaction
        self._record = BuildRecord((), is_live=True)
        self.position = self._kept = self._first

    def take(self, page: Page) -> None:
        self._mark_now()
        wanted = self.of.after(self.position)
        asked = stored_query(wanted, self._store.kernel.codec)
        until = max(self.position, page.cursor)
        try:
            for event in events_of_page(page, asked, wanted, self._store.kernel.codec, typed=True):
                if self._is_half_over:
                    self.position = event.position - 1
                    self._keep_changes()
                self._take_event(event)
                if not self.is_active:
                    return
            self.position = until
            (self._keep_changes() if self._changes else self._renew())
        except Moved:
            self.give_way()
        except BaseException:
            self.position, self._changes = self._kept, []
            raise

    def _take_event(self, event: RecordedEvent[Any]) -> None:
        if event.stream in self._parked:

            def park(transaction: EngineTransaction) -> None:
                self._check_lease(transaction)
                self._park(transaction, event, None)

            self._backend.transact(park)
            return
        failure: Exception | None = None
        for attempt in range(self.on_error.retries + 1):
            if attempt:
                sleep(self._pause(attempt - 1))
                self._renew()
            try:
                self._react(event)
            except Exception as error:
                if isinstance(error, StorageError | Moved) or is_interrupt(error):
                    raise
                failure = error
            else:
                self._pace.add(1)
                return
        self.position = event.position - 1
        self._keep_changes()
        if self.on_error.then == "halt":
            self._halt(event.position, failure)
        else:
            self._leave_out(event, failure)

    def _react(self, event: RecordedEvent[Any]) -> None:
        """Send the commands that follow from an event, and note what becomes of timers."""
        reacting = self.reaction.to(event.event)
        if reacting is None:
            return
        states = [self._state(state, event) for state in reacting.states]
        try:
            answers = reacting.react(event, *states)
        except Exception as error:
            error.add_note(f"in reaction {self.name!r}, at {place_in_words(event)}")
            raise
        changes: list[SetTimer | CancelTimer] = []
        metadata = event.metadata
        for index, answer in enumerate(self.reaction.answers(answers, event)):
            if isinstance(answer, CancelTimer):
                check_text(answer.key, "timer key", DeclarationError)
                changes.append(answer)
            elif isinstance(answer, Timer):
                command = self._bus.decisions.recorded(answer.command)
                if self._encryption is not None:
                    place = f"{self.reaction.command_id(event, index)}/timer"
                    command = self._bus.decisions.encrypted(command, place, self._encryption)
                changes.append(set_timer(self.reaction, answer, event, index, command))
            else:
                self._send(
                    answer,
                    self.reaction.command_id(event, index),
                    metadata.event_id,
                    metadata.correlation_id,
                )
        self._changes += changes

    def _state(self, state: StateOf[Any, Any], event: RecordedEvent[Any]) -> Any:
        of = query_of(state.where(event)).up_to(event.position)
        return (Repository(self._store, state.fold).load(of)).state

    def _send(self, command: Any, command_id: Any, cause: str, correlation: str) -> None:
        metadata = CommitMetadata(causation_id=cause, correlation_id=correlation)
        try:
            self._bus.send(command, command_id=command_id, metadata=metadata)
        except (Refusal, NotAllowedError, ErasedSubjectError) as refusal:
            what = type(command).__name__
            _LOG.info("reaction %s: %s was refused: %s", self.name, what, self._shown(refusal))

    def _keep_changes(self) -> None:
        """Keep the timers and the position that belong together."""
        last = {change.key: change for change in self._changes}
        changes = [c for c in last.values() if isinstance(c, SetTimer) or c.key in self.timers]
        self._changes = []

        def keep(transaction: EngineTransaction) -> None:
            self._check_lease(transaction)
            for change in changes:
                if isinstance(change, CancelTimer):
                    transaction.delete_checkpoint(timer_name(self.name, change.key))
                else:
                    transaction.save_checkpoint(timer_checkpoint(self.name, change))
            self._keep(transaction)

        self._backend.transact(keep)
        for change in changes:
            if isinstance(change, CancelTimer):
                self.timers.pop(change.key, None)
            else:
                self.timers[change.key] = change

    def stay(self, *, at_end: bool) -> None:
        """Keep the lease; and once at the end, send what has come due."""
        try:
            if at_end and self.timers:
                now = to_micros(self._clock())
                due = [
                    timer
                    for timer in self.timers.values()
                    if timer.due <= now and timer.key not in self._failed_timers
                ]
                for timer in sorted(due, key=lambda timer: timer.due):
                    self._fire(timer)
                    if not self.is_active:
                        return
        except Moved:
            self.give_way()
            return
        self._renew()

    def _fire(self, timer: SetTimer) -> None:
        failure: Exception | None = None
        self._mark_now()
        for attempt in range(self.on_error.retries + 1):
            if attempt:
                sleep(self._pause(attempt - 1))
                self._renew()
            try:
                kept = timer.command
                if self._encryption is not None:
                    kept = decrypted_command(kept, f"{timer.command_id}/timer", self._encryption)
                command = self._bus.decisions.restored(kept)
                self._send(command, timer.command_id, timer.causation_id, timer.correlation_id)
            except Exception as error:
                if isinstance(error, StorageError) or is_interrupt(error):
                    raise
                failure = error
            else:
                failure = None
                break
        if failure is not None and self.on_error.then == "halt":
            self._halt(timer.position, failure, f"timer {timer.key!r}: ")
            return
        if failure is not None:
            dropped = self.on_error.then == "skip"
            what = "drops" if dropped else "leaves, until it is started again,"
            why = self._shown(failure)
            _LOG.error("reaction %s %s timer %s: %s", self.name, what, timer.key, why)
            if not dropped:
                self._failed_timers.add(timer.key)
                return
        self._changes = [CancelTimer(timer.key)]
        self._keep_changes()

    def retry(self) -> int:
        """React to the parked events, each stream's in order; how many are parked after that."""
        failed: set[str] = set()
        self._mark_now()
        for parked in self.parked():
            if parked.stream in failed:
                continue
            at = self.of.after(parked.position - 1).up_to(parked.position)
            try:
                for event in self._store.read(at):
                    self._react(event)
                self._keep_changes()
            except Exception as error:
                if isinstance(error, StorageError | Moved) or is_interrupt(error):
                    raise
                failed.add(parked.stream)
                again = ParkedEvent(
                    parked.position, parked.stream, parked.type, self._stored(error), parked.at
                )
                self._backend.transact(partial(self._set_parked, parked=again))
            else:
                gone = partial(self._set_parked, parked=parked, is_gone=True)
                self._backend.transact(gone)
        left = self.parked()
        self._parked = {parked.stream for parked in left}
        return len(left)

    def _set_parked(
        self, transaction: EngineTransaction, parked: ParkedEvent, *, is_gone: bool = False
    ) -> None:
        self._check_lease(transaction)
        checkpoint = parked_checkpoint(self._build, parked)
        if is_gone:
            transaction.delete_checkpoint(checkpoint.name)
        else:
            transaction.save_checkpoint(checkpoint)


class ReactionRunner(Following):
    """Lets reactions send their commands: in the background, or with ``catch_up``.

    A reaction is run by one runner at a time, over all processes, by a lease of ``lease`` seconds.
    Its commands are sent at least once and, by their ids, take effect at most once. Timers are
    kept in the store; what is due is sent when all events have been taken, by the store's clock
    unless ``clock`` is given.

    A branch is for trying things out, so nothing reacts to it unless ``on_branches`` says so:
    raises `BranchError`. A reaction then begins anew on the branch, with its history; commands
    that had been sent before the fork are known there, and don't take effect twice.
    """

    def __init__(
        self,
        bus: CommandBus,
        reactions: Iterable[Reaction],
        *,
        lease: float = 5.0,
        clock: Clock | None = None,
        on_branches: bool = False,
    ) -> None:
        super().__init__(check_bus(bus).store, lease)
        if bus.store.branch_info is not None and not on_branches:
            raise BranchError(
                bus.store.name,
                "reactions are off on branches, since what they send has effects; to let them "
                "run here all the same, give on_branches=True",
            )
        self._followers: dict[str, ReactionFollower] = {}
        for reaction in reactions:
            if not isinstance(reaction, Reaction):
                raise DeclarationError(f"{reaction!r}: give a Reaction")
            if reaction.name in self._followers:
                raise DeclarationError(f"there are two reactions {reaction.name!r}; keep one")
            self._followers[reaction.name] = ReactionFollower(
                bus, reaction, lease=lease, clock=clock or bus.store.clock
            )

    def _everyone(self) -> Sequence[Follower]:
        return list(self._followers.values())

    def _lag_behind(self, goal: int) -> bool:
        everyone = self._followers.values()
        if any(follower.is_active and follower.position < goal for follower in everyone):
            return True
        others = [follower.name for follower in everyone if not follower.is_active]
        if not others:
            return False  # without a look at the store, where each timer is a checkpoint
        known = {
            s.name: s.position for s in projection_statuses(self.store) if s.kind == "reaction"
        }
        return any(known.get(name, 0) < goal for name in others)

    def timers(self, reaction: Reaction) -> list[SetTimer]:
        """A reaction's timers that are set, the one that is due first at the beginning."""
        found = timers_of(self.store.checkpoints(), reaction.name)
        return sorted(found.values(), key=lambda timer: timer.due)

    def parked(self, reaction: Reaction) -> list[ParkedEvent]:
        """The events that a reaction has left out for later, in order."""
        return self._known(reaction).parked()

    def retry_parked(self, reaction: Reaction) -> int:
        """Try the parked events again, each stream's in order; how many are still parked then.

        Raises `LeaseError` where another runner works on the reaction.
        """
        with self._at_work(reaction) as follower:
            return follower.retry()

    def skip_parked(self, reaction: Reaction) -> int:
        """Leave the parked events out for good; how many those were.

        They count as skipped from then on, and later events of their streams are reacted to again.
        Raises `LeaseError` where another runner works on the reaction.
        """
        with self._at_work(reaction) as follower:
            return follower.skip()

    @contextmanager
    def _at_work(self, reaction: Reaction) -> Iterator[ReactionFollower]:
        """The reaction's follower, with its lease. Raises `LeaseError`."""
        follower = self._known(reaction)
        with self._lock:
            if not follower.is_active and not follower.start():
                raise LeaseError(reaction.name)
            try:
                yield follower
            except Moved:
                follower.give_way()
                raise LeaseError(reaction.name) from None

    def _known(self, reaction: Reaction) -> ReactionFollower:
        follower = self._followers.get(reaction.name)
        if follower is None:
            raise DeclarationError(f"{reaction!r} is not among this runner's reactions")
        return follower

    def status(self) -> list[ProjectionStatus]:
        """Where each reaction of this runner stands."""
        mine = [s for s in projection_statuses(self.store) if s.kind == "reaction"]
        return [status for status in mine if status.name in self._followers]

    def __enter__(self) -> ReactionRunner:
        self._begin()
        return self
