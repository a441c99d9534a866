"""The browser's session: a token is shown once, and a cookie stands for it from then on."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import FORBIDDEN, ProblemError
from everwhen.web.token_access import TokenAccess


class SessionForm(msgspec.Struct, frozen=True):
    """Who you are, and what you may."""

    name: str | None
    scopes: list[str]


def session_endpoints(access: TokenAccess) -> tuple[Endpoint, ...]:
    """The endpoints by which a browser comes by its cookie, and gives it up."""

    async def begin_session(call: ApiCall[NoParameters]) -> Response:
        """Begin a session: the token in ``Authorization`` is exchanged for a cookie.

        The cookie can't be read by scripts and is sent to this host only, by its own pages.
        """
        if "authorization" not in call.request.headers:
            raise ProblemError(FORBIDDEN, "show the token: Authorization: Bearer …")
        answer = json_answer(SessionForm(call.by.name, sorted(call.by.scopes)))
        access.begin_session(call.request, answer, call.by)
        return answer

    async def end_session(call: ApiCall[NoParameters]) -> Response:
        """End the session: the cookie is taken away."""
        answer = Response(None, 204)
        access.end_session(call.request, answer)
        return answer

    return (
        Endpoint(
            method="POST",
            path="/session",
            handle=begin_session,
            scope="read",
            answers={200: SessionForm},
            of_branch=False,
        ),
        Endpoint(
            method="DELETE",
            path="/session",
            handle=end_session,
            scope="read",
            answers={204: None},
            of_branch=False,
        ),
    )
