"""Hosts of their own on this machine, whose cables can be pulled: network namespaces.

Each host has two cables: one to this machine, where the clients are, and one to the other hosts.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from tests.nats_cluster import NatsCluster, NatsHost, nats_cluster
from tests.network_changes import network_changed

_NETWORK: Final = "198.18"
"""Of the addresses that are meant for trying out networks."""

_numbers: Final = itertools.count()
"""What is deleted goes a moment later, so each time has names of its own."""


class CutOffHost:
    """A namespace, reached from this machine and from the other hosts."""

    def __init__(self, label: str, subnet: int, number: int) -> None:
        self._hub = f"{label}h"
        self._name = f"{label}n{number}"
        self._clients = f"{label}c{number}"
        address, among = f"{_NETWORK}.{subnet + number}", f"{_NETWORK}.{subnet}.{number}"
        self.host = NatsHost(f"{address}.2", among, self._name)
        _ip("netns", "add", self._name)
        _ip("link", "add", self._clients, "type", "veth", "peer", "name", "c", "netns", self._name)
        _ip("addr", "add", f"{address}.1/24", "dev", self._clients)
        _ip("link", "set", self._clients, "up")
        _ip("-n", self._name, "addr", "add", f"{address}.2/24", "dev", "c")
        _ip("-n", self._name, "link", "add", "p", "type", "veth", "peer", "name", f"p{number}",
            "netns", self._hub)  # fmt: skip
        _ip("-n", self._hub, "link", "set", f"p{number}", "master", "bridge", "up")
        _ip("-n", self._name, "addr", "add", f"{among}/24", "dev", "p")
        self.mend()
        _ip("-n", self._name, "link", "set", "lo", "up")

    def cut(self, *, only_from_hosts: bool = False) -> None:
        """Pull its cable to the other hosts, and, unless it is that one only, to the clients."""
        _ip("-n", self._name, "link", "set", "p", "down")
        if not only_from_hosts:
            _ip("-n", self._name, "link", "set", "c", "down")

    def mend(self) -> None:
        """Plug both in."""
        for cable in ("p", "c"):
            _ip("-n", self._name, "link", "set", cable, "up")


@contextmanager
def cut_off_hosts(size: int) -> Iterator[list[CutOffHost]]:
    """Some of them, with cables between; skips the test where none can be made."""
    with network_changed():
        yield from _made(size)


@contextmanager
def cut_off_cluster(size: int) -> Iterator[tuple[list[CutOffHost], NatsCluster]]:
    """The same, with a NATS server on each: node by host, in their order."""
    with (
        cut_off_hosts(size) as hosts,
        nats_cluster(size, hosts=[host.host for host in hosts]) as cluster,
    ):
        yield hosts, cluster


def _made(size: int) -> Iterator[list[CutOffHost]]:
    _check()
    label = f"ew{os.getpid() % 100_000}x{next(_numbers) % 1_000}"
    subnet = os.getpid() % 60 * 4
    try:
        _ip("netns", "add", f"{label}h")
        _ip("-n", f"{label}h", "link", "add", "bridge", "type", "bridge")
        _ip("-n", f"{label}h", "link", "set", "bridge", "up")
        yield [CutOffHost(label, subnet, number) for number in range(1, size + 1)]
    finally:
        for number in range(1, size + 1):
            _ip("link", "del", f"{label}c{number}", is_sure=False)
            _ip("netns", "del", f"{label}n{number}", is_sure=False)
        _ip("netns", "del", f"{label}h", is_sure=False)


def _check() -> None:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and the program ip of iproute2")
    name = f"ew{os.getpid() % 100_000}t"
    made = _ip("netns", "add", name, is_sure=False)
    _ip("netns", "del", name, is_sure=False)
    if not made:
        pytest.skip("no network namespace can be made here")


def _ip(*words: str, is_sure: bool = True) -> bool:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if is_sure and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")
    return done.returncode == 0
