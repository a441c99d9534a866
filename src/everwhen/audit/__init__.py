# Made from tools/front_door.toml: edit that, then `make sync`.
"""Audit: who did what to what, how it ended, and from where."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.audit._sync.audit_log import AuditLog, AuditReceipt, AuditRecovery
    from everwhen.audit._sync.middleware import audited, audited_queries
    from everwhen.audit.entries import AuditAction, AuditEntry, AuditResult, origin
    from everwhen.audit.fallback import AuditFallback
    from everwhen.audit.filters import AuditFilter, AuditPage, AuditPolicy, AuditRecord
    from everwhen.audit.rules import AuditRules
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.audit._sync.audit_log": ("AuditLog", "AuditReceipt", "AuditRecovery"),
            "everwhen.audit._sync.middleware": ("audited", "audited_queries"),
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
