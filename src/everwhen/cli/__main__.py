"""``python -m everwhen.cli``."""

import sys

from everwhen.cli import main

sys.exit(main())
