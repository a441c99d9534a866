"""What the Merkle log costs: appends with it on and off, verification, proofs, and its size.

    python -m benchmarks.trust [--quick] [--json FILE]

On SQLite files with the defaults, durable. With the log on, sealing goes on in the background: in
the same process, or in one of its own, as ``everwhen sign --every`` does it; the last seal
counts as well. Rounds are taken in turn; figures are medians, and what counts are the ratios of one
run.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from everwhen import Commit, Event, Query, Store, Write, open_store
from everwhen.aio import open_store as open_async
from everwhen.merkle import MerkleLog, TileFolder, save_signer
from everwhen.merkle.aio import MerkleLog as AsyncMerkleLog
from everwhen.tiers import HistoryManager, HistoryPolicy
from everwhen_verify.notes import Signer
from everwhen_verify.policy import Policy
from everwhen_verify.proofs import verify


class Noted(Event):
    number: int


SIGNER = Signer.generate("example.org/log")


@contextmanager
def sealed_apart(folder: Path) -> Iterator[None]:
    """A process that seals the folder's store, until it has sealed all that was written within."""
    save_signer(SIGNER, folder / "key")
    command = [sys.executable, "-m", "everwhen.cli", "sign", str(folder / "store.db")]
    command += ["--log", str(folder / "log"), "--key-file", str(folder / "key"), "--every", "0.5"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.send_signal(signal.SIGINT)
        process.stdout.read()


async def clients(folder: Path, count: int, appends: int, where: str) -> float:
    """Durable single-event appends a second of so many tasks."""
    async with open_async(folder / "store.db", events=[Noted]) as store:
        here: Any = nullcontext()
        if where == "here":
            here = AsyncMerkleLog(store, folder / "log", SIGNER)

        async def work(client: int) -> None:
            for number in range(appends // count):
                await store.append(f"s-{client}", [Noted(number)])

        await store.append("first", [Noted(0)])
        with sealed_apart(folder) if where == "apart" else nullcontext():
            began = time.perf_counter()
            async with here:
                await asyncio.gather(*map(work, range(count)))
        return appends / (time.perf_counter() - began)


def bulk(folder: Path, commits: int, events: int, where: str) -> float:
    """Events a second, in batches of commits of so many events."""
    with open_store(folder / "store.db", events=[Noted]) as store:
        here: Any = MerkleLog(store, folder / "log", SIGNER) if where == "here" else nullcontext()
        store.append("first", [Noted(0)])
        with sealed_apart(folder) if where == "apart" else nullcontext():
            began = time.perf_counter()
            with here:
                for start in range(0, commits, 1_000):
                    store.commit_batch(
                        Commit([Write(f"s-{n % 1_000}", [Noted(n)] * events)])
                        for n in range(start, start + 1_000)
                    )
        return commits * events / (time.perf_counter() - began)


def appending(folder: Path, scale: int, rounds: int) -> dict[str, dict[str, float]]:
    """Rates with the log off, on in the same process, and on in one of its own."""
    jobs: dict[str, Any] = {
        "64 clients": lambda f, w: asyncio.run(clients(f, 64, 64 * 3_000 // scale, w)),
        "bulk, commits of 1": lambda f, w: bulk(f, 200_000 // scale, 1, w),
        "bulk, commits of 10": lambda f, w: bulk(f, 100_000 // scale, 10, w),
        "bulk, commits of 100": lambda f, w: bulk(f, 20_000 // scale, 100, w),
    }
    rates: dict[str, dict[str, list[float]]] = {
        name: {"off": [], "here": [], "apart": []} for name in jobs
    }
    for number in range(rounds):
        for name, job in jobs.items():
            for where, found in rates[name].items():
                with tempfile.TemporaryDirectory(dir=folder, prefix=f"{number}-") as place:
                    found.append(job(Path(place), where))
    return {
        name: {where: statistics.median(found) for where, found in lines.items()}
        for name, lines in rates.items()
    }


def hashing() -> float:
    """Hashes a second of a commit's size: two for each commit are the limit of verifying."""
    data, count, best = bytes(150), 100_000, 0.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            hashlib.sha256(data).digest()
        best = max(best, count / (time.process_time() - began))
    return best


def history(folder: Path, commits: int, rounds: int) -> dict[str, float]:
    """Sealing, verifying and proving single-event commits; CPU time for what is computed."""
    found: dict[str, float] = {}
    with open_store(folder / "history.db", events=[Noted], durable=False) as store:
        for start in range(0, commits, 10_000):
            store.commit_batch(
                Commit([Write(f"s-{n % 1_000}", [Noted(n)])]) for n in range(start, start + 10_000)
            )
        tiles = TileFolder(folder / "history-log")
        log = MerkleLog(store, tiles, SIGNER)
        began = time.process_time()
        note = log.sign().note
        found["seal, commits a second"] = commits / (time.process_time() - began)
        found["verify, commits a second"] = commits / verifying(log, rounds)
        found["SHA-256 alone, hashes a second"] = hashing()
        began = time.perf_counter()
        assert log.verify(since=note).is_sound
        found["verify what is new since (nothing), ms"] = (time.perf_counter() - began) * 1_000
        found |= proven_reads(store, log, commits, rounds)
        trusted = Policy.parse(f"log {SIGNER.verifier.vkey}\nquorum none\n".encode())
        made, checked, hashes = [], [], 0
        for position in range(1, commits, max(1, commits // 300)):
            began = time.perf_counter()
            proof = log.prove(position)
            middle = time.perf_counter()
            verify(proof, trusted)
            made.append(middle - began)
            checked.append(time.perf_counter() - middle)
            hashes = max(hashes, len(proof.path))
        found["proof made, median ms"] = statistics.median(made) * 1_000
        found["proof checked, median ms"] = statistics.median(checked) * 1_000
        found["hashes in a proof, at most"] = hashes
        size = sum(path.stat().st_size for path in tiles.path.rglob("*") if path.is_file())
        found["log on disk, bytes a leaf"] = size / commits
        policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
        HistoryManager(store, policy).age()
        found["verify sealed history, commits a second"] = commits / verifying(log, rounds)
    return found


def verifying(log: MerkleLog, rounds: int) -> float:
    """Seconds of processor time, the best of so many."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        assert log.verify().is_sound
        taken.append(time.process_time() - began)
    return min(taken)


def proven_reads(store: Store, log: MerkleLog, commits: int, rounds: int) -> dict[str, float]:
    """The first one, which goes through the whole log, and the later ones beside ordinary reads."""
    began = time.process_time()
    log.proven()
    found = {"first proven read, commits a second": commits / (time.process_time() - began)}
    queries = {
        "a stream": Query().stream("s-7"),
        "its last ten": Query().stream("s-7").backwards().limit(10),
        "a type": Query().types(Noted).up_to(commits // 10),
        "everything": Query().up_to(commits // 10),
    }
    for name, query in queries.items():
        taken: dict[bool, list[float]] = {False: [], True: []}
        for proven in (False, True) * 2 * rounds:
            began = time.process_time()
            for _ in store.read_pages(query, proven=log if proven else None):
                pass
            taken[proven].append(time.process_time() - began)
        ratio = min(taken[True]) / min(taken[False])
        found[f"proven read of {name}, times an ordinary one"] = ratio
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--commits", type=int, help="how long the history is that is verified")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    scale, rounds = (10, 3) if given.quick else (1, 5)
    with tempfile.TemporaryDirectory(prefix="everwhen-benchmark-") as name:
        rates = appending(Path(name), scale, rounds)
        figures = history(Path(name), given.commits or 1_000_000 // scale, rounds)
    for what, by in rates.items():
        here, apart = by["here"] / by["off"], by["apart"] / by["off"]
        print(
            f"{what:22} {by['off']:12,.0f} off, on x {here:.2f}, in its own process x {apart:.2f}"
        )
    for what, figure in figures.items():
        print(f"{what:40} {figure:12,.2f}")
    if given.json:
        given.json.write_text(json.dumps({"append": rates, "history": figures}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
