"""A file that somebody names: a regular one, opened without waiting, and read no further than its limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tellegen.errors import InputError


def regular_bytes(path: Path, bytes_max: int) -> bytes:
    """Content of a regular file; a link to one is followed, for whoever calls has named it.

    Raises
    ------
    InputError : it cannot be read, is a pipe, a device or a folder, or is larger.
    """
    content = regular_head(path, bytes_max + 1)
    if len(content) > bytes_max:
        raise InputError(path, "file", f"has more than {bytes_max} bytes, which is too large to be one")
    return content


def regular_head(path: Path, size: int) -> bytes:
    """The first bytes of a regular file, or all where it has fewer.

    Raises
    ------
    InputError : it cannot be read, or is a pipe, a device or a folder.
    """
    try:
        # Without waiting: a pipe would never answer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise InputError(path, "file", "is no regular file; give one, not a pipe, a device or a folder")
            with open(handle, "rb", closefd=False) as file:
                return file.read(min(size, about.st_size))  # room is made for as much as is asked for
        finally:
            os.close(handle)
    except (OSError, ValueError) as failure:  # a zero byte in a name is a ValueError
        raise InputError(path, "file", f"cannot be read ({getattr(failure, 'strerror', None) or failure})") from None
