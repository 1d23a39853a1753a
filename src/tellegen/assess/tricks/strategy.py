"""What somebody might try: claims, relief, real acts, silence, and a strategy of all of these at random."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product

import numpy as np

from tellegen.records import Product

CAP, FLOOR = 5.0, -1.0
"""Of the default rulebook, currency/kWh."""


class Withheld(StrEnum):
    """What homes do with relief that they have: offers at the price of the root or above."""

    NOTHING = "nothing"
    OFFERED_HIGH = "offered at the cap"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True, slots=True)
class Claim:
    """An order that nobody means, of each account.

    Attributes
    ----------
    kw : bought; negative: offered for sale. kvar where it is reactive power, kW of capacity where it is reserve.
    price : its limit, currency/kWh; None: at any price. from_root : the price is so far from the root's.
    """

    kw: float
    price: float | None = None
    product: Product = Product.ENERGY
    from_root: bool = False


@dataclass(frozen=True, slots=True)
class Trick:
    """What each of some accounts does in every interval of an hour.

    Accounts of their own stand beside homes, with the connection and devices of such a home, and draw nothing but what
    the trick says. Where homes themselves act (`withheld`, `undrawn`), they are those with most relief, or which draw
    most.

    Attributes
    ----------
    accounts : how many there are.
    ahead_kw : bought day-ahead by each, or by another account beside it (`apart`); negative: sold.
    claims : orders of each.
    drawn_kw, drawn_kvar : drawn by each without an order; negative: fed in.
    undrawn : share of what homes draw that they leave undrawn.
    silent : no reading of it is there when the price is made; it counts with nothing, and settles with what it drew.
    hour : local hour of the day. seat : at the nodes of the highest numbers, or so many further up.
    """

    name: str
    accounts: int
    ahead_kw: float = 0.0
    claims: tuple[Claim, ...] = ()
    apart: bool = False
    drawn_kw: float = 0.0
    drawn_kvar: float = 0.0
    undrawn: float = 0.0
    silent: bool = False
    withheld: Withheld = Withheld.NOTHING
    hour: int = 19
    seat: int = field(default=0)

    @property
    def only_says(self) -> bool:
        """Whether nothing of it is an act: no meter shows it, and no home keeps back what it has."""
        acts = self.drawn_kw or self.drawn_kvar or self.undrawn or self.silent
        return not acts and self.withheld is Withheld.NOTHING

    @property
    def of_homes(self) -> bool:
        """Whether homes act themselves, and not accounts beside them."""
        return self.undrawn > 0 or self.withheld is not Withheld.NOTHING

    def scaled(self, factor: float) -> Trick:
        """The same on a network whose customers are so many times as large."""
        claims = tuple(replace(each, kw=round(each.kw * factor, 1)) for each in self.claims)
        more = {name: round(getattr(self, name) * factor, 1) for name in ("ahead_kw", "drawn_kw", "drawn_kvar")}
        return replace(self, claims=claims, **more)


COUNTS = (1, 2, 5, 10)
_SCHEMES = (
    ("20 kW ahead, 120 of load claimed", 20, 120, 19),
    ("noon: 20 kW sold ahead, 300 of paper sun", -20, -300, 12),
    ("scaring: 20 kW sold ahead, 240 of load claimed", -20, 240, 10),
    ("luring: noon, 20 kW ahead, 240 of paper sun", 20, -240, 12),
)


def _claims() -> list[Trick]:
    tricks = []
    for (said, ahead, claim, hour), count, priced, apart in product(_SCHEMES, COUNTS, (False, True), (False, True)):
        bound = CAP if claim > 0 else FLOOR
        name = f"{said} {'at the bound' if priced else 'at any price'}, {count} account{'s' * (count > 1)}"
        if apart:
            name += " and as many that hold the position"
        order = Claim(claim / count, bound if priced else None)
        tricks.append(Trick(name, count, ahead / count, (order,), apart, hour=hour))
    return tricks


def _fuses() -> list[Trick]:
    """As much as connections carry, so that admission takes it."""
    return [
        Trick("ten accounts, 2 kW ahead and 24 claimed each, as fuses allow", 10, 2, (Claim(24),)),
        Trick("the same at the cap", 10, 2, (Claim(24, CAP),)),
        Trick("scaring within fuses: ten accounts, 4 kW sold ahead and 24 claimed each", 10, -4, (Claim(24),), hour=10),
        Trick("luring within fuses: ten accounts, 4 kW ahead and 24 of paper sun each", 10, 4, (Claim(-24),), hour=12),
        Trick("five accounts, 20 kW ahead and 40 claimed each", 5, 20, (Claim(40),)),
        Trick("120 kW claimed at the cap, 20 drawn, 44 ahead", 1, 44, (Claim(120, CAP),), drawn_kw=20),
    ]


def _relief() -> list[Trick]:
    above, below = Claim(-20, 0.001, from_root=True), Claim(20, -0.001, from_root=True)
    kvar = (Claim(20, 0.5, Product.REACTIVE), Claim(-20, -0.5, Product.REACTIVE))
    return [
        Trick("idle relief: ten accounts offer 20 kW each a little above the root, 2 sold ahead", 10, -2, (above,)),
        Trick("the same at noon, 2 kW ahead and 20 bid a little below it", 10, 2, (below,), hour=12),
        Trick("kvar claimed and not delivered: ten accounts, 20 each way, 2 kW ahead", 10, 2, kvar, hour=12),
        Trick("kvar bought at any price and not delivered: ten accounts, 20 each, 2 kW ahead", 10, 2,
              (Claim(20, None, Product.REACTIVE),)),
        Trick("10 kvar each drawn beyond any award: ten accounts, 2 kW ahead", 10, 2, drawn_kvar=10),
        Trick("reserve claimed and not delivered: 10 kW", 1, 0, (Claim(-10, 0.0, Product.RESERVE_UP),)),
    ]  # fmt: skip


def _acts() -> list[Trick]:
    late = [
        Trick(f"sun read too late: noon, 10 kW fed in by each of {count}{said}", count, ahead, apart=apart,
              drawn_kw=-10, silent=True, hour=12)
        for count, said, ahead, apart in (
            (1, "", 0, False), (5, "", 0, False), (5, ", 10 kW sold ahead each", -10, False),
            (5, ", 20 kW ahead each", 20, False), (5, ", others hold 20 ahead", 20, True),
            (5, ", others have sold 20 ahead", -20, True),
        )
    ]  # fmt: skip
    withheld = [
        Trick(f"relief {how}: {count} home{'s' * (count > 1)}, {ahead} kW ahead each", count, ahead, hour=hour,
              withheld=how)
        for how in (Withheld.NOT_OFFERED, Withheld.OFFERED_HIGH)
        for count, ahead, hour in ((1, 0, 10), (1, 20, 10), (5, 20, 19), (5, 0, 12))
    ]  # fmt: skip
    return [
        Trick("22 kW drawn undeclared, 44 ahead", 1, 44, drawn_kw=22),
        Trick("five homes draw 11 kW undeclared, 20 ahead each", 5, 20, drawn_kw=11),
        Trick("ten homes draw 11 kW undeclared, 4 ahead each", 10, 4, drawn_kw=11),
        Trick("five homes leave half of what they draw undrawn, 20 kW sold ahead each", 5, -20, undrawn=0.5),
        Trick("five accounts with 20 kW ahead go silent", 5, 20, silent=True),
        Trick("readings withheld until the price stands: five homes draw 11 kW", 5, 0, drawn_kw=11, silent=True),
        *late,
        *withheld,
    ]  # fmt: skip


TRICKS = (*_claims(), *_fuses(), *_relief(), *_acts())


def random_trick(rng: np.random.Generator, hours: tuple[int, ...] = tuple(range(24)), scale: float = 1.0) -> Trick:
    """A strategy at random: accounts and where they are, positions, claims, relief, reactive power, draws, silence.

    Parameters
    ----------
    hours : in which it may be. scale : how many times larger than on a street it may be.
    """
    accounts = int(rng.choice(COUNTS))

    def spread(low: float, high: float) -> float:
        return float(np.round(rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(low), np.log(high))) / accounts, 1))

    def limit() -> float | None:
        return None if rng.random() < 0.5 else float(np.round(rng.uniform(FLOOR, CAP), 3))

    ahead, claims, drawn_kw, drawn_kvar = float(np.round(rng.uniform(-60, 60) / accounts, 1)), [], 0.0, 0.0
    if rng.random() < 0.8:
        claims.append(Claim(spread(2, 400), limit()))
    if rng.random() < 0.2:
        sign = float(rng.choice([-1.0, 1.0]))
        claims.append(
            Claim(sign * abs(spread(2, 200)), float(np.round(-sign * rng.uniform(0, 0.1), 3)), from_root=True)
        )
    if rng.random() < 0.2:
        claims += [Claim(spread(2, 200), limit(), Product.REACTIVE) for _ in range(int(rng.integers(1, 3)))]
    if rng.random() < 0.25:
        drawn_kw = float(np.round(rng.uniform(1, 30) / accounts, 1))
    if rng.random() < 0.1:
        drawn_kvar = float(np.round(rng.uniform(-30, 30) / accounts, 1))
    silent, withheld = rng.random() < 0.05, Withheld.NOTHING
    if not (drawn_kw or drawn_kvar or silent or claims) or rng.random() < 0.1:
        claims, drawn_kw, drawn_kvar, silent = [], 0.0, 0.0, False
        withheld = (Withheld.OFFERED_HIGH, Withheld.NOT_OFFERED)[int(rng.integers(2))]
    trick = Trick("", accounts, ahead, tuple(claims), bool(rng.random() < 0.3), drawn_kw, drawn_kvar, 0.0, silent,
                  withheld, int(rng.choice(hours)), int(rng.choice([0, int(rng.integers(0, 100))])))  # fmt: skip
    trick = trick.scaled(round(float(np.exp(rng.uniform(0.0, np.log(scale)))), 1))
    return replace(trick, name=described(trick))


def described(trick: Trick) -> str:
    """A strategy in words, each account's part."""
    parts = [f"{trick.ahead_kw:g} kW ahead{' in others' if trick.apart else ''}"]
    for each in trick.claims:
        unit = "kvar" if each.product is Product.REACTIVE else "kW"
        at = "any price" if each.price is None else f"{each.price:g}{' from the root' if each.from_root else ''}"
        parts.append(f"{each.kw:g} {unit} claimed at {at}")
    if trick.drawn_kw:
        parts.append(f"{trick.drawn_kw:g} kW drawn")
    if trick.drawn_kvar:
        parts.append(f"{trick.drawn_kvar:g} kvar drawn")
    if trick.undrawn:
        parts.append(f"{trick.undrawn:.0%} undrawn")
    if trick.silent:
        parts.append("silent")
    if trick.withheld is not Withheld.NOTHING:
        parts.append(f"relief {trick.withheld}")
    return f"{trick.accounts} account{'s' * (trick.accounts > 1)}: {', '.join(parts)}"
