"""Writing to partitions: positions are claimed under the write locks of those that are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from heapq import merge
from itertools import takewhile
from operator import attrgetter
from typing import NamedTuple, Protocol

from everwhen.backends.commit_checks import refusal_of, repeated
from everwhen.backends.partitioned.merged_pages import slices_of
from everwhen.backends.partitioned.parallel_partitions import ParallelPartitions
from everwhen.backends.partitioned.partition_files import PartitionFiles
from everwhen.backends.partitioned.sequencer import (
    Claimed,
    ClaimRequest,
    InFlightError,
    OutdatedLayoutError,
    Sequencer,
    SequencerPage,
    check_waited,
    is_over,
    marks_of,
)
from everwhen.backends.partitioned.successive_partitions import FullError, SuccessivePartitions
from everwhen.backends.sqlite.writer import Group, is_not_its_own, is_of_the_medium
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Receipt, StoredSlice
from everwhen.vocabulary.errors import EverwhenError, RefusedError
from everwhen.vocabulary.validation import check_recorded_at

Partitions = ParallelPartitions | SuccessivePartitions


class Placed(NamedTuple):
    """A commit, and the partition that it is written to."""

    commit: EncodedCommit
    partition: int


class Layouts(Protocol):
    """Which partitions there are now."""

    def known(self) -> Partitions:
        """Those that are known."""
        ...

    def refresh(self) -> None:
        """There are others by now: look again."""
        ...

    def follow(self) -> None:
        """Have the newest partition followed by another, unless it is already."""
        ...


class GroupWriter:
    """Writes commits in groups, each of one transaction in each of its partitions."""

    def __init__(
        self,
        files: PartitionFiles,
        sequencer: Sequencer,
        layouts: Layouts,
        now: Callable[[], int],
        probe: Callable[[SequencerPage], None],
    ) -> None:
        self._files = files
        self._sequencer = sequencer
        self._layouts = layouts
        self._now = now
        self._probe = probe

    def write(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        """Write the commits in order, each whole or not at all, durably when this returns."""
        outcomes: list[Outcome] = []
        newest = 0
        while len(outcomes) < len(commits):
            # for all of a group it is this one, whatever another thread learns meanwhile
            partitions = self._layouts.known()
            try:
                group = self._next_group(commits[len(outcomes) :], partitions)
                if isinstance(group, EverwhenError):
                    outcomes.append(group)
                    continue
                written = self._write(group, partitions)
            except OutdatedLayoutError:
                self._layouts.refresh()
                continue
            except FullError:
                self._layouts.follow()
                continue
            except Exception as error:
                # what was written stands, and the caller is told of it
                if not outcomes or not is_of_the_medium(error) or is_interrupt(error):
                    raise
                missing = len(commits) - len(outcomes)
                outcomes += [refusal_of(commits[-1], error)] * missing
                break
            outcomes += written
            newest = max([newest, *(o.position for o in written if isinstance(o, Receipt))])
        self._wait_for(newest)
        return outcomes

    def _wait_for(self, position: int) -> None:
        """Until what was written is seen by all: what others write before it is under way.

        Where that takes too long it is durable all the same, and shows a little later.
        """
        if position:
            self._sequencer.wait(
                lambda page: page.settled >= position,
                self._probe,
                self._files.options.busy_timeout,
            )

    def _next_group(
        self, commits: Sequence[EncodedCommit], partitions: Partitions
    ) -> list[Placed] | EverwhenError:
        """The first commits that go into one transaction; an error where the first is refused.

        One that rests on other partitions goes alone, since what is written with it doesn't show
        there yet, and so does an id that is in the group already, in another partition.
        """
        good = [*takewhile(_has_good_time, commits)]
        fitting = partitions.fitting(good) if good else 1
        group: list[Placed] = []
        ids: dict[bytes, int] = {}
        has_times = commits[0].recorded_at is not None
        for commit in commits[:fitting]:
            try:
                if commit.recorded_at is not None:
                    check_recorded_at(commit.recorded_at)
                place = partitions.place(commit)
            except RefusedError as error:
                return group or error
            if has_times != (commit.recorded_at is not None):
                break
            alone = partitions.rests_elsewhere(commit, place)
            if group and (alone or ids.get(commit.id, place) != place):
                break
            group.append(Placed(commit, place))
            ids[commit.id] = place
            if alone:
                break
        return group

    def _write(self, group: Sequence[Placed], partitions: Partitions) -> list[Outcome]:
        """Write a group; one by one where it fails for what is in one of its commits."""
        try:
            return self._write_together(group, partitions)
        except (OutdatedLayoutError, FullError):
            raise
        except Exception as error:
            if len(group) == 1 or is_not_its_own(error):
                raise
        outcomes: list[Outcome] = []
        for placed in group:
            try:
                outcomes += self._write_together([placed], partitions)
            except (OutdatedLayoutError, FullError):
                if outcomes:
                    return outcomes
                raise
            except Exception as error:
                if is_not_its_own(error):
                    if outcomes and not is_interrupt(error):
                        return outcomes
                    raise
                outcomes.append(refusal_of(placed.commit, error))
        return outcomes

    def _write_together(self, group: Sequence[Placed], partitions: Partitions) -> list[Outcome]:
        numbers = sorted({placed.partition for placed in group})
        while True:
            claims: list[Claimed] = []
            written = 0
            try:
                with self._files.groups(numbers) as groups:
                    by_number = dict(zip(numbers, groups, strict=True))
                    outcomes = self._judged(group, partitions, by_number, claims)
                    for one in groups:
                        one.insert()
                    written = max(o.position for o in (*_receipts(outcomes), _NOTHING))
            except InFlightError:
                seconds = self._files.options.busy_timeout
                waited = self._sequencer.wait(lambda p: not p.claims, self._probe, seconds)
                check_waited(waited, self._files.folder)
            except BaseException:
                for claimed in claims:
                    self._give_up(claimed, numbers)
                raise
            else:
                for claimed in claims:
                    self._sequencer.release(claimed, written)
                return outcomes

    def _give_up(self, claimed: Claimed, numbers: Sequence[int]) -> None:
        """What was claimed is over; what of it was written, the partitions know."""
        newest = max(self._files.engine(number).head().position for number in numbers)
        written = newest if newest >= claimed.first else 0
        self._sequencer.release(claimed, written, gives_back=not written)

    def _judged(
        self,
        group: Sequence[Placed],
        partitions: Partitions,
        by_number: dict[int, Group],
        claims: list[Claimed],
    ) -> list[Outcome]:
        """Claim positions, and line up the commits that nothing speaks against."""
        commits = [placed.commit for placed in group]
        ends = [one.end for one in by_number.values()]
        newest, recorded_at = max(end[0] for end in ends), max(end[1] for end in ends)
        is_timed = commits[0].recorded_at is not None
        request = ClaimRequest(
            tuple(by_number),
            sum(part.count for commit in commits for part in commit.slices),
            partitions.layout.generation,
            newest,
            recorded_at,
            recorded_at if is_timed else self._now(),
            tuple(commit.id for commit in commits if not commit.is_fresh),
        )
        with self._sequencer.claiming(request, is_timed=is_timed) as claimed:
            claims.append(claimed)
            due = max(claimed.recorded_at, commits[0].recorded_at or claimed.recorded_at)
            partitions.check_due(newest, recorded_at, due)
            self._wait_for_others(group, partitions, claimed, marks_of(request.ids))
            outcomes: list[Outcome] = []
            position = claimed.first - 1
            for placed in group:
                one = by_number[placed.partition]
                after = position, claimed.recorded_at
                outcome = self._outcome(placed, one, after, partitions)
                if isinstance(outcome, Receipt) and not outcome.repeated:
                    position, claimed.recorded_at = one.end
                outcomes.append(outcome)
        return outcomes

    def _wait_for_others(
        self, group: Sequence[Placed], partitions: Partitions, claimed: Claimed, marks: int
    ) -> None:
        """Until all is there to be judged that comes before, in other partitions."""
        if any(partitions.rests_elsewhere(*placed) for placed in group):
            before = claimed.before
        else:
            before = [claim for claim in claimed.before if claim.marks & marks]
        if before:
            seconds = self._files.options.busy_timeout
            waited = self._sequencer.wait(lambda p: is_over(before, p), self._probe, seconds)
            check_waited(waited, self._files.folder)

    def _outcome(
        self, placed: Placed, group: Group, after: tuple[int, int], partitions: Partitions
    ) -> Outcome:
        commit, number = placed
        if not commit.is_fresh:
            for other in partitions.numbers:
                stored = other != number and self._files.engine(other).stored_commit(commit.id)
                if stored:
                    try:
                        return repeated(commit, stored)
                    except RefusedError as error:
                        return error
        others = partitions.judging(commit, number)
        elsewhere = partial(self._newer, commit, others) if others else None
        return group.add_after(commit, after, elsewhere)

    def _newer(self, commit: EncodedCommit, others: Sequence[int]) -> Iterator[StoredSlice]:
        """What other partitions have that may break the commit's condition, in order."""
        condition = commit.condition
        if condition is None:
            return iter(())
        asked = condition.query.after(condition.after)
        found = (slices_of(self._files.engine(number), asked) for number in others)
        return merge(*found, key=attrgetter("position"))


_NOTHING = Receipt(b"", 0, 0, {})


def _receipts(outcomes: Sequence[Outcome]) -> Iterator[Receipt]:
    return (o for o in outcomes if isinstance(o, Receipt) and not o.repeated)


def _has_good_time(commit: EncodedCommit) -> bool:
    """Whether its time is one that can be."""
    try:
        if commit.recorded_at is not None:
            check_recorded_at(commit.recorded_at)
    except RefusedError:
        return False
    return True
