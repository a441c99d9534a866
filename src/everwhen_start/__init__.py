"""Where ``everwhen`` starts: apart from the package, whose import takes a moment.

Ctrl-C in that moment ends the program like any other, not with a traceback out of an import.
"""

import os
import signal


def main() -> int:
    """Run the command line and return its exit code."""
    own = signal.getsignal(signal.SIGINT)
    if own is signal.default_int_handler:  # where it is ignored, it stays so
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from everwhen.cli import load

    run = load()
    signal.signal(signal.SIGINT, own)
    return run(None)
