"""Projections: where each stands, what it has parked, and what can be done about it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.responses import Response

from everwhen.errors import LeaseError
from everwhen.exchange.projection_forms import parked_form, status_form
from everwhen.projections import ParkedEvent, Projection, ProjectionStatus, TableProjection
from everwhen.projections.aio import ProjectionRunner, parked_events, projection_statuses
from everwhen.projections.projections import OnError
from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.governance import missing
from everwhen.web.problems import INVALID, LEASED, UNKNOWN, UNSUPPORTED, ProblemError


class ProjectionForm(ProjectionStatus, frozen=True, kw_only=True):
    """Where a projection or reaction stands, and what its runner does where it fails.

    ``on_error`` and ``is_rebuilding`` are known of the projections of this server's own runner.
    """

    on_error: OnError | None = None
    is_rebuilding: bool = False


class ProjectionList(msgspec.Struct, frozen=True):
    """Every projection and reaction that keeps its position in the store, or is run here."""

    projections: list[ProjectionForm]


async def read_projections(call: ApiCall[NoParameters]) -> Response:
    """Where each projection and reaction stands, whoever runs it."""
    statuses = await projection_statuses(call.on.store)
    runner = _own_runner(call)
    known = {} if runner is None else runner.projections
    if runner is not None:
        statuses += [status for status in await runner.status() if status.state == "memory"]
    found = []
    for status in statuses:
        own = known.get(status.name) if status.kind == "projection" else None
        rebuild = call.hosting.rebuilds.get(status.name) if own is not None else None
        form: dict[str, Any] = status_form(status)
        form["updated_at"] = form["updated_at"] or None
        form["on_error"] = None if own is None else own.on_error
        form["is_rebuilding"] = rebuild is not None and not rebuild.done()
        found.append(form)
    return json_answer({"projections": found})


class ParkedList(msgspec.Struct, frozen=True):
    """The events that a projection left out for later, in order."""

    parked: list[ParkedEvent]


async def read_parked(call: ApiCall[NoParameters]) -> Response:
    """The events that a projection or reaction has left out, and why."""
    name, runner = call.segment("name"), _own_runner(call)
    own = None if runner is None else runner.projections.get(name)
    if runner is not None and isinstance(own, Projection):
        parked = await runner.parked(own)
    else:
        names = sorted({status.name for status in await projection_statuses(call.on.store)})
        if name not in names and own is None:
            raise _unknown(name, names)
        parked = await parked_events(call.on.store, name)
    return json_answer({"parked": [parked_form(one) for one in parked]})


class Retried(msgspec.Struct, frozen=True):
    """How many events are still parked."""

    parked: int


async def retry_parked(call: ApiCall[NoParameters]) -> Response:
    """Try the parked events again, each stream's in order; how many are still parked then."""
    runner, projection = _asked(call)
    return json_answer(Retried(await runner.retry_parked(projection)))


class Skipped(msgspec.Struct, frozen=True):
    """How many events are left out for good."""

    skipped: int


async def skip_parked(call: ApiCall[NoParameters]) -> Response:
    """Leave the parked events out for good; later events of their streams are taken again."""
    runner, projection = _asked(call)
    return json_answer(Skipped(await runner.skip_parked(projection)))


class Rebuilding(msgspec.Struct, frozen=True):
    """The projection that is being built anew, beside what readers see."""

    name: str


async def rebuild(call: ApiCall[NoParameters]) -> Response:
    """Begin to build a projection's tables anew, beside what readers see.

    They are switched to when they have caught up: until then its new build is ``building``, or
    ``halted`` where it failed.
    """
    runner, projection = _asked(call)
    if not isinstance(projection, TableProjection):
        raise ProblemError(
            INVALID,
            f"projection {projection.name!r} is in memory; start the server anew to rebuild it",
        )
    if runner.is_inline(projection):
        raise ProblemError(
            INVALID, f"projection {projection.name!r} is inline; rebuild it by another runner"
        )
    running = call.hosting.rebuilds.get(projection.name)
    if running is not None and not running.done():
        raise LeaseError(projection.name)
    task = asyncio.create_task(runner.rebuild(projection))
    task.add_done_callback(_noted)
    call.hosting.rebuilds[projection.name] = task
    return json_answer(Rebuilding(projection.name), 202)


def _noted(task: asyncio.Task[None]) -> None:
    """Take note of how it ended: its status says it, and the runner has logged it."""
    if not task.cancelled():
        task.exception()


def _own_runner(call: ApiCall[Any]) -> ProjectionRunner | None:
    """The application's runner, where the call is about the store that it runs on."""
    runner = call.hosting.governance.runner
    return runner if call.on is call.hosting.main else None


def _asked(call: ApiCall[Any]) -> tuple[ProjectionRunner, Projection[Any] | TableProjection]:
    runner = _own_runner(call)
    if runner is None:
        raise missing("a runner of projections", "runner")
    projection = runner.projections.get(call.segment("name"))
    if projection is None:
        raise _unknown(call.segment("name"), sorted(runner.projections))
    return runner, projection


def _unknown(name: str, names: list[str]) -> ProblemError:
    known = ", ".join(names) or "none"
    return ProblemError(UNKNOWN, f"there is no projection {name!r}; there are: {known}")


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/projections",
        handle=read_projections,
        scope="read",
        answers={200: ProjectionList},
    ),
    Endpoint(
        method="GET",
        path="/projections/{name}/parked",
        handle=read_parked,
        scope="read",
        answers={200: ParkedList},
    ),
    Endpoint(
        method="POST",
        path="/projections/{name}/retries",
        handle=retry_parked,
        scope="operate",
        answers={200: Retried},
        problems=(LEASED, UNSUPPORTED),
        of_branch=False,
    ),
    Endpoint(
        method="POST",
        path="/projections/{name}/skips",
        handle=skip_parked,
        scope="operate",
        answers={200: Skipped},
        problems=(LEASED, UNSUPPORTED),
        of_branch=False,
    ),
    Endpoint(
        method="POST",
        path="/projections/{name}/rebuilds",
        handle=rebuild,
        scope="operate",
        answers={202: Rebuilding},
        problems=(LEASED, INVALID, UNSUPPORTED),
        of_branch=False,
    ),
)
