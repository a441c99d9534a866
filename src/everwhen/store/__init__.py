# Made from tools/front_door.toml: edit that, then `make sync`.
"""The store as applications see it, and what reads it."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.backends._sync.restore import restore_store
    from everwhen.backends.sql_connection import SqlConnection, SqlCursor
    from everwhen.store._sync.repository import Repository
    from everwhen.store._sync.store import Store, open_store
    from everwhen.store._sync.subscription import Subscription
    from everwhen.store.arrow_events import ArrowEvents
    from everwhen.store.erasure_records import Erasure, SubjectErased
    from everwhen.store.ray_workers import Ray
    from everwhen.store.sql_results import SqlResult
    from everwhen.system.file_backups import BackupProgress, BackupReport, BackupTask
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.backends._sync.restore": ("restore_store",),
            "everwhen.backends.sql_connection": ("SqlConnection", "SqlCursor"),
            "everwhen.store._sync.repository": ("Repository",),
            "everwhen.store._sync.store": ("Store", "open_store"),
            "everwhen.store._sync.subscription": ("Subscription",),
            "everwhen.store.arrow_events": ("ArrowEvents",),
            "everwhen.store.erasure_records": ("Erasure", "SubjectErased"),
            "everwhen.store.ray_workers": ("Ray",),
            "everwhen.store.sql_results": ("SqlResult",),
            "everwhen.system.file_backups": ("BackupProgress", "BackupReport", "BackupTask"),
        },
    )

__all__ = [
    "ArrowEvents",
    "BackupProgress",
    "BackupReport",
    "BackupTask",
    "Erasure",
    "Ray",
    "Repository",
    "SqlConnection",
    "SqlCursor",
    "SqlResult",
    "Store",
    "SubjectErased",
    "Subscription",
    "open_store",
    "restore_store",
]
