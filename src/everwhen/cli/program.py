"""The program: its commands, how it starts and how it ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from everwhen.cli.commands import (
    append,
    at,
    audit,
    backup,
    bookmark,
    branches,
    check,
    cluster,
    copy,
    debug,
    demo,
    diff,
    history,
    import_export,
    info,
    keys,
    merge,
    projections,
    prove,
    read,
    replay,
    serve,
    sign,
    sql,
    tiers,
    token,
    undo,
    verify,
    when,
    witness,
)
from everwhen.cli.exit_codes import INTERRUPTED, OK, TRACEBACK, USAGE, code_of, last_words, say
from everwhen.cli.output import escaped_streams, is_terminal
from everwhen.cli.store_opening import give_vault

_HELP = """Every state your data ever had: an event store with time travel.

STORE is a file, such as shop.db, or the URL of a log in PostgreSQL or on a JetStream
cluster. Commands that only read never change or create one.

Add --json to any command for JSON, one object per line. In a pipe the output is plain: columns
separated by tabs, no colours, times in UTC.
"""


def program(*, rich_help: bool) -> typer.Typer:
    """All commands together. ``rich_help`` draws the help with colours and boxes."""
    app = typer.Typer(
        name="everwhen",
        help=_HELP,
        rich_markup_mode="rich" if rich_help else None,
        pretty_exceptions_enable=False,
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_start)
    for module in (
        import_export,
        read,
        sql,
        at,
        diff,
        history,
        replay,
        when,
        bookmark,
        debug,
        info,
        check,
        projections,
        append,
        undo,
        branches,
        merge,
        witness,
        audit,
        keys,
        backup,
        copy,
        cluster,
        tiers,
        sign,
        prove,
        verify,
        serve,
        token,
        demo,
    ):
        module.register(app)
    return app


def _start(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    vault: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="EVERWHEN_VAULT",
            help="The vault with the keys of personal data. The commands append, import and audit "
            "log create it if it does not exist.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="EVERWHEN_KEY",
            help="The vault's key file, or env:NAME for a variable that holds its text. [default: "
            "the vault's FILE.key]",
        ),
    ] = None,
) -> None:
    give_vault(vault, key)
    if version:
        from importlib import metadata

        typer.echo(f"everwhen {metadata.version('everwhen')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. No error leaves a traceback, unless asked to."""
    with escaped_streams():
        code = _run(arguments)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
        return code


def _run(arguments: Sequence[str]) -> int:
    try:
        command = typer.main.get_command(program(rich_help=is_terminal(sys.stdout)))
        result = command.main(list(arguments), prog_name="everwhen", standalone_mode=False)
    except SystemExit as leaving:  # completion has answered; or typer's way with a broken pipe
        if isinstance(leaving.__context__, BrokenPipeError):
            return OK
        raise
    except typer.TyperException as error:
        return _misused(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (the last boundary)
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        if not isinstance(error, BrokenPipeError):
            say(last_words(error))
        return code_of(error)
    return result if isinstance(result, int) else OK


def _misused(error: typer.TyperException) -> int:
    """Says what is wrong with the command line, and where to look."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "everwhen"
    message = " ".join(error.format_message().split()).rstrip(".")
    say(f"{message[:1].lower()}{message[1:]}; see '{path} --help'")
    return USAGE


def _forget_stdout() -> None:
    """Nobody reads any more: let Python's own flush at the end go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
