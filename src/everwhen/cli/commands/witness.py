"""The commands of ``witness``: ``new-key`` and ``serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everwhen.cli.exit_codes import NO_INPUT, USAGE, CommandStop
from everwhen.cli.options import JsonOption
from everwhen.cli.output import Output
from everwhen.cli.signing_keys import known_key, needs_trust, new_signer, read_key, write_key
from everwhen.system.bounded_files import MAX_TRUST_BYTES, read_file

if TYPE_CHECKING:
    from everwhen_verify.rollover import Rollover

_HELP = """Be a witness: sign that logs of others, or your own, have only grown.

A witness is only useful on another machine than the store's, run by other people.
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

    The public part goes into the policies of those who trust the witness. If the variable
    EVERWHEN_SIGNER_PASSPHRASE is set, the key is encrypted with that passphrase; serve then needs
    it, too.
    """
    needs_trust()
    signer = new_signer(name, "NAME", is_witness=True)
    write_key(signer, key)
    Output(json=json).fields({"name": name, "key": signer.verifier.vkey})


def serve(
    state: Annotated[
        Path,
        typer.Argument(
            metavar="STATE",
            help="The file in which it remembers what it has signed. Never restore an older one.",
        ),
    ],
    key: _Key,
    logs: Annotated[
        list[str],
        typer.Argument(metavar="LOG...", help="The public keys of the logs that it accepts."),
    ],
    *,
    rollovers: Annotated[
        list[Path] | None,
        typer.Option(
            "--rollovers",
            metavar="FILE",
            help="The file 'rollovers' in a log's folder: how its key has changed. Repeat for "
            "several logs.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for a free one.")
    ] = 8427,
    json: JsonOption = False,
) -> None:
    """Serve a witness until Ctrl-C, with the protocol C2SP tlog-witness.

    Give one key of each log. If a log was handed over to another key, --rollovers says to which,
    and from which size of the tree on the old key no longer counts.
    """
    needs_trust()
    from everwhen.witness import WitnessServer, WitnessService

    known = [known_key(log, "LOG") for log in logs]
    signer = read_key(key, "everwhen witness new-key")
    changes = [one for path in rollovers or () for one in _rollovers(path)]
    service = WitnessService(state, signer, known, changes)
    try:
        with WitnessServer(service, host, port) as server:
            Output(json=json).fields(
                {"url": server.url, "name": signer.name, "key": signer.verifier.vkey}
            )
            sys.stdout.flush()
            server.serve_forever()
    finally:
        service.close()


def _rollovers(path: Path) -> list[Rollover]:
    from everwhen_verify.errors import VerifyError
    from everwhen_verify.rollover import open_rollovers

    try:
        return open_rollovers(read_file(path, MAX_TRUST_BYTES))
    except OSError as error:
        raise CommandStop(
            f"{path}: {error.strerror}; name a log's file 'rollovers'", NO_INPUT
        ) from error
    except VerifyError as error:
        raise CommandStop(f"{path}: {error}; name a log's file 'rollovers'", USAGE) from None
