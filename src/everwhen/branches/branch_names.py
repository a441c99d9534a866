"""The names that a branch can have."""

from __future__ import annotations

from typing import Final

from everwhen.backends.branch_records import MAIN
from everwhen.vocabulary.errors import BranchError, EverwhenError
from everwhen.vocabulary.validation import check_text

MAX_BRANCH_NAME_BYTES: Final = 200  # with what its checkpoint's name begins with, it is one still


def check_name(name: object) -> str:
    """A name that a branch can have. Raises `BranchError`."""
    if not isinstance(name, str):
        raise BranchError(repr(name), "is not a name; give text")
    try:
        check_text(name, "its name")
    except EverwhenError as error:
        raise BranchError(name[:40], str(error)) from error
    if len(name.encode()) > MAX_BRANCH_NAME_BYTES:
        raise BranchError(
            name[:40] + "…", f"its name is over {MAX_BRANCH_NAME_BYTES} bytes; shorten it"
        )
    if "/" in name or "\\" in name:
        raise BranchError(name, "its name has a slash in it; use a dash")
    if name[0] in ".-" or name != name.strip():
        raise BranchError(
            name, "a name may not begin with a dot, dash or space, or end with a space"
        )
    return name


def new_name(name: object) -> str:
    """A name for a new branch. Raises `BranchError`."""
    if check_name(name) == MAIN:
        raise BranchError(MAIN, "that is the store itself; take another name")
    return str(name)
