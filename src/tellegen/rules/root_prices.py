"""What must prove a wholesale price at the root: the operator pays and charges it, so it may not be its own word.

Declared here as the calendar is in `tellegen.rules.calendar`: `operations` reads it and stands above.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PriceProof(StrEnum):
    """What stands on record with a wholesale price, or it is refused."""

    NONE = "none"
    """Nothing: the price is the operator's word."""
    HASH = "hash"
    """Address, time and digest of the document that it was read from: whoever holds that document can compare."""
    SIGNATURE = "signature"
    """The publisher's signature over it: anybody can check."""


@dataclass(frozen=True, slots=True)
class RootPriceParameters:
    """Where wholesale prices come from.

    Attributes
    ----------
    proof : that each must have.
    source : address (URL) or name of the document in which they are published; empty where none is named.
    publisher : verifier key of who signs them (``NAME+ID+BASE64``); empty where nobody is named.
    """

    proof: PriceProof = PriceProof.NONE
    source: str = ""
    publisher: str = ""

    @property
    def words(self) -> str:
        """What stands behind a price.

        >>> RootPriceParameters().words
        'unproven, as the rules ask for no proof'
        """
        match self.proof:
            case PriceProof.SIGNATURE:
                return f"signed by {self.publisher.partition('+')[0]}"
            case PriceProof.HASH:
                return f"read from {self.source}, with its digest on record"
            case PriceProof.NONE:
                return "unproven, as the rules ask for no proof"
