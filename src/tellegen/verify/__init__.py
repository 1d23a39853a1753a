"""Can anyone check it? A verifier that stands beside the house.

In: the directory of a run. Out: a list of checks, each with what was counted and what was found. It
imports `units`, `records`, `errors` and general libraries only, and shares no code with what wrote
the files: it has its own readers, its own Merkle tree and its own sums. Start with `directory`, which
lists the checks; `folder`, `unpacked`, `balances` and `confined` see to it that the
directory may come from a stranger. No key but the operator's public one is needed.
"""

from tellegen.verify.confined import verify_confined
from tellegen.verify.directory import verify_directory
from tellegen.verify.evidence import verify_evidence
from tellegen.verify.folder import Limits
from tellegen.verify.histories import (
    Comparison,
    Shown,
    Verdict,
    compare,
    compare_by_proof,
    compare_in_log,
    two_of_one_name,
)
from tellegen.verify.meters import ProvenReading, verify_meter_proof
from tellegen.verify.notes import Cosignature
from tellegen.verify.receipts import (
    Level,
    ProvenEntry,
    ProvenRow,
    check_receipt,
    check_row_receipt,
    entry_within,
    is_receipt,
)
from tellegen.verify.report import Check, Difference, PriceComparison, RefusedError, Report
from tellegen.verify.tiles import TiledLog, fetch_from

__all__ = [
    "Check",
    "Comparison",
    "Cosignature",
    "Difference",
    "Level",
    "Limits",
    "PriceComparison",
    "ProvenEntry",
    "ProvenReading",
    "ProvenRow",
    "RefusedError",
    "Report",
    "Shown",
    "TiledLog",
    "Verdict",
    "check_receipt",
    "check_row_receipt",
    "compare",
    "compare_by_proof",
    "compare_in_log",
    "entry_within",
    "fetch_from",
    "is_receipt",
    "two_of_one_name",
    "verify_confined",
    "verify_directory",
    "verify_evidence",
    "verify_meter_proof",
]
