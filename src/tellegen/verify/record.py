"""Checks of the journal: every byte of it has one place, and every place is signed for."""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tellegen.records import AUTHORITY_DOCUMENT, NOBODY, TABLES, Clocks, Header, Prices, Table
from tellegen.verify.archive import STUB_MAGIC, Stub
from tellegen.verify.folder import NOTE_BYTES_MAX, Folder
from tellegen.verify.notes import OperatorKey, SignedHead, TreeHead, WitnessKey
from tellegen.verify.report import RefusedError, reading
from tellegen.verify.tree import Tree, growing_roots, leaf, root_from_path, root_of

_NOTE_LINES = 5
_SEGMENT_NAME = re.compile(r"[0-9]{6}\.seg")
_INDEX_NAME = re.compile(r"index/[0-9]{6}\.idx")
"""Files that are made again from the log where they are missing or damaged: nothing rests on them."""
_PAYLOAD_HEAD = struct.Struct("<4sIIII")
_PAYLOAD_SEGMENT = struct.Struct("<16s12sI")
_LIVE_MAGIC = b"TLP2"
_LIVE_HEAD = struct.Struct("<4sIII12s")
_TAG_BYTES = 16
_ENTRY_BYTES_MAX, _PAYLOAD_BYTES_MAX = 65_535, 1 << 28
_BATCH_BYTES = 4_096
"""What the rows of a batch take in memory beside their bytes."""
_HEX64 = re.compile(r"[0-9a-f]{64}")


SIMULATED = "simulated/"
"""How names of logs begin that are not of a real market."""
BEHIND_S_MAX = 300
"""An entry may be on its way to the log, and a checkpoint to its witness, for so long."""
Entries = Sequence[tuple[Header, bytes]]
"""The log: each header with its bytes."""


@dataclass(frozen=True, slots=True)
class PublicRows:
    """The plain rows of one batch: where the batch stands, and its rows."""

    index: int
    header: Header
    table: Table


@dataclass(frozen=True, slots=True)
class Payloads:
    """What the payloads hold.

    bound : rows whose hashes were checked. live : rows that only the vault can bind. public : plain rows.
    documents : latest content of each that lies open, by name. stubs : of rows that lie in the archive.
    hidden : entries none of whose rows can be seen here. authorities : contents of those documents, by entry.
    """

    bound: int
    live: int
    public: list[PublicRows]
    documents: dict[str, bytes]
    stubs: list[Stub]
    hidden: frozenset[int]
    authorities: dict[int, bytes]


def operator_key(run: Folder, pinned: str | None) -> OperatorKey:
    """The key of the journal; the pinned one if given."""
    text = run.text("journal/operator.pub", NOTE_BYTES_MAX)
    if not text.endswith("\n"):
        raise RefusedError("operator.pub is cut short")
    if pinned is not None and pinned.strip() != text[:-1]:
        raise RefusedError(f"operator.pub holds {text[:-1]}, not the pinned key")
    with reading("operator.pub"):
        return OperatorKey.parse(text[:-1])


def check_files(run: Folder) -> tuple[int, str]:
    """Nothing lies in the journal's folder but what belongs there."""
    count = 0
    for name, is_folder, is_file in run.below("journal").walk():
        part, _, file = name.rpartition("/")
        known = name in {"checkpoint", "checkpoints", "cosigned", "elsewhere", "operator.pub"} or (
            part in {"log", "payloads"} and _SEGMENT_NAME.fullmatch(file)
        )
        derived = _INDEX_NAME.fullmatch(name) is not None
        belongs = (known or derived) if is_file else is_folder and name in {"log", "payloads", "index"}
        if not belongs:
            raise RefusedError(f"journal/{name} does not belong there")
        count += is_file and not derived
    return count, f"{count} files, each of a known kind"


def frames(run: Folder, part: str, frame_bytes_max: int) -> Iterator[tuple[str, bytes]]:
    """Place and bytes of each frame: length u32, crc32 u32 over length and bytes, bytes."""
    names = [name for name, _, _ in run.below(f"journal/{part}").walk() if name.endswith(".seg")]
    if names != [f"{k:06d}.seg" for k in range(len(names))]:
        raise RefusedError(f"{part}/ is not numbered without a gap: {', '.join(names)}")
    for name in names:
        place = f"{part}/{name}"
        with run.opened(f"journal/{place}", sys.maxsize) as (file, size):
            at = 0
            while head := file.read(8):
                length, checksum = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
                if len(head) < 8 or length > size - at - 8:
                    raise RefusedError(f"{place} is cut short in the frame at byte {at}")
                if length > frame_bytes_max:
                    raise RefusedError(f"{place}: the frame at byte {at} has {length} bytes, {frame_bytes_max} at most")
                data = file.read(length)
                if zlib.crc32(head[:4] + data) != checksum:
                    raise RefusedError(f"{place}: the frame at byte {at} fails its checksum")
                yield f"{place} at byte {at}", data
                at += 8 + length
            if at == 0:
                raise RefusedError(f"{place} is empty")


def read_log(run: Folder) -> list[tuple[Header, bytes]]:
    """Headers with their entry bytes, in order; each well-formed, with its causes before it."""
    entries: list[tuple[Header, bytes]] = []
    left = run.limits.log_bytes
    for place, data in frames(run, "log", _ENTRY_BYTES_MAX):
        left -= len(data)
        if left < 0:
            raise RefusedError(f"{place}: a log of more than the {run.limits.log_bytes} bytes that are read")
        header = Header.from_bytes(data)
        texts = (header.kind, header.name, header.feeder, header.market, header.source)
        numbers = (header.interval, header.intervals, header.known_at, header.rows, *header.causes)
        if not all(isinstance(t, str) for t in texts) or not all(type(n) is int for n in numbers):
            raise RefusedError(f"{place}: a field of entry {len(entries)} has the wrong type")
        if header.rows < 0 or not all(0 <= c < len(entries) for c in header.causes):
            raise RefusedError(f"{place}: entry {len(entries)} follows from an entry that is not before it")
        if entries and header.known_at < entries[-1][0].known_at and header.kind != Clocks.kind:
            raise RefusedError(f"{place}: entry {len(entries)} became known before entry {len(entries) - 1}")
        if header.kind not in TABLES and header.kind != "document":
            raise RefusedError(f"{place}: entry {len(entries)} is of an unknown kind {header.kind!r}")
        for digest in (header.row_root, header.payload_sha256):
            if not isinstance(digest, str) or not _HEX64.fullmatch(digest):
                raise RefusedError(f"{place}: a digest of entry {len(entries)} is not 64 hex digits")
        entries.append((header, data))
    if len({data for _, data in entries}) != len(entries):
        raise RefusedError("an entry stands twice in the log")
    return entries


def read_checkpoints(run: Folder, key: OperatorKey) -> list[TreeHead]:
    """Every checkpoint in order: signed, growing, the last one standing in `checkpoint` too."""
    text = run.text("journal/checkpoints", run.limits.log_bytes)
    lines = text.split("\n")
    if lines.pop() or len(lines) % _NOTE_LINES or not lines:
        raise RefusedError("checkpoints is cut short")
    notes = ["\n".join([*lines[at : at + _NOTE_LINES], ""]) for at in range(0, len(lines), _NOTE_LINES)]
    heads: list[TreeHead] = []
    for number, note in enumerate(notes):
        try:
            heads.append(TreeHead.parse(note, key))
        except RefusedError as error:
            raise RefusedError(f"checkpoints, line {number * _NOTE_LINES + 1}: {error}") from None
    for number, (before, after) in enumerate(itertools.pairwise(heads), 1):
        if after.size <= before.size:
            raise RefusedError(f"checkpoints, line {number * _NOTE_LINES + 1}: size {after.size} follows {before.size}")
    if run.text("journal/checkpoint", NOTE_BYTES_MAX) != notes[-1]:
        raise RefusedError("checkpoint is not the last of checkpoints")
    return heads


def check_history(entries: Entries, heads: list[TreeHead]) -> tuple[int, str]:
    """Each signed root is that of the entries there are, so every state extends the one before it."""
    if heads[-1].size != len(entries):
        raise RefusedError(f"the log holds {len(entries)} entries, the last checkpoint signs {heads[-1].size}")
    signed = {head.size: head.root for head in heads}
    for size, root in enumerate(growing_roots([leaf(data) for _, data in entries])):
        if signed.get(size, root) != root:
            raise RefusedError(f"the root signed at size {size} is not that of the entries of the log")
    return len(heads), f"{len(heads)} signed roots are those of the {len(entries)} entries; each extends the one before"


def check_cosignatures(
    run: Folder, key: OperatorKey, entries: Entries, witnesses: Sequence[WitnessKey]
) -> tuple[int, str]:
    """What witnesses have cosigned is a state of this log; those that were asked for are among them."""
    path, signed = "journal/cosigned", None
    if run.has(path):
        with reading("cosigned"):
            signed = SignedHead.parse(run.text(path, NOTE_BYTES_MAX), key, witnesses)
    present = [] if signed is None else [cosignature.witness for cosignature in signed.cosignatures]
    for witness in witnesses:
        if witness.name not in present:
            raise RefusedError(f"not cosigned by {witness.name}")
    if signed is None:
        return 0, "absent: no witness has cosigned this log"
    head = signed.head
    if head.size > len(entries) or root_of([leaf(data) for _, data in entries[: head.size]]) != head.root:
        raise RefusedError(f"the cosigned root at size {head.size} is not that of the entries")
    _check_behind(key, entries[head.size :], [seen.time for seen in signed.cosignatures], head.size)
    strangers = f"; not counted, as no key was given: {', '.join(signed.strangers)}" if signed.strangers else ""
    by = f"cosigned by {', '.join(present)}" if present else "none verified"
    return len(present), f"first {head.size} entries: {by}{strangers}"


def _check_behind(key: OperatorKey, later: Entries, seen_at: Sequence[int], size: int) -> None:
    """What was not on record when a witness signed did not become known long before; a simulation has its own time."""
    if not seen_at or key.name.startswith(SIMULATED):
        return
    earliest = min(seen_at) - BEHIND_S_MAX
    for index, (header, _) in enumerate(later, size):
        if header.known_at < earliest:
            behind = min(seen_at) - header.known_at
            raise RefusedError(
                f"entry {index} says that it became known {behind} s before a witness saw the log without it: it is "
                "back-dated, or the operator's clock is slow"
            )


def check_proofs(entries: Entries, head: TreeHead) -> tuple[int, str]:
    """An inclusion proof for every entry leads to the last signed root."""
    leaves = [leaf(data) for _, data in entries]
    tree = Tree(leaves)
    for index, node in enumerate(leaves):
        if root_from_path(node, index, head.size, tree.path(index)) != head.root:
            raise RefusedError(f"entry {index} cannot be proved under the last checkpoint")
    return len(leaves), f"{len(leaves)} entries proved under the last checkpoint"


def check_payloads(run: Folder, entries: Entries) -> Payloads:
    """Payloads are those the entries name, or stubs of them; row hashes rebuild the row roots."""
    bound = live = 0
    public: list[PublicRows] = []
    documents: dict[str, bytes] = {}
    authorities: dict[int, bytes] = {}
    stubs: list[Stub] = []
    hidden: set[int] = set()
    stored = frames(run, "payloads", _PAYLOAD_BYTES_MAX)
    left = run.limits.open_bytes
    for index, (header, _) in enumerate(entries):
        place, data = next(stored, ("", b""))
        if not place:
            raise RefusedError(f"payloads/ ends before the payload of entry {index}")
        if data.startswith(STUB_MAGIC):
            stubs.append(Stub.parse(index, header, data))
            hidden.add(index)
            continue
        if hashlib.sha256(data).hexdigest() != header.payload_sha256:
            raise RefusedError(f"{place}: the payload is not the one that entry {index} names")
        if data.startswith(_LIVE_MAGIC):
            _check_live(index, header, data)
            live += header.rows
            hidden.add(index)
            continue
        rows = _check_rows(index, header, data)
        bound += header.rows
        if isinstance(rows, bytes):
            left -= len(rows) + _BATCH_BYTES
            documents[header.name] = rows
            if header.name == AUTHORITY_DOCUMENT:
                authorities[index] = rows
        elif rows is not None:
            left -= len(rows.table) * rows.table.row_dtype().itemsize + _BATCH_BYTES
            public.append(rows)
        if left < 0:
            raise RefusedError(f"{place}: more than the {run.limits.open_bytes} bytes of open rows that are read")
    for place, _ in stored:
        raise RefusedError(f"{place}: a payload that no entry names")
    return Payloads(bound, live, public, documents, stubs, frozenset(hidden), authorities)


def _check_live(index: int, header: Header, data: bytes) -> None:
    """All that can be seen of rows under an epoch's key is how many there are."""
    row_bytes = TABLES[header.kind].row_dtype().itemsize if header.kind in TABLES else -1
    if len(data) < _LIVE_HEAD.size or _LIVE_HEAD.unpack_from(data)[2:4] != (header.rows, row_bytes):
        raise RefusedError(f"payload of entry {index} ({header.kind}) does not begin as its entry says")
    if len(data) != _LIVE_HEAD.size + header.rows * row_bytes + _TAG_BYTES:
        raise RefusedError(f"payload of entry {index} ({header.kind}) does not hold as many rows as it says")


def _check_rows(index: int, header: Header, data: bytes) -> PublicRows | bytes | None:
    """Rows that lie open, or the content of a document that does."""
    what = f"payload of entry {index} ({header.kind})"
    if len(data) < _PAYLOAD_HEAD.size:
        raise RefusedError(f"{what} is cut short")
    magic, rows, row_bytes, public, segments = _PAYLOAD_HEAD.unpack_from(data)
    hashes_end = _PAYLOAD_HEAD.size + 32 * rows
    numbers_end = hashes_end + 4 * public
    rows_end = numbers_end + row_bytes * public
    if magic != b"TLP1" or rows_end > len(data) or rows != header.rows or public > rows:
        raise RefusedError(f"{what} does not begin as its entry says")
    hidden = rows - public
    at = rows_end
    for _ in range(segments):
        if at + _PAYLOAD_SEGMENT.size > len(data):
            raise RefusedError(f"{what} is cut short")
        length = _PAYLOAD_SEGMENT.unpack_from(data, at)[2]
        at += _PAYLOAD_SEGMENT.size + length
        count, rest = divmod(length - _TAG_BYTES, 4 + row_bytes)
        hidden -= count
        if rest:
            raise RefusedError(f"{what} has a segment that is not whole rows")
    if at != len(data) or hidden:
        raise RefusedError(f"{what} does not end, or hold as many rows, as it says")
    leaves = [data[k : k + 32] for k in range(_PAYLOAD_HEAD.size, hashes_end, 32)]
    if root_of(leaves).hex() != header.row_root:
        raise RefusedError(f"{what}: the row hashes do not rebuild the row root")
    numbers = np.frombuffer(data, dtype="<u4", count=public, offset=hashes_end).tolist()
    for k, number in enumerate(numbers):
        row = data[numbers_end + k * row_bytes : numbers_end + (k + 1) * row_bytes]
        if (k and number <= numbers[k - 1]) or number >= rows or leaf(row) != leaves[number]:
            raise RefusedError(f"{what}: public row {number} is not the one on record")
    if header.kind == "document":
        return data[numbers_end:rows_end] if public else None
    schema = TABLES[header.kind]
    if row_bytes != schema.row_dtype().itemsize:
        raise RefusedError(f"{what}: rows of {row_bytes} bytes, {header.kind} has {schema.row_dtype().itemsize}")
    table = schema.from_bytes(data[numbers_end:rows_end])
    if (table.subjects() != NOBODY).any():
        raise RefusedError(f"{what}: a customer's row lies open")
    return PublicRows(index, header, table) if public else None


def check_prices(public: list[PublicRows]) -> tuple[int, str]:
    """Every recorded price is exactly the sum of its parts, and lies in its range."""
    count = 0
    for batch in public:
        table = batch.table
        if not isinstance(table, Prices):
            continue
        bad = np.flatnonzero(table.energy != table.root + table.losses + table.congestion + table.voltage)
        if bad.size:
            raise RefusedError(
                f"entry {batch.index}: the price at node {table.node[bad[0]]} is not the sum of its parts"
            )
        count += len(table)
    return count, f"{count} prices are the sum of energy, losses, congestion and voltage" if count else "none on record"
