"""The command that proves what is in history: ``prove``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from everwhen.cli.options import BranchOption, JsonOption, OverwriteOption, StoreArgument
from everwhen.cli.output import Output, counted
from everwhen.cli.output_files import check_output, written
from everwhen.cli.signed_log import KnownKeyOption, LogOption, log_folder, merkle
from everwhen.cli.signing_keys import known_key
from everwhen.cli.store_opening import existing
from everwhen.exchange.sources import STANDARD


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(prove)


def prove(
    store: StoreArgument,
    position: Annotated[int, typer.Argument(min=1, help="A position in the commit to prove.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the proof here."),
    ] = None,
    overwrite: OverwriteOption = False,
    key: KnownKeyOption = None,
    log: LogOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Write a proof that a commit is part of the signed history.

    The proof holds the commit itself and everything that is needed to check it: 'everwhen-verify'
    checks it without the store, Everwhen or a network. Only a checkpoint that the log's key signed
    can prove anything. Without --output the proof goes to stdout; a file gets its name only when it
    is complete.
    """
    room = merkle()
    if output == Path(STANDARD):
        output = None
    if output is not None:
        check_output(output, store, log)
    known = None if key is None else known_key(key, "--key")
    with existing(store, branch=branch) as opened:
        tiles = log_folder(store, opened, log)
        proof = room.MerkleLog(opened, tiles, key=known).prove(position)
    data, out = proof.encode(), Output(json=json)
    if output is not None:
        with written(output, overwrite=overwrite) as target:
            target.write(data)
    if out.json:
        fields: dict[str, Any] = {"position": position, "index": proof.index}
        out.line({**fields, "hashes": len(proof.path), "proof": data.decode()})
    elif output is None:
        sys.stdout.write(data.decode())
    elif out.is_terminal:
        hashes = counted(len(proof.path), "hash", "hashes")
        out.done(f"commit {proof.index:,} is proven by {hashes} in {output}")
    else:
        out.fields({"position": position, "index": proof.index, "hashes": len(proof.path)})
