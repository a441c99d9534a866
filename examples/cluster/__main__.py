"""Play BitCraps on three nodes, kill the server that leads, and count the money on each.

Each node is a process with a replica of its own, and deals at every third table. The books must
balance on all three in the end, and be the same.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from bitcraps.night import Plan, Played, Share
from cluster.nodes import counted, open_vault, opened, play
from cluster.servers import Server, ServerError, three_servers
from everwhen import EverwhenError, KeyFile
from everwhen.cluster import cluster_status, verify_replicas

_NODES: Final = (0, 1, 2)


def main() -> int:
    """Returns 0 where all nodes agree, and no money was made or lost."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20, help="play for so long (default 20)")
    parser.add_argument("--tables", type=int, default=6, help="default 6")
    parser.add_argument("--players", type=int, default=24, help="default 24")
    given = parser.parse_args()
    plan = Plan(given.tables, given.players, None, given.seconds)
    try:
        with tempfile.TemporaryDirectory(prefix="cluster-") as name:
            folder = Path(name)
            with three_servers(folder) as servers:
                return 0 if _night(folder, servers, plan) else 1
    except (ServerError, EverwhenError) as error:
        sys.exit(f"cluster: {error}")


def _night(folder: Path, servers: list[Server], plan: Plan) -> bool:
    """Play it, with a server that is killed in the middle. Whether all is well afterwards."""
    KeyFile.create(folder / "vault.key")
    with open_vault(folder, create=True):
        pass
    asyncio.run(opened(folder, _url(folder, servers, 0)))
    _say(f"{len(servers)} servers, {len(_NODES)} nodes, {plan.tables} tables")
    with ProcessPoolExecutor(len(_NODES), get_context("spawn")) as pool:
        nodes = [
            pool.submit(play, folder, _url(folder, servers, node), plan, Share(node, len(_NODES)))
            for node in _NODES
        ]
        _kill_the_leader(folder, servers, nodes, plan.seconds or 0)
        for node, playing in enumerate(nodes, 1):
            played = playing.result()
            _say(f"node {node} dealt {played.hands} hands, and sent {played.commands} commands")
    return _all_agree(folder, servers)


def _kill_the_leader(
    folder: Path, servers: list[Server], nodes: list[Future[Played]], seconds: float
) -> None:
    time.sleep(seconds / 3)
    url = _url(folder, servers, 0)
    leader = cluster_status(url).leader
    server = next(server for server in servers if server.name == leader)
    _say(f"{server.name} leads, and is killed")
    server.kill()
    time.sleep(seconds / 3)
    still = sum(not node.done() for node in nodes)
    _say(f"{cluster_status(url, busy_timeout=60).leader} leads; {still} nodes play on")
    server.start()
    server.wait()
    _say(f"{server.name} is back")


def _all_agree(folder: Path, servers: list[Server]) -> bool:
    """Count the money on each node, and compare each replica with the whole log."""
    found = [asyncio.run(counted(folder, _url(folder, servers, node))) for node in _NODES]
    for node, (findings, books) in enumerate(found, 1):
        balanced = "balanced at each" if findings.all_is_well else f"wrong at {findings.wrong[:3]}"
        _say(
            f"node {node}: {findings.positions:,} events, books {balanced}: accounts "
            f"{books.accounts:,}, house {books.house:,}, came in {-books.outside:,}"
        )
    others = [_replica(folder, node) for node in _NODES[1:]]
    verified = verify_replicas(_url(folder, servers, 0), others)
    for one in verified:
        wrong = "; ".join(problem.what for problem in one.problems)
        _say(f"{Path(one.path).name}: {one.contents[:16] or '?'} {wrong or 'is what the log says'}")
    is_one = len({one.contents for one in verified}) == 1 == len({books for _, books in found})
    is_well = is_one and all(findings.all_is_well for findings, _ in found)
    _say("all nodes agree, and no money was made or lost" if is_well else "something is wrong")
    return is_well and not any(one.problems for one in verified)


def _replica(folder: Path, node: int) -> Path:
    return folder / f"replica-{node + 1}.db"


def _url(folder: Path, servers: list[Server], node: int) -> str:
    hosts = ",".join(f"127.0.0.1:{server.client}" for server in servers)
    monitors = ",".join(f"127.0.0.1:{server.monitor}" for server in servers)
    return f"nats://{hosts}/casino?replica={_replica(folder, node)}&monitor={monitors}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (it is a program)


if __name__ == "__main__":
    sys.exit(main())
