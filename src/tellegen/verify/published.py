"""Checks of what a run publishes: signed files, and sums that anybody can do again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tellegen.records import CURRENCY, Account, Line, Postings
from tellegen.units import NANOS_PER_CENT, QuantityError, amount_nanos
from tellegen.verify.archive import ERASED
from tellegen.verify.balances import read_balances
from tellegen.verify.folder import MANIFEST_BYTES_MAX, Folder
from tellegen.verify.notes import OperatorKey, TreeHead, strict_base64, strict_number
from tellegen.verify.record import PublicRows
from tellegen.verify.report import RefusedError, reading
from tellegen.verify.unpacked import unpacked

POSTINGS = "tables/postings.parquet"
STATEMENTS = "tables/statements.parquet"
BOOKS = "books.sqlite"
MARKET = "market"
"""Folder in which the market of a shard keeps its own journal, and the beginning of the names of its checks."""
OWN = frozenset({"vault", "registry", "keys", "state"})
"""Folders that are the operator's own: nothing in them is read."""
UNPUBLISHED = OWN | {"journal", MARKET, "archive"}
"""Folders that no manifest lists: journals are signed by themselves, and their checkpoints cover the archive."""
LIVING = frozenset({BOOKS, "prices.csv", "reserves.csv"})
"""Files that go on as the market does: published where a manifest lists them, and else the operator's own."""

IntArray = NDArray[np.int64]
_PRICED = [int(Line.WHOLESALE_FORWARD), int(Line.WHOLESALE_REAL_TIME), int(Line.UNACCOUNTED_ENERGY)]
"""Lines above RESERVE_DOWN that are quantity times price all the same."""
Columns = dict[str, IntArray]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the operator signed for: digest and size by path; of which state of which log, and that log's last."""

    head: TreeHead
    last: TreeHead
    files: dict[str, tuple[str, int]]


def unsigned_files(run: Folder) -> list[str]:
    """Files of a run, or whatever else is no folder, that only a manifest can vouch for."""
    names = [name for name, folder, _ in run.walk(UNPUBLISHED) if not folder]
    loose = [name for name in names if name.partition("/")[0] not in UNPUBLISHED and not _is_own(name)]
    return sorted([*loose, *_loose_in_market(run)])


def _loose_in_market(run: Folder) -> list[str]:
    """What lies beside the market's journal: its archive, its state and locks are checked elsewhere, or its own."""
    if not run.has(MARKET):
        return []
    names = [name for name, folder, _ in run.below(MARKET).walk(UNPUBLISHED) if not folder]
    return [f"{MARKET}/{name}" for name in names if "/" in name or not name.endswith(".lock")]


def passed_over(run: Folder, listed: Collection[str]) -> list[str]:
    """What lies there and is not looked at: the operator's own folders, and files that no manifest lists.

    Parameters
    ----------
    listed : names of published files.
    """
    folders = [*sorted(OWN), *(f"{MARKET}/{name}" for name in sorted(OWN))]
    folders += [f"{home}archive/{ERASED}" for home in ("", f"{MARKET}/")]
    files = [*sorted(LIVING - set(listed)), "journal/elsewhere", f"{MARKET}/journal/elsewhere"]
    return [*(f"{name}/" for name in folders if run.has(name)), *(name for name in files if run.has(name))]


def _is_own(name: str) -> bool:
    """Whether a file of the top folder is the operator's own."""
    return "/" not in name and (name in LIVING | {"manifest"} or name.endswith(".lock"))


def read_manifest(run: Folder, logs: Sequence[tuple[OperatorKey, Sequence[TreeHead]]]) -> Manifest | None:
    """The manifest, where there is one; signed under the key of one of the logs, about a state that it signed for."""
    if not run.has("manifest"):
        loose = unsigned_files(run)
        if loose:
            raise RefusedError(f"there is no manifest, so nobody has signed for {loose[0]} ({len(loose)} files)")
        return None
    note = run.text("manifest", MANIFEST_BYTES_MAX)
    origin = note.partition("\norigin ")[2].partition("\n")[0]
    key, heads = next((log for log in logs if log[0].name == origin), logs[0])
    with reading("manifest"):
        lines = key.text_of(note).split("\n")[:-1]
    if len(lines) < 4 or lines[0] != "tellegen-manifest@v1" or lines[1] != f"origin {key.name}":
        raise RefusedError(f"not a manifest of {key.name}")
    size = strict_number(lines[2].removeprefix("size "), "size")
    root = strict_base64(lines[3].removeprefix("root "), "root")
    if TreeHead(size, root) not in heads:
        raise RefusedError(f"the manifest is about {size} entries under a root that no checkpoint signs")
    files: dict[str, tuple[str, int]] = {}
    for line in lines[4:]:
        digest, _, rest = line.partition(" ")
        length, _, name = rest.partition(" ")
        files[name] = digest, strict_number(length, "size of a file")
    if len(files) != len(lines) - 4:
        raise RefusedError("the manifest lists a file twice")
    return Manifest(TreeHead(size, root), heads[-1], files)


def check_published(run: Folder, manifest: Manifest) -> tuple[int, str]:
    """Published files are those that were signed for: none changed, missing or added."""
    for name in unsigned_files(run):
        if name not in manifest.files:
            raise RefusedError(f"{name} is not in the manifest")
    left = run.limits.published_bytes
    for name, (digest, size) in manifest.files.items():
        if not run.has(name):
            raise RefusedError(f"{name} is in the manifest and missing")
        with run.opened(name, left) as (file, found):
            left -= found
            if found != size:
                raise RefusedError(f"{name} has {found} bytes, the manifest says {size}")
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise RefusedError(f"{name} is not the file that was signed for")
    return len(manifest.files), f"{len(manifest.files)} files are those signed for"


def read_columns(run: Folder, name: str, columns: tuple[str, ...]) -> Columns:
    """Integer columns of a published table; what they unpack to is known before they are."""
    data = run.read(name, run.limits.file_bytes)
    limits = run.limits
    try:
        found = unpacked(data, columns)
    except RefusedError as error:
        raise RefusedError(f"{name}: {error}") from None
    if found.rows > limits.table_rows or found.size > limits.unpacked_bytes:
        raise RefusedError(
            f"{name} unpacks to {found.rows} rows and {found.size} bytes; {limits.table_rows} rows and "
            f"{limits.unpacked_bytes} bytes are read"
        )
    table = pl.scan_parquet(io.BytesIO(data))
    schema = table.collect_schema()
    for column in columns:
        if column not in schema:
            raise RefusedError(f"{name} has no column {column}")
        if not (schema[column].is_integer() or (column == "line" and schema[column] == pl.String)):
            raise RefusedError(f"{name}: column {column} holds neither whole numbers nor names of lines")
    frame = table.select(columns).collect()
    return {column: _whole_numbers(name, frame[column]) for column in columns}


def _whole_numbers(name: str, column: pl.Series) -> IntArray:
    # lines are published by name, everything else as numbers
    words = {line.name.lower(): int(line) for line in Line}
    if column.name == "line" and column.dtype == pl.String:
        column = column.replace_strict(words, default=None, return_dtype=pl.Int64)
    if not column.dtype.is_integer() or column.null_count():
        raise RefusedError(f"{name}: column {column.name} holds something else than whole numbers or names of lines")
    return column.cast(pl.Int64).to_numpy()


def group_sums(keys: list[IntArray], values: IntArray, what: str) -> dict[tuple[int, ...], int]:
    """Exact sums of `values` by key; refuses where int64 could wrap."""
    if not values.size:
        return {}
    if max(abs(int(values.max())), abs(int(values.min()))) * values.size >= 2**63:
        raise RefusedError(f"sums of {what} could overflow")
    order = np.lexsort(keys[::-1])
    rows = np.stack(keys, axis=1)[order]
    first = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    sums = np.add.reduceat(values[order].astype(np.int64), first)
    return {tuple(k): s for k, s in zip(rows[first].tolist(), sums.tolist(), strict=True)}


def check_postings(postings: Columns) -> tuple[int, str]:
    """Every transaction sums to zero in each unit of account; every energy line is quantity times price."""
    amount, line = postings["amount"], postings["line"]
    totals = group_sums([postings["cause"], postings["interval"], postings["unit"]], amount, "postings")
    for (cause, interval, unit), total in totals.items():
        if total:
            raise RefusedError(f"the transaction of interval {interval}, cause {cause}, sums to {total} of unit {unit}")
    priced = (line <= int(Line.RESERVE_DOWN)) | np.isin(line, _PRICED) | (postings["price"] != 0)
    try:
        product = amount_nanos(postings["quantity"][priced], postings["price"][priced])
    except QuantityError as error:
        raise RefusedError(f"postings: {error}") from None
    bad = np.flatnonzero(product != amount[priced])
    if bad.size:
        row = int(np.flatnonzero(priced)[bad[0]])
        raise RefusedError(f"posting {row}: amount {amount[row]} is not quantity times price {product[bad[0]]}")
    count = int(priced.sum())
    return amount.size, f"{len(totals)} transactions sum to zero; {count} lines are quantity times price"


def check_recorded_postings(postings: Columns, public: list[PublicRows]) -> tuple[int, str]:
    """The totals of the accounts that are nobody's agree with the postings on record."""
    tables = [batch.table for batch in public if isinstance(batch.table, Postings)]
    if not tables:
        return 0, "no public postings on record"
    recorded = Postings.concat(tables)
    theirs = (postings["account"] < 0) & (postings["account"] != int(Account.ERASED))
    names = ("unit", "account", "line")
    keys = [np.asarray(getattr(recorded, name), dtype=np.int64) for name in names]
    for column in ("quantity", "amount"):
        claimed = group_sums([postings[name][theirs] for name in names], postings[column][theirs], column)
        on_record = group_sums(keys, getattr(recorded, column), column)
        _compare(claimed, on_record, f"{column} of unit, account and line", "published", "on record")
    return len(recorded), f"{len(recorded)} public postings on record give the published totals of their accounts"


def check_statements(postings: Columns, statements: Columns) -> tuple[int, str]:
    """Statements are the sums of the postings, and their cents add up to the customer's total."""
    theirs = (postings["account"] > 0) & (postings["unit"] == CURRENCY)
    keys = [postings["account"][theirs], postings["line"][theirs]]
    stated_keys = [statements["customer"], statements["line"]]
    for column in ("quantity", "amount"):
        posted = group_sums(keys, postings[column][theirs], column)
        stated = group_sums(stated_keys, statements[column], column)
        _compare(stated, posted, f"{column} of customer and line", "stated", "posted")
    cents = group_sums([statements["customer"]], statements["cents"], "cents")
    total = group_sums([statements["customer"]], statements["amount"], "amounts")
    for (customer,), nanos in total.items():
        if cents[customer,] * NANOS_PER_CENT != nanos:
            raise RefusedError(
                f"customer {customer}: the cents add up to {cents[customer,]}, the amounts to {nanos} nano"
            )
    # compared in cents: a product of cents as large as a forger likes could wrap to any amount
    whole, rest = np.divmod(statements["amount"], NANOS_PER_CENT)
    lifted = statements["cents"] == whole + 1
    off = (statements["cents"] != whole) & ~(lifted & (rest > 0))
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise RefusedError(
            f"statement row {row}: {statements['cents'][row]} cents for {statements['amount'][row]} nano"
        )
    return statements["amount"].size, f"{len(total)} customers' lines are sums of postings; their cents add up"


def check_books(run: Folder, postings: Columns) -> tuple[int, str]:
    """Balances are the sums of the postings and sum to zero themselves."""
    balances = read_balances(run, BOOKS)
    posted = group_sums([postings["unit"], postings["account"]], postings["amount"], "amounts")
    _compare(balances, posted, "balance of unit and account", "in the books", "posted")
    totals: dict[int, int] = {}
    for (unit, _), nanos in balances.items():
        totals[unit] = totals.get(unit, 0) + nanos
    for unit, total in totals.items():
        if total:
            raise RefusedError(f"the balances of unit {unit} sum to {total}")
    return len(balances), f"{len(balances)} balances are sums of postings, and sum to zero"


def _compare(
    left: dict[tuple[int, ...], int], right: dict[tuple[int, ...], int], what: str, left_is: str, right_is: str
) -> None:
    for key in sorted(left.keys() | right.keys()):
        if left.get(key, 0) != right.get(key, 0):
            name = ", ".join(map(str, key))
            raise RefusedError(f"{what} {name}: {left.get(key, 0)} {left_is}, {right.get(key, 0)} {right_is}")
