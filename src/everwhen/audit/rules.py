"""Which commands and questions are audited as what. Pure.

    rules = AuditRules()
    rules.on(Withdraw, AuditAction.UPDATE, lambda command: f"accounts/{command.account}")
    rules.on(BalanceOf, AuditAction.READ, lambda query: f"accounts/{query.account}")
    rules.leave_out(Ping)

What no rule speaks of is audited all the same, by its type's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from everwhen.audit.entries import AuditAction
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.validation import check_plain

C = TypeVar("C")


class AuditedAction(msgspec.Struct, frozen=True):
    """What an entry records of a command or a question."""

    action: AuditAction
    resource: str
    details: Mapping[str, Any]


class _Rule(msgspec.Struct, frozen=True):
    action: AuditAction
    resource: Callable[[Any], str]
    details: Callable[[Any], Mapping[str, Any]] | None


class AuditRules:
    """What is recorded of each type of command or question."""

    def __init__(self) -> None:
        self._by_class: dict[type[Any], _Rule | None] = {}

    def on(
        self,
        kind: type[C],
        action: AuditAction,
        resource: Callable[[C], str],
        *,
        details: Callable[[C], Mapping[str, Any]] | None = None,
    ) -> None:
        """Declare what entries on this type of command or question say.

        The functions are asked before anything is done. What they raise ends the matter there, with
        an entry that says so.
        """
        if not isinstance(action, AuditAction):
            raise DeclarationError(f"{kind.__name__}: expected an AuditAction, got {action!r}")
        for function in (resource, details):
            if function is not None:
                check_plain(function, f"audit rule on {kind.__name__}")
        self._add(kind, _Rule(action, resource, details))

    def leave_out(self, *kinds: type[Any]) -> None:
        """Declare that these types of commands or questions are not audited."""
        for kind in kinds:
            self._add(kind, None)

    def _add(self, kind: type[Any], rule: _Rule | None) -> None:
        if not isinstance(kind, type):
            raise DeclarationError(f"expected a class of commands or questions, got {kind!r}")
        if kind in self._by_class:
            raise DeclarationError(f"there are two audit rules on {kind.__name__}; keep one")
        self._by_class[kind] = rule

    def deed(self, asked: Any, default: AuditAction, category: str) -> AuditedAction | None:
        """What an entry says of a command or question; None where it is left out."""
        kind = type(asked)
        if kind not in self._by_class:
            return AuditedAction(default, f"{category}/{kind.__name__}", {})
        rule = self._by_class[kind]
        if rule is None:
            return None
        details = rule.details(asked) if rule.details is not None else {}
        return AuditedAction(rule.action, rule.resource(asked), details)
