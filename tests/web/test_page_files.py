"""The page's files: what is vendored, how all of it is served, and that it is small."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Final

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from everwhen.aio import open_store
from everwhen.web.application import create_app
from everwhen.web.guards import CONTENT_POLICY
from everwhen.web.page_start import START

STATIC: Final = Path(__file__).parents[2] / "src/everwhen/web/static"
VENDORED: Final = (STATIC / "vendor", Path(__file__).parent / "vendor")
MOST_BYTES: Final = 120_000
MOST_BYTES_AT_FIRST: Final = 56_000
SCREENS: Final = sorted(file.stem for file in STATIC.glob("screens/*.js") if file.stem != "index")
IMPORT: Final = re.compile(r"""(?:^|[;\s}])(?:import|export)\b[^"';]*?from\s*["']([^"']+)["']""")


@pytest.mark.parametrize("folder", VENDORED, ids=["page", "tests"])
def test_what_is_vendored_is_what_was_shipped_and_has_its_licence(folder: Path) -> None:
    told = tomllib.loads((folder / "VENDOR.toml").read_text())["package"]
    digests = {name: digest for package in told for name, digest in package["sha256"].items()}
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.suffix in {".js", ".css"}
    }
    assert found == digests
    assert all((folder / package["licence_text"]).stat().st_size > 500 for package in told)


def test_nothing_makes_code_of_text_or_markup_of_data() -> None:
    forbidden = re.compile(
        r"\beval\(|new Function|(?<![.\w])Function\(|document\.write|innerHTML\s*="
    )
    unsafe = re.compile(r"innerHTML|insertAdjacentHTML|outerHTML|DOMParser|srcdoc")
    for file in STATIC.rglob("*.js"):
        text = file.read_text()
        assert "dangerouslySetInnerHTML" in text or not forbidden.search(text), file
        if file.parent.name != "vendor":
            assert not unsafe.search(text), file
            assert "dangerously" not in text, file


async def _answers(paths: list[str], *, mounted: str = "") -> list[httpx2.Response]:
    async with open_store("memory:") as store:
        app = create_app(store, allowed_hosts=["page"])
        outer = Starlette(routes=[Mount(mounted, app)]) if mounted else app
        transport = httpx2.ASGITransport(app=outer)
        async with httpx2.AsyncClient(transport=transport, base_url="http://page") as client:
            return [await client.get(path) for path in paths]


def _linked(page: httpx2.Response) -> list[str]:
    return [str(page.url.join(path)) for path in re.findall(r'(?:href|src)="([^":]+)"', page.text)]


@pytest.mark.parametrize("mounted", ["", "/tools/store"])
def test_the_page_loads_its_files_wherever_it_is_mounted(mounted: str) -> None:
    asked = [f"{mounted}/", f"{mounted}/s/main/timeline", f"{mounted}/s/a%2Fb/timeline?at=3"]
    pages = asyncio.run(_answers(asked, mounted=mounted))
    for page in pages:
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == CONTENT_POLICY
        assert re.findall("<script>(.*?)</script>", page.text, re.DOTALL) == [START]
        assert "style=" not in page.text
    linked = [_linked(page) for page in pages]
    assert linked[0] == linked[1] == linked[2]
    files = asyncio.run(_answers(linked[0], mounted=mounted))
    assert {file.status_code for file in files} == {200}
    assert {file.headers["cache-control"] for file in files} == {
        "private, max-age=31536000, immutable"
    }
    kinds = {file.headers["content-type"].partition(";")[0] for file in files}
    assert kinds == {"text/css", "text/javascript"}


def _sent(files: list[httpx2.Response]) -> int:
    return sum(int(file.headers["content-length"]) for file in files)


def _all_files() -> tuple[httpx2.Response, list[httpx2.Response]]:
    """The page at the root, and every file that it can load."""
    (page,) = asyncio.run(_answers(["/"]))
    paths = [file.relative_to(STATIC).as_posix() for file in STATIC.rglob("*")]
    wanted = [path for path in paths if path.endswith((".js", ".css"))]
    wanted.remove("starting.js")  # which stands in the page itself
    return page, asyncio.run(_answers([f"/static/{_digest(page)}/{path}" for path in wanted]))


def _digest(page: httpx2.Response) -> str:
    return _linked(page)[0].split("/static/")[1].split("/")[0]


def test_the_whole_page_is_small_and_its_files_are_of_one_version() -> None:
    page, files = _all_files()
    assert {file.status_code for file in files} == {200}
    assert {str(file.url) for file in files} > set(_linked(page))
    total = _sent([page, *files])
    assert total < MOST_BYTES, f"{total} bytes compressed"
    first = _linked(page)[0]
    digest = _digest(page)
    gone, absent = asyncio.run(
        _answers([first.replace(digest, "0" * 16), f"/static/{digest}/../page.py"])
    )
    assert (gone.status_code, absent.status_code) == (404, 404)
    assert "load the page again" in gone.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/s/main/timeline"])
def test_the_first_view_loads_what_it_shows_and_no_more(path: str) -> None:
    (page,) = asyncio.run(_answers([path]))
    linked = set(_linked(page))
    total = _sent([page, *asyncio.run(_answers(sorted(linked)))])
    assert total < MOST_BYTES_AT_FIRST, f"{total} bytes compressed"
    modules = {one.split(f"/{_digest(page)}/")[1] for one in linked if one.endswith(".js")}
    assert {one for one in modules if one.startswith("screens/")} == {
        "screens/index.js",
        "screens/timeline.js",
    }
    assert not [one for one in modules if "branch" in one or "undo" in one or "what_if" in one]


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screens_address_names_all_the_modules_that_it_needs(screen: str) -> None:
    (page,) = asyncio.run(_answers([f"/s/main/{screen}"]))
    files = {Path(one.split(f"/{_digest(page)}/")[1]) for one in _linked(page)}
    modules = {STATIC / file for file in files if file.suffix == ".js"}
    assert STATIC / f"screens/{screen}.js" in modules
    for file in modules:
        for path in IMPORT.findall(file.read_text()):
            assert (file.parent / path).resolve() in modules, f"{file.name} imports {path}"


def test_an_unknown_screen_is_the_page_without_a_screen() -> None:
    (page,) = asyncio.run(_answers(["/s/main/..%2F..%2Fpage"]))
    assert page.status_code == 200
    assert [one for one in _linked(page) if "/screens/" in one] == [
        one for one in _linked(page) if one.endswith("/screens/index.js")
    ]


def test_the_screens_and_their_styles_are_those_that_there_are() -> None:
    index = (STATIC / "screens/index.js").read_text()
    assert re.findall(r'import\("\./(\w+)\.js"\)', index) == re.findall(r'name: "(\w+)"', index)
    assert sorted(re.findall(r'name: "(\w+)"', index)) == SCREENS
    styles = {file.name for file in STATIC.glob("*.css")}
    assert {*re.findall(r'"(\w+\.css)"', index), "app.css"} == styles


def test_modules_import_only_what_there_is_by_paths() -> None:
    for file in STATIC.rglob("*.js"):
        for path in IMPORT.findall(file.read_text()):
            assert path.startswith("."), f"{file.name} imports {path}"
            assert (file.parent / path).is_file(), f"{file.name} imports {path}"
