"""What the market of a shard refuses to do."""

from __future__ import annotations

from tellegen.errors import TellegenError


class MarketError(TellegenError):
    """The market of a shard is asked for what its record does not allow."""


class NotYetError(MarketError):
    """What a verb needs is not on record yet; later it may be."""
