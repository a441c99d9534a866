"""An endpoint whose answer has no end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.responses import Response, StreamingResponse

from everwhen.web.endpoints import ApiCall, Endpoint


async def follow_nothing(call: ApiCall[Any]) -> Response:
    """One event, and then silence."""

    async def events() -> AsyncIterator[bytes]:
        yield b"id: 1\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(events(), media_type="text/event-stream")


ENDLESS: Final = Endpoint(
    method="GET",
    path="/endless",
    handle=follow_nothing,
    scope="read",
    answers={200: "text/event-stream"},
    of_branch=False,
)
