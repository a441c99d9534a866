"""Routes found by the segments of a path, however many of them there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

_ANY: Final = ""
"""Where a name in braces leads: no segment that a literal one could be."""


class PathTable(BaseRoute):
    """Many routes as one, whose paths have literal segments and names in braces, one each.

    A literal segment goes before a name. What no path fits is left to the routes that follow.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root: dict[str, Any] = {}
        for route in routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                node = node.setdefault(_ANY if segment.startswith("{") else segment, {})
            names = tuple(route.param_convertors)
            node[_END] = (route, names)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether one of the routes is meant, and its parameters."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        found = _found(self._root, path.split("/")[1:], ())
        if found is None:
            return Match.NONE, {}
        (route, names), values = found
        parameters = {**scope.get("path_params", {}), **dict(zip(names, values, strict=True))}
        return Match.FULL, {"endpoint": route, "path_params": parameters}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the route that was found (ASGI)."""
        await scope["endpoint"].handle(scope, receive, send)


_END: Final = "/"
"""Where the route of a path that ends here is: no segment has a slash."""


def _found(node: dict[str, Any], segments: Sequence[str], values: tuple[str, ...]) -> Any:
    if not segments:
        return None if _END not in node else (node[_END], values)
    first, rest = segments[0], segments[1:]
    if not first:
        return None
    found = _found(node[first], rest, values) if first in node else None
    if found is None and _ANY in node:
        return _found(node[_ANY], rest, (*values, first))
    return found
