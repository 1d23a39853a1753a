"""The exchange without a network: an intake and the market's record in one process, for a simulation."""

from __future__ import annotations

from tellegen.intake.intake import Intake
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.intake.sent import Sent, SentBids, SentReadings, SentRoots
from tellegen.operations.awards import awarded_to, published_of
from tellegen.operations.exchange import Awarded, AwardsRequest, Published, Reply
from tellegen.operations.record import ShardRecord
from tellegen.records import Route, Statement


class InProcess:
    """An `Exchange` over an open intake and the record of a market; bodies are canonical rows.

    Parameters
    ----------
    intake : of the shard. record : of its market.
    receipts : whether replies carry receipts; a simulation that keeps none need not have them made.
    """

    def __init__(self, intake: Intake, record: ShardRecord, *, receipts: bool = True) -> None:
        self._intake, self._record, self._receipts = intake, record, receipts

    def hand_in(self, statement: Statement, signature: bytes, body: bytes) -> Reply:
        """Hand in a batch; it is on record for good when the reply comes."""
        taken = self._intake.take(statement, signature, lambda: _decoded(statement, body))
        self._intake.commit()
        headers = tuple(self._intake.journal.entry_bytes(entry) for entry in taken.entries) if self._receipts else ()
        receipts = tuple(self._intake.receipts([taken])[0]) if self._receipts else ()
        return Reply(taken.accepted, taken.refused, taken.entries, headers, receipts)

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        """Awards and prices of the customers whose bids the source brought."""
        self._intake.check_request(request.source, request.to_bytes(), signature)
        self._record.refresh()
        return awarded_to(self._record, request.source, request.market, request.interval)

    def published(self, market: str, interval: int) -> tuple[Published, ...]:
        """Prices and outcomes of a period on every feeder."""
        return published_of(self._record, market, interval)


def _decoded(statement: Statement, body: bytes) -> Sent:
    match statement.route:
        case Route.BIDS:
            return SentBids.from_bytes(body)
        case Route.READINGS:
            return SentReadings.from_bytes(body)
        case Route.DAILY_ROOTS:
            return SentRoots.from_bytes(body)
    raise RefusedBatchError(Reason.MALFORMED, f"a batch of {statement.route} is not handed in here")
