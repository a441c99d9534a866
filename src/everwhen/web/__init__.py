"""The web's face: an HTTP API over a store, and the page in which people travel.

`create_app` makes an ASGI application that runs by itself or is mounted in another one. Needs the
extra ``everwhen[server]``.
"""

from everwhen._lazy import lazily

__getattr__, __dir__ = lazily(
    __name__,
    {
        "everwhen.web.access": ("Access", "Caller", "OpenAccess", "AccessScope"),
        "everwhen.web.application": ("create_app",),
        "everwhen.web.governance": ("Governance",),
        "everwhen.web.limits": ("RequestLimits",),
        "everwhen.web.token_access": ("TokenAccess",),
        "everwhen.web.tokens": ("AccessToken", "new_token", "read_tokens"),
    },
    extra="server",
)
