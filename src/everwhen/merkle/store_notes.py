"""What a store says of the logs that have signed it: for each place, the newest checkpoint there.

So a log that is set back alone is noticed, and nothing is retired that such a log hasn't signed.
"""

from __future__ import annotations

from typing import Final

from everwhen.vocabulary.contract import Checkpoint

SIGNED_HERE: Final = "everwhen-log/"
"""How the names of these checkpoints of the store begin."""

_MAX_DIGITS: Final = 20


def signed_commits(checkpoint: Checkpoint) -> int | None:
    """How many commits a log has signed, by what the store says of it; None for all else.

    The signature isn't looked at, for which a library is needed that a store can do without.
    """
    if not checkpoint.name.startswith(SIGNED_HERE):
        return None
    size = checkpoint.data.split(b"\n", 2)[1:2]
    return int(size[0]) if size and size[0].isdigit() and len(size[0]) < _MAX_DIGITS else None
