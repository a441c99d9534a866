"""Files of tokens: who may come to a server. Only digests are in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from everwhen.cli.exit_codes import NO_INPUT, NOT_ALLOWED, USAGE, CommandStop
from everwhen.errors import DeclarationError
from everwhen.system.bounded_files import MAX_KEY_FILE_BYTES, read_file
from everwhen.system.durable_files import OWNER_ONLY_MODE

if TYPE_CHECKING:
    from everwhen.web.tokens import AccessToken

_OTHERS_WRITE: Final = 0o022


@contextmanager
def needs_server() -> Iterator[None]:
    """Raises `CommandStop` inside where the libraries of the extra are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CommandStop(
            f"this needs the library {error.name}: pip install 'everwhen[server]'", USAGE
        ) from error


def tokens_in(named: str) -> tuple[AccessToken, ...]:
    """The tokens in a file, or in the variable that ``env:NAME`` names. Raises `CommandStop`."""
    from everwhen.web.tokens import read_tokens

    try:
        return read_tokens(_text(named))
    except (DeclarationError, UnicodeDecodeError) as error:
        raise CommandStop(f"{named}: {error}", USAGE) from None


def add_token(path: Path, token: AccessToken) -> None:
    """Add the token to the file, which is made where there is none. Raises `CommandStop`."""
    from everwhen.web.tokens import TokenList, token_line

    text = _text(str(path)) if path.exists() else ""
    known = tokens_in(str(path)) if text.strip() else ()
    try:
        TokenList((*known, token))
    except DeclarationError as error:
        raise CommandStop(f"{path}: {error}", USAGE) from None
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, OWNER_ONLY_MODE), "w", encoding="utf-8") as file:
        file.write(("\n" if text and not text.endswith("\n") else "") + token_line(token))
        file.flush()
        os.fsync(file.fileno())


def _text(named: str) -> str:
    scheme, _, variable = named.partition(":")
    if scheme == "env":
        if variable not in os.environ:
            raise CommandStop(f"{named}: there is no such variable; set it", NO_INPUT)
        return os.environ[variable]
    path = Path(named)
    if stat.S_IMODE(path.stat().st_mode) & _OTHERS_WRITE:
        raise CommandStop(f"{path}: others can change it; chmod go-w it", NOT_ALLOWED)
    return read_file(path, MAX_KEY_FILE_BYTES).decode()
