"""Interfaces that come and go cut off what any browser on the machine loads: not both at once."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def network_kept() -> AbstractContextManager[None]:
    """While it is entered, no test on this machine adds or removes interfaces."""
    return _locked(fcntl.LOCK_SH)


def network_changed() -> AbstractContextManager[None]:
    """While it is entered, no test on this machine has a browser open."""
    return _locked(fcntl.LOCK_EX)


@contextmanager
def _locked(how: int) -> Iterator[None]:
    path = Path(tempfile.gettempdir(), f"everwhen-tests-network-{os.geteuid()}.lock")
    with path.open("a") as lock:
        fcntl.flock(lock, how)  # let go of as it is closed, or its process ends
        yield
