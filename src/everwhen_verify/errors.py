"""Every error that the verifier raises on purpose.

VerifyError (a ValueError)
├── MalformedError      the bytes are not what they should be
├── SignatureError      nobody known has signed it, or somebody known has not
├── ProofError          the hashes don't lead where they should
├── PolicyError         a policy that makes no sense, or isn't met
└── MemoryFileError     what was verified before can't be read or kept
"""

from __future__ import annotations

import re
from typing import Final

_MAY_BE_A_KEY: Final = re.compile("[A-Za-z0-9+/=_-]{32,}")
"""Base64 and hexadecimal text of 24 bytes or more, with what is joined to it."""


def shown(text: str, most: int = 60) -> str:
    """Unreadable input, quoted for a message: at most ``most`` characters of it.

    What may be a key is left out, for somebody may have given a private one by mistake.
    """
    return repr(_MAY_BE_A_KEY.sub("\N{HORIZONTAL ELLIPSIS}", text)[:most])


class VerifyError(ValueError):
    """The root of the tree: catch it to catch them all."""


class MalformedError(VerifyError):
    """What was given can't be read. ``what`` names the thing, ``why`` says where it breaks."""

    def __init__(self, what: str, why: str) -> None:
        self.what = what
        self.why = why
        super().__init__(f"{what}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what, self.why)


class SignatureError(VerifyError):
    """No signature that counts. ``key`` is the known key whose signature is wrong, if it is that.

    Without a ``key`` the signatures that were asked for are simply not there: stripped, or those
    of strangers, who are named in ``strangers``.
    """

    def __init__(self, why: str, key: str | None = None, strangers: tuple[str, ...] = ()) -> None:
        self.why = why
        self.key = key
        self.strangers = strangers
        super().__init__(why)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why, self.key, self.strangers)


class ProofError(VerifyError):
    """A proof that proves nothing. Where it leads to another root, both roots are at hand."""

    def __init__(self, why: str, expected: bytes | None = None, found: bytes | None = None) -> None:
        self.why = why
        self.expected = expected
        self.found = found
        roots = ""
        if expected is not None and found is not None:
            roots = f": expected the root {expected.hex()}, got {found.hex()}"
        super().__init__(why + roots)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why, self.expected, self.found)


class PolicyError(VerifyError):
    """A policy that can't be read (``line`` says where), or that a checkpoint doesn't satisfy."""

    def __init__(self, why: str, line: int | None = None) -> None:
        self.why = why
        self.line = line
        super().__init__(why if line is None else f"policy, line {line}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why, self.line)


class MemoryFileError(VerifyError):
    """What was verified before can't be read, or can't be kept. ``path`` is the file or folder.

    It doesn't mean that nothing was verified before.
    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.why)
