"""The web: commands in handlers, answers that know how old they are, refusals that say why."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse

from desk.lending import EVENTS, Borrow, Return, decisions, holder
from desk.shelves import LoansOf, loans, queries
from everwhen.aio import CommandBus, ProjectionRunner, Query, Store, open_store
from everwhen.errors import BusyError, InvalidCommandError, Refusal, StaleError
from everwhen.projections.aio import QueryBus
from everwhen.vocabulary import CommitMetadata
from everwhen.web import create_app

LOCATION: Final = "DESK_STORE"
"""The environment variable with the store's file, or its URL."""
RETRY: Final = {"Retry-After": "1"}


class Desk(msgspec.Struct, frozen=True):
    """What handlers work with: one of each for the whole process."""

    store: Store
    commands: CommandBus
    questions: QueryBus


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One store for each process; of several processes, one at a time keeps the table."""
    async with (
        open_store(os.environ[LOCATION], events=EVENTS) as store,
        ProjectionRunner(store, [loans]),
    ):
        app.state.desk = Desk(store, CommandBus(store, decisions), QueryBus(store, queries))
        app.mount("/history", create_app(store, folds={"holder": holder}))
        yield


app = FastAPI(title="Lending desk", lifespan=lifespan)


async def desk_of(request: Request) -> Desk:
    """The process's desk."""
    found: Desk = request.app.state.desk
    return found


async def metadata_of(
    member: Annotated[str, Header(description="Who asks: of your login, in a real one.")],
    x_request_id: Annotated[str | None, Header()] = None,
) -> CommitMetadata:
    """Who did it and in what conversation: kept with each commit, for audit and debugging."""
    return CommitMetadata(user_id=member, correlation_id=x_request_id, source="desk")


AtDesk = Annotated[Desk, Depends(desk_of)]
By = Annotated[CommitMetadata, Depends(metadata_of)]
Key = Annotated[UUID | None, Header(alias="Idempotency-Key")]


@app.post("/books/{book}/loan", status_code=201)
async def borrow(book: str, desk: AtDesk, by: By, key: Key = None) -> dict[str, Any]:
    """Take a book home. The same key again gives the same answer, and no second loan."""
    command = Borrow(book, by.user_id or "")
    result = await desk.commands.send(command, command_id=key, metadata=by)
    return {"position": result.position}


@app.delete("/books/{book}/loan")
async def bring_back(book: str, desk: AtDesk, by: By, key: Key = None) -> dict[str, Any]:
    """Bring a book back."""
    command = Return(book, by.user_id or "")
    result = await desk.commands.send(command, command_id=key, metadata=by)
    return {"position": result.position}


@app.get("/members/{member}/loans")
async def loans_of(member: str, desk: AtDesk, at_least: int = 0) -> dict[str, Any]:
    """What a member has at home; with ``at_least``, not before that position is in the answer."""
    result = await desk.questions.ask(LoansOf(member), at_least=at_least)
    return {"loans": result.data, "position": result.position, "lag": result.lag}


@app.get("/loans/live")
async def live(desk: AtDesk) -> StreamingResponse:
    """Loans and returns as they happen, as server-sent events."""

    async def lines() -> AsyncIterator[str]:
        async with desk.store.subscribe(Query().category("book"), from_now=True) as events:
            async for event in events:
                yield f"id: {event.position}\nevent: {event.type}\ndata: {event.json.decode()}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.exception_handler(Refusal)
async def refused(_request: Request, error: Exception) -> JSONResponse:
    """A rule says no: its name, its facts, and a sentence for people."""
    return JSONResponse({"refusal": type(error).__name__, "detail": str(error), **vars(error)}, 409)


@app.exception_handler(InvalidCommandError)
async def invalid(_request: Request, error: Exception) -> JSONResponse:
    """A name that is empty or far too long, say."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(StaleError)
@app.exception_handler(BusyError)
async def not_yet(_request: Request, error: Exception) -> JSONResponse:
    """The table is behind, or the store is busy: the same request may do in a moment."""
    return JSONResponse({"detail": str(error)}, 503, RETRY)
