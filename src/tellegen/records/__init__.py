"""What does a fact look like? Schemas of every record and their canonical bytes.

In: arrays. Out: tables whose rows have one canonical byte form, and batch headers that bind them.
"""

from tellegen.records.batch import Header, SealedBatch, leaf_hash, tree_root
from tellegen.records.market import (
    Awards,
    Clearings,
    ClearingStatus,
    Device,
    Orders,
    Prices,
    Product,
    Schedules,
    Side,
    Submissions,
)
from tellegen.records.metering import DailyRoots, Energy, Quality, Readings, Refusal, Refusals, ValidationRule
from tellegen.records.money import Account, Line, Postings, Statements
from tellegen.records.registry import (
    OPERATOR,
    Admissions,
    AllocationKeys,
    Connections,
    Customers,
    Document,
    Erasures,
    KeyGenerations,
    Revocations,
    Role,
)
from tellegen.records.submission import Route, Statement, bids_body, parse_bids_body
from tellegen.records.table import NOBODY, RecordError, Table, column

TABLES: dict[str, type[Table]] = {
    table.kind: table
    for table in (
        Orders,
        Submissions,
        Awards,
        Schedules,
        Prices,
        Clearings,
        Readings,
        Energy,
        Customers,
        AllocationKeys,
        Erasures,
        Admissions,
        Revocations,
        Connections,
        KeyGenerations,
        Refusals,
        DailyRoots,
        Postings,
        Statements,
    )
}
"""Every table that may stand on record, by kind."""

__all__ = [
    "NOBODY",
    "OPERATOR",
    "TABLES",
    "Account",
    "Admissions",
    "AllocationKeys",
    "Awards",
    "ClearingStatus",
    "Clearings",
    "Connections",
    "Customers",
    "DailyRoots",
    "Device",
    "Document",
    "Energy",
    "Erasures",
    "Header",
    "KeyGenerations",
    "Line",
    "Orders",
    "Postings",
    "Prices",
    "Product",
    "Quality",
    "Readings",
    "RecordError",
    "Refusal",
    "Refusals",
    "Revocations",
    "Role",
    "Route",
    "Schedules",
    "SealedBatch",
    "Side",
    "Statement",
    "Statements",
    "Submissions",
    "Table",
    "ValidationRule",
    "bids_body",
    "column",
    "leaf_hash",
    "parse_bids_body",
    "tree_root",
]
