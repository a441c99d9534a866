"""Adversarial tests of the SQLite backend; their programs and devices are the modules beside."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)
