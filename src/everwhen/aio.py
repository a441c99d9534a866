# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.codec.commits import Commit, Write
    from everwhen.codec.event_types import EventTypes
    from everwhen.codec.recorded_events import RecordedEvent
    from everwhen.commands._async.command_bus import CommandBus
    from everwhen.commands.decisions import Decisions, StateOf
    from everwhen.privacy.keys import KeyFile
    from everwhen.privacy.vault import Vault
    from everwhen.projections._async.runner import ProjectionRunner
    from everwhen.projections.projections import Projection, TableProjection, Tables
    from everwhen.state.aggregate import Aggregate
    from everwhen.state.fold import Fold, document, documents
    from everwhen.store._async.repository import Repository
    from everwhen.store._async.store import Store, open_store
    from everwhen.travel._async.time_machine import TimeMachine
    from everwhen.undo._async.undo import Undo
    from everwhen.vocabulary.contract import Condition
    from everwhen.vocabulary.errors import (
        BusyError,
        ConditionError,
        ConflictError,
        EverwhenError,
        Refusal,
        RefusedError,
        StaleError,
        StorageError,
    )
    from everwhen.vocabulary.events import Event, NewEvent, UnknownEvent
    from everwhen.vocabulary.metadata import context
    from everwhen.vocabulary.personal_data import Personal
    from everwhen.vocabulary.query import Query
    from everwhen.vocabulary.streams import ANY, EXISTS, NO_STREAM
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.codec.commits": ("Commit", "Write"),
            "everwhen.codec.event_types": ("EventTypes",),
            "everwhen.codec.recorded_events": ("RecordedEvent",),
            "everwhen.commands._async.command_bus": ("CommandBus",),
            "everwhen.commands.decisions": ("Decisions", "StateOf"),
            "everwhen.privacy.keys": ("KeyFile",),
            "everwhen.privacy.vault": ("Vault",),
            "everwhen.projections._async.runner": ("ProjectionRunner",),
            "everwhen.projections.projections": ("Projection", "TableProjection", "Tables"),
            "everwhen.state.aggregate": ("Aggregate",),
            "everwhen.state.fold": ("Fold", "document", "documents"),
            "everwhen.store._async.repository": ("Repository",),
            "everwhen.store._async.store": ("Store", "open_store"),
            "everwhen.travel._async.time_machine": ("TimeMachine",),
            "everwhen.undo._async.undo": ("Undo",),
            "everwhen.vocabulary.contract": ("Condition",),
            "everwhen.vocabulary.errors": (
                "BusyError",
                "ConditionError",
                "ConflictError",
                "EverwhenError",
                "Refusal",
                "RefusedError",
                "StaleError",
                "StorageError",
            ),
            "everwhen.vocabulary.events": ("Event", "NewEvent", "UnknownEvent"),
            "everwhen.vocabulary.metadata": ("context",),
            "everwhen.vocabulary.personal_data": ("Personal",),
            "everwhen.vocabulary.query": ("Query",),
            "everwhen.vocabulary.streams": ("ANY", "EXISTS", "NO_STREAM"),
        },
    )

__all__ = [
    "ANY",
    "EXISTS",
    "NO_STREAM",
    "Aggregate",
    "BusyError",
    "CommandBus",
    "Commit",
    "Condition",
    "ConditionError",
    "ConflictError",
    "Decisions",
    "Event",
    "EventTypes",
    "EverwhenError",
    "Fold",
    "KeyFile",
    "NewEvent",
    "Personal",
    "Projection",
    "ProjectionRunner",
    "Query",
    "RecordedEvent",
    "Refusal",
    "RefusedError",
    "Repository",
    "StaleError",
    "StateOf",
    "StorageError",
    "Store",
    "TableProjection",
    "Tables",
    "TimeMachine",
    "Undo",
    "UnknownEvent",
    "Vault",
    "Write",
    "context",
    "document",
    "documents",
    "open_store",
]
