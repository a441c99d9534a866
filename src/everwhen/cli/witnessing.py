"""The commands of ``witness``: ``new-key`` and ``serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from everwhen.cli.exits import BAD_DATA, NO_INPUT, USAGE, Stop
from everwhen.cli.options import JsonOption
from everwhen.cli.terminal import Output
from everwhen.durable import write_secret

_HELP = """Be a witness: sign that the logs of others, or one's own, have only ever grown.

A witness is worth something on another machine than the store's, in other hands.
"""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    witness = typer.Typer(help=_HELP, no_args_is_help=True)
    witness.command("new-key")(new_key)
    witness.command()(serve)
    app.add_typer(witness, name="witness")


_Key = Annotated[
    Path, typer.Argument(metavar="KEY", help="The file with the witness's private key.")
]


def new_key(
    key: _Key,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The witness's name, such as witness.example/1."),
    ],
    *,
    json: JsonOption = False,
) -> None:
    """Make a witness's key in a new file, which only you can read, and show its public part.

    The public part goes into the policies of those who trust the witness.
    """
    _needs_cryptography()
    from everwhen_verify.errors import MalformedError
    from everwhen_verify.notes import Kind, Signer

    try:
        signer = Signer.generate(name, Kind.COSIGNATURE)
    except MalformedError as error:
        raise Stop(str(error), USAGE) from None
    write_secret(key, f"{signer.skey}\n".encode())
    Output(json=json).fields({"name": name, "key": signer.verifier.vkey})


def serve(
    state: Annotated[
        Path,
        typer.Argument(
            metavar="STATE",
            help="The file that remembers what was signed. Never restore an older one.",
        ),
    ],
    key: _Key,
    logs: Annotated[
        list[str],
        typer.Argument(metavar="LOG...", help="The public keys of the logs that it knows."),
    ],
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is a free one.")] = 8427,
    json: JsonOption = False,
) -> None:
    """Serve a witness until Ctrl-C, by the protocol C2SP tlog-witness."""
    _needs_cryptography()
    from everwhen.witness import WitnessServer, WitnessService
    from everwhen_verify.errors import MalformedError
    from everwhen_verify.notes import Signer, Verifier

    try:
        known = [Verifier.parse(log) for log in logs]
    except MalformedError as error:
        raise Stop(str(error), USAGE) from None
    try:
        signer = Signer.parse(key.read_text("utf-8"))
    except FileNotFoundError:
        raise Stop(
            f"{key}: there is no such key; make one with witness new-key", NO_INPUT
        ) from None
    except ValueError as error:
        raise Stop(f"{key}: {error}", BAD_DATA) from None
    service = WitnessService(state, signer, known)
    try:
        with WitnessServer(service, host, port) as server:
            Output(json=json).fields(
                {"url": server.url, "name": signer.name, "key": signer.verifier.vkey}
            )
            sys.stdout.flush()
            server.serve_forever()
    finally:
        service.close()


def _needs_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise Stop("witnesses need cryptography: pip install 'everwhen[trust]'", USAGE) from None
