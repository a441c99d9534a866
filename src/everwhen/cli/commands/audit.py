"""The commands of the audit log: ``audit log``, ``query``, ``export`` and ``recover``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from everwhen.cli.exits import NO_INPUT, USAGE, CommandStop
from everwhen.cli.local_time import given_moment
from everwhen.cli.opening import existing_branch, given_vault, path_of
from everwhen.cli.options import (
    BranchOption,
    JsonOption,
    OutputFileArgument,
    OverwriteOption,
    StoreArgument,
)
from everwhen.cli.outputs import check_output, written
from everwhen.cli.terminal import Column, Output, counted
from everwhen.cli.views import utc
from everwhen.privacy import PLAINTEXT

if TYPE_CHECKING:
    from rich.text import Text

_HELP: Final = """Write, search, export and recover the audit log of a store.

Who may read the file may read its log; permissions are for those who ask through a program.
"""
_COLOURS: Final = {
    AuditResult.SUCCESS: "green",
    AuditResult.FAILURE: "bold red",
    AuditResult.PARTIAL_SUCCESS: "yellow",
}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    audit = typer.Typer(help=_HELP, no_args_is_help=True)
    audit.command()(log)
    audit.command()(query)
    audit.command()(export)
    audit.command()(recover)
    app.add_typer(audit, name="audit")


UserOption: TypeAlias = Annotated[
    str | None, typer.Option("--user", "-u", metavar="ID", help="The user who did it.")
]
ActionOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--action",
        "-a",
        metavar="ACTION",
        help="The action, such as Login, Update or ConfigChange.",
    ),
]
ResourceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--resource",
        "-r",
        metavar="PATH",
        help="This object or anything below it, such as accounts/7.",
    ),
]
ResultOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--result", metavar="RESULT", help="The result: Success, Failure or PartialSuccess."
    ),
]
SinceOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only what was done then or later.")
]
UntilOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only what was done before.")
]
CorrelationOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ID", help="The correlation id.")
]
TextOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Only entries with this text in the reason or the details."),
]


def log(
    store: StoreArgument,
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="The action, such as Login or ConfigChange.")
    ],
    resource: Annotated[
        str,
        typer.Argument(metavar="RESOURCE", help="The object it was done to, such as accounts/7."),
    ],
    *,
    user: UserOption = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why it failed. The result is then Failure.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="It succeeded in part. Say how in the details.")
    ] = False,
    detail: Annotated[
        list[str] | None,
        typer.Option("--detail", "-d", metavar="NAME=VALUE", help="A detail. Repeat for several."),
    ] = None,
    ip_address: Annotated[str | None, typer.Option("--ip", metavar="ADDRESS")] = None,
    user_agent: Annotated[
        str | None,
        typer.Option("--user-agent", metavar="TEXT", help="The program it was done with."),
    ] = None,
    session: Annotated[str | None, typer.Option(metavar="ID")] = None,
    correlation: CorrelationOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Write an entry into the log."""
    if partial and reason is not None:
        raise CommandStop("--reason and --partial exclude each other; give one of them", USAGE)
    result = AuditResult.PARTIAL_SUCCESS if partial else AuditResult.SUCCESS
    with _opened(store, branch, write=True, new_vault=True) as audit:
        entry = audit.entry(
            _one_of(AuditAction, action, "action"),
            resource,
            result=AuditResult.FAILURE if reason is not None else result,
            reason=reason,
            details=_details(detail or []),
            user=user,
            ip_address=ip_address,
            user_agent=user_agent,
            session=session,
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
    user: UserOption = None,
    action: ActionOption = None,
    resource: ResourceOption = None,
    result: ResultOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    correlation: CorrelationOption = None,
    text: TextOption = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N entries.")
    ] = 100,
    cursor: Annotated[
        int | None,
        typer.Option(min=0, metavar="POSITION", help="Continue after the entry at this position."),
    ] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first")] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Search the log, the newest entries first.

    Columns in a pipe: position, time, user, action, resource, result, reason, IP address, details.
    """
    wanted = _filter(user, action, resource, result, since, until, correlation, text)
    with _opened(store, branch) as audit:
        page = audit.query(wanted, limit=limit, cursor=cursor, oldest_first=oldest_first)
        out = Output(json=json)
        out.list(page.records, AuditView())
        if out.is_terminal and page.cursor is not None:
            out.console.print(f"There are more: --cursor {page.cursor}", style="dim")


def export(
    store: StoreArgument,
    file: OutputFileArgument,
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="NAME", help="The format: ocsf (1.8, as JSON) or csv."
        ),
    ] = "ocsf",
    user: UserOption = None,
    action: ActionOption = None,
    resource: ResourceOption = None,
    result: ResultOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    correlation: CorrelationOption = None,
    text: TextOption = None,
    overwrite: OverwriteOption = False,
    branch: BranchOption = None,
) -> None:
    """Export the log, the oldest entries first: a line of OCSF each, or rows of CSV.

    The file appears under its name only when it is complete.
    """
    form = "csv" if format_ == "csv" else "ocsf"
    if form != format_:
        raise CommandStop(f"--format {format_}: use ocsf or csv", USAGE)
    check_output(file, store)
    wanted = _filter(user, action, resource, result, since, until, correlation, text)
    with _opened(store, branch) as audit:
        lines = audit.export("csv" if form == "csv" else "ocsf", wanted)
        with written(file, overwrite=overwrite) as target:
            for line in lines:
                target.write(line.encode())


def recover(
    store: StoreArgument,
    fallback: Annotated[
        str,
        typer.Argument(
            metavar="FALLBACK", help="The file that received the entries in the meantime."
        ),
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
    """Take a fallback file's entries into the log, once and in order, and delete the file.

    An edited file is refused, and the line named. With --salvage the entries before that line are
    taken; the log says that nothing is believed from there on, and the file is kept beside, as
    FALLBACK.damaged. Safe to repeat where it was cut off.
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
        out.console.print("Nothing waits to be recovered.", style="dim")
    else:
        already = f"; {report.known:,} were in the log already" if report.known else ""
        cut = f"; {report.torn:,} torn bytes at the end left out" if report.torn else ""
        entries = counted(report.count, "entry", "entries")
        out.console.print(f"✓ recovered {entries}{already}{cut}", style="green")
        out.console.print(f"  head {report.head}", style="dim")
        if report.kept is not None:
            where = f"from line {report.damaged_line:,} on"
            said = f"  nothing is believed {where}; the file is kept as {report.kept}"
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
        entry: dict[str, Any] = msgspec.to_builtins(item.entry)
        place = {"id": item.id, "position": item.position, "recorded_at": utc(item.recorded_at)}
        return {**place, **entry}

    def plain(self, item: AuditRecord) -> Sequence[str]:
        """Position, time, user, action, resource, result, reason, address and details."""
        entry = item.entry
        return (
            str(item.position),
            utc(entry.timestamp),
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


def _filter(
    user: str | None,
    action: str | None,
    resource: str | None,
    result: str | None,
    since: str | None,
    until: str | None,
    correlation: str | None,
    text: str | None,
) -> AuditFilter:
    return AuditFilter(
        user=user,
        action=None if action is None else _one_of(AuditAction, action, "action"),
        resource=resource,
        result=None if result is None else _one_of(AuditResult, result, "result"),
        since=None if since is None else given_moment(since),
        until=None if until is None else given_moment(until),
        correlation=correlation,
        text=text,
    )


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
                f"--detail {one}: {name} was given before; give each detail once", USAGE
            )
        try:
            read = msgspec.json.decode(value)
        except msgspec.DecodeError:
            read = value
        details[name] = value if isinstance(read, dict) else read
    return details
