"""The command that makes tokens for a server: ``token``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from everwhen.cli.exit_codes import USAGE, CommandStop
from everwhen.cli.options import JsonOption
from everwhen.cli.output import Output
from everwhen.cli.token_files import add_token, needs_server


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(token)


def token(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file of tokens; it is made if it does not exist."),
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Who will use it: the user in audit entries.")
    ],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What it is for: read, append, operate or sql. Repeat for several. [default: "
            "read]",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a token for 'everwhen serve --tokens FILE', and show it once.

    The file gets its name, its scopes and its SHA-256, not the token. To revoke a token, delete its
    line and start the server again.
    """
    from everwhen.errors import DeclarationError

    with needs_server():
        from everwhen.web.tokens import new_token
    scopes: Any = frozenset(scope or ["read"])
    try:
        secret, made = new_token(name, scopes)
    except DeclarationError as error:
        raise CommandStop(str(error), USAGE) from None
    add_token(file, made)
    Output(json=json).fields({"token": secret})
