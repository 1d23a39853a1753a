"""What is printed moves no cursor: names come from anybody, and a terminal obeys what it is shown.

Colours are let through, for tables and the help have some; everything else that is no text is spelt out, as are bytes
of file names that are no text, which could not be written at all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console

from tellegen.errors import printable

_CODE = r"(?:[34]8;(?:5;\d{1,3}|2;\d{1,3};\d{1,3};\d{1,3})|[0-479]|2[2-9]|[349][0-7]|10[0-7]|[34]9)"
_PASSED = re.compile(rf"(\x1b\[(?:{_CODE}(?:;{_CODE})*)?m|[\n\t])")
"""Line ends, tabs, and the codes of colours and weights; hidden text (8) is none of them."""


def spelt_out(text: str) -> str:
    r"""Text as a terminal may be shown it, over several lines and in colours.

    >>> spelt_out("\x1b[1mbold\x1b[0m \x1b[2J\n")
    '\x1b[1mbold\x1b[0m \\x1b[2J\n'
    """
    if text.isprintable():
        return text
    return "".join(part if k % 2 else printable(part) for k, part in enumerate(_PASSED.split(text)))


class _SpeltOut:
    """A stream that writes what it is given spelt out; in everything else it is the stream that it stands before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(spelt_out(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_output() -> Iterator[None]:
    """What is printed meanwhile is spelt out."""
    before = sys.stdout
    sys.stdout = _SpeltOut(before)
    try:
        yield
    finally:
        sys.stdout = before


class ErrorConsole(Console):
    """Where errors and progress are said, each text spelt out."""

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`."""
        super().print(*(spelt_out(each) if isinstance(each, str) else each for each in objects), **options)
