"""Regular files below one folder, each and all of bounded size, and nothing else."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from tellegen.errors import InputError

FILES_MAX = 10_000
"""Files that may be opened for one reading; a file opened twice counts twice."""


class Folder:
    """What may be read of a stranger's files: regular files below a folder, reached without a link.

    Parameters
    ----------
    source : for errors. root : the folder.
    bytes_max : of all that is read together.
    """

    def __init__(self, source: str, root: Path, bytes_max: int) -> None:
        self._source, self._root = source, root.resolve()
        self._left, self._bytes_max, self._opened = bytes_max, bytes_max, 0

    def below(self, words: str, within: tuple[str, ...], place: str, *, beside: str = "") -> tuple[str, ...]:
        """Parts of the path, from the folder on, that a script in the subfolder `within` means by these words.

        A file right beside the folder is meant by ``("..", name)``; it is allowed where its name ends in `beside`.

        Raises
        ------
        InputError : the path is absolute, leads out of the folder, or has characters that no honest file name has.
        """
        path = words.strip().replace("\\", "/")
        if not path or not path.isprintable():
            raise InputError(self._source, place, "names no file")
        if path.startswith("/") or re.match(r"[A-Za-z]:", path):
            raise InputError(self._source, place, "names a file by an absolute path; put it below the script's folder")
        parts, walk = list(within), path.split("/")
        for k, part in enumerate(walk):
            if part == "..":
                if not parts and len(walk) == k + 2 and beside and walk[-1].lower().endswith(beside):
                    return "..", walk[-1]
                if not parts:
                    raise InputError(self._source, place, "leads out of the script's folder; put the file below it")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        if not parts:
            raise InputError(self._source, place, "names a folder, not a file")
        return tuple(parts)

    def read(self, parts: tuple[str, ...], place: str) -> bytes:
        """Bytes of a file.

        Raises
        ------
        InputError : it is not there, is no regular file, is reached over a link, or is more than may be read.
        """
        name = "/".join(parts)
        self._opened += 1
        if self._opened > FILES_MAX:
            raise InputError(self._source, place, f"opens more than {FILES_MAX} files")
        path = self._root
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise InputError(self._source, place, f"reads {name}, a link; put the file itself below the script")
        try:
            # Without waiting: a pipe would never answer.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        except OSError as failure:
            raise InputError(self._source, place, f"cannot read {name} ({failure.strerror})") from None
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            os.close(handle)
            raise InputError(self._source, place, f"reads {name}, which is no regular file")
        with open(handle, "rb") as file:
            found = file.read(min(self._left + 1, about.st_size))  # room is made for as much as is asked for
        if len(found) > self._left:
            mib = self._bytes_max // 2**20
            raise InputError(self._source, place, f"reads {name}, and more than {mib} MiB with it; that is too much")
        self._left -= len(found)
        return found
