"""The rules of the price run: what of the orders of a gate counts once meters have shown who meant them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tellegen.market.paper import Ladder

HOLD_HOURS_MAX = 168
"""Nobody is on hold for longer than a week by one judgement."""


@dataclass(frozen=True, slots=True)
class PriceRun:
    """Parameters of the second clearing of an interval, on what meters show (`operations.price_run`).

    Each of them can be turned off or moved, so that anybody can see what breaks without it.

    Attributes
    ----------
    ladder : paper at every node, in the run and in every gate; None: there is none, and prices may leave cap and floor.
    fills : awards on the side of the net reading count as priced, up to its size. Where false, all that is metered is
        inflexible.
    reactive_stays : awarded reactive power stays on offer, up to its award and `reactive_more_ppm` beyond it, for homes
        whose net reading differs from what was awarded by no more than `relief_share_ppm` of the reactive awards and
        `relief_w` in var. Where false, what meters show is inflexible.
    relief : orders that were not awarded, sells at the price of the root or above and buys at it or below, stay on
        offer for homes whose net reading is beyond what they did of their awards by no more than `relief_share_ppm` of
        that and `relief_w`; of devices for which somebody vouches (`within_devices` and `attested`) all of it, of all
        else up to as much as they drew or fed in, and `relief_w`.
    growth_ppm : by how much an order that was awarded in part may be filled beyond what was delivered of it: it was at
        the margin, and where neighbours differ from their awards by a little, it still is. None by default: which of
        its orders counts as delivered its owner can choose.
    within_connection : orders of who asks for, or offers, more energy than its connection can carry are refused.
    within_devices : orders for a device that is not registered, or beyond what it can do, are refused.
    attested : so are those for a device for whose capacity nobody vouches.
    reserve_of_devices : so is reserve of a connection as such (device LOAD), of which nobody knows what could be held.
    late_feed_in_micros : most that is paid per kWh that a home fed in beyond what a run counted of its missing meter
        (`settlement`), micro-currency; None: the price of the run.
    missing_ppm : where more than this share of the meters on a feeder is missing, there is no run.
    hold_ppm, hold_wh, hold_hours : whose readings were beside its awards by more than `hold_wh` within a day, and by
        more than this share of them, stands at what its meter last showed in the real-time gates of so many hours
        (`operations.delivery`); 0: nobody does.
    absent_stand : so does, in a real-time gate, who is connected and sent no order for it; where false, it counts as
        nothing.
    stand_reactive : who stands at what its meter last showed does so with its reactive power too.
    """

    ladder: Ladder | None = field(default_factory=Ladder)
    fills: bool = True
    reactive_stays: bool = True
    reactive_more_ppm: int = 100_000
    relief: bool = True
    relief_share_ppm: int = 250_000
    relief_w: int = 500
    growth_ppm: int = 0
    within_connection: bool = True
    within_devices: bool = True
    attested: bool = True
    reserve_of_devices: bool = True
    late_feed_in_micros: int | None = 0
    missing_ppm: int = 200_000
    hold_ppm: int = 500_000
    hold_wh: int = 5_000
    hold_hours: int = 24
    absent_stand: bool = True
    stand_reactive: bool = True
