"""What each rule of the price run is for: with the rule off a trick pays, and with it on the same trick does not.

The street is drawn, with limits that bind; strategies are those that a search found. The ladder of paper is steep, the
same with a rule and without: on the small steps of the default most of these tricks earn nothing with it off either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from tellegen.assess.registry import Figure
from tellegen.assess.tricks.scene import Scene, drawn
from tellegen.assess.tricks.stage import Stage
from tellegen.assess.tricks.strategy import Claim, Trick
from tellegen.market.paper import Ladder
from tellegen.rules.price_run import PriceRun

STREET = "synthetic:40x1"
EACH = 3
STEEP = Ladder((2_000, 4_000, 8_000), (250_000, 750_000, 2_000_000))


@dataclass(frozen=True, slots=True)
class Off:
    """A rule, how it is turned off, and a trick that then pays.

    Attributes
    ----------
    beside : the same without what the rule is about, with which the trick is compared; None: with doing nothing.
    """

    name: str
    off: Callable[[PriceRun], PriceRun]
    trick: Trick
    beside: Trick | None = None


_SHORT = Trick("ten homes draw 11 kW undeclared, 24 sold ahead each", 10, -24, drawn_kw=11)
_OFFERED = Claim(-20, 0.01, from_root=True)

OFF = (
    Off(
        "paper",
        lambda rules: replace(rules, ladder=None),
        Trick("five homes draw 11 kW undeclared, 20 ahead each", 5, 20, drawn_kw=11),
    ),
    Off(
        "fills",
        lambda rules: replace(rules, fills=False),
        Trick("six homes draw 11 kW undeclared, 24 ahead each", 6, 24, drawn_kw=11),
    ),
    Off(
        "reactive_stays",
        lambda rules: replace(rules, reactive_stays=False),
        Trick("noon: five homes draw 5 kW and claim 24, 24 sold ahead each", 5, -24, (Claim(24),), drawn_kw=5, hour=12),
    ),
    Off(
        "relief",
        lambda rules: replace(rules, relief=False),
        Trick("noon: six homes draw 8 kW undeclared, 24 ahead each", 6, 24, drawn_kw=8, hour=12),
    ),
    Off(
        "relief_w",
        lambda rules: replace(rules, relief_w=1_000_000),
        replace(_SHORT, name=f"{_SHORT.name}, and offer relief that they have not", claims=(_OFFERED,)),
        _SHORT,
    ),
    Off(
        "relief_share_percent",
        lambda rules: replace(rules, relief_share_ppm=100_000_000),
        replace(_SHORT, name=f"{_SHORT.name}, 2 of them awarded, and offer relief", claims=(Claim(2), _OFFERED)),
        replace(_SHORT, claims=(Claim(2),)),
    ),
    Off(
        "within_connection",
        lambda rules: replace(rules, within_connection=False),
        Trick("scaring: ten accounts, 4 kW sold ahead and 26 claimed each", 10, -4, (Claim(26),), hour=12),
    ),
    Off(
        "late_feed_in",
        lambda rules: replace(rules, late_feed_in_micros=None),
        Trick("noon: ten homes feed in 10 kW that is read too late", 10, 0, drawn_kw=-10, silent=True, hour=12),
    ),
    Off(
        "hold_hours",
        lambda rules: replace(rules, hold_hours=0),
        Trick("scaring: ten accounts, 4 kW sold ahead and 20 claimed each", 10, -4, (Claim(20),), hour=12),
    ),
)
"""Of the other keys `settles`, off, is what each trick shows at the gate's prices; no trick is known that needs growth
or more reactive power, and where meters are missing their share is judged before a run.
"""


@cache
def street() -> Scene:
    """Where rules are turned off."""
    return drawn(STREET, EACH)


def amounts(rule: Off) -> tuple[float, float]:
    """What its trick earns with a rule off and on, currency an hour."""

    def steep(rules: PriceRun) -> PriceRun:
        return replace(rules, ladder=STEEP)

    found = []
    for rules in (lambda given: rule.off(steep(given)), steep):
        stage = Stage(street(), rules, peer=False)
        beside = 0.0 if rule.beside is None else stage.hourly(rule.beside).answered
        found.append(stage.hourly(rule.trick).answered - beside)
    return found[0], found[1]


def tried(number: int) -> Figure:
    """A rule of the list as benchmark ``tricks`` reports it."""
    rule = OFF[number]
    off, on = amounts(rule)
    return Figure(
        f"rule off: {rule.name}", off, "currency/h", conditions={"with it": round(on, 4), "trick": rule.trick.name}
    )
