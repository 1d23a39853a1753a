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
from tellegen.records.metering import Energy, Quality, Readings, ValidationRule
from tellegen.records.money import Account, Line, Postings, Statements
from tellegen.records.registry import OPERATOR, AllocationKeys, Customers, Document, Erasures
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
    "AllocationKeys",
    "Awards",
    "ClearingStatus",
    "Clearings",
    "Customers",
    "Device",
    "Document",
    "Energy",
    "Erasures",
    "Header",
    "Line",
    "Orders",
    "Postings",
    "Prices",
    "Product",
    "Quality",
    "Readings",
    "RecordError",
    "Schedules",
    "SealedBatch",
    "Side",
    "Statements",
    "Submissions",
    "Table",
    "ValidationRule",
    "column",
    "leaf_hash",
    "tree_root",
]
