"""Wholesale prices on to the record, each with where it comes from; and back from it, in words."""

from __future__ import annotations

import numpy as np

from tellegen.operations.price_proof import Provenance, doubt
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError
from tellegen.operations.state import State
from tellegen.operations.writer import Writer
from tellegen.privacy.recorder import Span
from tellegen.records import PriceSources, RootPrices
from tellegen.rules import PriceProof
from tellegen.units import interval_start

_IDENTITY = ("address", "size", "sha256")
"""Columns of `PriceSources` in which one document differs from another."""


def put_prices(
    record: ShardRecord, writer: Writer, state: State, prices: RootPrices, span: Span, provenance: Provenance
) -> None:
    """Put prices of one market on record; they follow from their document, and from what their publisher signed.

    Raises
    ------
    MarketError : one lacks the proof that the rules of its day ask for; nothing has been put.
    """
    signed = False
    needed = np.zeros(len(provenance.published), dtype=np.bool_)
    published = provenance.published
    for interval, micros in zip(prices.interval.tolist(), prices.micros.tolist(), strict=True):
        rules = state.book.at(state.date_of(interval)).root_prices
        if rules.proof is PriceProof.NONE:
            continue
        period = next(each for each in state.periods(span.market, interval) if interval in each)
        found = doubt(span.market, period, micros, provenance, rules)
        if found is not None:
            raise MarketError(f"{span.market} price at {interval_start(interval):%Y-%m-%d %H:%M} UTC: {found.words}")
        if rules.proof is PriceProof.SIGNATURE:
            signed = True
            needed |= (published.interval < period.stop) & (published.interval + published.intervals > period.start)
    causes = [_document(record, writer, provenance.source, span)] if len(provenance.source) else []
    if signed:
        causes.append(writer.put(published.take(needed), span))
    writer.put(prices, span, causes=causes)


def _document(record: ShardRecord, writer: Writer, source: PriceSources, span: Span) -> int:
    """Entry of the document that prices were read from; one that has not changed since is not put again."""
    for entry in record.journal.latest(PriceSources.kind):
        known = record.table(entry, PriceSources)
        if all(np.array_equal(getattr(known, name), getattr(source, name)) for name in _IDENTITY):
            return entry
    return writer.put(source, Span(span.known_at, span.interval, span.intervals))
