"""TOML and JSON from strangers: size, depth and digits are bounded before they are parsed.

Python refuses to make a whole number of more than 4,300 digits, and to nest deeper than its stack, by errors that are
none of TOML or JSON. Here both are limits, told in one line.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from tellegen.errors import InputError
from tellegen.foreign.regular import regular_bytes

DEPTH_MAX = 64
"""Brackets within brackets, tables within tables."""
DIGITS_MAX = 400
"""Of one number; the least float written out has 324 zeros."""
TEXT_BYTES_MAX = 16 * 2**20
"""Of a file that people write by hand."""

_DIGITS = re.compile(rf"(?<![0-9_])[0-9_]{{{DIGITS_MAX + 1}}}")
# An open string ends where its reader gives up. No part of a text is gone over twice: what is taken is not given back.
_JSON_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_TOML_STRING = re.compile(
    r'"""[^"\\]*+(?:(?:\\.|"{1,2}(?!"))[^"\\]*+)*+(?:"{3,5}|\\?\Z)'
    r"|'''[^']*+(?:'{1,2}(?!')[^']*+)*+(?:'{3,5}|\Z)"
    r'|"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+(?:"|\n|\\?\Z)'
    r"|'[^'\n]*+(?:'|\n|\Z)"
    r"|\#[^\n]*+",
    re.DOTALL,
)
_DOTS = re.compile(rf"(?:\.[ \t]*+[\w-]*+[ \t]*+){{{DEPTH_MAX}}}")
"""Of one key, whose tables the reader would compare with each other."""
_NO_BRACKET = bytes(sorted(set(range(256)) - set(b"[]{}")))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def bounded_text(path: Path, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """Text of a file of tolerable size.

    Raises
    ------
    InputError : it cannot be read, is no regular file, is larger, or is no UTF-8.
    """
    try:
        return regular_bytes(path, bytes_max).decode("utf-8")
    except UnicodeDecodeError as failure:
        raise InputError(path, f"byte {failure.start}", "is not UTF-8 text; save the file as UTF-8") from None


def toml_document(text: str, source: object) -> dict[str, Any]:
    """A TOML document.

    Raises
    ------
    InputError : it is no TOML, nested too deeply, or has a number of too many digits.

    >>> toml_document("a = 1", "f.toml")
    {'a': 1}
    >>> toml_document("a = " + "9" * 5000, "f.toml")
    Traceback (most recent call last):
    ...
    tellegen.errors.InputError: f.toml: file has a number of more than 400 digits; write it shorter
    """
    document: dict[str, Any] = _parsed(tomllib.loads, "TOML", text, source, _TOML_STRING, dots=_DOTS)
    level: list[object] = [document]
    # Dotted keys make tables within tables without a bracket.
    for _ in range(DEPTH_MAX):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _parts(outer)]
        if not level:
            return document
    raise InputError(source, "file", f"nests deeper than {DEPTH_MAX} tables; write it flatter")


def json_document(
    text: str, source: object, place: str = "file", parse_constant: Callable[[str], Any] | None = None
) -> Any:
    """A JSON document; `parse_constant` as in `json.loads`.

    Raises
    ------
    InputError : it is no JSON, nested too deeply, or has a number of too many digits.
    """
    return _parsed(lambda t: json.loads(t, parse_constant=parse_constant), "JSON", text, source, _JSON_STRING, place)


def _parsed(
    parse: Callable[[str], Any],
    form: str,
    text: str,
    source: object,
    strings: re.Pattern[str],
    place: str = "file",
    dots: re.Pattern[str] | None = None,
) -> Any:
    bare = strings.sub("", text)
    if _DIGITS.search(bare):
        raise InputError(source, place, f"has a number of more than {DIGITS_MAX} digits; write it shorter")
    if dots is not None and dots.search(bare):
        raise InputError(source, place, f"nests deeper than {DEPTH_MAX} tables; write it flatter")
    brackets = bare.encode(errors="replace").translate(None, _NO_BRACKET)
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > DEPTH_MAX:
        raise InputError(source, place, f"is nested too deeply: more than {DEPTH_MAX} brackets within brackets")
    try:
        return parse(text)
    except (ValueError, RecursionError) as failure:
        raise InputError(source, place, f"is not {form}: {failure}") from None


def _parts(outer: dict[str, object] | list[object]) -> list[object]:
    return list(outer.values()) if isinstance(outer, dict) else outer
