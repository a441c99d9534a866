"""Writes what Everwhen shows, from one list; ``--check`` only says whether it is up to date.

Run it as ``python -m tools.front_door``.

The list is ``tools/front_door.toml``: for each room what is public in it, by the module that
defines it, and which of those names are also given by ``everwhen`` itself. Made of it are
``everwhen/__init__.py``, ``everwhen/aio.py``, ``everwhen/errors.py``, and each room's
``__init__.py`` and ``aio.py``. All of them import when a name is used, and not before.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from tools.unasync import ROOT, formatted

SOURCE: Final = ROOT / "src" / "everwhen"
HEADER: Final = "# Made from tools/front_door.toml: edit that, then `make sync`.\n"


def sorted_names(names: set[str]) -> list[str]:
    """Constants first, then classes, then functions."""
    return sorted(names, key=lambda name: (not name.isupper(), name))


def page(words: str, names: dict[str, list[str]], extra: str = "") -> str:
    """A module's text: ``names`` by the module, below ``everwhen``, that defines them."""
    shown = sorted_names({name for found in names.values() for name in found})
    static = "".join(
        f"    from everwhen.{module} import ({', '.join(found)})\n"
        for module, found in sorted(names.items())
    )
    lazy = "".join(
        f'            "everwhen.{module}": {tuple(sorted_names(set(found)))!r},\n'
        for module, found in sorted(names.items())
    )
    more = f"\n        extra={extra!r}," if extra else ""
    return (
        f'{HEADER}"""{words}"""\n\n'
        "from typing import TYPE_CHECKING\n\n"
        "from everwhen._lazy import lazily\n\n"
        f"if TYPE_CHECKING:\n{static}else:\n"
        "    __getattr__, __dir__ = lazily(\n        __name__,\n"
        f"        {{\n{lazy}        }},{more}\n    )\n\n"
        f"__all__ = [{', '.join(map(repr, shown))}]\n"
    )


def in_async(names: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same names, each from its async flavour where there are two."""
    return {module.replace("._sync.", "._async."): found for module, found in names.items()}


def pages(listed: dict[str, Any]) -> dict[Path, str]:
    """Every file that is made, and what it should hold."""
    found: dict[Path, str] = {}
    root: dict[str, list[str]] = {}
    wanted = set(listed["root"]["names"])
    for room, given in listed.items():
        if room == "root":
            continue
        names: dict[str, list[str]] = given.get("names", {})
        for module, these in names.items():
            if at_root := [name for name in these if name in wanted]:
                root.setdefault(module, []).extend(at_root)
        if given.get("is_module"):  # a door without a room behind it
            found[SOURCE / f"{room}.py"] = page(given["words"], names)
            continue
        init = SOURCE / room / "__init__.py"
        if not names:
            found[init] = f'{HEADER}"""{given["words"]}"""\n'
            continue
        found[init] = page(given["words"], names, given.get("extra", ""))
        if (SOURCE / room / "_async").is_dir():
            words = f"The async flavour: the same names as `everwhen.{room}`, to be awaited."
            found[SOURCE / room / "aio.py"] = page(words, in_async(names), given.get("extra", ""))
    missing = wanted - {name for these in root.values() for name in these}
    if missing:
        raise SystemExit(f"tools/front_door.toml: no room has {', '.join(sorted(missing))}")
    found[SOURCE / "__init__.py"] = page(listed["root"]["words"], root)
    found[SOURCE / "aio.py"] = page(listed["root"]["aio_words"], in_async(root))
    return {path: formatted(text, path) for path, text in found.items()}


def main() -> int:
    """Write the files, or with ``--check`` compare them; 1 where some differ."""
    listed = tomllib.loads((ROOT / "tools" / "front_door.toml").read_text("utf-8"))
    made = pages(listed)
    stale = [
        path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text
    ]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date; run `make sync`")
        return bool(stale)
    for path in stale:
        path.write_text(made[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
