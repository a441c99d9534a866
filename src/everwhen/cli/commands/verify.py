"""The command that compares history with what was signed: ``verify``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everwhen.cli.exit_codes import NO
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import BranchOption, JsonOption, StoreArgument
from everwhen.cli.output import Output, counted, plain_value
from everwhen.cli.signed_log import TrustOptions, content_of, say_not_remembered
from everwhen.cli.signing_keys import needs_trust
from everwhen.cli.store_opening import existing

if TYPE_CHECKING:
    from rich.text import Text

    from everwhen.merkle import LogReport


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(verify))


@dataclass(frozen=True)
class EvidenceOptions:
    """What else history is compared with."""

    remembered: Annotated[
        list[Path] | None,
        typer.Option(
            "--remembered",
            metavar="FILE",
            help="A signed checkpoint from another place, which the history must contain. Repeat "
            "for several.",
        ),
    ] = None
    since: Annotated[
        Path | None,
        typer.Option(
            "--since",
            metavar="FILE",
            help="A signed checkpoint that was verified before: only check what is newer.",
        ),
    ] = None
    tsa_cert: Annotated[
        Path | None,
        typer.Option(
            "--tsa-cert",
            metavar="FILE",
            help="Check the timestamps, too, with these certificates, in PEM.",
        ),
    ] = None

    def read(self) -> dict[str, Any]:
        """What the files hold, as `MerkleLog.verify` takes it."""
        certificates = self.tsa_cert
        return {
            "remembered": [content_of(path) for path in self.remembered or ()],
            "since": None if self.since is None else content_of(self.since),
            "authorities": certificates and content_of(certificates, "certificates"),
        }


def verify(
    store: StoreArgument,
    *,
    evidence: EvidenceOptions,
    trust: TrustOptions,
    forget_remembered: Annotated[
        bool,
        typer.Option(
            "--forget-remembered",
            help="Forget what was verified before, because the log was made new on purpose.",
        ),
    ] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Compute the whole history again, and compare it with what was signed.

    Then compare what queries find events by with the history: nothing is hidden.

    If there is a fault, names the first one and ends with exit code 1: which commit, what was
    expected, what was found. Anyone who holds the signing key can sign another history: that shows
    only against a signed checkpoint that is kept in another place.

    The newest checkpoint that was correct here is remembered for you, outside the store. Whatever
    is verified later has to continue from it and, without --key, be signed by its key. A log is
    recognised by the place of its folder. If the log was made new on purpose, --forget-remembered
    begins again. Give other checkpoints that you kept with --remembered.

    History that was retired is reported as that, and not as damaged, if the history itself records
    it: the hashes of its commits are verified, what was in them is gone. The record is an event of
    the history, and counts as much as the rest once it is signed.

    If the log was handed over to another key, in the file 'rollovers' in its folder, the output
    says so: from then on the old key no longer counts.
    """
    needs_trust()
    compared = evidence.read()
    began, out = time.perf_counter(), Output(json=json)
    with existing(store, branch=branch) as opened:
        log, unable = trust.open(store, opened)
        if forget_remembered:
            log.forget_remembered()
        report = log.verify(**compared)
    fields = _fields(report, timestamps=evidence.tsa_cert is not None)
    if out.is_terminal:
        _draw(out, fields, time.perf_counter() - began)
    elif out.json:
        out.line(fields)
    else:
        for name, value in fields.items():
            out.row(name, plain_value(value))
    say_not_remembered(unable or report.not_remembered)
    if report.fault is not None:
        raise typer.Exit(NO)


def _fields(report: LogReport, *, timestamps: bool) -> dict[str, Any]:
    fault, held = report.fault, report.remembered
    retired = report.retired
    fields: dict[str, Any] = {
        "sound": report.is_sound,
        "commits": report.size,
        "verified": report.verified,
        "unsigned": report.unsigned,
        "retired": 0 if retired is None else retired.commits,
        "retired_up_to": None if retired is None else retired.last,
        "retired_at": None if retired is None else retired.recorded_at,
        "retired_by": None if retired is None else retired.record,
        "retirement_signed": None if retired is None else retired.is_signed,
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


def _retired(fields: dict[str, Any]) -> str:
    """What was retired, in words."""
    what = (
        f"{counted(fields['retired'], 'commit')} up to position {fields['retired_up_to']:,} "
        f"retired on {fields['retired_at']:%F %T} UTC: their hashes are what was signed, their "
        f"content is gone"
    )
    if fields["retired_by"] is None:
        return f"{what}; the record of that is in the store that this branch is of"
    signed = "signed" if fields["retirement_signed"] else "not signed yet"
    return f"{what}; the record at position {fields['retired_by']:,} is {signed}"


def _sound(fields: dict[str, Any], seconds: float) -> Text:
    from rich.text import Text

    line = Text.assemble(
        ("✓ ", "bold green"),
        f"{fields['verified']:,} of {fields['commits']:,} commits verified in {seconds:.1f} s: "
        f"history is what was signed",
    )
    if fields["retired_up_to"] is not None:
        line.append(f"\n  {_retired(fields)}", None if fields["retirement_signed"] else "yellow")
    if fields["unsigned"]:
        line.append(f"\n  {fields['unsigned']:,} newer commits aren't signed yet", "yellow")
    if fields.get("timestamped"):
        line.append(
            f"\n  the first {fields['timestamped_size']:,} by "
            f"{fields['timestamped_at']:%F %T} UTC, as the timestamps say"
        )
    for one in fields["handed_over"]:
        line.append(f"\n  handed over after {counted(one['size'], 'commit')} to {one['key']}")
    if fields["key_from"] == "log":
        line.append(
            "\n  the key is the one that the log's folder names; give --key to be sure",
            "yellow",
        )
    if fields["remembers_since"] is not None:
        key = ", as is the key" if fields["key_from"] == "remembered" else ""
        since = f"{fields['remembers_since']:%F %T} UTC"
        line.append(f"\n  remembered since {since}{key}", "dim")
    return line


def _draw(out: Output, fields: dict[str, Any], seconds: float) -> None:
    from rich.table import Table
    from rich.text import Text

    if fields["sound"]:
        out.console.print(_sound(fields, seconds))
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
        table.add_row(
            "  remembered", Text(f"{held}; if it was made new on purpose, use --forget-remembered")
        )
    out.console.print(table)
