"""The command ``debug``: the time-travel debugger, in a terminal, in a script, or for an editor."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from everwhen import Query, Store, TimeMachine, document, documents
from everwhen.cli import completion
from everwhen.cli.exits import BAD_DATA, NO, OK, USAGE, CommandStop, say
from everwhen.cli.known import unknown_stream, warn_of_unknown
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.opening import existing
from everwhen.cli.options import BranchOption, EventsOption, FoldOption
from everwhen.cli.own_code import compensations, event_types, fold
from everwhen.cli.terminal import Output
from everwhen.dap import LaunchArguments, serve_socket, serve_stdio
from everwhen.dap.serving import LOCAL
from everwhen.debugging import Session
from everwhen.travel import Moment

_LONGEST_COMMAND: Final = 1 << 16
_ON_TRUST: Final = frozenset({"store", "fold", "events", "compensations"})


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(debug)


DebugStoreArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="STORE",
        help="The store: a file, such as shop.db. With --dap the editor may name it.",
    ),
]
DebugStreamOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--stream",
        "-s",
        metavar="NAME",
        help="Only this stream's history.",
        autocompletion=completion.streams,
    ),
]
DebugCategoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Only streams whose name up to the first - is this.",
        autocompletion=completion.categories,
    ),
]
CompensationsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--compensations", metavar="MODULE:NAME", help="Your compensations, to plan undoing."
    ),
]
AtOption: TypeAlias = Annotated[str, typer.Option("--at", metavar="MOMENT", help="Where to begin.")]
CommandOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--command", "-c", metavar="COMMAND", help="Run this and end. Repeat for several."
    ),
]
DebugJsonOption: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="For programs: answer each command with a JSON object a line."),
]
DapOption: TypeAlias = Annotated[
    bool,
    typer.Option("--dap", help="Talk the Debug Adapter Protocol with an editor, on stdio."),
]
PortOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0, max=65_535, metavar="N", help="With --dap: on this local port; 0 for a free one."
    ),
]


def debug(
    store: DebugStoreArgument = None,
    *,
    stream: DebugStreamOption = None,
    category: DebugCategoryOption = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    compensations_: CompensationsOption = None,
    branch: BranchOption = None,
    at: AtOption = "head",
    command: CommandOption = None,
    json: DebugJsonOption = False,
    dap: DapOption = False,
    port: PortOption = None,
) -> None:
    """Walk through history: step, search, watch and ask, forwards and backwards.

    At the prompt (timedb), help lists the commands. An empty line repeats the last movement, Tab
    completes, Ctrl-C ends a search, Ctrl-D leaves. Without code of yours the state is that of
    documents, as at shows it; --fold derives it your way, and --events gives the events' classes.

    Commands may also come with --command, or from a pipe. The first one that fails ends the
    script, with exit code 1; so does a search that finds nothing. With --json each answer is an
    object of its own, written as soon as it is there: the command, and what it tells (position,
    reason, event, changes, value, breakpoints …), or else the error.

    With --dap an editor is the face. It may say in its launch configuration what the options
    here say; over a port only --stream, --category, --branch and --at, as anyone on this machine
    may connect.
    """
    given = LaunchArguments(store, fold_, events, compensations_, stream, category, branch, at)
    if dap and json:
        raise CommandStop("--dap has a protocol of its own; leave out --json", USAGE)
    if dap:
        raise typer.Exit(_serve(given, port))
    if port is not None:
        raise CommandStop("--port goes with --dap", USAGE)
    if store is None:
        raise CommandStop("name a STORE", USAGE)
    from everwhen.cli.debug_answers import Records
    from everwhen.cli.debug_commands import Commands
    from everwhen.cli.debug_prompt import interact, run_script
    from everwhen.cli.debug_views import Drawing

    with _session(given) as session:
        about: dict[str, object] = {"store": store, "branch": session.store.name}
        about |= {"of": stream or category or "everything"}
        out = Output(json=json)
        commands = Commands(session, Records(out) if json else Drawing(out), about)
        moment = given_moment_of(at)
        if command or json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            lines: Iterable[str] = command or _script()
            done = run_script(commands, moment, lines)
            raise typer.Exit(OK if done else NO)
        interact(commands, moment)


def _script() -> Iterator[str]:
    """The lines of standard input, none longer than a command may be."""
    while line := sys.stdin.readline(_LONGEST_COMMAND + 1):
        if len(line) > _LONGEST_COMMAND:
            raise CommandStop(
                f"stdin: a command has at most {_LONGEST_COMMAND:,} characters", USAGE
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
        raise CommandStop("over a port the STORE is named here, not by whoever connects", USAGE)
    served = serve_socket(opener, port, lambda port: say(f"listening on {LOCAL}:{port}"))
    return OK if served else BAD_DATA


def _merged(given: LaunchArguments, asked: LaunchArguments, *, is_trusted: bool) -> LaunchArguments:
    """What the editor asks goes over what was given; code and files only if it is trusted."""
    names = [
        name
        for name, value in msgspec.structs.asdict(asked).items()
        if value is not None and not (name == "at" and value == "head")
    ]
    refused = _ON_TRUST.intersection(names)
    if refused and not is_trusted:
        raise CommandStop(
            f"{', '.join(sorted(refused))}: over a port the command line says that", USAGE
        )
    return msgspec.structs.replace(given, **{name: getattr(asked, name) for name in names})


@contextmanager
def _session(asked: LaunchArguments) -> Iterator[Session]:
    location, stream = asked.store, asked.stream
    if location is None:
        raise CommandStop("name a store", USAGE)
    if stream is not None and asked.category is not None:
        raise CommandStop("name a stream or a category, not both", USAGE)
    of = Query() if asked.category is None else Query().category(asked.category)
    if stream is not None:
        of = Query().stream(stream)
    types = event_types(asked.events)
    undo = None if asked.compensations is None else compensations(asked.compensations)

    def writable() -> AbstractContextManager[Store]:
        return existing(location, branch=asked.branch, events=types, write=True)

    with existing(location, branch=asked.branch, events=types) as opened:
        if stream is not None and opened.stream(stream) is None:
            raise CommandStop(unknown_stream(opened, stream), NO)
        if asked.category is not None:
            warn_of_unknown(opened, categories=[asked.category])
        own: Any = document if stream else documents
        own = fold(asked.fold) if asked.fold is not None else own
        machine = TimeMachine(opened, own, of, keep=False)
        yield Session(machine, writable=writable, compensations=undo)
