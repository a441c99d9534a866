"""The command line: a proof, a policy, no network; yes or no, and why.

    everwhen-verify PROOF POLICY [--rollovers FILE] [--json]

Exit codes: 0 it is proven, 1 it is not, 2 the command line or the policy is wrong, 74 the answer
could not be written, or not be found for want of memory: then it is neither yes nor no.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from everwhen_verify.checkpoints import utc
from everwhen_verify.entries import Entry
from everwhen_verify.errors import PolicyError, VerifyError
from everwhen_verify.notes import encode_base64
from everwhen_verify.policy import MAX_POLICY, Policy
from everwhen_verify.proofs import MAX_PROOF, Verdict, verify
from everwhen_verify.rollover import MAX_ROLLOVERS, open_rollovers

YES: Final = 0
NO: Final = 1
USAGE: Final = 2
FAILED: Final = 74

_MAX_JSON: Final = 1 << 26
_MAX_DEPTH: Final = 128
_MAX_DIGITS: Final = 400
"""What is shown as JSON: a little more than any store takes. The rest is shown as text."""


class _Unusable(Exception):  # noqa: N818 - it ends the program with a line and exit code 2
    pass


class _UnwrittenError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        del file
        _write_bytes(message.encode())

    def error(self, message: str) -> NoReturn:
        raise _Unusable(f"{message}; see --help")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return _answer(_options(arguments))
    except _Unusable as error:
        _complain(str(error))
        return USAGE
    except _UnwrittenError as error:
        _complain(f"the answer could not be written: {error}")
    except MemoryError:
        _complain("there is too little memory to check this proof")
    return FAILED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="everwhen-verify",
        description="Check a proof that a commit is part of a signed history. Needs no network.",
        epilog="Exit codes: 0 it is proven, 1 it is not, 2 the command line or the policy is "
        "wrong, 74 the answer could not be written.",
    )
    parser.add_argument("proof", metavar="PROOF", help="The proof, a .tlog-proof file.")
    parser.add_argument("policy", metavar="POLICY", help="The policy: whose signatures are needed.")
    parser.add_argument(
        "--rollovers",
        metavar="FILE",
        help="The file 'rollovers': how the log's key has changed since the policy.",
    )
    parser.add_argument("--json", action="store_true", help="Write one JSON object.")
    return parser.parse_args(arguments)


def _answer(options: argparse.Namespace) -> int:
    policy = _policy(options.policy, options.rollovers)
    try:
        verdict = verify(_bytes_of(options.proof, MAX_PROOF), policy, int(time.time()))
        record = _record(verdict)
    except VerifyError as error:
        kind = type(error).__name__
        if options.json:
            _write(json.dumps({"proven": False, "error": kind, "why": str(error)}))
        else:
            _write(f"no: {error}")
        return NO
    if options.json:
        _write(json.dumps({"proven": True, **record}))
    else:
        for line in _lines(verdict, record):
            _write(line)
    return YES


def _policy(policy: str, rollovers: str | None) -> Policy:
    try:
        read = Policy.parse(_bytes_of(policy, MAX_POLICY))
    except PolicyError as error:
        raise _Unusable(f"{policy}: {error}") from None
    if not read.logs:
        raise _Unusable(f"{policy}: there is no log in the policy; add one")
    if rollovers is None:
        return read
    try:
        return read.with_rollovers(open_rollovers(_bytes_of(rollovers, MAX_ROLLOVERS)))
    except VerifyError as error:
        raise _Unusable(f"{rollovers}: {error}") from None


def _bytes_of(path: str, most: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is not a path"
        raise _Unusable(f"{path}: {why}") from None
    if len(data) > most:
        raise _Unusable(f"{path}: it is too large; the maximum for such a file is {most:,} bytes")
    return data


def _record(verdict: Verdict) -> dict[str, Any]:
    entry, checkpoint = verdict.entry, verdict.checkpoint
    return {
        "log": checkpoint.origin,
        "index": entry.index,
        "commit": str(entry.id),
        "recorded_at": _utc(entry.time),
        "writes": _writes(entry),
        "content_sha256": None if entry.content_hash is None else entry.content_hash.hex(),
        "metadata": _value(entry.metadata),
        "size": checkpoint.size,
        "root": encode_base64(checkpoint.root),
        "signed_by": verdict.log.vkey,
        "cosigned": {name: utc(at) for name, at in verdict.cosigned.items()},
    }


def _writes(entry: Entry) -> list[dict[str, Any]] | None:
    if entry.slices is None:
        return None
    return [
        {
            "stream": one.stream,
            "first_version": one.version - one.count + 1,
            "last_version": one.version,
            "last_position": one.position,
            "events": _value(one.body),
        }
        for one in entry.slices
    ]


def _value(data: bytes | None) -> Any:
    """JSON as what it is, where that shows all that it says; else text, as far as it is that."""
    if data is None:
        return None
    if len(data) > _MAX_JSON:
        return data.decode(errors="replace")
    try:
        value = json.loads(
            data, parse_constant=_refused, parse_float=_exact, object_pairs_hook=_distinct
        )
        _check_depth(value)
    except (ValueError, ArithmeticError, RecursionError):
        return data.decode(errors="replace")
    return value


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)


def _exact(digits: str) -> float:
    """The number; some can't be shown as what is written, and infinity isn't JSON."""
    number = float(digits)
    if (
        len(digits) > _MAX_DIGITS
        or not isfinite(number)
        or Decimal(repr(number)) != Decimal(digits)
    ):
        raise ValueError(digits)
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _check_depth(value: Any) -> None:
    """Raises `ValueError` for what is nested deeper than a store takes it."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError("too deep")


def _lines(verdict: Verdict, record: dict[str, Any]) -> Iterator[str]:
    yield f"yes: commit {record['commit']} is entry {record['index']} of {record['log']}"
    yield f"  recorded at  {record['recorded_at']}"
    if record["writes"] is None:
        yield f"  content      not in the proof; its hash is {record['content_sha256']}"
    for write in record["writes"] or ():
        first, last = write["first_version"], write["last_version"]
        versions = f"version {last}" if first == last else f"versions {first} to {last}"
        position = write["last_position"]
        yield f"  wrote        {write['stream']} {versions}, up to position {position}"
        events = write["events"]
        for event in events if isinstance(events, list) else [events]:
            yield f"    {_event(event)}"
    yield f"  tree         {verdict.checkpoint.size} entries, root {record['root']}"
    yield f"  signed by    {record['signed_by']}"
    for name, at in record["cosigned"].items():
        yield f"  cosigned by  {name} at {at}"


def _event(event: Any) -> str:
    if isinstance(event, list) and len(event) >= 3 and isinstance(event[0], str):
        return f"{event[0]} {json.dumps(event[2], ensure_ascii=False)}"
    return json.dumps(event, ensure_ascii=False)


def _utc(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _write(line: str) -> None:
    _write_bytes(f"{_shown(line)}\n".encode())


def _write_bytes(data: bytes) -> None:
    """Write the answer; whatever keeps it from being read is noticed here, not at the exit."""
    try:
        _put(sys.stdout, data)
    except OSError as error:
        raise _UnwrittenError(error.strerror or str(error)) from None


def _complain(text: str) -> None:
    with suppress(OSError):
        _put(sys.stderr, f"everwhen-verify: {_shown(text)}\n".encode())


def _put(stream: TextIO | None, data: bytes) -> None:
    """Write to a stream past its buffer, whose rest would fail after the answer was given."""
    if stream is None:
        raise OSError("the output is closed")
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:  # a program's own stream, in memory
        stream.write(data.decode("utf-8", "surrogateescape"))
        return
    except ValueError:
        raise OSError("the output is closed") from None
    stream.flush()
    while data:
        data = data[os.write(descriptor, data) :]


def _shown(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
