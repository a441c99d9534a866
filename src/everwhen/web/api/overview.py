"""What there is: the head, the branches, the folds, and where everything is."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import utc_text
from everwhen.vocabulary import Capabilities
from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters


class Overview(msgspec.Struct, frozen=True):
    """What is served. ``scopes`` are the caller's own, ``folds`` the names of states."""

    name: str
    head: int
    recorded_at: str | None
    capabilities: Capabilities
    branches: list[str]
    folds: list[str]
    scopes: list[str]
    caller: str | None


async def overview(call: ApiCall[NoParameters]) -> Response:
    """What is served: its head, branches, folds, and what the caller may."""
    store = call.on.store
    head = await store.head()
    return json_answer(
        Overview(
            name=store.name,
            head=head.position,
            recorded_at=None if head.recorded_at is None else utc_text(head.recorded_at),
            capabilities=store.capabilities,
            branches=["main", *(info.name for info in await call.hosting.main.store.branches())],
            folds=sorted(call.hosting.folds),
            scopes=sorted(call.by.scopes),
            caller=call.by.name,
        )
    )


ENDPOINTS: Final = (
    Endpoint(method="GET", path="", handle=overview, scope="read", answers={200: Overview}),
)
