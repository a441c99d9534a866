"""The commands of ``cluster``: how it is, and what is done to this node's replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.formatting import bytes_look
from everwhen.cli.options import JsonOption
from everwhen.cli.output import Column, Output, counted
from everwhen.cli.progress_bars import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Struct
    from rich.text import Text

    from everwhen.cluster import (
        ClusterServer,
        ClusterStatus,
        LogStatus,
        ReplicaStatus,
        SweptObject,
        TrimmedLog,
        VerifiedReplica,
    )

_HELP: Final = """Look after a store on a JetStream cluster, and this node's replica of it.

URL is nats://host1,host2,host3/store?replica=PATH, as for all other commands.
"""
_SCHEMES: Final = ("nats:", "tls:")

ClusterArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="URL", help="The store's URL, with this node's replica.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    cluster = typer.Typer(help=_HELP, no_args_is_help=True)
    cluster.command()(status)
    cluster.command()(verify)
    cluster.command()(rebuild)
    cluster.command()(bootstrap)
    cluster.command()(offer)
    cluster.command()(sweep)
    cluster.command()(trim)
    cluster.command()(forget)
    app.add_typer(cluster, name="cluster")


def status(url: ClusterArgument, *, json: JsonOption = False) -> None:
    """Show the servers, who leads, and how far replicas have come, this node's and others'.

    Ends with exit code 1 where something needs attention: nobody leads, a server is offline, behind
    or doesn't say that it syncs to its disk, or the replica can't be read. Makes and changes
    nothing, and works without a leader.

    Columns in a pipe: server, name, role, lag, whether it syncs, version and problem; and log,
    its name, messages, the replica's newest message, how many it is behind, and problem; and
    replica, its id, host, path, newest message, and whether it answers and is registered.
    """
    from everwhen.cluster import cluster_status

    _check_url(url)
    found = cluster_status(url)
    out = Output(json=json)
    if out.json:
        out.line({"is_well": found.is_well, **_fields(found)})
    elif out.is_terminal:
        _say(out, found)
    else:
        for server in found.servers:
            out.row("server", *_ServerView().plain(server))
        for log in found.logs:
            out.row("log", *_LogView().plain(log))
        for replica in found.replicas:
            out.row("replica", *_ReplicaView().plain(replica))
        if found.problem is not None:
            out.row("problem", found.problem)
    if not found.is_well:
        raise typer.Exit(NO)


def _fields(found: Struct) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def _say(out: Output, found: ClusterStatus) -> None:
    out.console.print(f"{found.store}: stream {found.stream}")
    if found.messages is not None and found.bytes is not None:
        out.console.print(
            f"{counted(found.messages, 'message')}, {bytes_look(found.bytes)}, on "
            f"{counted(found.copies or 1, 'server')}"
        )
    if found.problem is not None:
        from rich.text import Text

        out.console.print(Text(found.problem, "bold red"))
    out.list(found.servers, _ServerView())
    out.list(found.logs, _LogView())
    out.list(found.replicas, _ReplicaView())


def verify(
    url: ClusterArgument,
    *,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="FILE",
            help="Also verify this copy of another node's replica. Repeat for several.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A copy of a replica to begin with, for a log that was trimmed.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take in the whole log anew, and compare this node's replica with it.

    Each file is compared as it is, at the message that it has come to: commits, checkpoints, and
    by them its index, as 'check' does. Branches are, too. Needs room for one more replica
    meanwhile. If there are faults, ends with exit code 1.

    Two files with the same message and digest have read the same log up to there; with the same
    contents they have made the same of it.

    Columns in a pipe: path, log, message, digest, position, contents, and what is wrong.
    """
    from everwhen.cluster import verify_replicas

    _check_url(url)
    with shown("Verifying") as progress:
        found = verify_replicas(url, beside or (), base=base, progress=progress)
    Output(json=json).list(found, _VerifiedView())
    if any(one.problems for one in found):
        raise typer.Exit(NO)


def rebuild(
    url: ClusterArgument,
    *,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Begin with this backup of another replica."),
    ] = None,
    offered: Annotated[
        bool,
        typer.Option("--from-offered", help="Begin with the newest copy that a node has offered."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make this node's replica anew; the old file is renamed to FILE.broken-TIME.

    It is made from the whole log, or from a copy of another replica and the rest of the log, which
    is quicker. The old one keeps its place until the new one is complete. No process may have it
    open. What only the replica had is gone: snapshots, and tables of read models, which their
    runners build anew.
    """
    from everwhen.cluster import rebuild_replica

    _check_url(url)
    if source is not None and offered:
        raise CommandStop("give --from FILE or --from-offered, not both", USAGE)
    with shown("Rebuilding") as progress:
        made = rebuild_replica(url, source, offered=offered, progress=progress)
    out = Output(json=json)
    if out.is_terminal:
        out.done(f"{made.path}: up to message {made.message:,}, position {made.position:,}")
        for path in made.put_aside:
            out.console.print(f"  the old one is {path}")
    else:
        out.fields(_fields(made))


def bootstrap(
    url: ClusterArgument,
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A backup of another node's replica, in place of the newest copy that is offered.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a new node's replica from a copy of another one, and the rest of the log.

    The copy is the newest one that another node has offered by 'everwhen cluster offer', or a
    backup. It is checked, and so is that it belongs to this log. Its branches come along.
    """
    from everwhen.cluster import bootstrap_replica

    _check_url(url)
    with shown("Bootstrapping") as progress:
        made = bootstrap_replica(url, source, progress=progress)
    out = Output(json=json)
    if out.is_terminal:
        out.done(
            f"{made.path}: from the copy up to message {made.copied:,}, from the log up to "
            f"message {made.message:,}, position {made.position:,}"
        )
    else:
        out.fields(_fields(made))


def offer(url: ClusterArgument, *, json: JsonOption = False) -> None:
    """Put a copy of this node's replica into the cluster's object store, for other nodes.

    They take it by 'bootstrap' and 'rebuild --from-offered'. It is made as a backup is, with all
    branches, while the store may be written. Once it is complete, older copies are deleted.
    """
    from everwhen.cluster import offer_replica

    _check_url(url)
    with shown("Offering") as progress:
        made = offer_replica(url, progress=progress)
    out = Output(json=json)
    if out.is_terminal:
        out.done(
            f"a copy up to message {made.message:,}, position {made.position:,}, with "
            f"{counted(made.branches, 'branch', 'branches')}, is offered: {bytes_look(made.bytes)}"
        )
    else:
        out.fields(_fields(made))


def sweep(url: ClusterArgument, *, json: JsonOption = False) -> None:
    """Delete what writers that died or were overtaken have left in the cluster's object store.

    That are commits larger than a message which are in no log, and can't get into one any more.
    Others may go on to write meanwhile. Copies of replicas that are offered stay.

    Columns in a pipe: name, and bytes (empty where it was not written to its end).
    """
    from everwhen.cluster import sweep_objects

    _check_url(url)
    with shown("Sweeping"):
        swept = sweep_objects(url)
    out = Output(json=json)
    out.list(swept, _SweptView())
    if out.is_terminal:
        size = sum(one.bytes or 0 for one in swept)
        out.done(f"{counted(len(swept), 'object')} deleted, {bytes_look(size)}")


def trim(url: ClusterArgument, *, json: JsonOption = False) -> None:
    """Drop messages from the log whose events this node's replica has archived, or retired.

    Each event is compared with what the archive has before it goes. Messages that a replica has
    still to take in are kept, also for one that isn't open: 'cluster status' lists them, 'cluster
    forget' takes one off the list. From then on a new replica is made from a copy of another one.
    """
    from everwhen.cluster import trim_log

    _check_url(url)
    with shown("Trimming") as progress:
        done = trim_log(url, progress=progress)
    out = Output(json=json)
    if not out.is_terminal:
        out.fields(_fields(done))
        return
    dropped = f"dropped {counted(done.dropped, 'message')}" if done.dropped else "nothing to drop"
    out.done(f"{dropped}: {_beginning(done)}")
    out.console.print(f"  {_held(done)}")
    if done.dropped:
        out.console.print(
            "  a new node begins with a copy now: keep one by 'everwhen cluster offer'"
        )


def _beginning(done: TrimmedLog) -> str:
    if not done.begins:
        return "the log is whole"
    return f"the log begins with message {done.begins:,}, of position {done.position:,}"


def _held(done: TrimmedLog) -> str:
    """Why the next message is kept."""
    match done.held_by:
        case "archive":
            return "what follows isn't archived yet; see 'everwhen tiers age --archive'"
        case "replicas":
            last = min(done.replicas, key=lambda one: one.message)
            where = f"replica {last.id} on {last.node} ({last.path})"
            what = "is open, and takes it in" if last.answers else "isn't open"
            return f"what follows isn't in {where}, which {what}"
        case "":
            return "nothing follows"


def forget(
    url: ClusterArgument,
    replica: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    *,
    json: JsonOption = False,
) -> None:
    """Keep no messages any more for a replica that is gone for good.

    'cluster status' has the ids. One that is open isn't forgotten.
    """
    from everwhen.cluster import forget_replica

    _check_url(url)
    gone = forget_replica(url, replica)
    out = Output(json=json)
    if out.is_terminal:
        out.done(f"forgot {gone.id}: {gone.node}, {gone.path}")
    else:
        out.fields(_fields(gone))


def _check_url(url: str) -> None:
    if not url.lower().startswith(_SCHEMES):
        raise CommandStop(
            "this is for a log on a cluster; give its URL: nats://host1,host2,host3/store?replica="
            "PATH",
            USAGE,
        )


def _word(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


class _ServerView:
    columns = (
        Column("SERVER"),
        Column("ROLE", rigid=True),
        Column("LAG", right=True),
        Column("SYNCS"),
        Column("VERSION", optional=True),
        Column("PROBLEM"),
    )

    def record(self, server: ClusterServer) -> object:
        return server

    def plain(self, server: ClusterServer) -> Sequence[str]:
        values = (server.role, server.lag, server.syncs, server.version, server.problem)
        return server.name, *map(_word, values)

    def cells(self, server: ClusterServer) -> Sequence[Text]:
        from rich.text import Text

        style = "" if server.role in {"leader", "current"} and server.syncs else "bold red"
        return [Text(cell, style) for cell in self.plain(server)]


class _LogView:
    columns = (
        Column("LOG"),
        Column("MESSAGES", right=True),
        Column("REPLICA AT", right=True),
        Column("BEHIND", right=True),
        Column("PROBLEM"),
    )

    def record(self, log: LogStatus) -> object:
        return log

    def plain(self, log: LogStatus) -> Sequence[str]:
        return log.log, *map(_word, (log.messages, log.message, log.behind, log.problem))

    def cells(self, log: LogStatus) -> Sequence[Text]:
        from rich.text import Text

        return [Text(cell, "bold red" if log.problem else "") for cell in self.plain(log)]


class _ReplicaView:
    columns = (
        Column("REPLICA"),
        Column("HOST"),
        Column("PATH"),
        Column("AT", right=True),
        Column("ANSWERS"),
        Column("REGISTERED", optional=True),
    )

    def record(self, one: ReplicaStatus) -> object:
        return one

    def plain(self, one: ReplicaStatus) -> Sequence[str]:
        values = (one.message, one.answers, one.is_registered)
        return one.id, one.node, one.path, *map(_word, values)

    def cells(self, one: ReplicaStatus) -> Sequence[Text]:
        from rich.text import Text

        return [Text(cell, "" if one.answers else "yellow") for cell in self.plain(one)]


class _VerifiedView:
    columns = (
        Column("FILE"),
        Column("LOG", optional=True),
        Column("MESSAGE", right=True),
        Column("DIGEST"),
        Column("POSITION", right=True),
        Column("CONTENTS", optional=True),
        Column("PROBLEMS"),
    )

    def record(self, one: VerifiedReplica) -> object:
        return one

    def plain(self, one: VerifiedReplica) -> Sequence[str]:
        wrong = "; ".join(f"{problem.where}: {problem.what}" for problem in one.problems)
        return (
            one.path, one.log, str(one.message), one.digest, str(one.position), one.contents, wrong
        )  # fmt: skip

    def cells(self, one: VerifiedReplica) -> Sequence[Text]:
        from rich.text import Text

        *cells, wrong = self.plain(one)
        return [*map(Text, cells), Text(wrong, "bold red") if wrong else Text("none", "green")]


class _SweptView:
    columns = (Column("OBJECT"), Column("BYTES", right=True))

    def record(self, one: SweptObject) -> object:
        return one

    def plain(self, one: SweptObject) -> Sequence[str]:
        return one.name, _word(one.bytes)

    def cells(self, one: SweptObject) -> Sequence[Text]:
        from rich.text import Text

        return [Text(cell) for cell in self.plain(one)]
