"""Plans: what somebody has seen is what is done, or nothing is."""

from __future__ import annotations

import hashlib
from typing import Any

from everwhen.codec.json_encoding import encode_json
from everwhen.web.problems import INVALID, PLAN_CHANGED, ProblemError


def plan_id(*parts: Any) -> str:
    """What a plan is known by: whatever it would do, and to what, and nothing of when."""
    return hashlib.blake2b(encode_json(parts), digest_size=16).hexdigest()


def check_named(plan: str | None) -> str:
    """The plan that is to be done. Raises `ProblemError` where none is named."""
    if plan is None:
        raise ProblemError(
            INVALID,
            "no plan is named; ask with dry_run first, and give the id of that as plan",
            pointer="/plan",
        )
    return plan


def check_same(named: str, now: str) -> None:
    """Raises `ProblemError` for another plan than the one that was named."""
    if named != now:
        raise ProblemError(
            PLAN_CHANGED,
            "it would come out otherwise than in the plan that is named; look at it again with "
            "dry_run, and name the new one",
            plan=now,
        )
