# Made from tools/front_door.toml: edit that, then `make sync`.
"""The web: an HTTP API over a store, and a page to travel in. Needs ``everwhen[server]``."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.web.access import Access, AccessScope, Caller, OpenAccess
    from everwhen.web.application import create_app
    from everwhen.web.governance import Governance
    from everwhen.web.limits import RequestLimits
    from everwhen.web.token_access import TokenAccess
    from everwhen.web.tokens import AccessToken, new_token, read_tokens
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.web.access": ("Access", "AccessScope", "Caller", "OpenAccess"),
            "everwhen.web.application": ("create_app",),
            "everwhen.web.governance": ("Governance",),
            "everwhen.web.limits": ("RequestLimits",),
            "everwhen.web.token_access": ("TokenAccess",),
            "everwhen.web.tokens": ("AccessToken", "new_token", "read_tokens"),
        },
        extra="server",
    )

__all__ = [
    "Access",
    "AccessScope",
    "AccessToken",
    "Caller",
    "Governance",
    "OpenAccess",
    "RequestLimits",
    "TokenAccess",
    "create_app",
    "new_token",
    "read_tokens",
]
