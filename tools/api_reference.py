"""Writes the Python reference, a page for each room; ``--check`` only says whether it is current.

It is read from the source, without importing it: a room's ``__init__.py`` says which module
defines each public name, and that module has the signatures and the docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

from tools.unasync import ROOT, formatted

SOURCE: Final = ROOT / "src" / "everwhen"
PAGES: Final = ROOT / "docs" / "reference" / "python"
LISTED: Final[dict[str, Any]] = tomllib.loads((ROOT / "tools/front_door.toml").read_text("utf-8"))
BY_HAND: Final = {"testing", "witness"}  # public rooms that the list doesn't have
ROOMS: Final = sorted({room for room in LISTED if LISTED[room].get("names")} - {"root"} | BY_HAND)
MADE: Final = "<!-- Made of docstrings by tools/api_reference.py: edit those, then `make sync`. -->"
FIRST: Final = f"""# Python

{MADE}

`everwhen` has the names that the first hour needs; each room has all of its own. In `everwhen.aio`
and `everwhen.<room>.aio` the same names are awaited where they do I/O.

## Rooms
"""
CUT: Final = "# cut"
LEFT_OUT: Final = ": ..."


def door(room: str) -> ast.Module:
    """The module that shows a room's names; the front door for an empty name."""
    inside = SOURCE / room / "__init__.py"
    path = inside if inside.exists() else SOURCE / f"{room}.py"
    return ast.parse(path.read_text("utf-8"))


def shown(module: ast.Module) -> dict[str, Path]:
    """Each name that a door shows, in the order of its list, and the file that defines it."""
    places: dict[str, Path] = {}
    listed: list[str] = []
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            place = SOURCE.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
            places |= {alias.name: place for alias in node.names}
        elif isinstance(node, ast.Assign) and name_of(node) == "__all__":
            listed = ast.literal_eval(node.value)
    return {name: places[name] for name in listed}


def name_of(node: ast.stmt) -> str:
    """The name that a statement defines, if any."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    return getattr(node, "name", "")


def signature(node: ast.stmt) -> str:
    """A definition without its body, as source."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        marks = "".join(f"@{ast.unparse(mark)}\n" for mark in node.decorator_list)
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{marks}def {node.name}({ast.unparse(node.args)}){returns}{LEFT_OUT}"
    if not isinstance(node, ast.ClassDef):
        return ast.unparse(node)
    bases = ", ".join(map(ast.unparse, (*node.bases, *node.keywords)))
    inside = [
        f"    {signature(part)}"
        for part in node.body
        if name_of(part) == "__init__"
        or (isinstance(part, ast.AnnAssign | ast.Assign) and not name_of(part).startswith("_"))
    ]
    head = f"class {node.name}({bases}):".replace("()", "")
    return "\n".join([head, *(inside or ["    ..."])])


def words(node: ast.AST, following: ast.AST | None = None) -> str:
    """What a docstring says, as Markdown; that of a value is the string after it."""
    text = ""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node) or ""
    elif isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        text = inspect.cleandoc(str(following.value.value))
    return re.sub(r"::$", ":", re.sub(r"^::\n\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)


def entries(room: str) -> Iterator[tuple[str, str, str]]:
    """Of each public name, and of each method: heading, signature, and what is said of it."""
    for name, place in shown(door(room)).items():
        body = [*ast.parse(place.read_text("utf-8")).body, ast.Pass()]
        found = [pair for pair in pairwise(body) if name_of(pair[0]) == name]
        if not found:
            raise SystemExit(f"{place} doesn't define {name}")
        node, following = found[-1]
        yield f"## {name}", "\n".join(signature(one) for one, _ in found), words(node, following)
        for method, overloads in groupby(getattr(node, "body", ()), key=name_of):
            defined = [part for part in overloads if isinstance(part, ast.FunctionDef)]
            if isinstance(node, ast.ClassDef) and defined and not method.startswith("_"):
                said = next(filter(None, map(words, defined)), "")
                yield f"### {name}.{method}", "\n".join(map(signature, defined)), said


def page(room: str) -> str:
    """A room's page."""
    found = list(entries(room))
    text = formatted(f"\n{CUT}\n".join(code for _, code, _ in found), SOURCE / "page.py")
    parts = [f"# everwhen.{room}\n\n{MADE}\n\n{words(door(room))}\n"]
    if (SOURCE / room / "aio.py").exists():
        parts.append(f"`everwhen.{room}.aio` has the same names; what does I/O there is awaited.\n")
    for (heading, _, said), code in zip(found, text.split(CUT), strict=True):
        shown_code = code.strip().replace(LEFT_OUT, "")
        parts.append(f"{heading}\n\n```py\n{shown_code}\n```\n" + (f"\n{said}\n" if said else ""))
    return "\n".join(parts)


def first_page() -> str:
    """The rooms, and the front door's names with the place where each is described."""
    places = {name: room for room in ROOMS for name in shown(door(room))}
    parts = [FIRST]
    for room in ROOMS:
        about = words(door(room)).partition("\n\n")[0].replace("\n", " ")
        parts.append(f"- [`everwhen.{room}`](python/{room}.md): {about}")
    parts.append("\n## Names in `everwhen`\n")
    names = [f"- [`{name}`](python/{places[name]}.md#{name.lower()})" for name in shown(door(""))]
    return "\n".join([*parts, *names, ""])


def main() -> int:
    """Write the pages, or with ``--check`` compare them; 1 where some differ."""
    made = {PAGES / f"{room}.md": page(room) for room in ROOMS}
    made[PAGES.with_suffix(".md")] = first_page()
    is_check = "--check" in sys.argv
    stale = [path for path in made if not path.exists() or path.read_text("utf-8") != made[path]]
    stale += {*PAGES.glob("*.md")} - made.keys()
    for path in stale:
        if is_check:
            print(f"{path.relative_to(ROOT)} is not up to date; run `make sync`")
        elif path in made:
            path.write_text(made[path], "utf-8")
        else:
            path.unlink()
    return is_check and bool(stale)


if __name__ == "__main__":
    sys.exit(main())
