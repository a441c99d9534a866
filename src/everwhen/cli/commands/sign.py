"""The commands of trust in history: ``sign``, ``prove`` and ``verify``."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from everwhen import Store
from everwhen.cli.exits import INTERRUPTED, NO, NO_INPUT, USAGE, CommandStop, say
from everwhen.cli.opening import existing, path_of, writable_if_allowed
from everwhen.cli.options import BranchOption, JsonOption, OverwriteOption, StoreArgument
from everwhen.cli.outputs import check_output, written
from everwhen.cli.signing_keys import (
    Quorum,
    known_key,
    needs_trust,
    new_signer,
    read_key,
    successor_in,
    write_key,
)
from everwhen.cli.terminal import Output, counted, plain_value
from everwhen.exchange.sources import STANDARD
from everwhen.merkle.tile_stores import ROLLOVERS
from everwhen.system.bounded_files import MAX_TRUST_BYTES, read_file
from everwhen_verify.errors import MemoryFileError

if TYPE_CHECKING:
    from everwhen.merkle import LogReport, MerkleLog, Signed, Timestamp, TimestampAuthority
    from everwhen_verify.checkpoints import Checkpoint
    from everwhen_verify.memory import Memory
    from everwhen_verify.notes import Signer

_KEY_FILE: Final = "-signer"

KeyOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="The log's signing key; else STORE-signer."),
]
LogOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--log", metavar="FOLDER", help="The log's folder; else STORE-log."),
]

MemoryOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--memory",
        metavar="FOLDER",
        help="Where to remember what was verified; else in your XDG_STATE_HOME.",
    ),
]
KnownKeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--key", metavar="VKEY", help="The log's key, as you know it from elsewhere."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(sign)
    app.command()(prove)
    app.command()(verify)


NewKeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--new-key",
        metavar="NAME",
        help="First make a signing key with this name, such as example.org/shop.",
    ),
]
TimestampOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--timestamp",
        metavar="URL",
        help="Have the signed checkpoint timestamped by this authority (RFC 3161).",
    ),
]
PolicyOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="Ask the witnesses whose addresses are in this policy, and require its quorum.",
    ),
]
RollToOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--roll-to",
        metavar="FILE",
        help="Then hand the log over to the key in this file, which is created if missing.",
    ),
]
SignEveryOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--every",
        min=0.1,
        metavar="SECONDS",
        help="Go on signing new commits at this interval, until Ctrl-C.",
    ),
]


def sign(
    store: StoreArgument,
    *,
    new_key: NewKeyOption = None,
    key_file: KeyOption = None,
    timestamp: TimestampOption = None,
    policy: PolicyOption = None,
    roll_to: RollToOption = None,
    every: SignEveryOption = None,
    log: LogOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Sign the history as it is: a signed checkpoint over all commits.

    Keep the newest signed checkpoint elsewhere, too: it shows when anyone who holds the signing
    key has rewritten history. The key file, which --new-key makes, is for its owner only; where the
    variable EVERWHEN_SIGNER_PASSPHRASE is set, it is encrypted with that passphrase. A branch has a
    log and a key of its own.

    After --roll-to the new key signs, so give it with --key-file. Both keys have signed that;
    whoever trusts the old one can trust the new one by the file 'rollovers' in the log's folder.

    With --every it goes on, and shows each new signed checkpoint: a process of its own that signs
    costs those that write next to nothing. It ends at the first failure, with that exit code.

    In a pipe: the signed checkpoint itself.
    """
    if every is not None and roll_to is not None:
        raise CommandStop("--roll-to hands the log over once; leave out --every", USAGE)
    merkle, out = _merkle(), Output(json=json)
    authority = None if timestamp is None else merkle.TimestampAuthority(timestamp)
    quorum = None if policy is None else Quorum.of(policy, _bytes(policy, "a policy"))
    with writable_if_allowed(store, branch=branch) as opened:
        key_path = key_file or _key_file(store, opened)
        if new_key is not None:
            if key_file is None:
                key_path.parent.mkdir(exist_ok=True)  # that of branches, before the first writes
            write_key(new_signer(new_key, "--new-key"), key_path)
        signer = read_key(key_path, "--new-key NAME")
        witnesses = () if quorum is None else quorum.witnesses
        log_of = merkle.MerkleLog(opened, _tiles(store, opened, log), signer, witnesses=witnesses)
        signing = _Signing(log_of, signer, authority, quorum, out)
        if roll_to is not None:
            signing.hand_over(roll_to)
            return
        sealed = signing.sign()
        try:
            while every is not None:
                time.sleep(every)
                sealed = signing.sign(sealed)
        except KeyboardInterrupt:
            signing.sign(sealed)
            raise typer.Exit(INTERRUPTED) from None


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
        """Seal what there is; shown, timestamped and held to the quorum unless it was before."""
        sealed = self._log.sign()
        if sealed != before:
            self._show(sealed, None)
        return sealed

    def hand_over(self, where: Path) -> None:
        """Seal what there is, and let the key in a file sign from now on."""
        self._log.sign()
        successor = successor_in(where, self._signer)
        self._show(self._log.roll_over(successor), (successor, where))

    def _show(self, sealed: Signed, successor: tuple[Signer, Path] | None) -> None:
        out, signed = self._out, sealed.checkpoint
        stamped = None if self._authority is None else self._log.timestamp(self._authority)
        if out.json:
            fields: dict[str, Any] = {
                "origin": signed.origin,
                "size": signed.size,
                "root": signed.root.hex(),
                "key": self._signer.verifier.vkey,
                "checkpoint": sealed.note.decode(),
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
            sys.stdout.write(sealed.note.decode())
        sys.stdout.flush()
        if self._quorum is not None:
            rollovers = self._log.tiles.read(ROLLOVERS) or b""
            self._quorum.check(sealed.note, rollovers, self._log.failure)


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

    The proof holds the commit itself and all that it takes to check it: 'everwhen-verify' does so
    without the store, Everwhen or a network. Nothing is proven under a checkpoint that isn't signed
    by the log's key. Without --output it is written as it is; the file appears under its name only
    when it is complete.
    """
    merkle = _merkle()
    if output == Path(STANDARD):
        output = None
    if output is not None:
        check_output(output, store, log)
    known = None if key is None else known_key(key, "--key")
    with existing(store, branch=branch) as opened:
        proof = merkle.MerkleLog(opened, _tiles(store, opened, log), key=known).prove(position)
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


RememberedOption: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--remembered",
        metavar="FILE",
        help="A signed checkpoint kept elsewhere, that the log has to contain. Repeat for several.",
    ),
]
VerifySinceOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--since",
        metavar="FILE",
        help="A signed checkpoint verified before: only verify what is newer.",
    ),
]
TsaCertOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tsa-cert",
        metavar="FILE",
        help="Also check the signed checkpoints' timestamps by these certificates, in PEM.",
    ),
]
ForgetRememberedOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--forget-remembered",
        help="Forget what was verified before: the log was deliberately made anew.",
    ),
]


def verify(
    store: StoreArgument,
    *,
    key: KnownKeyOption = None,
    remembered: RememberedOption = None,
    since: VerifySinceOption = None,
    tsa_cert: TsaCertOption = None,
    memory: MemoryOption = None,
    forget_remembered: ForgetRememberedOption = False,
    log: LogOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Compute the whole history again, and compare it with what was signed.

    Then compare what queries find events by with the history: nothing is hidden.

    Names the first fault, if there is one, and ends with exit code 1: which commit, what was
    expected, what was found. Anyone who holds the signing key can sign another history: only a
    signed checkpoint that is kept elsewhere shows it.

    The newest one that was found sound here is kept for you, outside the store: whatever is
    verified later has to go on from it, and without --key, to be by its key. Where the log lies
    says which it is. Where it was made anew on purpose, --forget-remembered begins again. More
    that were kept elsewhere are given by --remembered.

    Where the log was handed over to another key, by the file 'rollovers' in its folder, it says
    so: from then on the key that had it counts no more.
    """
    merkle, began = _merkle(), time.perf_counter()
    known = None if key is None else known_key(key, "--key")
    notes = [_bytes(path) for path in remembered or ()]
    remembering, unable = memory_of(memory)
    with existing(store, branch=branch) as opened:
        log_of = merkle.MerkleLog(opened, _tiles(store, opened, log), key=known, memory=remembering)
        if forget_remembered:
            log_of.forget_remembered()
        report = log_of.verify(
            remembered=notes,
            since=None if since is None else _bytes(since),
            authorities=None if tsa_cert is None else _bytes(tsa_cert, "certificates"),
        )
    out, fields = Output(json=json), _fields_of(report, timestamps=tsa_cert is not None)
    if out.is_terminal:
        _draw(out, fields, time.perf_counter() - began)
    elif out.json:
        out.line(fields)
    else:
        for name, value in fields.items():
            out.row(name, plain_value(value))
    _say_not_remembered(unable or report.not_remembered)
    if report.fault is not None:
        raise typer.Exit(NO)


def _fields_of(report: LogReport, *, timestamps: bool) -> dict[str, Any]:
    fault, held = report.fault, report.remembered
    fields: dict[str, Any] = {
        "sound": report.is_sound,
        "commits": report.size,
        "verified": report.verified,
        "unsigned": report.unsigned,
        "key_from": report.key_from,
        "remembers_since": None if held is None else datetime.fromtimestamp(held.first, UTC),
        "remembered_commits": None if held is None else held.checkpoint.size,
        "signed_by": list(report.signed_by),
        "handed_over": [
            {"size": one.size, "time": one.time, "key": one.new.vkey} for one in report.rollovers
        ],
        "fault": None if fault is None else str(fault.kind),
    }
    if timestamps:
        stamps = report.timestamps
        fields["timestamped"] = len(stamps)
        fields["timestamped_size"] = stamps[-1].size if stamps else None
        fields["timestamped_at"] = stamps[-1].time if stamps else None
    if fault is not None:
        for name in ("what", "index", "position", "commit_id", "expected", "found"):
            fields[name] = getattr(fault, name)
    return fields


def proving(
    store: str, opened: Store, log: Path | None, key: str | None, memory: Path | None
) -> MerkleLog:
    """The log of a store that reads are proven by; stderr says up to where, and by whose key."""
    merkle = _merkle()
    known = None if key is None else known_key(key, "--key")
    remembering, unable = memory_of(memory)
    log_of: MerkleLog = merkle.MerkleLog(
        opened, _tiles(store, opened, log), key=known, memory=remembering
    )
    until, report = log_of.proven()
    words = {"given": "the key given", "remembered": "the key remembered"}
    whose = words.get(report.key_from, "a key that is the folder's own word; give --key to be sure")
    say(f"proven up to position {until:,}, {counted(report.size, 'commit')} signed by {whose}")
    _say_not_remembered(unable or report.not_remembered)
    return log_of


def _say_not_remembered(why: str | None) -> None:
    if why is not None:
        say(f"what was verified isn't remembered: {why}; give --memory FOLDER")


def memory_of(folder: Path | None) -> tuple[Memory | None, str | None]:
    """The memory in a folder, or this user's; or why there is none."""
    from everwhen_verify.memory import Memory

    try:
        return Memory(folder), None
    except MemoryFileError as error:
        return None, str(error)


def _draw(out: Output, fields: dict[str, Any], seconds: float) -> None:
    from rich.table import Table
    from rich.text import Text

    if fields["sound"]:
        line = Text.assemble(
            ("✓ ", "bold green"),
            f"{fields['verified']:,} of {fields['commits']:,} commits verified in {seconds:.1f} s: "
            f"history is as it was signed",
        )
        if fields["unsigned"]:
            line.append(f"\n  {fields['unsigned']:,} newer ones aren't signed yet", "yellow")
        if fields.get("timestamped"):
            line.append(
                f"\n  the first {fields['timestamped_size']:,} by "
                f"{fields['timestamped_at']:%F %T} UTC, as the timestamps say"
            )
        for one in fields["handed_over"]:
            line.append(f"\n  handed over after {counted(one['size'], 'commit')} to {one['key']}")
        if fields["key_from"] == "log":
            line.append("\n  the key is the folder's own word; give --key to be sure", "yellow")
        if fields["remembers_since"] is not None:
            key = ", as is the key" if fields["key_from"] == "remembered" else ""
            since = f"{fields['remembers_since']:%F %T} UTC"
            line.append(f"\n  remembered since {since}{key}", "dim")
        out.console.print(line)
        return
    out.console.print(Text.assemble(("✗ ", "bold red"), (fields["fault"], "bold")))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name in ("what", "index", "position", "commit_id", "expected", "found"):
        if fields[name] is not None:
            table.add_row(f"  {name.replace('_', ' ')}", Text(str(fields[name])))
    if fields["remembers_since"] is not None:
        since = f"{fields['remembers_since']:%F %T} UTC"
        held = f"{counted(fields['remembered_commits'], 'commit')}, of a log known since {since}"
        table.add_row("  remembered", Text(f"{held}; made anew on purpose? --forget-remembered"))
    out.console.print(table)


def _merkle() -> Any:
    needs_trust()
    import everwhen.merkle

    return everwhen.merkle


def _file_of(store: str) -> Path:
    path = path_of(store)
    if path is None:
        raise CommandStop(f"{store} has no file for a log to lie beside; name a file", USAGE)
    return path


def _key_file(store: str, opened: Store) -> Path:
    """The signing key's file beside the store's, or beside that of its branch."""
    tiles = _merkle().TileFolder.beside(_file_of(store), opened.branch_info)
    return Path(f"{str(tiles.path).removesuffix('-log')}{_KEY_FILE}")


def _tiles(store: str, opened: Store, log: Path | None) -> Any:
    merkle = _merkle()
    if log is not None:
        return merkle.TileFolder(log)
    return merkle.TileFolder.beside(_file_of(store), opened.branch_info)


def _bytes(path: Path, what: str = "a signed checkpoint") -> bytes:
    try:
        return read_file(path, MAX_TRUST_BYTES)
    except OSError as error:
        raise CommandStop(f"{path}: {error.strerror}; name a file with {what}", NO_INPUT) from error
