"""Awards for those who brought the bids: a signed request, answered for these customers and nobody else.

``POST /v1/awards?source=...&market=...&interval=...&time=...`` with the source's Ed25519 signature, in base64 in the
header ``tellegen-signature``, over `operations.exchange.AwardsRequest`. The answer is one JSON document with the fields
of `operations.exchange.Awarded`. With ``market=price_run`` it holds, once the interval has settled, the prices at which
it did, for the same customers; in real time they are a guide until then, and the answer says so.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.operations.awards import awarded_to
from tellegen.operations.exchange import Awarded, AwardsRequest, PriceRole
from tellegen.operations.record import MARKET, ShardRecord

ASKED_S_MAX = 60
"""A request is good for so long before and after its time: nobody can use an old one."""
_PLAIN = ("market", "interval", "cleared", "prices", "settled_in", "settled_at")


class AwardsReader(Protocol):
    """What reads the market's record; it is told who has proved to ask."""

    def __call__(self, source: str, market: str, interval: int) -> Awarded | None:
        """Awards and prices of the customers whose bids for a gate a source brought; None: there is no market."""
        ...


class AwardsDesk:
    """Reads both journals of a shard, never writes; opens them when it is first asked, and again after a failure.

    Parameters
    ----------
    path : directory of the shard. Whoever asks waits for whoever asked before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._record: ShardRecord | None = None
        self._reader = ThreadPoolExecutor(1, "awards")  # keys are read in the thread that opened them

    def __call__(self, source: str, market: str, interval: int) -> Awarded | None:
        """Awards and prices of the customers whose bids for a gate a source brought; None: there is no market."""
        if not (self._path / MARKET / "journal").is_dir():
            return None
        return self._reader.submit(self._read, source, market, interval).result()

    def close(self) -> None:
        """Release the files."""
        self._reader.submit(self._drop).result()
        self._reader.shutdown()

    def _read(self, source: str, market: str, interval: int) -> Awarded:
        try:
            record = self._record = self._record or ShardRecord.open(self._path)
            record.refresh()
            return awarded_to(record, source, market, interval)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            record.close()


def check_time(request: AwardsRequest, now: int) -> None:
    """Refuse a request that is not from now.

    Raises
    ------
    RefusedBatchError : it is older than a minute, or from the future.
    """
    if abs(now - request.asked_at) > ASKED_S_MAX:
        reason = Reason.TOO_LATE if request.asked_at < now else Reason.TOO_EARLY
        raise RefusedBatchError(reason, f"the request is from {request.asked_at}, it is {now}; is the clock right?")


def document_of(awarded: Awarded) -> dict[str, Any]:
    """The answer, as JSON has it."""
    found = {each.name: getattr(awarded, each.name) for each in fields(awarded)}
    said = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}
    reasons = [
        {"customer": customer, "period": each.row, "reason": each.refusal.name.lower(), "detail": each.detail}
        for customer, each in awarded.refused()
    ]
    return said | {"refused": reasons}


def awarded_of(document: Any) -> Awarded:
    """Inverse of `document_of`.

    Raises
    ------
    KeyError, TypeError, ValueError : it is no such document.
    """
    columns = {each.name: document[each.name] for each in fields(Awarded) if each.name not in _PLAIN}
    return Awarded(
        market=str(document["market"]),
        interval=int(document["interval"]),
        cleared=bool(document["cleared"]),
        prices=PriceRole(document["prices"]),
        settled_in=str(document["settled_in"]),
        settled_at=int(document["settled_at"]),
        **{name: np.array(values, dtype=np.int64) for name, values in columns.items()},
    )
