"""The page, as files of this package: no build, no address of its own, nothing from elsewhere.

What is served is what stands here, line by line, but for comments: each leaves its line empty.

Every file is served under one digest of all of them, so that browsers keep them for good and
modules that import each other are always of one version. Addresses are relative: the page doesn't
know where it is mounted.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from posixpath import dirname, join, normpath
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everwhen.web.answers import IMMUTABLE, tagged_answer
from everwhen.web.compression import compress
from everwhen.web.page_start import START
from everwhen.web.problems import UNKNOWN, ProblemError, problem_answer

_MEDIA: Final[Mapping[str, str]] = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".toml": "text/plain",
    ".txt": "text/plain",
}
_COMMENT_LINE: Final = re.compile(rb"^[ \t]*(?://|/\*\*| \* | \*/).*$", re.MULTILINE)
_IMPORT: Final = re.compile(r"""(?:^|[;\s}])(?:import|export)\b[^"';]*?from\s*["']([^"']+)["']""")
"""What a module needs to run; ``import()``, which loads a screen as it is opened, is none of it."""
_FIRST: Final = "timeline"
"""The screen at the root."""
_DEEP: Final = "../../"
"""From a screen's address, ``/s/{branch}/{screen}``, to where the application is."""


class PageFile(msgspec.Struct, frozen=True):
    """A file of the page: its media type, its content, the same compressed, what it imports."""

    media: str
    content: bytes
    compressed: bytes
    imports: tuple[str, ...]


class PageFiles(msgspec.Struct, frozen=True):
    """The files by their paths, the digest of all of them, and the page that loads them."""

    found: Mapping[str, PageFile]
    digest: str
    index: str

    def shell(self, root: str, screen: str) -> bytes:
        """The page's HTML for an address from which ``root`` leads to the application.

        It names every module that the screen needs, so that none waits for another one.
        """
        static = f"{root}static/{self.digest}/"
        modules = "".join(
            f'<link rel="modulepreload" href="{static}{path}">\n'
            for path in sorted(self.needed("app.js", f"screens/{screen}.js"))
        )
        return self.index.replace("{static}", static).replace("{modules}", modules).encode()

    def needed(self, *paths: str) -> set[str]:
        """The modules, of those that there are, and all that they import."""
        needed: set[str] = set()
        asked = [path for path in paths if path in self.found]
        while asked:
            path = asked.pop()
            if path not in needed:
                needed.add(path)
                asked += self.found[path].imports
        return needed


@cache
def page_files() -> PageFiles:
    """The page's files, read once."""
    folder = files(__package__) / "static"
    contents = dict(sorted(_read(folder, "")))
    del contents["starting.js"]
    index = contents.pop("index.html").decode().replace("{starting}", START)
    digest = hashlib.sha256(index.encode())
    found = {}
    for path, content in contents.items():
        digest.update(b"%d %s\n" % (len(content), path.encode()) + content)
        media = _MEDIA[path[path.rindex(".") :]]
        imports = tuple(
            normpath(join(dirname(path), one)) for one in _IMPORT.findall(content.decode())
        )
        found[path] = PageFile(media, content, gzip.compress(content, 9, mtime=0), imports)
    return PageFiles(found, digest.hexdigest()[:16], index)


def _read(folder: Traversable, prefix: str) -> Iterable[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
        elif not entry.name.startswith("."):
            content = entry.read_bytes()
            is_ours = entry.name.endswith(".js") and not prefix.startswith("vendor/")
            yield prefix + entry.name, _COMMENT_LINE.sub(b"", content) if is_ours else content


async def _page(request: Request) -> Response:
    screen = request.path_params.get("screen")
    root, screen = ("", _FIRST) if screen is None else (_DEEP, screen)
    found = page_files()
    tag = found.digest + ("-screen" if root else "")
    answer = tagged_answer(request, lambda: found.shell(root, screen), tag, media="text/html")
    await compress(request, answer)
    return answer


async def _file(request: Request) -> Response:
    found = page_files()
    file = found.found.get(request.path_params["path"])
    if file is None or request.path_params["digest"] != found.digest:
        return problem_answer(
            ProblemError(UNKNOWN, "that file is of another version; load the page again")
        )
    headers = {"Cache-Control": IMMUTABLE, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(file.compressed, 200, headers, file.media)
    return Response(file.content, 200, headers, file.media)


def page_routes() -> Iterable[Route]:
    """The page at the root and at each screen's address, and its files. They need no token."""
    yield Route("/", _page)
    yield Route("/s/{branch}/{screen}", _page)
    yield Route("/static/{digest}/{path:path}", _file)
