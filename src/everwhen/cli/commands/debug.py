"""The command ``debug``: the time-travel debugger, in a terminal, in a script, or for an editor."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import typer

from everwhen import Store
from everwhen.backends.locations import shown
from everwhen.cli import completion
from everwhen.cli.exit_codes import BAD_DATA, NO, OK, USAGE, CommandStop, say
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import BranchOption, EventsOption, FoldOption
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing
from everwhen.cli.time_machines import StateOptions, machine_over
from everwhen.cli.user_code import compensations, event_types
from everwhen.dap import LaunchArguments, serve_socket, serve_stdio
from everwhen.dap.server import LOCAL
from everwhen.debugging import Session
from everwhen.travel import Moment

_LONGEST_COMMAND: Final = 1 << 16
_ON_TRUST: Final = frozenset({"store", "fold", "events", "compensations"})


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(debug))


@dataclass(frozen=True)
class LaunchOptions:
    """What to debug, and where to begin."""

    stream: Annotated[
        str | None,
        typer.Option(
            "--stream",
            "-s",
            metavar="NAME",
            help="Only this stream's history.",
            autocompletion=completion.streams,
        ),
    ] = None
    category: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only streams in this category: their name up to the first -.",
            autocompletion=completion.categories,
        ),
    ] = None
    fold_: FoldOption = None
    events: EventsOption = None
    compensations_: Annotated[
        str | None,
        typer.Option(
            "--compensations", metavar="MODULE:NAME", help="Your compensations, to plan an undo."
        ),
    ] = None
    branch: BranchOption = None
    at: Annotated[str, typer.Option("--at", metavar="MOMENT", help="Where to begin.")] = "head"

    def arguments(self, store: str | None) -> LaunchArguments:
        """The same, as an editor would say it."""
        return LaunchArguments(
            store=store,
            fold=self.fold_,
            events=self.events,
            compensations=self.compensations_,
            stream=self.stream,
            category=self.category,
            branch=self.branch,
            at=self.at,
        )


def debug(
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE",
            help="The store: a file, such as shop.db. With --dap the editor can name it.",
        ),
    ] = None,
    *,
    launch: LaunchOptions,
    command: Annotated[
        list[str] | None,
        typer.Option(
            "--command",
            "-c",
            metavar="COMMAND",
            help="Run this command and end. Repeat for several.",
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Answer each command with a JSON object on one line."),
    ] = False,
    dap: Annotated[
        bool,
        typer.Option("--dap", help="Speak the Debug Adapter Protocol with an editor, on stdio."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            metavar="N",
            help="With --dap: listen on this local port; 0 for a free one.",
        ),
    ] = None,
) -> None:
    """Walk through history, forwards and backwards: step, search, watch, and inspect the state.

    At the prompt (timedb), help lists the commands. An empty line repeats the last movement, Tab
    completes, Ctrl-C ends a search, Ctrl-D leaves. Without code of yours, the state is a document
    for each stream, as the command at shows it; --fold derives it with your own fold, and --events
    gives the events' classes.

    Commands can also come with --command, or from a pipe. The first one that fails ends the
    script, with exit code 1; so does a search that finds nothing. With --json each answer is one
    object, written as soon as it is ready: the command, and its results (position, reason, event,
    changes, value, breakpoints …) or the error.

    With --dap an editor is the user interface. Its launch configuration can set what the options
    here set; over a port only --stream, --category, --branch and --at, because anyone on this
    machine can connect.
    """
    given = launch.arguments(store)
    if dap and json:
        raise CommandStop("--json: --dap has its own protocol; leave out --json", USAGE)
    if dap:
        raise typer.Exit(_serve(given, port))
    if port is not None:
        raise CommandStop("--port needs --dap; add it", USAGE)
    if store is None:
        raise CommandStop("no store is named; name a STORE", USAGE)
    _debug(given, command, json=json)


def _debug(given: LaunchArguments, lines: Iterable[str] | None, *, json: bool) -> None:
    """Run commands: those given, those of standard input, or those that people type."""
    from everwhen.cli.debugger.answers import Records
    from everwhen.cli.debugger.commands import Commands
    from everwhen.cli.debugger.drawing import Drawing
    from everwhen.cli.debugger.prompt import interact, run_script

    with _session(given) as session:
        about: dict[str, object] = {
            "store": given.store and shown(given.store),
            "branch": session.store.name,
        }
        about |= {"of": given.stream or given.category or "everything"}
        out = Output(json=json)
        commands = Commands(session, Records(out) if json else Drawing(out), about)
        moment = given_moment_of(given.at)
        if lines or json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            done = run_script(commands, moment, lines or _script())
            raise typer.Exit(OK if done else NO)
        interact(commands, moment)


def _script() -> Iterator[str]:
    """The lines of standard input, none longer than a command may be."""
    while line := sys.stdin.readline(_LONGEST_COMMAND + 1):
        if len(line) > _LONGEST_COMMAND:
            raise CommandStop(
                f"stdin: a line is too long; a command has at most {_LONGEST_COMMAND:,} characters",
                USAGE,
            )
        yield line


def _serve(given: LaunchArguments, port: int | None) -> int:
    """Talk with an editor until the end; the exit code."""

    @contextmanager
    def opener(asked: LaunchArguments) -> Iterator[tuple[Session, Moment]]:
        merged = _merged(given, asked, is_trusted=port is None)
        with _session(merged) as session:
            yield session, given_moment_of(merged.at)

    if port is None:
        return OK if serve_stdio(opener) else BAD_DATA
    if given.store is None:
        raise CommandStop(
            "--port: no store is named, and a client may not name one; name a STORE", USAGE
        )
    served = serve_socket(opener, port, lambda port: say(f"listening on {LOCAL}:{port}"))
    return OK if served else BAD_DATA


def _merged(given: LaunchArguments, asked: LaunchArguments, *, is_trusted: bool) -> LaunchArguments:
    """What the editor asks goes over what was given; code and files only if it is trusted."""
    names = [
        name
        for name, value in msgspec.structs.asdict(asked).items()
        if value is not None and not (name == "at" and value == "head")
    ]
    rejected = _ON_TRUST.intersection(names)
    if rejected and not is_trusted:
        raise CommandStop(
            f"{', '.join(sorted(rejected))}: a client may not set this over a port; set it on the "
            f"command line",
            USAGE,
        )
    return msgspec.structs.replace(given, **{name: getattr(asked, name) for name in names})


@contextmanager
def _session(asked: LaunchArguments) -> Iterator[Session]:
    location = asked.store
    if location is None:
        raise CommandStop("no store is named; name one", USAGE)
    of = StateOptions(
        stream=asked.stream,
        category=asked.category,
        fold_=asked.fold,
        events=asked.events,
        branch=asked.branch,
    )
    types = event_types(asked.events)
    undo = None if asked.compensations is None else compensations(asked.compensations)

    def writable() -> AbstractContextManager[Store]:
        return existing(location, branch=asked.branch, events=types, write=True)

    with machine_over(location, of) as machine:
        yield Session(machine, writable=writable, compensations=undo)
