"""The command ``debug``: the time-travel debugger, in a terminal, in a script, or for an editor."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import typer

from everwhen import Query, Store, TimeMachine, document, documents
from everwhen.cli import completion
from everwhen.cli.exits import NO, OK, USAGE, Stop
from everwhen.cli.here import given_moment_of
from everwhen.cli.opening import existing
from everwhen.cli.options import BranchOption, EventsOption, FoldOption, StoreArgument
from everwhen.cli.own_code import compensations, event_types, fold
from everwhen.cli.terminal import Output
from everwhen.debugging import Session


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(debug)


def debug(
    store: StoreArgument,
    *,
    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            "-s",
            metavar="NAME",
            help="Only this stream's history.",
            autocompletion=completion.streams,
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only streams whose name up to the first - is this.",
            autocompletion=completion.categories,
        ),
    ] = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    compensations_: Annotated[
        str | None,
        typer.Option(
            "--compensations", metavar="MODULE:NAME", help="Your compensations, to plan undoing."
        ),
    ] = None,
    branch: BranchOption = None,
    at: Annotated[str, typer.Option("--at", metavar="MOMENT", help="Where to begin.")] = "head",
    command: Annotated[
        list[str] | None,
        typer.Option(
            "--command", "-c", metavar="COMMAND", help="Run this and end. Repeat for several."
        ),
    ] = None,
) -> None:
    """Walk through history: step, search, watch and ask, forwards and backwards.

    At the prompt (timedb), help lists the commands. An empty line repeats the last movement, Tab
    completes, Ctrl-C ends a search, Ctrl-D leaves. Without code of yours the state is that of
    documents, as at shows it; --fold derives it your way, and --events gives the events' classes.

    Commands may also come with --command, or from a pipe. The first one that fails ends the
    script, with exit code 1; so does a search that finds nothing.
    """
    if stream is not None and category is not None:
        raise Stop("name a --stream or a --category, not both", USAGE)
    from everwhen.cli.debug_commands import Commands
    from everwhen.cli.debug_prompt import interact, run_script
    from everwhen.cli.debug_views import Drawing

    with _session(store, stream, category, fold_, events, compensations_, branch) as session:
        about: dict[str, object] = {"store": store, "branch": session.store.name}
        about |= {"of": stream or category or "everything"}
        commands = Commands(session, Drawing(Output(json=False)), about)
        moment = given_moment_of(at)
        if command or not (sys.stdin.isatty() and sys.stdout.isatty()):
            lines: Iterable[str] = command or sys.stdin
            done = run_script(commands, moment, lines)
            raise typer.Exit(OK if done else NO)
        interact(commands, moment)


@contextmanager
def _session(
    location: str,
    stream: str | None,
    category: str | None,
    named: str | None,
    events: str | None,
    undoing: str | None,
    branch: str | None,
) -> Iterator[Session]:
    of = Query() if category is None else Query().category(category)
    if stream is not None:
        of = Query().stream(stream)
    types = event_types(events)
    undo = None if undoing is None else compensations(undoing)

    def writable() -> AbstractContextManager[Store]:
        return existing(location, branch=branch, events=types, write=True)

    with existing(location, branch=branch, events=types) as opened:
        if stream is not None and opened.stream(stream) is None:
            raise Stop(f"there is no stream {stream!r}; 'everwhen streams' lists them", NO)
        own: Any = fold(named) if named is not None else document if stream else documents
        machine = TimeMachine(opened, own, of, keep=False)
        yield Session(machine, writable=writable, compensations=undo)
