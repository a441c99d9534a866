"""Replaying history: a fold's state, or one for each stream or category, by several processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from everwhen.backends._async.concurrency import sleep
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.branches._async.branch_backend import BranchBackend
from everwhen.privacy.vault import Vault
from everwhen.state.fold import Fold
from everwhen.store._async.kernel import Kernel
from everwhen.store.page_decoding import fold_in_groups, fold_page_in_groups, folded_page
from everwhen.store.replay_parts import (
    FEW_POSITIONS,
    By,
    Categories,
    Cut,
    HistoryPart,
    cut_of,
    first_failure,
    in_order,
    joined_states,
    why_not_cut,
)
from everwhen.store.replay_workers import (
    Runner,
    StorePlace,
    VaultPlace,
    processors,
    received,
    runner_of,
    sent,
)
from everwhen.store.valid_time import ValidOrder
from everwhen.system.limits import OTHER_PROCESS_SECONDS
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.query import Query

S = TypeVar("S")

_LOG: Final = logging.getLogger("everwhen")


async def replayed(
    kernel: Kernel, fold: Fold[S], query: Query, workers: int | Runner | None, by: By | None
) -> Any:
    """The fold's state after the query's events, or a mapping of states; see `Store.replay`."""
    window = await _at_this_moment(kernel, query)
    runner = None if workers is None else runner_of(workers)
    why = why_not_cut(fold, window, by)
    if runner is not None and runner.workers > 1 and by is None and not fold.has_merge:
        raise DeclarationError(f"{runner.workers} workers can't share it: {why}; or use workers=1")
    place = _place_of(kernel)
    if why is None and place is None:
        why = "the store is in memory, or wrapped, so that no other process can open it"
    if why is None and runner is None:
        runner, why = _by_itself(window)
    if why is None and runner is not None and place is not None and runner.workers > 1:
        cut = cut_of(fold, window, by, runner.workers)
        try:
            tasks = sent(place, fold, cut.parts)
        except DeclarationError as error:
            if workers is not None:
                raise
            why = str(error)
        else:
            states = await _gathered(runner, tasks, cut)
            return joined_states(states, fold, by)
    _LOG.info("replaying in one process: %s", why or "one worker was asked for")
    return await _here(kernel, fold, window, by)


async def _at_this_moment(kernel: Kernel, query: Query) -> Query:
    """The query up to what there is now, so that all workers see the same."""
    query = await kernel.resolved(query)
    head = (await kernel.backend.head()).position
    return query.up_to(head if query.last_position is None else min(head, query.last_position))


def _by_itself(window: Query) -> tuple[Runner | None, str | None]:
    """As many processes as pay; why there is only this one."""
    positions = (window.last_position or 0) - window.after_position
    count = min(processors(), positions * 2 // FEW_POSITIONS)
    if count > 1:
        return runner_of(count), None
    if positions < FEW_POSITIONS:
        return None, f"starting others takes longer than {max(0, positions)} positions do"
    return None, "there is one processor"


def _place_of(kernel: Kernel) -> StorePlace | None:
    """Where other processes find this history; None where they can't."""
    root, backend, vault = kernel.branches.root, kernel.backend, kernel.given_vault
    if type(root) is not EmbeddedBackend or not root.location:
        return None  # a wrapper's ways are not to be had by the file
    if backend is not root and type(backend) is not BranchBackend:
        return None
    if not backend.capabilities.shared_by_processes:
        return None  # a branch that is in memory
    given: Any = vault
    if isinstance(vault, Vault):
        if vault.is_in_memory:
            return None
        given = VaultPlace(str(vault.path), vault.keys)
    branch = None if kernel.branch is None else (kernel.branch.name, kernel.branch.id)
    types, steps = kernel.codec.types, tuple(kernel.codec.steps)
    return StorePlace(root.location, branch, types, steps, given)


async def _gathered(runner: Runner, tasks: Sequence[bytes], cut: Cut) -> list[Any]:
    """The parts' states. Raises what one process would have raised."""
    outcomes: list[Any] = [None] * len(tasks)
    with runner.started(tasks) as running:
        try:
            while True:
                for index, outcome in enumerate(running.outcomes()):
                    if outcome is not None and outcomes[index] is None:
                        outcomes[index] = received(outcome)
                failure = first_failure(cut, outcomes, running.reached)
                if failure is not None:
                    raise failure.error
                if not any(outcome is None for outcome in outcomes):
                    return outcomes
                await sleep(OTHER_PROCESS_SECONDS)
        finally:
            while not running.stop():
                await sleep(OTHER_PROCESS_SECONDS)


async def _here(kernel: Kernel, fold: Fold[S], window: Query, by: By | None) -> Any:
    """The same in this process."""
    if by is None:
        if window.occurred_until is not None:
            state, _, _ = await kernel.folded_as_of(fold, window)
            return state
        return await kernel.folded(fold, window)
    return in_order(await _in_groups(kernel, fold, HistoryPart(window, by), _nobody))


async def folded_part(
    kernel: Kernel, fold: Fold[S], part: HistoryPart, told: Callable[[int], None]
) -> Any:
    """A part's state, or its states by their names. ``told`` hears how far it is."""
    if part.by is not None:
        return await _in_groups(kernel, fold, part, told)
    state = fold.initial()
    async for page, asked, wanted in kernel.pages(part.query):
        told(_begins(asked, part))
        state, _ = folded_page(page, asked, wanted, kernel.codec, fold, state)
    return state


async def _in_groups(
    kernel: Kernel, fold: Fold[S], part: HistoryPart, told: Callable[[int], None]
) -> dict[str, S]:
    query = part.query
    group_of = None if part.by == "stream" else Categories()
    if query.occurred_until is not None:
        return await _in_valid_order(kernel, fold, part, told)
    states: dict[str, S] = {}
    if query.max_events is not None:
        async for events in kernel.event_pages(query):
            fold_in_groups(events, fold, states, group_of)
        return states
    async for page, asked, wanted in kernel.pages(query):
        told(_begins(asked, part))
        fold_page_in_groups(page, asked, wanted, kernel.codec, fold, states, group_of)
    return states


async def _in_valid_order(
    kernel: Kernel, fold: Fold[S], part: HistoryPart, told: Callable[[int], None]
) -> dict[str, S]:
    """Each group's events in the order in which they occurred: read twice where any were late."""
    group_of = None if part.by == "stream" else Categories()
    order = ValidOrder(reverse=part.query.reverse)
    states: dict[str, S] = {}
    async for events in kernel.event_pages(part.query, typed=fold.needs_types):
        told(0)
        order.add(events)
        if not order.has_late:
            fold_in_groups(events, fold, states, group_of)
    if order.has_late:
        states.clear()
        async for events in kernel.event_pages(part.query, typed=fold.needs_types):
            told(0)
            fold_in_groups(order.merged(events), fold, states, group_of)
    return states


def _begins(asked: Query, part: HistoryPart) -> int:
    """How far into a part a page begins."""
    if asked.reverse:
        return part.distance_to(asked.last_position or 0)
    return part.distance_to(asked.after_position)


def _nobody(_: int) -> None:
    """Nobody wants to know how far it is."""
