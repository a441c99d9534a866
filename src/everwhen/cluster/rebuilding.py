"""A replica that is broken: put aside, and made anew from its log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.replayed_replica import ReplayedReplica
from everwhen.backends.sqlite.files import make_folder
from everwhen.cluster.progress import ReplicaProgress
from everwhen.system.durable_files import sync_file, sync_folder
from everwhen.system.file_backups import taken, workplace


class RebuiltReplica(msgspec.Struct, frozen=True):
    """A replica up to a ``message`` of the log, and a ``position`` of the store.

    ``put_aside`` are the files and folders that were in its place, with their new names.
    """

    path: str
    message: int
    position: int
    put_aside: list[str]


def rebuild_replica(
    url: str,
    *,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> RebuiltReplica:
    """Make this node's replica anew from the whole log, in the place of the one that is there.

    First the new one is made, beside the old one; then the old one is renamed, with the folder of
    its branches, to ``….broken-TIME``; and the new one takes its name. Branches are made anew when
    they are next opened. What only the replica had is gone: snapshots, and tables of read models,
    which their runners build anew. Signed logs beside it stay, and still fit.

    Raises `BusyError` where the replica is open, here or in another process, and `StorageError`
    where the cluster can't be read or the disk is full: the old one is in its place then.
    """
    address = ClusterAddress.parsed(url)
    final = address.replica.resolve()
    make_folder(final.parent)

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(ReplicaProgress("reading the log", done, total))

    with workplace(final) as folder:
        made = folder / "replica.db"
        replica = ReplayedReplica(
            msgspec.structs.replace(address, replica=made), patience=busy_timeout, listener=tell
        )
        try:
            message = replica.reach(replica.newest())
            position = replica.head().position
        finally:
            replica.close()
        sync_file(made)
        with ExitStack() as held:
            held.enter_context(taken(final, folder))
            branches = Path(f"{final}-branches")
            for file in branches.glob("*.db"):
                held.enter_context(taken(file, folder))
            put_aside = _put_aside(final, branches)
            made.replace(final)
            sync_folder(final.parent)
    return RebuiltReplica(str(final), message, position, put_aside)


def _put_aside(*paths: Path) -> list[str]:
    """Rename those that are there; their new names."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return [str(path.rename(f"{path}.broken-{moment}")) for path in paths if path.exists()]
