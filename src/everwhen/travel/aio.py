# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.travel`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.travel._async.altered_history import AlteredHistory
    from everwhen.travel._async.time_machine import TimeMachine
    from everwhen.travel.destinations import (
        Blame,
        Cause,
        Divergence,
        Explanation,
        StateAt,
        Step,
        Transition,
        Written,
        moment_from,
    )
    from everwhen.travel.parallel_search import Processes
    from everwhen.travel.what_if import Alteration, EventFilter, WhatIf, WhatIfStep
    from everwhen.vocabulary.moments import HEAD, AsOf, Back, Before, Bookmark, Moment, Version
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.travel._async.altered_history": ("AlteredHistory",),
            "everwhen.travel._async.time_machine": ("TimeMachine",),
            "everwhen.travel.destinations": (
                "Blame",
                "Cause",
                "Divergence",
                "Explanation",
                "StateAt",
                "Step",
                "Transition",
                "Written",
                "moment_from",
            ),
            "everwhen.travel.parallel_search": ("Processes",),
            "everwhen.travel.what_if": ("Alteration", "EventFilter", "WhatIf", "WhatIfStep"),
            "everwhen.vocabulary.moments": (
                "HEAD",
                "AsOf",
                "Back",
                "Before",
                "Bookmark",
                "Moment",
                "Version",
            ),
        },
    )

__all__ = [
    "HEAD",
    "Alteration",
    "AlteredHistory",
    "AsOf",
    "Back",
    "Before",
    "Blame",
    "Bookmark",
    "Cause",
    "Divergence",
    "EventFilter",
    "Explanation",
    "Moment",
    "Processes",
    "StateAt",
    "Step",
    "TimeMachine",
    "Transition",
    "Version",
    "WhatIf",
    "WhatIfStep",
    "Written",
    "moment_from",
]
