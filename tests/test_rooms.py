"""The rooms of the house: no circles, one shape, one list of what they show."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import everwhen

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(everwhen.__file__).parent
SHELLS = {"_async", "_sync"}
LISTED = tomllib.loads((ROOT / "tools" / "front_door.toml").read_text("utf-8"))


def test_no_module_is_in_a_circle_also_of_imports_for_type_checking() -> None:
    graph = grimp.build_graph("everwhen", exclude_type_checking_imports=False, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 300
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, with the circle


def test_at_the_root_are_rooms_and_doors_and_nothing_else() -> None:
    modules = {path.stem for path in SOURCE.glob("*.py")}
    assert modules == {"__init__", "_lazy", "aio", "errors"}


def test_a_shell_is_inside_a_room_and_has_its_twin() -> None:
    shells = [path for path in SOURCE.rglob("_*sync") if path.is_dir()]
    assert {path.parent.parent for path in shells} == {SOURCE}
    for room in {path.parent for path in shells}:
        assert {path.name for path in room.iterdir()} >= SHELLS, room


@pytest.mark.slow
def test_what_the_rooms_show_is_made_from_the_list() -> None:
    check = [sys.executable, "-m", "tools.front_door", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", sorted(LISTED.keys() - {"root"}))
def test_a_room_gives_what_it_lists_from_where_it_is_defined(room: str) -> None:
    module = importlib.import_module(f"everwhen.{room}")
    names = LISTED[room].get("names", {})
    for place, found in names.items():
        defining = importlib.import_module(f"everwhen.{place}")
        for name in found:
            assert getattr(module, name) is getattr(defining, name)
    if names:
        assert dir(module) == sorted(module.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing


def test_the_front_door_has_what_the_first_hour_needs() -> None:
    assert len(everwhen.__all__) <= 40


def _definitions(path: Path) -> set[str]:
    """The classes, and the names of types, that a module defines for others."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            found.add(ast.unparse(node.target))
    return {name for name in found if not name.startswith("_")}


def test_a_name_is_defined_once() -> None:
    listed = {
        name
        for room, given in LISTED.items()
        if room != "root"
        for names in given.get("names", {}).values()
        for name in names
    }
    places: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if "_sync" not in path.parts:
            for name in _definitions(path):
                places.setdefault(name, []).append(path.relative_to(SOURCE).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
    assert len(listed & places.keys()) > 150


def _own_names(tree: ast.Module) -> set[str]:
    """Whatever a module names itself: functions, attributes of ``self``, fields, slots."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) in {"self", "cls"}:
                found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


OF_PYTHON = {"_shutdown"}  # of its thread pool: nothing public ends it without waiting


def test_what_is_private_is_used_where_it_is_made_and_nowhere_else() -> None:
    reached = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        mine = _own_names(tree) | OF_PYTHON
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            of = ast.unparse(node.value)
            if node.attr.startswith("__") or of in {"self", "cls", "super()"} or node.attr in mine:
                continue
            reached.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {of}.{node.attr}")
    assert reached == []


LONGEST_FUNCTION_LINES = 70
"""What fits on a screen."""


def test_a_function_fits_on_a_screen() -> None:
    long = []
    for path in sorted(SOURCE.parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION_LINES:
                    long.append(f"{path.relative_to(SOURCE.parent)}: {node.name} has {lines}")
    assert long == []


def test_importing_the_package_loads_no_room() -> None:
    program = "import sys, everwhen; print(*[m for m in sys.modules if m.startswith('everwhen.')])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["everwhen._lazy"]
