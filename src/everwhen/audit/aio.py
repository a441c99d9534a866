# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.audit`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.audit._async.audit_log import AuditLog, AuditReceipt, AuditRecovery
    from everwhen.audit._async.middleware import audited, audited_queries
    from everwhen.audit.entries import AuditAction, AuditEntry, AuditResult, origin
    from everwhen.audit.fallback import AuditFallback
    from everwhen.audit.filters import AuditFilter, AuditPage, AuditPolicy, AuditRecord
    from everwhen.audit.rules import AuditRules
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.audit._async.audit_log": ("AuditLog", "AuditReceipt", "AuditRecovery"),
            "everwhen.audit._async.middleware": ("audited", "audited_queries"),
            "everwhen.audit.entries": ("AuditAction", "AuditEntry", "AuditResult", "origin"),
            "everwhen.audit.fallback": ("AuditFallback",),
            "everwhen.audit.filters": ("AuditFilter", "AuditPage", "AuditPolicy", "AuditRecord"),
            "everwhen.audit.rules": ("AuditRules",),
        },
    )

__all__ = [
    "AuditAction",
    "AuditEntry",
    "AuditFallback",
    "AuditFilter",
    "AuditLog",
    "AuditPage",
    "AuditPolicy",
    "AuditReceipt",
    "AuditRecord",
    "AuditRecovery",
    "AuditResult",
    "AuditRules",
    "audited",
    "audited_queries",
    "origin",
]
