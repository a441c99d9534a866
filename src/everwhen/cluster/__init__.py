# Made from tools/front_door.toml: edit that, then `make sync`.
"""A log on a JetStream cluster: how it is, and what is done to a node's replica of it."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.cluster.bootstrapping import BootstrappedReplica, bootstrap_replica
    from everwhen.cluster.offering import OfferedReplica, offer_replica
    from everwhen.cluster.progress import ReplicaProgress
    from everwhen.cluster.rebuilding import RebuiltReplica, rebuild_replica
    from everwhen.cluster.replicas import ReplicaStatus
    from everwhen.cluster.status import ClusterServer, ClusterStatus, LogStatus, cluster_status
    from everwhen.cluster.sweeping import SweptObject, sweep_objects
    from everwhen.cluster.trimming import TrimmedLog, forget_replica, trim_log
    from everwhen.cluster.verifying import VerifiedReplica, verify_replicas
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.cluster.bootstrapping": ("BootstrappedReplica", "bootstrap_replica"),
            "everwhen.cluster.offering": ("OfferedReplica", "offer_replica"),
            "everwhen.cluster.progress": ("ReplicaProgress",),
            "everwhen.cluster.rebuilding": ("RebuiltReplica", "rebuild_replica"),
            "everwhen.cluster.replicas": ("ReplicaStatus",),
            "everwhen.cluster.status": (
                "ClusterServer",
                "ClusterStatus",
                "LogStatus",
                "cluster_status",
            ),
            "everwhen.cluster.sweeping": ("SweptObject", "sweep_objects"),
            "everwhen.cluster.trimming": ("TrimmedLog", "forget_replica", "trim_log"),
            "everwhen.cluster.verifying": ("VerifiedReplica", "verify_replicas"),
        },
    )

__all__ = [
    "BootstrappedReplica",
    "ClusterServer",
    "ClusterStatus",
    "LogStatus",
    "OfferedReplica",
    "RebuiltReplica",
    "ReplicaProgress",
    "ReplicaStatus",
    "SweptObject",
    "TrimmedLog",
    "VerifiedReplica",
    "bootstrap_replica",
    "cluster_status",
    "forget_replica",
    "offer_replica",
    "rebuild_replica",
    "sweep_objects",
    "trim_log",
    "verify_replicas",
]
