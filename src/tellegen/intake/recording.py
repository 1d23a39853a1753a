"""What the intake puts on record: batches as sent, which of their rows do not count, and what it says itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.intake.sent import Sent, SentBids, SentReadings, SentRoots
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import Header, Refusals, SealedBatch, Statement, Table
from tellegen.registry.changes import SentChanges
from tellegen.units import MARKET_INTERVAL_S

SOURCE = "intake"
"""Who says which rows do not count."""


class Recording:
    """Seals and appends; raises `JournalError` or `VaultError` where the disk refuses."""

    def __init__(self, journal: Journal, vault: Vault) -> None:
        self._journal, self._vault = journal, vault

    def own(self, table: Table, now: int) -> int:
        """Append what the intake itself has to say."""
        interval = now // MARKET_INTERVAL_S
        batch = self._vault.seal(table, feeder="", interval=interval, intervals=1, source=SOURCE, known_at=now)
        return self._journal.append(batch)

    def change(
        self, sent: SentChanges, statement: Statement, signature: bytes, now: int
    ) -> tuple[tuple[int, ...], Header]:
        """Append a change of the registry, the authority's word for it before it; entries, and header of the last."""
        said = statement.evidence(signature)
        with self._journal.together():
            before = (
                ()
                if sent.certification is None
                else (self._journal.append(self._seal(sent.certification, statement, statement.source, now, (), said)),)
            )
            batch = self._seal(sent.table, statement, statement.source, now, (), said)
            return (*before, self._journal.append(batch)), batch.header

    def sent(self, sent: Sent, statement: Statement, signature: bytes, now: int) -> tuple[int, ...]:
        """Append rows as they were sent; their entries, that of who signed them last."""
        evidence = statement.evidence(signature)

        def put(table: Table, causes: tuple[int, ...] = ()) -> int:
            return self._journal.append(self._seal(table, statement, statement.source, now, causes, evidence))

        match sent:
            case SentReadings():
                return (put(sent.readings),)
            case SentRoots():
                return (put(sent.roots),)
            case SentBids():
                offered = put(sent.orders)
                return offered, put(sent.submissions, (offered,))

    def refuse_rows(self, refusal: NDArray[np.uint8], statement: Statement, batch: int, now: int) -> int:
        """Append which rows of a batch do not count, and why."""
        rows = np.flatnonzero(refusal)
        table = Refusals(row=rows, refusal=refusal[rows])  # type: ignore[arg-type]
        return self._journal.append(self._seal(table, statement, SOURCE, now, (batch,), ""))

    def _seal(
        self, table: Table, statement: Statement, source: str, known_at: int, causes: tuple[int, ...], evidence: str
    ) -> SealedBatch:
        return self._vault.seal_live(
            table,
            feeder=statement.feeder,
            interval=statement.interval,
            intervals=1,
            source=source,
            known_at=known_at,
            name=statement.name(),
            market=statement.market,
            causes=causes,
            evidence=evidence,
        )
