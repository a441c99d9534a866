# Made from tools/front_door.toml: edit that, then `make sync`.
"""Projections: read models that follow the events, and questions to them."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.projections._sync.deep_check import check_deep
    from everwhen.projections._sync.query_bus import CallNextQuery, QueryBus, QueryMiddleware
    from everwhen.projections._sync.runner import ProjectionRunner
    from everwhen.projections._sync.statuses import parked_events, projection_statuses
    from everwhen.projections.projections import OnError, Projection, TableProjection, Tables
    from everwhen.projections.queries import Queries, QueryResult, Question
    from everwhen.store.projection_records import ParkedEvent, ProjectionStatus
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.projections._sync.deep_check": ("check_deep",),
            "everwhen.projections._sync.query_bus": (
                "CallNextQuery",
                "QueryBus",
                "QueryMiddleware",
            ),
            "everwhen.projections._sync.runner": ("ProjectionRunner",),
            "everwhen.projections._sync.statuses": ("parked_events", "projection_statuses"),
            "everwhen.projections.projections": (
                "OnError",
                "Projection",
                "TableProjection",
                "Tables",
            ),
            "everwhen.projections.queries": ("Queries", "QueryResult", "Question"),
            "everwhen.store.projection_records": ("ParkedEvent", "ProjectionStatus"),
        },
    )

__all__ = [
    "CallNextQuery",
    "OnError",
    "ParkedEvent",
    "Projection",
    "ProjectionRunner",
    "ProjectionStatus",
    "Queries",
    "QueryBus",
    "QueryMiddleware",
    "QueryResult",
    "Question",
    "TableProjection",
    "Tables",
    "check_deep",
    "parked_events",
    "projection_statuses",
]
