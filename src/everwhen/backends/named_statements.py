"""SQL by name, out of files: a statement stands under a line ``-- name: NAME``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@lru_cache
def named_statements(package: str, file: str) -> Mapping[str, str]:
    """The statements of a file in a package's folder ``queries``, without what is above them."""
    sql = (resources.files(package) / "queries" / f"{file}.sql").read_text("utf-8")
    _, *parts = _NAME.split(sql)
    return MappingProxyType(dict(zip(parts[::2], parts[1::2], strict=True)))
