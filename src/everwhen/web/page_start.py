"""The script that stands in the page's HTML, and what the content policy calls it."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Final

START: Final = (files(__package__) / "static" / "starting.js").read_text("utf-8")
"""Loads the page again where its files could not be loaded."""
START_SOURCE: Final = (
    f"'sha256-{base64.b64encode(hashlib.sha256(START.encode()).digest()).decode()}'"
)
"""By its digest, as CSP 3 has it: no other script may stand there."""
