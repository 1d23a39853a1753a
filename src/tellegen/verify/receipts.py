"""Receipts, checked offline with nothing but the operator's verifier key (C2SP tlog-proof)."""

from __future__ import annotations

from dataclasses import dataclass

from tellegen.records import Header, RecordError, leaf_hash
from tellegen.verify.notes import OperatorKey, TreeHead, strict_base64, strict_number
from tellegen.verify.report import RefusedError
from tellegen.verify.tree import leaf, root_from_path

PROOF_MAGIC = "c2sp.org/tlog-proof@v1"
ROW_PROOF_MAGIC = "tellegen-row-proof@v1"
_PATH_MAX = 64


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry that is on record at `index`, under a checkpoint of `size` entries."""

    header: Header
    index: int
    size: int


@dataclass(frozen=True, slots=True)
class ProvenRow:
    """A row that is on record at `row` of an entry."""

    entry: ProvenEntry
    row: int


def check_receipt(receipt: str, entry: bytes, key: str) -> ProvenEntry:
    """Check that the log entry with these bytes is on record.

    Parameters
    ----------
    receipt : text of the tlog-proof.
    entry : canonical bytes of the header (`Header.to_bytes`).
    key : the operator's verifier key.

    Raises
    ------
    RefusedError : the receipt does not prove it.
    """
    index, path, head, _ = _parse(receipt, key)
    if root_from_path(leaf(entry), index, head.size, path) != head.root:
        raise RefusedError("the inclusion proof does not lead to the signed root")
    try:
        return ProvenEntry(Header.from_bytes(entry), index, head.size)
    except RecordError as error:
        raise RefusedError(str(error)) from None


def check_row_receipt(receipt: str, row: bytes, salt: bytes, key: str) -> ProvenRow:
    """Check that a row is on record.

    Parameters
    ----------
    receipt : tlog-proof whose extra line carries the inner proof.
    row : canonical bytes of the row.
    salt : its 16-byte salt; empty for a public row.
    key : the operator's verifier key.

    Raises
    ------
    RefusedError : the receipt does not prove it.
    """
    _, _, _, extra = _parse(receipt, key)
    if extra is None:
        raise RefusedError("the receipt has no inner proof")
    try:
        text = extra.decode()
    except UnicodeDecodeError:
        raise RefusedError("the inner proof is not text") from None
    head, _, entry = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) < 3 or lines[0] != ROW_PROOF_MAGIC or not entry.endswith("\n"):
        raise RefusedError("the inner proof is not of version 1")
    proven = check_receipt(receipt, entry[:-1].encode(), key)
    number = strict_number(lines[1].removeprefix("row "), "row")
    rows = strict_number(lines[2].removeprefix("rows "), "rows")
    if rows != proven.header.rows:
        raise RefusedError(f"the inner proof is for {rows} rows, the entry has {proven.header.rows}")
    if root_from_path(leaf_hash(salt, row), number, rows, _path(lines[3:])).hex() != proven.header.row_root:
        raise RefusedError("the inner proof does not lead to the entry's row root")
    return ProvenRow(proven, number)


def _path(lines: list[str]) -> list[bytes]:
    path = [strict_base64(line, "proof line") for line in lines]
    if len(path) > _PATH_MAX or any(len(node) != 32 for node in path):
        raise RefusedError("an inclusion proof is up to 64 hashes of 32 bytes")
    return path


def _parse(receipt: str, key: str) -> tuple[int, list[bytes], TreeHead, bytes | None]:
    body, gap, note = receipt.partition("\n\n")
    lines = body.split("\n")
    if not gap or lines[0] != PROOF_MAGIC:
        raise RefusedError("not a tlog-proof of version 1")
    lines, extra = lines[1:], None
    if lines and lines[0].startswith("extra "):
        extra, lines = strict_base64(lines[0].removeprefix("extra "), "extra"), lines[1:]
    if not lines or not lines[0].startswith("index "):
        raise RefusedError("the tlog-proof has no index")
    index = strict_number(lines[0].removeprefix("index "), "index")
    return index, _path(lines[1:]), TreeHead.parse(note, OperatorKey.parse(key)), extra
