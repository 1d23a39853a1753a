"""Can anyone check it? A verifier that stands beside the house.

In: the directory of a run. Out: a list of checks, each with what was counted and what was found. It
imports `units`, `records`, `errors` and general libraries only, and shares no code with what wrote
the files: it has its own readers, its own Merkle tree and its own sums. Start with `directory`, which
lists the checks. No key but the operator's public one is needed.
"""

from tellegen.verify.directory import verify_directory
from tellegen.verify.meters import ProvenReading, verify_meter_proof
from tellegen.verify.receipts import ProvenEntry, ProvenRow, check_receipt, check_row_receipt
from tellegen.verify.report import Check, RefusedError, Report

__all__ = [
    "Check",
    "ProvenEntry",
    "ProvenReading",
    "ProvenRow",
    "RefusedError",
    "Report",
    "check_receipt",
    "check_row_receipt",
    "verify_directory",
    "verify_meter_proof",
]
