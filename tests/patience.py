"""How long the tests wait for what has to happen."""

from typing import Final

PATIENCE_SECONDS: Final = 600
"""Far longer than it takes: it ends a test that hangs, and no test because the machine is busy."""
