"""Names, numbers and times in the words of a reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

LINE_TITLES = {
    "energy": "Energy",
    "feed_in": "Energy fed in",
    "forward": "Energy traded a day ahead",
    "real_time": "Energy traded in real time",
    "imbalance": "Deviation from what was traded",
    "reactive": "Reactive energy",
    "network_energy": "Network, per kWh",
    "energy_tax": "Energy tax",
    "network_fixed": "Network, fixed part",
    "network_true_up": "Network revenue above or below what is allowed",
    "rent_share": "Share of the grid rent, handed back",
    "unaccounted_share": "Share of unaccounted energy",
    "sales_tax": "Sales tax",
    "rounding": "Rounding to cents",
}
"""Lines of a bill in the order in which a reader wants them."""

WORLD_TITLES = {
    "market": "Market",
    "flat_smart": "Flat tariff, smart homes",
    "time_of_use": "Time of use, by the clock",
    "flat": "Flat tariff, no response",
}
WORLD_PHRASES = {
    "market": "the market",
    "flat_smart": "the flat tariff with smart homes",
    "time_of_use": "the time-of-use tariff",
    "flat": "the flat tariff without response",
}
DEVICE_TITLES = {
    "pv": "solar roofs",
    "batteries": "batteries",
    "vehicles": "electric cars",
    "heat_pumps": "heat pumps",
    "water_heaters": "water heaters",
}
PART_TITLES = {"root": "wholesale", "losses": "losses", "congestion": "congestion", "voltage": "voltage"}
MARKET_TITLES = {"real_time": "Real time", "day_ahead": "Day ahead", "guide": "Guide"}
SETTLED = "Settled"
"""Of real time, where a guide stands beside it."""
STATUSES = ("optimal", "relaxed", "fallback")
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}
# Not strftime's: a report reads the same whatever the locale.
_FIRST_HALF = ("January", "February", "March", "April", "May", "June")
_MONTHS = (*_FIRST_HALF, "July", "August", "September", "October", "November", "December")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SEASONS = ("winter", "spring", "summer", "autumn")
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


def in_words(name: str) -> str:
    """A key as words: ``time_of_use`` becomes ``time of use``."""
    return name.replace("_", " ")


def market_titles(markets: Iterable[str]) -> dict[str, str]:
    """Titles of markets beside each other: with a guide among them, prices of real time are those that settled.

    >>> market_titles(["real_time", "day_ahead"])["real_time"], market_titles(["real_time", "guide"])["real_time"]
    ('Real time', 'Settled')
    """
    return MARKET_TITLES | ({"real_time": SETTLED} if "guide" in markets else {})


def world_phrase(name: str) -> str:
    """A world inside a sentence: ``the flat tariff``."""
    return WORLD_PHRASES.get(name, in_words(name))


def number(value: float | Decimal | None, digits: int = 0, signed: bool = False) -> str:
    """A number with thin groups of thousands and a true minus sign; a dash for None.

    >>> number(-1234.5, 1), number(0.04, 1), number(None), number(3, signed=True)
    ('−1\\u202f234.5', '0.0', '–', '+3')
    """
    if value is None:
        return NONE
    rounded = Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    text = f"{abs(rounded):,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    sign = MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return sign + text


def exact(value: Decimal, signed: bool = False) -> str:
    """An amount with all the digits it came with, at least two.

    >>> exact(Decimal("4.250000001")), exact(Decimal("3"))
    ('4.250000001', '3.00')
    """
    exponent = value.as_tuple().exponent
    return number(value, max(2, -exponent if isinstance(exponent, int) else 0), signed)


def money(value: Decimal | None, currency: str, digits: int = 2, signed: bool = False) -> str:
    """An amount with its currency.

    >>> money(Decimal("-3.456"), "EUR")
    '−3.46\\xa0€'
    """
    return NONE if value is None else f"{number(value, digits, signed)}\N{NO-BREAK SPACE}{symbol(currency)}"


def symbol(currency: str) -> str:
    """Sign of a currency, or its code."""
    return SYMBOLS.get(currency, currency)


def cent(currency: str) -> str:
    """The hundredth of a currency, in which prices per kWh are shown."""
    return "ct" if currency == "EUR" else f"1/100 {symbol(currency)}"


def scientific(value: float | None) -> str:
    """A residual: two digits and a power of ten.

    >>> scientific(3.14e-10)
    '3.1 × 10⁻¹⁰'
    """
    if value is None:
        return NONE
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{raised}".replace("-", MINUS)


def season(day: date) -> str:
    """Of the northern half of the world.

    >>> season(date(2016, 3, 26)), season(date(2016, 12, 14))
    ('spring', 'winter')
    """
    return _SEASONS[day.month % 12 // 3]


def long_date(day: date) -> str:
    """A date as people write it.

    >>> long_date(date(2016, 5, 8))
    'Sunday 8 May 2016'
    """
    return f"{_DAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]} {day.year}"


def clock(time: datetime | None, timezone: str) -> str:
    """Local time of day.

    >>> clock(datetime.fromisoformat("2016-05-08T17:15:00+00:00"), "Europe/Berlin")
    '19:15'
    """
    return NONE if time is None else f"{time.astimezone(ZoneInfo(timezone)):%H:%M}"


def in_order(found: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Names in a reader's order; names that it does not know come last, as they came.

    >>> in_order(["b", "z", "a"], ["a", "b"])
    ['a', 'b', 'z']
    """
    places = {name: place for place, name in enumerate(wanted)}
    return sorted(found, key=lambda name: places.get(name, len(places)))


def device_list(counts: Mapping[str, int]) -> str:
    """A community's devices in words.

    >>> device_list({"batteries": 21, "heat_pumps": 4, "pv": 33, "vehicles": 0})
    '33 solar roofs, 21 batteries and 4 heat pumps'
    """
    kinds = in_order(counts, DEVICE_TITLES)
    found = [f"{number(counts[kind])} {DEVICE_TITLES.get(kind, in_words(kind))}" for kind in kinds if counts[kind]]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
