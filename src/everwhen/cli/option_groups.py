"""Groups of options: a command takes a dataclass where it would list its fields one by one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: with each group's fields in place of the group.

    A group is a parameter that is annotated with a dataclass; its fields are annotated as
    parameters are.
    """
    hints = get_type_hints(command, include_extras=True)
    named = inspect.signature(command).parameters
    groups = {name: hints[name] for name in named if is_dataclass(hints[name])}
    parameters: list[inspect.Parameter] = []
    for name, parameter in named.items():
        if name in groups:
            parameters += _fields(groups[name])
        else:
            kept = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            parameters.append(kept)

    @functools.wraps(command)
    def taking_all(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{one.name: given.pop(one.name) for one in fields(group)})
        command(**given)

    signature = inspect.Signature(parameters)
    taking_all.__annotations__ = {one.name: one.annotation for one in parameters}
    taking_all.__signature__ = signature  # type: ignore[attr-defined]
    return taking_all


@functools.cache
def _fields(group: Any) -> tuple[inspect.Parameter, ...]:
    hints = get_type_hints(group, include_extras=True)
    return tuple(
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    )
