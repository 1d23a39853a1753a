"""Whether a wholesale price has the proof that the rules of its day ask for; nobody takes one that lacks it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.journal import NoteVerifier
from tellegen.records import PriceSources, PublishedPrices, price_message
from tellegen.records.published import ADDRESS_BYTES_MAX
from tellegen.rules import PriceProof, RootPriceParameters

_UNSIGNED = bytes(64)
_REMEMBERED = 4_096
"""Signatures of which it is known whether they verify: a price is looked at again when it goes on record."""


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Where prices of a market come from.

    Attributes
    ----------
    source : the document, one row; no row: nobody says.
    published : the prices as they were published; zeros for a signature that is missing, no rows where none are known.
    """

    source: PriceSources
    published: PublishedPrices

    @classmethod
    def of_document(
        cls, address: str, read_at: int, size: int, sha256: bytes, published: PublishedPrices | None = None
    ) -> Provenance:
        """Prices that were read from a document.

        Parameters
        ----------
        address : URL or name. read_at : seconds since the epoch. size, sha256 : of what was read, in bytes.
        """
        source = PriceSources(
            address=np.array([address.encode("utf-8", "replace")[:ADDRESS_BYTES_MAX]], dtype=f"S{ADDRESS_BYTES_MAX}"),
            retrieved_at=np.array([read_at]),
            size=np.array([size]),
            sha256=np.array([sha256], dtype="V32"),
        )
        return cls(source, PublishedPrices.empty() if published is None else published)


NOTHING = Provenance(PriceSources.empty(), PublishedPrices.empty())


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is missing or wrong about a price, in words; of which published price, or -1: of none."""

    row: int
    words: str


def doubt(market: str, period: range, micros: int, provenance: Provenance, rules: RootPriceParameters) -> Doubt | None:
    """What keeps a price from being proven as the rules ask; None: it is.

    Parameters
    ----------
    period : market intervals in which it holds. micros : the price, micro-currency/kWh.
    rules : of its day.
    """
    if rules.proof is PriceProof.NONE:
        return None
    addresses = [address.decode() for address in provenance.source.address.tolist()]
    if not addresses or (rules.source and addresses != [rules.source]):
        came = "none" if not addresses else addresses[0]
        return Doubt(-1, f"comes from {came}, the rules name {rules.source or 'a document'}: read it from there")
    return _signature_doubt(market, period, micros, provenance, rules) if rules.proof is PriceProof.SIGNATURE else None


def _signature_doubt(
    market: str, period: range, micros: int, provenance: Provenance, rules: RootPriceParameters
) -> Doubt | None:
    published = provenance.published
    publisher = NoteVerifier.parse(rules.publisher)
    held = np.minimum(published.interval + published.intervals, period.stop) - np.maximum(
        published.interval, period.start
    )
    rows = np.flatnonzero(held > 0)
    for row in rows.tolist():
        signature = published.signature[row].tobytes()
        if signature == _UNSIGNED:
            words = f"is missing; the rules ask for one by {publisher.name}: have the publisher `tellegen prices sign`"
            return Doubt(row, words)
        interval, intervals, price = (
            int(column[row]) for column in (published.interval, published.intervals, published.micros)
        )
        if not verifies(publisher, price_message(publisher.name, market, interval, intervals, price), signature):
            return Doubt(row, f"is not that of {publisher.name} over this price; take the file from there again")
    covered = int(held[rows].sum())
    if covered != len(period) or round(int((held * published.micros)[rows].sum()) / covered) != micros:
        return Doubt(-1, f"is not the price that {publisher.name} signed; take it from there")
    return None


@lru_cache(maxsize=_REMEMBERED)
def verifies(publisher: NoteVerifier, message: bytes, signature: bytes) -> bool:
    """Whether a signature is the publisher's over a message."""
    try:
        VerifyKey(publisher.public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
