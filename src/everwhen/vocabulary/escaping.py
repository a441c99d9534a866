"""Text as it may be shown: without characters that are obeyed, or that hide.

The escapes are those of JSON, so JSON stays JSON and says the same.
"""

from __future__ import annotations

import re
from typing import Final

_SHORT: Final = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_UNSAFE: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # controls; C1 ones are escape sequences in one character
    "\xad\u061c\u180e\u200b\u200e\u200f"  # hidden, or turning what follows around
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # likewise, and ends of lines
    "\ud800-\udfff"  # halves of characters: bytes of names that are no text
    "\U000e0000-\U000e007f"  # a hidden copy of ASCII
    "]"
)
"""Not the joiners U+200C and U+200D: languages and emoji need them, and they turn nothing."""
_BEYOND_BMP: Final = 0x10000


def escaped(text: str, *, keeping: str = "") -> str:
    r"""The text with what a terminal obeys, or nobody sees, written out as ``\u001b``.

    Characters in ``keeping`` stay. To escape twice is to escape once.
    """
    if text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keeping else _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < _BEYOND_BMP:
        return _SHORT.get(character, f"\\u{code:04x}")
    high, low = divmod(code - _BEYOND_BMP, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
