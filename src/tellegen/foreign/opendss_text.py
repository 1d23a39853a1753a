"""OpenDSS's lines as words: what stands where, without knowing what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_QUOTED = r'"[^"]*"|\'[^\']*\'|\([^)]*\)|\[[^\]]*\]|\{[^}]*\}'
_BARE = r"""(?:[^\s,="'()\[\]{}!/]++|/(?!/))++"""
_PARAMETER = re.compile(rf"({_QUOTED}|{_BARE})[ \t]*(?:(=)[ \t]*({_QUOTED}|{_BARE})?)?[ \t]*,?[ \t]*")
_LINE = re.compile(r"([^\r\n]*+)(?:\r\n?|\n|\Z)")
_VARIABLE = re.compile(r"(?:^|[\s,=|(\[{\"'])@")
_FOR_THE_ENGINE = re.compile(r"[,=\"'()\[\]{}!@]|//")
"""What ends a word for the engine, begins a quotation or a comment, or names a variable."""
_PLAIN = re.compile(r"[A-Za-z0-9_%?~][\w%.~-]{0,59}", re.ASCII)


WORDS_MAX = 1_000
"""Of one line; a list in brackets is one."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ``name=value``, or a value alone (`name` is None).

    Attributes
    ----------
    token : the value with its quotation marks or brackets, as the engine is to read it.
    """

    name: str | None
    token: str

    @property
    def value(self) -> str:
        """The value without its quotation marks or brackets."""
        return self.token[1:-1] if self.token[:1] in tuple("\"'([{") else self.token

    @property
    def quoted(self) -> bool:
        """Whether quotation marks or brackets stand around the value."""
        return self.value is not self.token


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Numbers, from 1, and contents of all lines, one after the other: a text may be of millions."""
    for number, match in enumerate(_LINE.finditer(text), start=1):
        yield number, match[1]


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbers, from 1, and contents of lines that hold something, block comments left out."""
    inside = False
    for number, line in lines_of(text):
        line = line.strip(" \t\x1a\f\v")
        if line.startswith("/*"):
            inside = True
        if inside:
            inside = "*/" not in line
        elif line:
            yield number, line


def parameters(line: str) -> list[Parameter]:
    """Words of a line up to a comment.

    Raises
    ------
    ValueError : it cannot be read; says why.

    >>> [(p.name, p.token) for p in parameters("new line.a bus1=x, kvs=(11 0.4) ! a line")]
    [(None, 'new'), (None, 'line.a'), ('bus1', 'x'), ('kvs', '(11 0.4)')]
    """
    found: list[Parameter] = []
    at = 0
    while at < len(line) and line[at] != "!" and not line.startswith("//", at):
        if len(found) >= WORDS_MAX:
            raise ValueError(f"has more than {WORDS_MAX} words; put them on lines of their own, which begin with ~")
        match = _PARAMETER.match(line, at)
        if match is None:
            if line[at] in "\"'([{":
                raise ValueError("has a quotation mark or bracket that is not closed on its line")
            raise ValueError("cannot be read; a line is a command and name=value, in quotation marks or brackets")
        first, equals, second = match.groups()
        at = match.end()
        if equals:
            found.append(Parameter(name_of(Parameter(None, first)), second or '""'))
        else:
            found.append(Parameter(None, first))
    for parameter in found:
        if not parameter.token.replace("\t", " ").isprintable():
            raise ValueError("has control characters")
        if "@" in parameter.token and _VARIABLE.search(parameter.token):
            raise ValueError("uses a variable (@); write its value")
    return found


def name_of(said: Parameter) -> str:
    """A word as a name, which the engine reads as one word within quotation marks or without.

    Raises
    ------
    ValueError : within its quotation marks is what the engine could take for more than a name.
    """
    name = said.value
    if not name.isprintable() or _FOR_THE_ENGINE.search(name):
        raise ValueError(
            "has a name with control characters, commas, '=', a variable's '@', brackets, quotation or comment marks"
        )
    return name


def shown(word: str) -> str:
    """A word as errors may show it: only what looks like a name, for a file may hold anything."""
    return f"'{word}'" if _PLAIN.fullmatch(word) else "(not a name)"
