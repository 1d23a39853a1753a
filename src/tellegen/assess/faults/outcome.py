"""What a market came to, without what may differ between two of them: when it was written, and under which key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from tellegen.operations.record import ShardRecord
from tellegen.records import Awards, Clearings, Energy, Postings, Prices, Statements, Table

Place = tuple[str, str, int]
"""Market, feeder and first interval of a record."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Recorded prices, awards and energy, statements, and balances by account and line.

    Attributes
    ----------
    prices, clearings, awards, energy, statements : canonical rows by place, in the order of the journal.
    balances : nano-currency, folded from the postings.
    """

    prices: Mapping[Place, bytes]
    clearings: Mapping[Place, bytes]
    awards: Mapping[Place, bytes]
    energy: Mapping[Place, bytes]
    statements: Mapping[Place, bytes]
    balances: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, record: ShardRecord) -> Outcome:
        """Read it from the market's journal."""
        balances: dict[tuple[int, int], int] = {}
        for index in record.journal.find(kind=Postings.kind):
            postings = record.table(index, Postings)
            columns = postings.account.tolist(), postings.line.tolist(), postings.amount.tolist()
            for account, line, nanos in zip(*columns, strict=True):
                balances[account, line] = balances.get((account, line), 0) + nanos
        return cls(
            prices=_rows(record, Prices),
            clearings=_rows(record, Clearings),
            awards=_rows(record, Awards),
            energy=_rows(record, Energy),
            statements=_rows(record, Statements),
            balances=balances,
        )

    def difference(self, other: Outcome) -> str:
        """The first difference, in words; empty where there is none."""
        for spec in fields(self):
            mine, theirs = getattr(self, spec.name), getattr(other, spec.name)
            for key in sorted(mine.keys() | theirs.keys()):
                if mine.get(key) != theirs.get(key):
                    return f"{spec.name} of {key}: {_short(mine.get(key))}, and {_short(theirs.get(key))}"
        return ""


def _rows(record: ShardRecord, kind: type[Table]) -> dict[Place, bytes]:
    found: dict[Place, bytes] = {}
    for index in record.journal.find(kind=kind.kind):
        header = record.header(index)
        place = header.market, header.feeder, header.interval
        found[place] = found.get(place, b"") + record.table(index, kind).rows().tobytes()
    return found


def _short(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
