"""What the package shows: one path for each public name, the same in both flavours."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import everwhen
import everwhen.aio
import everwhen.testing
import everwhen.testing.aio
import everwhen.witness

ROOT = Path(__file__).resolve().parent.parent
LISTED = tomllib.loads((ROOT / "tools" / "front_door.toml").read_text("utf-8"))
ROOMS = [
    importlib.import_module(f"everwhen.{room}")
    for room, given in LISTED.items()
    if "names" in given and room != "root"
]
TWINS = [
    importlib.import_module(f"{room.__name__}.aio")
    for room in ROOMS
    if Path(str(room.__file__)).with_name("_async").is_dir()
]
PUBLIC = [
    everwhen,
    everwhen.aio,
    *ROOMS,
    *TWINS,
    everwhen.testing,
    everwhen.testing.aio,
    everwhen.witness,
]


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_what_a_module_shows_is_what_it_lists(module: ModuleType) -> None:
    assert sorted(module.__all__, key=lambda name: (not name.isupper(), name)) == module.__all__
    for name in module.__all__:
        getattr(module, name)  # rooms load when used
    shown = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert shown - {"annotations", "TYPE_CHECKING", "lazily"} == set(module.__all__)


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_thing_says_what_it_is(module: ModuleType) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, f"{module.__name__}.{name}"
            for member, method in vars(value).items() if inspect.isclass(value) else ():
                if inspect.isfunction(method) and not member.startswith("_"):
                    assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_both_flavours_have_the_same_names() -> None:
    assert everwhen.aio.__all__ == everwhen.__all__
    assert everwhen.testing.aio.__all__ == everwhen.testing.__all__
    for twin in TWINS:
        assert twin.__all__ == sys.modules[twin.__name__.removesuffix(".aio")].__all__
    for name in everwhen.__all__:
        mine, theirs = getattr(everwhen, name), getattr(everwhen.aio, name)
        module = getattr(mine, "__module__", "")
        if "._sync." in module:
            assert theirs.__module__ == module.replace("_sync", "_async")
        else:
            assert mine is theirs


def test_a_public_name_has_one_path() -> None:
    paths: dict[int, set[str]] = {}
    for module in (*ROOMS, everwhen.testing, everwhen.witness):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                paths.setdefault(id(value), set()).add(f"{module.__name__}.{name}")
    assert [found for found in paths.values() if len(found) > 1] == []
    below = {name for module in ROOMS for name in module.__all__}
    assert set(everwhen.__all__) <= below  # the root only gives again what a room has


def test_every_module_says_what_it_holds() -> None:
    for info in pkgutil.walk_packages(everwhen.__path__, "everwhen."):
        if ".cli" not in info.name:
            assert importlib.import_module(info.name).__doc__, info.name


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"rich", "typer", "click", "pytest", "hypothesis", "cel_expr_python", "cryptography"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program, *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_core_needs_no_extra(tmp_path: Path) -> None:
    done = run(
        "import everwhen, everwhen.aio, everwhen.testing, everwhen.exchange, sys\n"
        "with everwhen.open_store(sys.argv[1]) as store:\n"
        "    store.append('a', [everwhen.UnknownEvent('Noted', {})])\n"
        "    print(store.head().position)\n",
        str(tmp_path / "store.db"),
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_the_command_without_its_extra_says_how_to_get_it() -> None:
    done = run("import everwhen.cli, sys\nsys.exit(everwhen.cli.main())", "--help")
    assert done.returncode != 0
    assert "everwhen[cli]" in done.stderr
    assert "Traceback" not in done.stderr


def test_opening_memory_loads_no_database() -> None:
    done = run(
        "import everwhen, sys\neverwhen.open_store('memory:').close()\nprint('apsw' in sys.modules)"
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.slow
def test_the_generated_flavour_is_up_to_date_and_a_change_would_be_noticed() -> None:
    check = [sys.executable, str(ROOT / "tools" / "unasync.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_use_public_names_only(path: Path) -> None:
    public = {module.__name__ for module in PUBLIC}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("everwhen"):
            if (node.module or "").startswith("everwhen_verify."):  # each of its modules is public
                assert not any(a.name.startswith("_") for a in node.names), f"line {node.lineno}"
                continue
            assert node.module in public, f"line {node.lineno}"
            exported = sys.modules[node.module].__all__
            assert {alias.name for alias in node.names} <= set(exported), f"line {node.lineno}"
        elif isinstance(node, ast.Import):
            used = {a.name for a in node.names if a.name.startswith("everwhen")}
            assert used <= public, f"line {node.lineno}"
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            assert own or node.attr.startswith("__"), f"line {node.lineno}: {node.attr}"
