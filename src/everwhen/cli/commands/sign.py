"""The command that signs history: ``sign``."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everwhen.cli.endings import ended_by
from everwhen.cli.exit_codes import INTERRUPTED, USAGE, CommandStop
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import BranchOption, JsonOption, StoreArgument
from everwhen.cli.output import Output, counted
from everwhen.cli.signed_log import LogOption, content_of, log_folder, merkle, signing_key_file
from everwhen.cli.signing_keys import Quorum, new_signer, read_key, successor_in, write_key
from everwhen.cli.store_opening import writable_if_allowed
from everwhen.merkle.tile_stores import ROLLOVERS

if TYPE_CHECKING:
    from everwhen import Store
    from everwhen.merkle import MerkleLog, Signed, Timestamp, TimestampAuthority
    from everwhen_verify.checkpoints import Checkpoint
    from everwhen_verify.notes import Signer


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(sign))


@dataclass(frozen=True)
class KeyOptions:
    """The key that signs."""

    new_key: Annotated[
        str | None,
        typer.Option(
            "--new-key",
            metavar="NAME",
            help="Make a signing key with this name first, such as example.org/shop.",
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", metavar="FILE", help="The log's signing key. [default: STORE-signer]"
        ),
    ] = None

    def signer(self, store: str, opened: Store) -> Signer:
        """The key in the file, made first where that is asked for."""
        path = self.key_file or signing_key_file(store, opened)
        if self.new_key is not None:
            if self.key_file is None:
                path.parent.mkdir(exist_ok=True)  # that of branches, before the first writes
            write_key(new_signer(self.new_key, "--new-key"), path)
        return read_key(path, "--new-key NAME")


@dataclass(frozen=True)
class ConfirmationOptions:
    """Who else confirms the signed checkpoint."""

    timestamp: Annotated[
        str | None,
        typer.Option(
            "--timestamp",
            metavar="URL",
            help="Have the signed checkpoint timestamped by this authority (RFC 3161).",
        ),
    ] = None
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="Ask the witnesses whose addresses are in this policy, and require its quorum.",
        ),
    ] = None

    def authority(self) -> TimestampAuthority | None:
        """Who timestamps, if anybody is to."""
        if self.timestamp is None:
            return None
        made: TimestampAuthority = merkle().TimestampAuthority(self.timestamp)
        return made

    def quorum(self) -> Quorum | None:
        """The witnesses, if there is a policy."""
        if self.policy is None:
            return None
        return Quorum.of(self.policy, content_of(self.policy, "a policy"))


def sign(
    store: StoreArgument,
    *,
    keys: KeyOptions,
    confirmation: ConfirmationOptions,
    roll_to: Annotated[
        Path | None,
        typer.Option(
            "--roll-to",
            metavar="FILE",
            help="Then hand the log over to the key in this file, which is made if it is missing.",
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            min=0.1,
            metavar="SECONDS",
            help="Sign what is new at this interval, until Ctrl-C.",
        ),
    ] = None,
    log: LogOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Sign the history as it is now: write a signed checkpoint over all commits.

    Keep the newest signed checkpoint in another place, too: it shows if anyone who holds the
    signing key has rewritten history. Only you can read the key file that --new-key makes; if the
    variable EVERWHEN_SIGNER_PASSPHRASE is set, the file is encrypted with that passphrase. A branch
    has its own log and its own key.

    After --roll-to the new key signs, so give it with --key-file. Both keys have signed the change,
    in the file 'rollovers' in the log's folder: anyone who knows the old key can trust the new one.

    With --every the command goes on and shows each new signed checkpoint; a separate process that
    signs costs the processes that write almost nothing. It ends at the first failure, with that
    exit code.

    In a pipe: the signed checkpoint itself.
    """
    if every is not None and roll_to is not None:
        raise CommandStop("--every: not together with --roll-to, which works once; use one", USAGE)
    room, out = merkle(), Output(json=json)
    authority, quorum = confirmation.authority(), confirmation.quorum()
    with writable_if_allowed(store, branch=branch) as opened:
        signer = keys.signer(store, opened)
        witnesses = () if quorum is None else quorum.witnesses
        tiles = log_folder(store, opened, log)
        log_of = room.MerkleLog(opened, tiles, signer, witnesses=witnesses)
        signing = _Signing(log_of, signer, authority, quorum, out)
        if roll_to is not None:
            signing.hand_over(roll_to)
        elif every is None:
            signing.sign()
        else:
            signing.sign_every(every)


class _Signing:
    """Signs a log, and shows what it has signed."""

    def __init__(
        self,
        log: MerkleLog,
        signer: Signer,
        authority: TimestampAuthority | None,
        quorum: Quorum | None,
        out: Output,
    ) -> None:
        self._log = log
        self._signer = signer
        self._authority = authority
        self._quorum = quorum
        self._out = out

    def sign(self, before: Signed | None = None) -> Signed:
        """Sign what there is; shown, timestamped and held to the quorum unless it was before."""
        made = self._log.sign()
        if made != before:
            self._show(made, None)
        return made

    def sign_every(self, seconds: float) -> None:
        """Sign what is new, again and again. At Ctrl-C it signs once more and ends."""
        with ended_by(signal.SIGINT) as ending:
            signed = self.sign()
            while not ending.wait(seconds):
                signed = self.sign(signed)
            self.sign(signed)
        raise typer.Exit(INTERRUPTED)

    def hand_over(self, where: Path) -> None:
        """Sign what there is, and let the key in a file sign from now on."""
        self._log.sign()
        successor = successor_in(where, self._signer)
        self._show(self._log.roll_over(successor), (successor, where))

    def _show(self, made: Signed, successor: tuple[Signer, Path] | None) -> None:
        out, signed = self._out, made.checkpoint
        stamped = None if self._authority is None else self._log.timestamp(self._authority)
        if out.json:
            fields: dict[str, Any] = {
                "origin": signed.origin,
                "size": signed.size,
                "root": signed.root.hex(),
                "key": self._signer.verifier.vkey,
                "checkpoint": made.note.decode(),
            }
            if stamped is not None:
                fields["timestamp"] = stamped.time
            if successor is not None:
                fields["next_key"] = successor[0].verifier.vkey
            out.line(fields)
        elif out.is_terminal:
            _draw_signed(out, signed, self._signer, stamped)
            if successor is not None:
                key, where = successor
                out.console.print(f"  next {key.verifier.vkey}", markup=False)
                out.console.print(f"  it signs from now on: --key-file {where}", markup=False)
        else:
            sys.stdout.write(made.note.decode())
        sys.stdout.flush()
        if self._quorum is not None:
            rollovers = self._log.tiles.read(ROLLOVERS) or b""
            self._quorum.check(made.note, rollovers, self._log.failure)


def _draw_signed(
    out: Output, signed: Checkpoint, signer: Signer, stamped: Timestamp | None
) -> None:
    from rich.text import Text

    out.console.print(
        Text.assemble(
            ("✓ ", "bold green"),
            f"{counted(signed.size, 'commit')} signed as ",
            (signed.origin, "bold"),
            ("\n  root ", "dim"),
            signed.root.hex(),
            ("\n  key  ", "dim"),
            signer.verifier.vkey,
        )
    )
    if stamped is not None:
        out.console.print(Text.assemble(("  time ", "dim"), f"{stamped.time:%F %T} UTC"))
