"""How a store is shown in a notebook: by what is known of it without reading anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from everwhen.backends.branch_records import MAIN, BranchInfo
from everwhen.vocabulary.contract import Capabilities
from everwhen.vocabulary.notebook_html import (
    DIM,
    card,
    element,
    heading,
    listed,
    looking,
    table,
    value,
)

_SAID: Final = (
    ("durable", "durable", "not durable"),
    ("shared_by_processes", "shared by processes", "of this process only"),
    ("joint_commits", "commits over any streams", "commits within one partition"),
    ("sql", "read models in SQL", ""),
    ("seals", "seals old history", ""),
    ("joins_transactions", "joins transactions of yours", ""),
)
"""A capability, what is said of a backend that has it, and of one that hasn't."""


def store_card(
    place: str,
    capabilities: Capabilities,
    branch: BranchInfo | None,
    types: Sequence[str],
    *,
    has_vault: bool,
) -> str:
    """A store. ``place`` is its backend as text, which has no password."""
    said = (has if getattr(capabilities, name) else lacks for name, has, lacks in _SAID)
    facts = (
        ("kept by", f"{capabilities.name}: " + ", ".join(filter(None, said))),
        ("branch", MAIN if branch is None else _forked(branch)),
        ("event types", listed(types) if types else "none declared: events are plain data"),
        ("personal data", "encrypted with keys in a vault" if has_vault else "no vault"),
    )
    rows = ((looking(DIM, name), element("bdi", fact)) for name, fact in facts)
    return card(heading("Store", value(place)), table((), rows, len(facts), "fact"))


def _forked(branch: BranchInfo) -> str:
    return f"{branch.name}, of {branch.parent}, from position {branch.position:,} on"
