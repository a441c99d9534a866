"""Whether a function still does what it did: a digest of its code.

It sees the function's own bytecode, constants and defaults, and those of the functions within it;
not what it calls, nor the values it finds around it. Another version of Python compiles to other
code, so a fingerprint only means something to the version that made it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any


def fingerprint(functions: Iterable[tuple[str, Callable[..., Any]]]) -> str:
    """The digest of named functions, after the version of Python that it holds for."""
    digest = hashlib.blake2b(digest_size=16)
    for name, function in sorted(functions, key=lambda pair: pair[0]):
        digest.update(f"\n{name}\n".encode())
        _add(digest, function)
    return f"{sys.implementation.cache_tag}:{digest.hexdigest()}"


def has_changed(before: str, now: str) -> bool:
    """Whether two fingerprints of one version of Python differ; none at all differs from none."""
    tag, _, _ = now.partition(":")
    return before.startswith(f"{tag}:") and before != now


def _add(digest: Any, function: Any) -> None:
    code = getattr(function, "__code__", None)
    if code is None:  # something else that can be called: its name is all there is to go by
        name = getattr(function, "__qualname__", type(function).__qualname__)
        digest.update(name.encode())
        return
    _add_code(digest, code)
    digest.update(repr((function.__defaults__, function.__kwdefaults__)).encode())


def _add_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_argcount, code.co_kwonlyargcount)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif isinstance(constant, frozenset):  # in no order that lasts
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode())
