"""OpenDSS scripts under an allow-list: what reaches the engine is written here, word by word.

The script and what it redirects to are taken apart by our own reader. Commands, classes and properties are looked up in
`opendss_words`, abbreviations as the engine takes them, and written anew in full; files of numbers become the numbers.
So the engine needs no file, and no second reading of a line can make another word of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tellegen.errors import InputError
from tellegen.foreign.folder import Folder
from tellegen.foreign.opendss_numbers import column_of, columns_of_file, coordinates_of, number_of
from tellegen.foreign.opendss_text import Parameter, lines, name_of, parameters, shown
from tellegen.foreign.opendss_words import (
    COMMANDS,
    COUNTS,
    HARMLESS,
    LEFT_OUT,
    NODES_PER_BUS_MAX,
    OPTIONS,
    OPTIONS_LEFT_OUT,
    OPTIONS_PASSED,
    PASSED,
    PROPERTIES,
    REFUSED,
)

BYTES_MAX = 64 * 2**20
"""Of a script with all that it reads; the 8500-node feeder has 3 MB."""
COMMANDS_MAX = 1_000_000
DEPTH_MAX = 20
"""Scripts within scripts."""

_LIBRARY = frozenset({"LineCode", "LineGeometry", "LineSpacing", "WireData", "CNData", "TSData", "XfmrCode"})
"""Classes that a file right beside the script's folder may define, as the IEEE feeders share their line codes."""
OUTSIDE = "../"
"""How places in such a file begin. Nothing of it is shown in errors: it may be any file."""
NO_LIBRARY = "reads a file beside the script's folder that is no list of line codes; put the file below the script"

_KIND = {name.lower(): name for name in PROPERTIES} | {"circuit": "Vsource"}
_WHOLE = re.compile(r"\d{1,12}(?:\.0*)?", re.ASCII)
_WORD = re.compile(r"[^\s,]++")
_BUSES = frozenset({"Bus1", "Bus2", "Bus", "Buses"})


@dataclass(frozen=True, slots=True)
class Command:
    """A command for the engine, and where it stands."""

    text: str
    place: str


@dataclass(slots=True)
class Reading:
    """What a script says.

    Attributes
    ----------
    commands : for the engine, in order.
    coordinates : (x, y) of buses by name in lower case.
    left_out : commands and options that only report, by their full names.
    """

    commands: list[Command] = field(default_factory=list)
    coordinates: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)


def read_script(path: Path) -> Reading:
    """Read a script and all that it redirects to.

    Raises
    ------
    InputError : a file cannot be read or is none of the script's own; a word is not known or not allowed; a limit is
        exceeded. One line: file, line, remedy.
    """
    if path.is_symlink():
        raise InputError(path, "file", "is a link; name the file itself")
    folder = Folder(str(path), path.parent, BYTES_MAX)
    reader = _Reader(str(path), folder)
    reader.run((path.name,))
    return reader.reading


class _Reader:
    """State of a reading: the folder that names are relative to, and the object that `more` continues."""

    def __init__(self, source: str, folder: Folder) -> None:
        self.reading = Reading()
        self._source, self._folder = source, folder
        self._open: list[tuple[str, ...]] = []
        self._within: tuple[str, ...] = ()
        self._kind: str | None = None
        self._place, self._read = "", 0
        self._verbs: dict[str, Callable[[list[Parameter]], None]] = {
            "New": lambda said: self._object("new", said),
            "Edit": lambda said: self._object("edit", said),
            "BatchEdit": lambda said: self._object("batchedit", said),
            "Select": lambda said: self._object("select", said),
            "More": self._more,
            "M": self._more,
            "~": self._more,
            "Set": lambda said: self._options("set", said),
            "Solve": lambda said: self._options("solve", said),
            "Open": lambda said: self._switch("open", said),
            "Close": lambda said: self._switch("close", said),
            "Enable": lambda said: self._switch("enable", said),
            "Disable": lambda said: self._switch("disable", said),
            "Redirect": lambda said: self._redirect(said, stay=False),
            "Compile": lambda said: self._redirect(said, stay=True),
            "SetkVBase": self._base,
            "Buscoords": lambda said: self._coordinates(said, swapped=False),
            "LatLongCoords": lambda said: self._coordinates(said, swapped=True),
            "SetBusXY": self._point,
        }

    def run(self, parts: tuple[str, ...]) -> None:
        """Read a file."""
        if parts in self._open:
            raise self._error("redirects to a file that is being read already; take the ring apart")
        if len(self._open) >= DEPTH_MAX:
            raise self._error(f"is a script within {DEPTH_MAX} scripts; put them one after the other")
        text = _decoded(self._folder.read(parts, self._place or "file"))
        self._open.append(parts)
        within, self._within = self._within, parts[:-1]
        inner = "" if len(self._open) == 1 else f"{'/'.join(parts)}, "
        for number, line in lines(text):
            self._place = f"{inner}line {number}"
            try:
                said = parameters(line)
                if said:
                    self._command(said)
            except ValueError as problem:
                raise self._error(str(problem)) from None
        self._open.pop()
        self._within = within

    def _command(self, said: list[Parameter]) -> None:
        self._read += 1
        if self._read > COMMANDS_MAX:
            raise self._error(f"is beyond {COMMANDS_MAX} commands, which is too many")
        first = said[0]
        if first.name is not None and self._open[-1][0] != "..":
            self._dotted(said)
            return
        word = first.value.strip()
        name = _resolved(word, COMMANDS)
        if self._open[-1][0] == ".." and name not in ("New", "More", "M", "~"):
            raise self._error(NO_LIBRARY)
        if name in LEFT_OUT:
            self.reading.left_out.add(name.lower())
        elif name in PASSED:
            if len(said) > 1:
                raise self._error(f"gives '{name.lower()}' more words; leave them out")
            self._say(name)
        elif name in self._verbs:
            self._verbs[name](said[1:])
            return
        elif name is not None:
            raise self._error(f"command '{name.lower()}' is not carried out for a file; leave it out")
        else:
            raise self._error(f"command {shown(word)} is not known; leave it out, or correct it")
        self._kind = None

    def _say(self, text: str) -> None:
        self.reading.commands.append(Command(text, self._place))

    def _object(self, verb: str, said: list[Parameter]) -> None:
        """``new class.name property=value ...``, and the other verbs of the same form."""
        if not said or (said[0].name or "object").lower() != "object":
            raise self._error(f"does not say what to {verb}; write {verb} class.name")
        self._kind, full = self._named(said[0])
        called = f"{full.partition('.')[0].lower()}.{full.partition('.')[2]}"
        self._say(" ".join([f"{verb} {said[0].token}", *self._properties(said[1:], called)]))

    def _named(self, said: Parameter) -> tuple[str, str]:
        """Class and full name of an object."""
        full = name_of(said)
        word, dot, _ = full.partition(".")
        kind = _KIND.get(word.lower())
        if not dot:
            raise self._error(f"{shown(full)} is no object; write class.name")
        if self._open[-1][0] == ".." and kind not in _LIBRARY:
            raise self._error(NO_LIBRARY)
        if kind is None:
            known = "the classes in docs/networks.md"
            raise self._error(f"{shown(full)} is of a class that has no model here; known are {known}")
        return kind, full

    def _more(self, said: list[Parameter]) -> None:
        if self._kind is None:
            raise self._error("continues nothing; '~' stands right behind the object's own line")
        self._say(" ".join(["more", *self._properties(said, self._kind.lower())]))

    def _dotted(self, said: list[Parameter]) -> None:
        """``class.name.property=value ...``."""
        whole = said[0].name or ""
        owner, _, word = whole.rpartition(".")
        if owner.count(".") != 1:
            raise self._error(f"{shown(whole)} is no property of an object; write class.name.property=value")
        self._kind, full = self._named(Parameter(None, owner))
        rest = [Parameter(word, said[0].token), *said[1:]]
        self._say(" ".join([f'edit "{full}"', *self._properties(rest, full.lower())]))

    def _properties(self, said: list[Parameter], called: str) -> list[str]:
        """Properties in full, files of numbers as numbers."""
        assert self._kind is not None
        names, position = PROPERTIES[self._kind], 0
        told: list[str] = []
        for parameter in said:
            if parameter.name is None:
                name = names[position] if position < len(names) else None
                if name is None:
                    raise self._error(f"{shown(called)} has a value too many")
            else:
                name = _resolved(parameter.name, names)
            if name is None:
                known = shown(parameter.name or "")
                raise self._error(f"property {known} of {shown(called)} is not known; leave it out, or correct it")
            if name in REFUSED[self._kind]:
                raise self._error(f"property '{name}' of {shown(called)} is not read: it loads code or files")
            position = names.index(name) + 1
            told += self._value(name, parameter, told)
        return told

    def _value(self, name: str, said: Parameter, told: list[str]) -> list[str]:
        value = said.value.strip()
        if name in ("CSVFile", "SngFile", "DblFile", "PQCSVFile"):
            paired = self._paired(told)
            return columns_of_file(name, self._kind or "", self._file(value), paired)
        if name in COUNTS and not (_WHOLE.fullmatch(value) and int(value.partition(".")[0]) <= COUNTS[name]):
            raise self._error(f"'{name}' must be a whole number of at most {COUNTS[name]}")
        harmless = HARMLESS.get((self._kind or "", name))
        if harmless is not None:
            full = next((word for word in harmless if value and word.startswith(value.lower())), None)
            if full is None:
                raise self._error(f"'{name}' may write files; only {' or '.join(harmless)} is read")
            return [f"{name}={full}"]
        if name in _BUSES and any(m[0].count(".") > NODES_PER_BUS_MAX for m in _WORD.finditer(value)):
            raise self._error(f"'{name}' has a bus with more than {NODES_PER_BUS_MAX} nodes")
        if said.quoted and "=" in value:
            return [f"{name}={self._list(value)}"]
        return [f"{name}={said.token}"]

    def _paired(self, told: list[str]) -> bool:
        """Whether a file's lines begin with their hours: the interval was said to be 0."""
        said = [word.partition("=")[2] for word in told if word.startswith(("Interval=", "SInterval=", "MInterval="))]
        if not said:
            return False
        interval = number_of(Parameter(None, said[-1]).value.strip())
        if interval is None:
            raise self._error("has an interval that is no number, and a file that is read by it; write the number")
        return interval == 0

    def _list(self, value: str) -> str:
        """The numbers of ``(file=name, column=2, header=yes)`` and of the binary forms."""
        options = {(one.name or "").lower(): one.value.strip() for one in parameters(value)}
        form = next(iter(options), "")
        if form not in ("file", "sngfile", "dblfile") or options.keys() - {form, "column", "header"}:
            raise self._error("has '=' within a value; only (file=...), (sngfile=...) and (dblfile=...) are read")
        content = self._file(options[form])
        column, header = options.get("column", "1"), options.get("header", "no")[:1].lower() in ("y", "t")
        if not re.fullmatch(r"[1-9]\d{0,3}", column):
            raise self._error("has a column that is no number from 1")
        return column_of(form, content, int(column), header)

    def _file(self, words: str) -> bytes:
        if self._open[-1][0] == "..":
            raise self._error(NO_LIBRARY)
        return self._folder.read(self._folder.below(words, self._within, self._place), self._place)

    def _options(self, verb: str, said: list[Parameter]) -> None:
        told = []
        for parameter in said:
            name = _resolved(parameter.name or "", OPTIONS) if parameter.name else None
            if name in OPTIONS_LEFT_OUT:
                self.reading.left_out.add(f"set {name.lower()}")
            elif name in OPTIONS_PASSED:
                if parameter.quoted and "=" in parameter.value:
                    raise self._error(f"option '{name}' has '=' within its value; write numbers")
                told.append(f"{name}={parameter.token}")
            elif name is not None:
                raise self._error(f"option '{name.lower()}' is not read from a file; leave it out")
            else:
                word = shown(parameter.name or parameter.value)
                raise self._error(f"option {word} is not known; leave it out, or correct it")
        if told or verb == "solve":
            self._say(" ".join([verb, *told]))
        self._kind = None

    def _switch(self, verb: str, said: list[Parameter]) -> None:
        """``open line.a 2 1`` and the like; the engine takes their words by position."""
        if not said:
            raise self._error(f"does not say what to {verb}; write {verb} class.name")
        self._named(said[0])
        numbers = [parameter.value.strip() for parameter in said[1:]]
        if verb in ("enable", "disable") and numbers:
            raise self._error(f"gives '{verb}' more than an object")
        if len(numbers) > 2 or not all(re.fullmatch(r"\d{1,2}", number) for number in numbers):
            raise self._error(f"'{verb}' takes the number of a terminal and of a conductor behind the object")
        self._say(" ".join([verb, said[0].token, *numbers]))
        self._kind = None

    def _redirect(self, said: list[Parameter], *, stay: bool) -> None:
        if len(said) != 1 or (said[0].name or "file").lower() != "file":
            raise self._error("names no file, or more than one; put a name with spaces in quotation marks")
        parts = self._folder.below(said[0].value, self._within, self._place, beside=".dss")
        self._kind, place = None, self._place
        if parts[0] == "..":
            try:
                self.run(parts)
            except InputError:
                self._place = place
                raise self._error(NO_LIBRARY) from None
        else:
            self.run(parts)
        self._place, self._kind = place, None
        if stay and parts[0] != "..":
            self._within = parts[:-1]

    def _base(self, said: list[Parameter]) -> None:
        """``setkvbase bus=b kvll=0.4``."""
        order = ("Bus", "kVLL", "kVLN")
        told = []
        for k, parameter in enumerate(said):
            name = order[min(k, 1)] if parameter.name is None else _resolved(parameter.name, order)
            if name is None or "=" in parameter.value:
                raise self._error("is 'setkvbase bus=NAME kvll=VALUE' or 'kvln=VALUE'")
            told.append(f"{name}={parameter.token}")
        self._say(" ".join(["SetkVBase", *told]))
        self._kind = None

    def _coordinates(self, said: list[Parameter], *, swapped: bool) -> None:
        if len(said) != 1:
            raise self._error("names no file of coordinates, or more than one")
        content = _decoded(self._file(said[0].value))
        self.reading.coordinates |= coordinates_of(content, swapped)
        self._kind = None

    def _point(self, said: list[Parameter]) -> None:
        values = dict(zip(("bus", "x", "y"), (one.value.strip() for one in said), strict=False))
        values |= {one.name.lower(): one.value.strip() for one in said if one.name}
        bus, x, y = values.get("bus"), number_of(values.get("x", "")), number_of(values.get("y", ""))
        if not bus or x is None or y is None:
            raise self._error("is 'setbusxy bus=NAME x=NUMBER y=NUMBER'")
        self.reading.coordinates[bus.lower()] = x, y
        self._kind = None

    def _error(self, problem: str) -> InputError:
        return InputError(self._source, self._place or "file", problem)


def _resolved(word: str, names: tuple[str, ...]) -> str | None:
    """The name that the engine takes a word for: the same, else the first that begins with it."""
    low = word.lower()
    if not low:
        return None
    return next((n for n in names if n.lower() == low), next((n for n in names if n.lower().startswith(low)), None))


def _decoded(content: bytes) -> str:
    """Text of a file; old scripts come in the encoding of old Windows."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
