"""What a merge goes by."""

from __future__ import annotations

from typing import Any, Final, get_args

import msgspec

from everwhen.commands.decisions import Decisions
from everwhen.merging.invariants import Invariant
from everwhen.merging.merge_plan import MergeItem, Resolver, Strategy
from everwhen.merging.merge_records import original_writes
from everwhen.state.fold import Fold
from everwhen.vocabulary.errors import BranchError

_STRATEGIES: Final = get_args(Strategy)


class MergeRules(msgspec.Struct, frozen=True):
    """What commits are decided on and compared on, and what is done where they come out anew."""

    decisions: Decisions
    compared_on: Fold[Any]
    invariants: tuple[Invariant[Any], ...]
    strategy: Strategy
    resolver: Resolver | None

    def check(self, source: str) -> None:
        """Raises `BranchError` for a strategy that there isn't; the source's name is for that."""
        if self.strategy not in _STRATEGIES:
            raise BranchError(source, f"strategy={self.strategy!r}; use {', '.join(_STRATEGIES)}")

    def settled(self, item: MergeItem, source: str) -> MergeItem:
        """The item with what is done about it. Raises `BranchError` for an unknown strategy."""
        if item.outcome == "same":
            return msgspec.structs.replace(item, is_settled=True)
        chosen: Any = self.strategy if self.resolver is None else self.resolver(item)
        if not isinstance(chosen, str):
            return msgspec.structs.replace(item, writes=tuple(chosen), is_settled=True)
        if chosen not in _STRATEGIES:
            raise BranchError(
                source,
                f"the resolver returned {chosen!r}; use {', '.join(_STRATEGIES)} or a list "
                f"of writes",
            )
        settled = chosen in {"ours", "theirs"}
        settled = settled or (chosen == "redecide" and item.outcome != "conflict")
        writes = item.writes
        if chosen != "redecide":
            writes = original_writes(item.events) if chosen == "theirs" else ()
        return msgspec.structs.replace(item, writes=writes, is_settled=settled)
