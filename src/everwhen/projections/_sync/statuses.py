# Generated from src/everwhen/projections/_async/statuses.py by tools/unasync.py: edit that, then run `make sync`.
"""Where the projections and reactions of a store stand, whoever runs them."""

from __future__ import annotations

from everwhen.store._sync.store import Store, check_store
from everwhen.store.projection_records import (
    ParkedEvent,
    ProjectionStatus,
    build_of,
    parked_of,
    read_back_in,
    statuses_of,
)
from everwhen.vocabulary.query import name_of


def projection_statuses(store: Store) -> list[ProjectionStatus]:
    """Where each projection and reaction stands that keeps its position in the store."""
    checkpoints = check_store(store).checkpoints()
    head = (store.head()).position  # after them, or one may have gone on beyond it
    found = statuses_of(checkpoints, head)
    return [read_back_in(status, store.vault) for status in found]


def parked_events(store: Store, name: str) -> list[ParkedEvent]:
    """The events that a projection or reaction of that name has left out, in order."""
    name_of(name, "projection")
    checkpoints = check_store(store).checkpoints()
    builds = [build for build in map(build_of, checkpoints) if build is not None]
    mine = [build for build in builds if build.projection == name]
    found = [parked for build in mine for parked in parked_of(checkpoints, build)]
    return [read_back_in(parked, store.vault) for parked in found]
