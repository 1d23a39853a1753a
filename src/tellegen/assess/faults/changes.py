"""What is done to one file of a directory: a change is drawn from a seed, made in a copy, and undone."""

from __future__ import annotations

import io
import random
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import polars as pl

_PAGE, _BLOCK = 4_096, 64
_NOTE_LINES = 5
_TEXT = frozenset({"", ".pub", ".json", ".html", ".csv", ".toml", ".pem", ".txt"})
_HOME = r"(market/)?"


class Way(StrEnum):
    """How a file is changed."""

    FLIPPED = "a bit flipped"
    CUT = "cut short"
    EMPTIED = "emptied"
    REMOVED = "removed"
    SWAPPED = "swapped with another"
    REPEATED = "a record repeated"
    REORDERED = "two records reordered"
    DROPPED = "a record left out"
    TWICE = "put in twice"
    STALE = "an earlier state put back"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    pattern : of its names. words : with which a finding names it or what it is part of; none: by its own name.
    passed_over : why verification does not look at it; empty where it does.
    """

    name: str
    pattern: re.Pattern[str]
    words: tuple[str, ...] = ()
    passed_over: str = ""


def _kind(name: str, pattern: str, words: tuple[str, ...] = (), passed_over: str = "") -> Kind:
    return Kind(name, re.compile(pattern), words, passed_over)


KINDS = (
    _kind("log", rf"{_HOME}journal/log/.*", ("log", "entry", "entries")),
    _kind("payloads", rf"{_HOME}journal/payloads/.*", ("payload",)),
    _kind("checkpoints", rf"{_HOME}journal/checkpoints?", ("checkpoint",)),
    _kind("cosignatures", rf"{_HOME}journal/cosigned", ("cosigned",)),
    _kind("public keys", rf"{_HOME}journal/operator\.pub", ("operator.pub",)),
    _kind("indices", rf"{_HOME}journal/index/.*", passed_over="made again from the log"),
    _kind("elsewhere", rf"{_HOME}journal/elsewhere", passed_over="whom the operator's programs ask"),
    _kind("erased leaves", rf"{_HOME}archive/erased/.*", passed_over="hashes that only the vault's owner can compare"),
    _kind("archive", rf"{_HOME}archive/.*"),
    _kind("own folders", rf"{_HOME}(vault|registry|keys|state)/.*", passed_over="the operator's own"),
    _kind("locks", rf"{_HOME}[^/]*\.lock", passed_over="hold nothing"),
    _kind("manifest", r"manifest", ("manifest",)),
    _kind("published tables", r".*\.parquet"),
    _kind("books", r"books\.sqlite"),
    _kind("published documents", r".*"),
)
LIVING = ("books.sqlite", "prices.csv", "reserves.csv")
NOT_PUBLISHED = Kind("living files", re.compile("$"), passed_over="not published: no manifest lists it")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a directory.

    Attributes
    ----------
    kind : of the file. name : the file that is changed. also : a second one, for which it is swapped or as which it
        is put in again.
    files : contents after the change by name; None: no such file. kinds : of these, by name.
    still_true : why verification rightly says that the directory verifies; empty where it should not.
    """

    way: Way
    kind: Kind
    name: str
    also: str
    files: Mapping[str, bytes | None]
    kinds: Mapping[str, Kind]
    still_true: str = ""

    @property
    def words(self) -> str:
        """In one line."""
        return f"{self.name}: {self.way}{f' ({self.also})' if self.also else ''}"


def kind_of(name: str, published: frozenset[str]) -> Kind:
    """Kind of a file of a directory whose manifest lists `published`."""
    if name in LIVING and name not in published:
        return NOT_PUBLISHED
    return next(kind for kind in KINDS if kind.pattern.fullmatch(name))


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a directory by kind, and how they were before.

    Parameters
    ----------
    path : the directory, which nobody changes. earlier : the same at an earlier time, or None.
    """

    path: Path
    earlier: Path | None
    names: Mapping[Kind, Sequence[str]]

    @classmethod
    def of(cls, path: Path, earlier: Path | None) -> Files:
        """Find them."""
        manifest = path / "manifest"
        lines = manifest.read_text().splitlines() if manifest.is_file() else []
        published = frozenset(line.split(" ", 2)[2] for line in lines if line.count(" ") >= 2)
        names: dict[Kind, list[str]] = {}
        for each in sorted(path.rglob("*")):
            if each.is_file():
                name = each.relative_to(path).as_posix()
                names.setdefault(kind_of(name, published), []).append(name)
        return cls(path, earlier, names)

    def draw(self, chance: random.Random, *, looked_at: bool = True) -> Change:
        """A change: of any kind of file with the same probability, of any file of it, in any way that changes it.

        Parameters
        ----------
        looked_at : of a file at which verification looks.
        """
        kinds = [kind for kind in self.names if (not kind.passed_over) == looked_at]
        while True:
            kind, way = chance.choice(kinds), chance.choice(list(Way))
            change = self.change(kind, chance.choice(self.names[kind]), way, chance)
            if change is not None:
                return change

    def change(self, kind: Kind, name: str, way: Way, chance: random.Random) -> Change | None:
        """Change a file; None where that would leave all as it is."""
        content, also, others, kinds = self._read(name), "", dict[str, bytes | None](), {name: kind}
        changed: bytes | None
        if way is Way.SWAPPED:
            # what is looked at changes places with what is, and everything else within its kind
            among = [kind] if kind.passed_over else [each for each in self.names if not each.passed_over]
            of = chance.choice(among)
            also = chance.choice(self.names[of])
            kinds[also] = of
            changed, others = self._read(also), {also: content}
        elif way is Way.TWICE:
            also, changed = self._second_name(name, chance), content
            others, kinds[also] = {also: content}, kind
        elif way is Way.STALE:
            before = self._before(kind, name, content, chance)
            changed = content if before is None else before
        else:
            changed = _changed(name, content, way, chance)
        if changed == content and way is not Way.TWICE:
            return None
        reason = kind.passed_over or _still_true(name, way, content, changed)
        return Change(way, kind, name, also, {name: changed, **others}, kinds, reason)

    def _read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def _before(self, kind: Kind, name: str, content: bytes, chance: random.Random) -> bytes | None:
        """An earlier state of a file: as it was kept, or, of what only grows, its beginning."""
        if self.earlier is not None:
            path = self.earlier / name
            return path.read_bytes() if path.is_file() else None
        if kind.name not in ("log", "payloads") and not name.endswith("/checkpoints"):
            return None
        parts = _pieces(name, content)
        return b"".join(parts[: chance.randint(1, len(parts))])

    def _second_name(self, name: str, chance: random.Random) -> str:
        folder, slash, file = name.rpartition("/")
        stem, dot, suffix = file.partition(".")
        if stem.isdigit() and chance.random() < 0.5:
            last = max(n for names in self.names.values() for n in names if n.rpartition("/")[0] == folder)
            return f"{folder}{slash}{int(last.rpartition('/')[2].partition('.')[0]) + 1:06d}{dot}{suffix}"
        return f"{folder}{slash}{stem} (1){dot}{suffix}"


def _changed(name: str, content: bytes, way: Way, chance: random.Random) -> bytes | None:
    if way is Way.REMOVED:
        return None
    if way is Way.EMPTIED or not content:
        return b""
    if way is Way.CUT:
        return content[: chance.randrange(len(content))]
    if way is Way.FLIPPED:
        bit = chance.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)
    if name.endswith(".parquet"):
        frame = pl.read_parquet(content)
        out = io.BytesIO()
        order = _order(frame.height, way, chance)
        if order == list(range(frame.height)):
            return content
        frame[order].write_parquet(out)
        return out.getvalue()
    parts = _pieces(name, content)
    return b"".join(parts[k] for k in _order(len(parts), way, chance))


def _still_true(name: str, way: Way, before: bytes, after: bytes | None) -> str:
    """Why a file at which verification looks says nothing untrue after a change; empty where it does."""
    if after is None:
        return ""
    if way is Way.DROPPED and name.endswith("journal/checkpoints") and after.endswith(_pieces(name, before)[-1]):
        return "each checkpoint that is left is signed and right"
    if name.endswith("journal/cosigned"):
        text, _, _ = before.rpartition(b"\n\n")
        if after.startswith(text + b"\n\n") and sorted(after.splitlines()) == sorted(before.splitlines()):
            return "signatures in another order are the same"
        if way is Way.STALE:
            return "a witness signed that, too"
    return ""


def _order(count: int, way: Way, chance: random.Random) -> list[int]:
    """Which of some records come after each other, once one is repeated or left out, or two change places."""
    order = list(range(count))
    if not count:
        return order
    at, other = chance.randrange(count), chance.randrange(count)
    if way is Way.REPEATED:
        order.insert(other, at)
    elif way is Way.REORDERED:
        order[at], order[other] = order[other], order[at]
    else:
        del order[at]
    return order


def _pieces(name: str, content: bytes) -> list[bytes]:
    """A file's records: frames of a segment, notes of `checkpoints`, lines, pages of a database; else blocks of it."""
    path = Path(name)
    if path.suffix == ".seg":
        parts, at = [], 0
        while at < len(content):
            stop = at + 8 + struct.unpack_from("<I", content, at)[0]
            parts.append(content[at:stop])
            at = stop
        return parts
    if path.suffix in _TEXT:
        lines = content.splitlines(keepends=True)
        step = _NOTE_LINES if path.name == "checkpoints" else 1
        return [b"".join(lines[k : k + step]) for k in range(0, len(lines), step)]
    size = _PAGE if path.suffix == ".sqlite" else _BLOCK
    return [content[at : at + size] for at in range(0, len(content), size)]


@contextmanager
def made(change: Change, copy: Path) -> Iterator[None]:
    """Make a change in a copy; it is undone at the end. The copy's files may be links: none is written in its place."""
    kept = copy.with_name(f"{copy.name}.kept")
    kept.mkdir()
    try:
        for number, (name, content) in enumerate(change.files.items()):
            if (copy / name).exists():
                (copy / name).rename(kept / str(number))
            if content is not None:
                (copy / name).write_bytes(content)
        yield
    finally:
        for number, name in enumerate(change.files):
            (copy / name).unlink(missing_ok=True)
            if (kept / str(number)).exists():
                (kept / str(number)).rename(copy / name)
        kept.rmdir()
