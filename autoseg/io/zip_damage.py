"""What reading a zip file may raise where it is damaged, or made to do harm."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib

try:
    from lzma import LZMAError as _LzmaError
except ImportError:  # Python may be built without it, and reads no such entry then.
    _LzmaError = zlib.error

ZIP_DAMAGE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    _LzmaError,
    EOFError,
    ValueError,
    # NotImplementedError among them: a compression or a version that Python does not know.
    RuntimeError,
    OverflowError,
    struct.error,
)
"""``zipfile`` lets through what its parts raise. ``OSError`` is left out: ``is_damage`` tells."""


def is_damage(error: OSError) -> bool:
    """Whether it is the content of a zip file that is wrong, not the disk.

    Data of bzip2 that are damaged are an error without a number, and a position before the
    beginning of the file is an invalid argument.

    Args:
        error: raised by ``zipfile`` while it read.
    """
    return error.errno in (None, errno.EINVAL)
