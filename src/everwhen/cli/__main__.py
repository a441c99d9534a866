"""``python -m everwhen.cli``."""

import sys

from everwhen.cli import main

if __name__ == "__main__":
    sys.exit(main())
