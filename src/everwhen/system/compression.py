"""Compression by Zstandard (RFC 8878), with dictionaries and within bounds: all of it is here.

Needs the library zstandard, of the extra ``everwhen[tiers]``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from everwhen.vocabulary.errors import UnsupportedError

if TYPE_CHECKING:
    from types import ModuleType

LEVEL: Final = 3
"""Higher levels make history 6 to 19 % smaller, in 5 to 180 times the time."""

DICTIONARY_BYTES: Final = 64 << 10
"""A larger one gains nothing for frames of some 8 KB."""


class DecompressionError(ValueError):
    """Not what was compressed: damaged, or larger than it may be; or a dictionary that is none."""


class Compressor:
    """Compresses and decompresses with one dictionary, or none. Safe from any thread."""

    def __init__(self, dictionary: bytes = b"") -> None:
        self._library = library = _library()
        self._local = threading.local()
        self._dictionary: Any = None
        if dictionary:
            self._dictionary = library.ZstdCompressionDict(
                dictionary, dict_type=library.DICT_TYPE_FULLDICT
            )

    def compress(self, data: bytes) -> bytes:
        """The data compressed, with its size before and a checksum.

        Raises `DecompressionError` where the dictionary is damaged.
        """
        local = self._local
        if not hasattr(local, "compressor"):
            local.compressor = self._library.ZstdCompressor(
                level=LEVEL,
                dict_data=self._dictionary,
                write_checksum=True,
                write_content_size=True,
                write_dict_id=False,
            )
        try:
            return bytes(local.compressor.compress(data))
        except self._library.ZstdError as error:
            raise DecompressionError(f"the dictionary: {error}") from error

    def decompress(self, data: bytes | memoryview, max_bytes: int) -> bytes:
        """What was compressed. Raises `DecompressionError`, also where it is over ``max_bytes``."""
        local, library = self._local, self._library
        try:
            if not hasattr(local, "decompressor"):
                local.decompressor = library.ZstdDecompressor(dict_data=self._dictionary)
            size = library.frame_content_size(data)
            if not 0 <= size <= max_bytes:
                raise DecompressionError(f"it should have at most {max_bytes:,} bytes")
            return bytes(local.decompressor.decompress(data))
        except library.ZstdError as error:
            raise DecompressionError(str(error)) from error


def trained(samples: Sequence[bytes]) -> bytes:
    """A dictionary for data like these samples; empty where they are too few for one."""
    library = _library()
    if sum(map(len, samples)) < 8 * DICTIONARY_BYTES:
        return b""
    try:
        return bytes(library.train_dictionary(DICTIONARY_BYTES, list(samples)).as_bytes())
    except library.ZstdError:
        return b""


def _library() -> ModuleType:
    try:
        import zstandard
    except ImportError as error:
        raise UnsupportedError(
            "sealed history needs the library zstandard: pip install 'everwhen[tiers]'"
        ) from error
    return zstandard
