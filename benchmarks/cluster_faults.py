"""Faults by the hundred on a cluster under load, and what came of them.

    PYTHONPATH=. python -m benchmarks.cluster_faults [--faults N] [--seed N] [--rounds N]
        [--loopback] [--kind KIND …] [--json FILE]

Three NATS servers on this machine, and three clients with a replica each, of three threads each:
they append by expected version over two streams, claim names under a condition, append freely,
read, and count a checkpoint up. Each round is a cluster of its own, with its share of the faults,
in an order that the seed gives; at its end the log is read into a fresh replica, and all is judged
by `tests.operation_histories`. Servers are killed, all of them too, or frozen for 2 to 8 s, or cut
off for 4 to 15 s in network namespaces (which need root; ``--loopback`` leaves them out); clients
are killed at any moment. ``--kind "part leader"`` has faults of that kind only. The longest append
is the longest that a caller waited for its outcome, repeating what was open.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.cut_off_hosts import CutOffHost, cut_off_hosts
from tests.faults.jetstream_chaos import CUTS, ON_LOOPBACK, Chaos, Report, keep
from tests.nats_cluster import nats_cluster


def run(faults: int, seed: int, kinds: Sequence[str]) -> Report:
    """One cluster, as many faults, and the judgement."""
    chance = random.Random(seed)
    cuts = not set(kinds).isdisjoint(CUTS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everwhen-chaos-")))
        hosts: list[CutOffHost] = stack.enter_context(cut_off_hosts(3)) if cuts else []
        named = [host.host for host in hosts]
        cluster = stack.enter_context(nats_cluster(3, hosts=named))
        chaos = stack.enter_context(Chaos(cluster, folder, seed, hosts))
        for number in range(faults):
            chaos.inject(
                kinds[number % len(kinds)] if number < len(kinds) else chance.choice(kinds)
            )
        report = chaos.report()
        keep(folder, report)
    return report


def show(reports: list[Report], seconds: float) -> dict[str, object]:
    """The table, and what is in it."""
    faults = sum((report.faults for report in reports), Counter[str]())
    results = Counter(o.result for report in reports for o in report.operations)
    wrong = [fault for report in reports for fault in report.wrong]
    kinds = sorted(faults)
    longest = {kind: max(report.longest.get(kind, 0.0) for report in reports) for kind in kinds}
    waits = {
        kind: max((report.waits[kind] for report in reports if kind in report.waits), default=0.0)
        for kind in kinds
    }
    print(f"\n{'fault':<16} {'times':>6} {'longest append':>15} {'all write again':>16}")
    for kind in kinds:
        print(f"{kind:<16} {faults[kind]:>6} {waits[kind]:>13.1f} s {longest[kind]:>14.1f} s")
    lost, moved = (sum(word in fault for fault in wrong) for word in (" is lost", ", and is at "))
    print(
        f"\n{faults.total()} faults in {seconds:,.0f} s; {results['written']:,} appends "
        f"acknowledged, {lost} lost, {moved} moved; {len(wrong)} promises broken; "
        f"{results['conflict']:,} conflicts, {results['condition']:,} conditions refused, "
        f"{results['read']:,} reads, {results['saved']:,} checkpoints, {results['open']:,} open"
    )
    for fault in wrong[:20]:
        print("  ", fault)
    return {
        "faults": faults, "results": results, "wrong": wrong, "longest append": waits,
        "all write again": longest, "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10**6))
    parser.add_argument("--loopback", action="store_true")
    parser.add_argument("--kind", action="append", choices=[*ON_LOOPBACK, *CUTS])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    kinds = given.kind or [*ON_LOOPBACK, *(CUTS if not given.loopback else ())]
    began = time.monotonic()
    reports = []
    for turn in range(given.rounds):
        seed = given.seed + turn
        reports.append(run(-(-given.faults // given.rounds), seed, kinds))
        report = reports[-1]
        print(
            f"seed {seed}: {report.faults.total()} faults, {report.acknowledged:,} acknowledged, "
            f"longest append {report.longest_append:.1f} s, {len(report.wrong)} wrong",
            flush=True,
        )
    found = show(reports, time.monotonic() - began)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
