"""Whether it works, and what it has done: for whoever watches over the server."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from starlette.responses import Response

from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.metrics import MEDIA


class HealthForm(msgspec.Struct, frozen=True):
    """The store was just read, and its head is there."""

    status: Literal["ok"]
    head: int


async def healthz(call: ApiCall[NoParameters]) -> Response:
    """Whether the store can be read: 503 where it can't."""
    return json_answer(HealthForm("ok", (await call.on.store.head()).position))


async def metrics(call: ApiCall[NoParameters]) -> Response:
    """What was asked of this process since it started, as Prometheus reads it."""
    head = (await call.on.store.head()).position
    gauges = {
        "everwhen_http_live_answers": ("Live answers that are open.", len(call.hosting.live)),
        "everwhen_head_position": ("The position of the newest event.", head),
    }
    return Response(
        call.hosting.metrics.text(gauges), headers={"Cache-Control": "no-store"}, media_type=MEDIA
    )


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/healthz",
        handle=healthz,
        scope="read",
        answers={200: HealthForm},
        of_branch=False,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handle=metrics,
        scope="read",
        answers={200: "text/plain"},
        of_branch=False,
    ),
)
