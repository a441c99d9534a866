"""What there is: the head, the branches, the folds, and where everything is."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.responses import Response

from everwhen.backends.branch_records import MAIN
from everwhen.exchange.json_forms import utc_text
from everwhen.vocabulary import Capabilities
from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.hosting import Hosting


class Overview(msgspec.Struct, frozen=True):
    """What is served. ``scopes`` are the caller's own, ``folds`` the names of states.

    ``governance`` names what the server was given to govern by: ``audit``, ``decisions``,
    ``invariants``, ``compensations``, ``runner``, ``commands`` and ``log``, the signed one.
    """

    name: str
    head: int
    recorded_at: str | None
    capabilities: Capabilities
    branches: list[str]
    folds: list[str]
    governance: list[str]
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
            branches=[MAIN, *(info.name for info in await call.hosting.main.store.branches())],
            folds=sorted(call.hosting.folds),
            governance=_parts(call.hosting),
            scopes=sorted(call.by.scopes),
            caller=call.by.name,
        )
    )


def _parts(hosting: Hosting) -> list[str]:
    """What is there to govern by; what is empty isn't there."""
    given = {"audit": hosting.audit, **msgspec.structs.asdict(hosting.governance)}
    return sorted(name for name, part in given.items() if part not in (None, ()))


ENDPOINTS: Final = (
    Endpoint(method="GET", path="", handle=overview, scope="read", answers={200: Overview}),
)
