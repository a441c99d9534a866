"""The command that joins branches: ``merge``, a plan until it is told to apply it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from everwhen import EventTypes, Store, Write
from everwhen.cli import completion
from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    ApplyOption,
    DecisionsOption,
    EventsOption,
    InvariantsOption,
    JsonOption,
    StoreArgument,
    UserOption,
)
from everwhen.cli.output import Column, Output
from everwhen.cli.output import counted as _counted
from everwhen.cli.store_opening import existing
from everwhen.cli.user_code import decisions, event_types, invariants
from everwhen.exchange.json_forms import type_name, utc_text
from everwhen.merging import MergeItem, MergePlan, Merging
from everwhen.merging.merge_forms import merge_item_form
from everwhen.vocabulary import CommitMetadata, Receipt

if TYPE_CHECKING:
    from rich.text import Text

_STRATEGIES: Final = ("fail", "ours", "theirs", "redecide")
_LOOKS: Final = {
    "same": "green",
    "redecided": "yellow",
    "rejected": "magenta",
    "conflict": "bold red",
}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(merge))


@dataclass(frozen=True)
class RuleOptions:
    """What a merge takes over, and by which rules."""

    decisions_: DecisionsOption = None
    invariants_: InvariantsOption = None
    strategy: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="What to do with a commit that does not come out the same: fail, ours (leave it "
            "out), theirs (take it as it was), redecide (take what its command leads to now).",
        ),
    ] = "fail"
    commit: Annotated[
        list[str] | None,
        typer.Option("--commit", metavar="ID", help="Pick only this commit. Repeat for several."),
    ] = None

    def keywords(self) -> dict[str, Any]:
        """What `Merging.plan` and `Merging.merge` take. Raises `CommandStop`."""
        if self.strategy not in _STRATEGIES:
            raise CommandStop(
                f"--strategy {self.strategy}: there is no such strategy; use "
                f"{', '.join(_STRATEGIES)}",
                USAGE,
            )
        picked = None if self.commit is None else [_id(one) for one in self.commit]
        return {"strategy": self.strategy, "commits": picked}

    def merging(self, target: Store) -> Merging:
        """A merge into a store or branch."""
        own = None if self.decisions_ is None else decisions(self.decisions_)
        held = () if self.invariants_ is None else invariants(self.invariants_)
        return Merging(target, own, invariants=held)


def merge(
    store: StoreArgument,
    branch: Annotated[
        str,
        typer.Argument(
            metavar="BRANCH", help="The branch to merge.", autocompletion=completion.branches
        ),
    ],
    *,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="BRANCH",
            help="Merge into this branch, not into the store itself.",
            autocompletion=completion.branches,
        ),
    ] = None,
    rules: RuleOptions,
    apply: ApplyOption = False,
    user: UserOption = None,
    events: EventsOption = None,
    json: JsonOption = False,
) -> None:
    """Show what merging a branch would do, and with --apply do it.

    The branch's commits are written as one new commit. The outcome of each is *same*, *redecided*
    (its command leads to other events now), *rejected* (its command is not allowed now), or
    *conflict* (its facts contradict what is there, or an invariant would break).

    Columns in a pipe: outcome, position on the branch, command, what is written, and why. Exit
    code 1 means that something has to be settled first, and nothing was written.
    """
    keywords = rules.keywords()
    out = Output(json=json)
    with (
        existing(store, write=apply, events=event_types(events)) as root,
        root.branch(branch) as source,
    ):
        merging = rules.merging(root if into is None else root.branch(into))
        plan = merging.plan(source, **keywords)
        _show(out, plan, ItemView(root.event_types), applied=apply)
        if plan.unsettled:
            raise typer.Exit(NO)
        if apply:
            metadata = CommitMetadata(user_id=user)
            _report(out, merging.merge(source, metadata=metadata, **keywords))


class ItemView:
    """What becomes of each commit of a branch."""

    columns = (
        Column("OUTCOME", rigid=True),
        Column("POSITION", right=True),
        Column("COMMAND"),
        Column("WRITTEN"),
        Column("WHY"),
    )

    def __init__(self, types: EventTypes) -> None:
        self._types = types

    def record(self, item: MergeItem) -> object:
        """All of it."""
        return merge_item_form(item, self._types)

    def plain(self, item: MergeItem) -> Sequence[str]:
        """Outcome, position, command, what is written, and why."""
        return (
            item.outcome,
            str(item.position),
            item.command or "",
            self._written(item.writes),
            item.reason,
        )

    def cells(self, item: MergeItem) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        from everwhen.cli import formatting

        outcome = Text(item.outcome, _LOOKS[item.outcome])
        if not item.is_settled:
            outcome.append(" ?", "bold red")
        return (
            outcome,
            formatting.number_look(item.position),
            Text(item.command or "facts", "" if item.command else "dim"),
            Text(self._written(item.writes)),
            Text(item.reason, "dim"),
        )

    def _written(self, writes: Sequence[Write]) -> str:
        made = [
            f"{type_name(new, self._types)} {write.stream}"
            for write in writes
            for new in write.events
        ]
        return ", ".join(made[:3]) + (f" and {len(made) - 3} more" if len(made) > 3 else "")


def _show(out: Output, plan: MergePlan, view: ItemView, *, applied: bool) -> None:
    out.list(plan.items, view)
    if not out.is_terminal:
        return
    from rich.text import Text

    counted = ", ".join(f"{count:,} {outcome}" for outcome, count in plan.counts.items())
    line = Text.assemble(
        ("\n", ""),
        (plan.source, "bold"),
        (" → ", "dim"),
        (plan.target, "bold"),
        f"  {_counted(len(plan.items), 'commit')}" + (f": {counted}" if counted else ""),
    )
    if plan.unsettled:
        line.append(
            f"\n{len(plan.unsettled):,} have to be settled; choose a --strategy", "bold red"
        )
    elif plan.items and not applied:
        line.append("\nNothing is written yet; --apply does it", "dim")
    out.console.print(line)


def _told(receipt: Receipt) -> dict[str, object]:
    return {
        "commit_id": str(receipt.commit_id),
        "position": receipt.position,
        "recorded_at": utc_text(receipt.recorded_at),
        "repeated": receipt.repeated,
    }


def _report(out: Output, receipt: Receipt | None) -> None:
    if receipt is None:
        _say(out, "there is nothing to merge")
    elif out.json:
        out.line(_told(receipt))
    else:
        done = "was already merged" if receipt.repeated else "merged"
        _say(out, f"{done}, up to position {receipt.position:,}")


def _say(out: Output, text: str) -> None:
    if out.is_terminal:
        out.done(text)
    elif not out.json:
        out.row(text)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise CommandStop(
            f"--commit {text}: this is not a commit's id, which is a UUID; see read --json", USAGE
        ) from error
