"""The customers' table of a new shard: a CSV row for whoever hangs on the network, and one for the substation's meter.

=================  ====================================================================================================
``customer``       a name, or in all rows the customer's number; ``substation`` is the operator's own meter at the root
``node``           bus, as in `tellegen clear`
``meter``          serial number
``capacity_kw``    what the connection carries, in both directions
``phases``         optional; of a bus with several phases the one that it hangs on
``request``        optional; file of a signing request (`tellegen registry request`), beside the table
``trailing_kwh``   optional; withdrawn over the rules' trailing days before, for the first sharing keys
=================  ====================================================================================================
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tellegen.errors import InputError
from tellegen.grid import Case
from tellegen.grid.connections import Connector
from tellegen.operations.growing import bounded_bytes, text_of
from tellegen.records import OPERATOR
from tellegen.registry import RegistryError
from tellegen.registry.authority import requested_key
from tellegen.registry.identity import CUSTOMER_MAX, NUMBER_MAX

REQUIRED = ("customer", "node", "meter", "capacity_kw")
OPTIONAL = ("phases", "request", "trailing_kwh")
SUBSTATION = "substation"
ROWS_MAX = 100_000
NAME_CHARACTERS_MAX = 40
_CAPACITY_KW_MAX = 1_000_000
_TRAILING_KWH_MAX = 1_000_000_000
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Member:
    """One row: whoever hangs on the network.

    Attributes
    ----------
    number, name : of the customer; the substation's is the number after the customers'.
    node : index in the network. phases : bits 1, 2, 4; 0: the network is balanced.
    meter : serial number. capacity_w : of the connection.
    request : signing request of the customer's key; empty: it has none yet.
    trailing_wh : withdrawn before; None: not known.
    """

    number: int
    name: str
    node: int
    phases: int
    meter: int
    capacity_w: int
    request: bytes = b""
    trailing_wh: int | None = None


def read_customers(path: Path, network_source: str, case: Case, *, without_loads: bool = False) -> tuple[Member, ...]:
    """Read the table; customers ascend by number, the substation comes last.

    Parameters
    ----------
    network_source : what the network is called in an error.
    case : names the buses; the buses of its loads have a customer each, at least one.
    without_loads : loads of the file without a customer are left out.

    Raises
    ------
    InputError : a row cannot stand, nobody or no substation is in the table, or a load has no customer; says where.
    """
    rows = list(_rows(path))
    customers = [(line, row) for line, row in rows if row["customer"].lower() != SUBSTATION]
    if not customers:
        raise InputError(path, "the table", f"has no customers; give a row each under {','.join(REQUIRED)}")
    numbers = _numbers(path, customers)
    connector, seen = Connector(case.network), _Seen(path)
    members = [
        _member(path, line, row, number, connector, seen)
        for (line, row), number in zip(customers, numbers, strict=True)
    ]
    members.sort(key=lambda member: member.number)
    roots = [(line, row) for line, row in rows if row["customer"].lower() == SUBSTATION]
    root = case.network.nodes[int(case.network.source[0])]
    if len(roots) != 1:
        raise InputError(
            path,
            "the table",
            f"has {len(roots)} rows of the root's meter; give one, with customer '{SUBSTATION}' and node '{root}'",
        )
    substation = _substation(path, *roots[0], members[-1].number + 1, case, seen)
    if not without_loads:
        _check_loads(path, network_source, case, {member.node for member in members})
    return (*members, substation)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and text by column, stripped; optional columns that are missing are empty."""
    reader = csv.reader(text_of(path, bounded_bytes(path, "customers' table")).splitlines(), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        known = {*REQUIRED, *OPTIONAL}
        if not set(REQUIRED) <= set(header) or not set(header) <= known or len(set(header)) != len(header):
            raise InputError(
                path, "line 1", f"must name the columns {','.join(REQUIRED)}, and may name {','.join(OPTIONAL)}"
            )
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise InputError(path, f"line {reader.line_num}", f"has {len(row)} columns, line 1 has {len(header)}")
            if reader.line_num > ROWS_MAX:
                raise InputError(path, f"line {reader.line_num}", f"is beyond {ROWS_MAX} rows; enrol the rest later")
            yield (
                reader.line_num,
                dict.fromkeys(OPTIONAL, "") | dict(zip(header, (cell.strip() for cell in row), strict=True)),
            )
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num}", f"is not CSV: {error}") from None


def _numbers(path: Path, rows: list[tuple[int, dict[str, str]]]) -> list[int]:
    """Numbers of the customers: their own where every row has one, else as they stand in the file."""
    texts = [row["customer"] for _, row in rows]
    own = all(text.isascii() and text.isdigit() for text in texts)
    known: dict[str, int] = {}
    for (line, _), text in zip(rows, texts, strict=True):
        place = f"line {line}, customer '{text[:NAME_CHARACTERS_MAX]}'"
        if not text or len(text) > NAME_CHARACTERS_MAX or not text.isascii() or not text.isprintable():
            raise InputError(path, place, f"is not a name of at most {NAME_CHARACTERS_MAX} printable ASCII characters")
        if own and not OPERATOR < int(text) < CUSTOMER_MAX:
            raise InputError(path, place, f"is not a number from 1 to {CUSTOMER_MAX - 1}")
        name = str(int(text)) if own else text
        if name in known:
            raise InputError(path, place, f"stands in line {known[name]} already; a customer has one row")
        known[name] = line
    return [int(text) for text in texts] if own else list(range(1, len(rows) + 1))


@dataclass(slots=True)
class _Seen:
    """Meters that have stood in the table, by the line that they stood in."""

    path: Path
    lines: dict[int, int]

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, {}

    def meter(self, line: int, text: str) -> int:
        place = f"line {line}, meter '{text[:40]}'"
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= NUMBER_MAX):
            raise InputError(self.path, place, f"is not a serial number from 0 to {NUMBER_MAX}")
        serial = int(text)
        if serial in self.lines:
            raise InputError(
                self.path, place, f"stands in line {self.lines[serial]} already; a meter hangs in one place"
            )
        self.lines[serial] = line
        return serial


def _member(path: Path, line: int, row: Mapping[str, str], number: int, connector: Connector, seen: _Seen) -> Member:
    node, phases = _place(path, line, row, connector)
    return Member(
        number=number,
        name=row["customer"],
        node=node,
        phases=phases,
        meter=seen.meter(line, row["meter"]),
        capacity_w=_capacity_w(path, line, row),
        request=_request(path, line, row["request"]),
        trailing_wh=None
        if not row["trailing_kwh"]
        else _thousandths(path, line, "trailing_kwh", row["trailing_kwh"], _TRAILING_KWH_MAX, "Wh"),
    )


def _substation(path: Path, line: int, row: Mapping[str, str], number: int, case: Case, seen: _Seen) -> Member:
    network = case.network
    terminals = [] if network.root_terminals is None else network.branches.node[network.root_terminals].tolist()
    roots = [network.nodes[k] for k in (*network.source.tolist(), *terminals)]
    if Connector(network).bus(row["node"]) not in roots:
        raise InputError(path, f"line {line}, node '{row['node']}'", f"is not the root of the network, '{roots[0]}'")
    return Member(
        number=number,
        name=SUBSTATION,
        node=int(network.source[0]),
        phases=0,
        meter=seen.meter(line, row["meter"]),
        capacity_w=_capacity_w(path, line, row),
    )


def _place(path: Path, line: int, row: Mapping[str, str], connector: Connector) -> tuple[int, int]:
    place = f"line {line}, node '{row['node'][:40]}'"
    try:
        node = connector.place(row["node"], row["phases"])
    except ValueError as error:
        raise InputError(path, place, str(error)) from None
    network = connector.network
    if not 0 <= node < len(network.nodes):
        raise InputError(
            path, place, "has several phases; name in the column phases the one that the customer hangs on"
        )
    phase = int(network.phase[node])
    return node, 1 << (phase - 1) if phase else 0


def _capacity_w(path: Path, line: int, row: Mapping[str, str]) -> int:
    watts = _thousandths(path, line, "capacity_kw", row["capacity_kw"], _CAPACITY_KW_MAX, "W")
    if not watts:
        raise InputError(
            path, f"line {line}, capacity_kw '{row['capacity_kw']}'", "is nothing; give what the fuse carries"
        )
    return watts


def _thousandths(path: Path, line: int, column: str, text: str, most: int, unit: str) -> int:
    place = f"line {line}, {column} '{text[:40]}'"
    if not _DECIMAL.fullmatch(text) or Decimal(text) > most:
        raise InputError(path, place, f"is not a decimal number from 0 to {most}")
    counted = Decimal(text) * 1000
    if counted != int(counted):
        raise InputError(path, place, f"has parts of a {unit}; give three decimals at most")
    return int(counted)


def _request(path: Path, line: int, text: str) -> bytes:
    if not text:
        return b""
    file = path.parent / text
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(path, f"line {line}, request '{text}'", f"cannot be read: {error.strerror or error}") from None
    try:
        requested_key(content)
    except RegistryError as error:
        raise InputError(path, f"line {line}, request '{text}'", f"will not do: {error}") from None
    return content


def _check_loads(path: Path, network_source: str, case: Case, served: set[int]) -> None:
    """Whatever the file connects has somebody who pays for it."""
    buses = {case.network.nodes[node] for node in served}
    for name, node in zip(case.loads.name, case.loads.node.tolist(), strict=True):
        bus = case.network.nodes[node]
        if bus not in buses:
            raise InputError(
                network_source,
                f"load '{name}' at node '{bus}'",
                f"has no customer in {path}; add a row for it, or leave such loads out with --without-loads",
            )
