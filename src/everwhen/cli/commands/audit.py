"""The commands of the audit log: ``audit log``, ``query``, ``export`` and ``recover``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec
import typer

from everwhen import open_store
from everwhen.audit import (
    AuditAction,
    AuditEntry,
    AuditFallback,
    AuditFilter,
    AuditLog,
    AuditRecord,
    AuditResult,
)
from everwhen.audit.entry_forms import audit_record_form
from everwhen.cli.exit_codes import NO_INPUT, USAGE, CommandStop
from everwhen.cli.local_time import given_moment
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    BranchOption,
    JsonOption,
    OverwriteOption,
    StoreArgument,
    UserOption,
)
from everwhen.cli.output import Column, Output, counted
from everwhen.cli.output_files import check_output, written
from everwhen.cli.store_opening import existing_branch, given_vault, path_of
from everwhen.exchange.json_forms import utc_text
from everwhen.privacy import PLAINTEXT

if TYPE_CHECKING:
    from rich.text import Text

_HELP: Final = """Write, search, export and recover the audit log of a store.

Anyone who can read the file can read its log; permissions apply to those who use a program.
"""
_COLOURS: Final = {
    AuditResult.SUCCESS: "green",
    AuditResult.FAILURE: "bold red",
    AuditResult.PARTIAL_SUCCESS: "yellow",
}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    audit = typer.Typer(help=_HELP, no_args_is_help=True)
    audit.command()(expanded(log))
    audit.command()(expanded(query))
    audit.command()(expanded(export))
    audit.command()(recover)
    app.add_typer(audit, name="audit")


CorrelationOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ID", help="The id of the conversation that it belongs to.")
]


@dataclass(frozen=True)
class AuditFilterOptions:
    """Which entries are meant: those that match each option which is given."""

    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="ID", help="Only what this user did.")
    ] = None
    action: Annotated[
        str | None,
        typer.Option(
            "--action",
            "-a",
            metavar="ACTION",
            help="Only this action, such as Login, Update or ConfigChange.",
        ),
    ] = None
    resource: Annotated[
        str | None,
        typer.Option(
            "--resource",
            "-r",
            metavar="PATH",
            help="Only this resource and anything below it: accounts/7.",
        ),
    ] = None
    result: Annotated[
        str | None,
        typer.Option(
            "--result",
            metavar="RESULT",
            help="Only this result: Success, Failure or PartialSuccess.",
        ),
    ] = None
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was done then or later.")
    ] = None
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was done before then.")
    ] = None
    correlation: CorrelationOption = None
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Only entries with this text in their reason or details."
        ),
    ] = None

    def filter(self) -> AuditFilter:
        """The filter that they say together. Raises `CommandStop` for names that there aren't."""
        action, result, since, until = self.action, self.result, self.since, self.until
        return AuditFilter(
            user=self.user,
            action=None if action is None else _one_of(AuditAction, action, "action"),
            resource=self.resource,
            result=None if result is None else _one_of(AuditResult, result, "result"),
            since=None if since is None else given_moment(since),
            until=None if until is None else given_moment(until),
            correlation=self.correlation,
            text=self.text,
        )


@dataclass(frozen=True)
class AuditClientOptions:
    """From where something was done."""

    ip_address: Annotated[
        str | None, typer.Option("--ip", metavar="ADDRESS", help="The client's address.")
    ] = None
    user_agent: Annotated[
        str | None, typer.Option("--user-agent", metavar="TEXT", help="The client's program.")
    ] = None
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="The session that it belongs to.")
    ] = None


def log(
    store: StoreArgument,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="What was done, such as Login.")],
    resource: Annotated[
        str, typer.Argument(metavar="RESOURCE", help="What it was done to, such as accounts/7.")
    ],
    *,
    user: UserOption = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why it failed. The result is then Failure.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="It succeeded only in part; say how in the details.")
    ] = False,
    detail: Annotated[
        list[str] | None,
        typer.Option("--detail", "-d", metavar="NAME=VALUE", help="A detail. Repeat for several."),
    ] = None,
    client: AuditClientOptions,
    correlation: CorrelationOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Write an entry into the log."""
    if partial and reason is not None:
        raise CommandStop(
            "--reason means that it failed, --partial that it succeeded in part; give only one",
            USAGE,
        )
    result = AuditResult.PARTIAL_SUCCESS if partial else AuditResult.SUCCESS
    with _opened(store, branch, write=True, new_vault=True) as audit:
        entry = audit.entry(
            _one_of(AuditAction, action, "action"),
            resource,
            result=AuditResult.FAILURE if reason is not None else result,
            reason=reason,
            details=_details(detail or []),
            user=user,
            ip_address=client.ip_address,
            user_agent=client.user_agent,
            session=client.session,
            correlation=correlation,
        )
        receipt = audit.record(entry)
        out = Output(json=json)
        if out.is_terminal:
            out.console.print(f"✓ logged at position {receipt.position:,}", style="green")
        else:
            fields = {"commit_id": str(receipt.commit_id), "position": receipt.position}
            out.fields(fields)


def query(
    store: StoreArgument,
    *,
    entries: AuditFilterOptions,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N results.")
    ] = 100,
    cursor: Annotated[
        int | None,
        typer.Option(min=0, metavar="POSITION", help="Continue after the entry at this position."),
    ] = None,
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="List the oldest entries first.")
    ] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Search the log; the newest entries come first.

    Columns in a pipe: position, time, user, action, resource, result, reason, IP address, details.
    """
    wanted = entries.filter()
    with _opened(store, branch) as audit:
        page = audit.query(wanted, limit=limit, cursor=cursor, oldest_first=oldest_first)
        out = Output(json=json)
        out.list(page.records, AuditView())
        if out.is_terminal and page.cursor is not None:
            out.console.print(f"There are more: --cursor {page.cursor}", style="dim")


def export(
    store: StoreArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - for standard output.")],
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="NAME", help="The format: ocsf (1.8, as JSON) or csv."
        ),
    ] = "ocsf",
    entries: AuditFilterOptions,
    overwrite: OverwriteOption = False,
    branch: BranchOption = None,
) -> None:
    """Export the log as lines of OCSF or rows of CSV; the oldest entries come first.

    The file gets its name only when it is complete.
    """
    form = "csv" if format_ == "csv" else "ocsf"
    if form != format_:
        raise CommandStop(f"--format {format_}: there is no such format; use ocsf or csv", USAGE)
    check_output(file, store)
    wanted = entries.filter()
    with _opened(store, branch) as audit:
        lines = audit.export("csv" if form == "csv" else "ocsf", wanted)
        with written(file, overwrite=overwrite) as target:
            for line in lines:
                target.write(line.encode())


def recover(
    store: StoreArgument,
    fallback: Annotated[
        str,
        typer.Argument(metavar="FALLBACK", help="The file that entries were written to meanwhile."),
    ],
    *,
    key_file: Annotated[
        str, typer.Option("--key-file", metavar="FILE", help="The fallback's key.")
    ],
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="If the file was edited, take the entries before the edit."),
    ] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Move a fallback file's entries into the log, once and in order, and delete the file.

    A file that was edited is rejected, with the number of the line. With --salvage the entries
    before that line are taken; the log records that nothing after it is trusted, and the file is
    kept as FALLBACK.damaged. After an interruption run the same command again.
    """
    if not Path(key_file).exists():
        raise CommandStop(f"{key_file}: there is no such key file; check the path", NO_INPUT)
    file = AuditFallback(fallback, AuditFallback.key_from(key_file))
    if file.is_new:
        raise CommandStop(f"{fallback}: there is no such fallback file; check the path", NO_INPUT)
    with _opened(store, branch, write=True, fallback=file) as audit:
        report = audit.recover(salvage=salvage)
    out = Output(json=json)
    if not out.is_terminal:
        count, known = (report.count, report.known) if report else (0, 0)
        head, torn = (report.head, report.torn) if report else (None, 0)
        fields: dict[str, Any] = {"recovered": count, "known": known, "head": head, "torn": torn}
        if report is not None and report.kept is not None:
            fields |= {"not_trusted_from_line": report.damaged_line, "kept": report.kept}
        out.fields(fields)
    elif report is None:
        out.console.print("There is nothing to recover.", style="dim")
    else:
        already = f"; {report.known:,} were already in the log" if report.known else ""
        cut = (
            f"; {report.torn:,} bytes of an incomplete line at the end were left out"
            if report.torn
            else ""
        )
        entries = counted(report.count, "entry", "entries")
        out.console.print(f"✓ recovered {entries}{already}{cut}", style="green")
        out.console.print(f"  head {report.head}", style="dim")
        if report.kept is not None:
            where = f"from line {report.damaged_line:,} on"
            said = f"  nothing is trusted {where}; the file is kept as {report.kept}"
            out.console.print(said, style="yellow", markup=False)


class AuditView:
    """Entries of the audit log."""

    columns = (
        Column("POSITION", right=True),
        Column("TIME", rigid=True),
        Column("AGE", rigid=True, optional=True),
        Column("USER"),
        Column("ACTION"),
        Column("RESOURCE"),
        Column("RESULT"),
        Column("FROM", optional=True),
        Column("DETAILS"),
    )

    def record(self, item: AuditRecord) -> object:
        """Everything that is known of the entry."""
        return audit_record_form(item)

    def plain(self, item: AuditRecord) -> Sequence[str]:
        """Position, time, user, action, resource, result, reason, address and details."""
        entry = item.entry
        return (
            str(item.position),
            utc_text(entry.timestamp),
            entry.user or "",
            entry.action.value,
            entry.resource,
            entry.result.value,
            str(entry.reason or ""),
            str(entry.ip_address or ""),
            msgspec.json.encode(entry.details).decode(),
        )

    def cells(self, item: AuditRecord) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        from everwhen.cli import formatting

        entry = item.entry
        details = formatting.data_look({key: _said(value) for key, value in entry.details.items()})
        if entry.reason is not None:
            reason = Text(formatting.shown_name(str(entry.reason)), "red")
            details = Text("  ").join([reason, details] if entry.details else [reason])
        return (
            formatting.number_look(item.position),
            formatting.stamp_look(entry.timestamp),
            formatting.age_look(entry.timestamp),
            Text(entry.user or "-", "bold" if entry.user else "dim"),
            formatting.type_look(entry.action.value),
            Text(entry.resource),
            Text(entry.result.value, _COLOURS[entry.result]),
            Text(str(entry.ip_address or ""), "dim"),
            details,
        )


def _said(value: object) -> object:
    return str(value) if isinstance(value, msgspec.Struct) else value


@contextmanager
def _opened(
    location: str,
    branch: str | None,
    *,
    write: bool = False,
    new_vault: bool = False,
    fallback: AuditFallback | None = None,
) -> Iterator[AuditLog]:
    """The log of a store that is there, for somebody who may see all of it."""
    path = path_of(location)
    if path is not None and not path.exists():
        raise CommandStop(f"{path}: there is no such file; check the path", NO_INPUT)
    with ExitStack() as stack:
        vault = given_vault(create=new_vault)
        if vault is not None:
            stack.enter_context(vault)
        store = stack.enter_context(
            open_store(location, read_only=not write, events=[AuditEntry], vault=vault or PLAINTEXT)
        )
        chosen = stack.enter_context(existing_branch(store, branch))
        yield AuditLog(chosen, policy=_all, fallback=fallback)


def _all(user: str | None) -> list[AuditFilter]:
    del user
    return [AuditFilter()]


def _one_of(kind: Any, name: str, what: str) -> Any:
    """The member of that name, whatever its case and dashes."""
    asked = name.replace("-", "").replace("_", "").casefold()
    for member in kind:
        if member.value.casefold() == asked:
            return member
    names = ", ".join(member.value for member in kind)
    raise CommandStop(f"there is no {what} {name!r}; use one of {names}", USAGE)


def _details(given: list[str]) -> dict[str, Any]:
    """Details by name; a value that reads as a JSON number, true, false or null is one."""
    details: dict[str, Any] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name:
            raise CommandStop(f"--detail {one}: write it as NAME=VALUE", USAGE)
        if name in details:
            raise CommandStop(
                f"--detail {one}: {name} is given twice; give each detail once", USAGE
            )
        try:
            read = msgspec.json.decode(value)
        except msgspec.DecodeError:
            read = value
        details[name] = value if isinstance(read, dict) else read
    return details
