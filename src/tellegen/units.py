"""How time, energy and money are counted (laws 1 and 2).

Energy is int64 Wh, a price int64 micro-currency per kWh, money int64 nano-currency. Their product
is exact:

    Wh * micro/kWh = 1e-3 kWh * 1e-6 currency/kWh = 1e-9 currency = nano-currency.

Everything that divides goes through `allocate` or `cumulative_energy_wh`: largest remainders with
hashed ties, conserving the total. Nothing in this module touches a float.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import TellegenError

IntArray = NDArray[np.int64]

MICROS = 1_000_000
"""Micro-currency in one unit of currency: prices are counted in them."""
NANOS = 1_000_000_000
"""Nano-currency in one unit of currency: money is counted in them."""
NANOS_PER_CENT = NANOS // 100
MARKET_INTERVAL_S = 300
"""Length of the market's time unit in seconds; intervals are numbered from the epoch."""
INTERVALS_PER_HOUR = 3600 // MARKET_INTERVAL_S
ROW_LIMIT = 2**31
"""A row holds less than this in magnitude of Wh, varh or micro-currency per kWh."""


class QuantityError(TellegenError):
    """A quantity is outside the range in which integer arithmetic is exact."""


def interval_at(time: datetime) -> int:
    """Number of the market interval that contains an aware `time`.

    >>> interval_at(datetime(1970, 1, 1, 0, 7, tzinfo=UTC))
    1
    """
    if time.tzinfo is None:
        raise QuantityError(f"time {time.isoformat()} has no time zone; intervals are UTC")
    return int(time.timestamp()) // MARKET_INTERVAL_S


def interval_start(interval: int) -> datetime:
    """UTC start of a market interval.

    >>> interval_start(1).isoformat()
    '1970-01-01T00:05:00+00:00'
    """
    return datetime.fromtimestamp(interval * MARKET_INTERVAL_S, tz=UTC)


def known_zone(name: str) -> str:
    """A time zone by its IANA name, if there is such a one.

    Raises
    ------
    ValueError : there is none.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones is an OSError
        raise ValueError("is not a time zone; use an IANA name such as Europe/Berlin") from None
    return name


def day_number(day: date) -> int:
    """A local date as days since 1970-01-01, as records name it.

    >>> day_number(date(1970, 1, 3))
    2
    """
    return (day - date(1970, 1, 1)).days


def _exact(values: ArrayLike, what: str) -> IntArray:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise QuantityError(f"{what} must be integers, not {array.dtype}")
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise QuantityError(f"{what} do not fit int64")
    return array.astype(np.int64)


def _magnitude(array: IntArray) -> int:
    # np.abs of -2^63 is itself again, and negative: it would pass every limit
    return max(int(array.max()), -int(array.min())) if array.size else 0


def check_rows(values: ArrayLike, what: str) -> IntArray:
    """Return `values` as int64 after checking that each fits a row (below `ROW_LIMIT`)."""
    array = _exact(values, what)
    largest = _magnitude(array)
    if largest >= ROW_LIMIT:
        raise QuantityError(f"{what} has a row of magnitude {largest}, limit 2^31")
    return array


def amount_nanos(energy_wh: ArrayLike, price_micros_per_kwh: ArrayLike) -> IntArray:
    """Money for energy at a price: an exact integer product, elementwise.

    >>> int(amount_nanos(1500, 250_000))  # 1.5 kWh at 0.25 per kWh is 0.375
    375000000
    """
    energy = check_rows(energy_wh, "energy")
    price = check_rows(price_micros_per_kwh, "price")
    return np.asarray(energy * price)


def exact_sum(values: ArrayLike) -> int:
    """Sum of int64 values; raises instead of wrapping.

    >>> exact_sum([1, 2, 3])
    6
    """
    array = _exact(values, "addends")
    if array.size and _magnitude(array) > (2**63 - 1) // array.size:
        total = sum(int(v) for v in array.ravel())
        if abs(total) >= 2**63:
            raise QuantityError(f"sum {total} does not fit int64")
        return total
    return int(array.sum(dtype=np.int64))


def sums_at(size: int, place: IntArray, values: IntArray) -> IntArray:
    """Sums of rows by their place, int64[size]; values so small that no sum wraps.

    >>> sums_at(3, np.array([0, 2, 2]), np.array([1, 2, 3])).tolist()
    [1, 0, 5]
    """
    total = np.zeros(size, dtype=np.int64)
    np.add.at(total, place, values)
    return total


def tie_hash(context: str, members: ArrayLike) -> NDArray[np.uint64]:
    """A fair, reproducible order for ties: a hash of each member number, no two of which are equal.

    With k the 8 bytes of BLAKE2b-64 of `context` as a little-endian number, it is SplitMix64 of
    ``member xor k`` (Steele, Lea, Flood 2014): z = (member xor k) + 0x9e3779b97f4a7c15;
    z = (z xor z >> 30) * 0xbf58476d1ce4e5b9; z = (z xor z >> 27) * 0x94d049bb133111eb; z xor z >> 31,
    modulo 2^64. `context` names the allocation (rule, interval), so that no member wins every tie.

    >>> tie_hash("doc", [1, 2]).tolist()
    [14531347803129172275, 2235812291401886686]
    """
    key = np.frombuffer(hashlib.blake2b(context.encode(), digest_size=8).digest(), dtype="<u8")[0]
    mixed = (np.asarray(members).astype(np.int64).view(np.uint64) ^ key) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    return np.asarray(mixed ^ mixed >> np.uint64(31))


def allocate(total: int, weights: ArrayLike, ties: NDArray[np.uint64]) -> IntArray:
    """Share an integer `total` in proportion to `weights` by largest remainder.

    Parameters
    ----------
    total : amount to share, any sign.
    weights : int64[n], none negative, at least one positive unless `total` is 0.
    ties : uint64[n] from `tie_hash`; equal remainders go to the smaller hash first.

    Returns
    -------
    int64[n] that sums to `total` exactly; a zero weight gets zero.

    >>> shares = allocate(100, [1, 1, 1], tie_hash("doc", range(3)))
    >>> int(shares.sum()), int(shares.min())
    (100, 33)
    """
    weight = _exact(weights, "weights")
    if weight.size and int(weight.min()) < 0:
        raise QuantityError("a weight is negative")
    whole = exact_sum(weight)
    if whole == 0:
        if total != 0:
            raise QuantityError(f"cannot share {total}: every weight is zero")
        return np.zeros_like(weight)
    sign, magnitude = (-1, -total) if total < 0 else (1, total)
    if magnitude >= 2**63:
        raise QuantityError(f"total {total} does not fit int64")
    quotient, rest = divmod(magnitude, whole)
    share, remainder = _scaled_division(weight, rest, whole)
    missing = rest - exact_sum(share)
    order = np.lexsort((ties, -remainder))
    share[order[:missing]] += 1
    return np.asarray(sign * (quotient * weight + share))


def _scaled_division(weight: IntArray, factor: int, divisor: int) -> tuple[IntArray, IntArray]:
    """Quotient and remainder of ``weight * factor / divisor``, 0 <= factor < divisor; the product may need 126 bits.

    Schoolbook division: the weight enters from its highest bits down, as many at a time as keep both
    ``remainder << bits`` and ``factor * digit`` below 2^64.
    """
    bits = 64 - divisor.bit_length()
    digits = -(-_magnitude(weight).bit_length() // bits)
    by, times, mask = np.uint64(divisor), np.uint64(factor), np.uint64(2**bits - 1)
    quotient = np.zeros(weight.size, dtype=np.uint64)
    remainder = np.zeros(weight.size, dtype=np.uint64)
    for place in reversed(range(digits)):
        digit = weight.view(np.uint64) >> np.uint64(place * bits) & mask
        before, above = np.divmod(remainder << np.uint64(bits), by)
        here, rest = np.divmod(digit * times, by)
        carried, remainder = np.divmod(above + rest, by)
        quotient = (quotient << np.uint64(bits)) + before + here + carried
    return quotient.view(np.int64), remainder.view(np.int64)


def cumulative_energy_wh(cumulative_mw_intervals: ArrayLike) -> IntArray:
    """Whole Wh delivered so far by a power that has been summed over market intervals.

    The argument counts milliwatt-intervals (power in mW held for one market interval each, summed
    since the start). One Wh is 1000 mW * 12 intervals, so the energy of one interval is the
    difference of two successive results: rounding never accumulates (law 1).

    >>> cumulative_energy_wh([0, 12_000, 29_999]).tolist()
    [0, 1, 2]
    """
    return np.asarray(_exact(cumulative_mw_intervals, "power sums") // (1000 * INTERVALS_PER_HOUR))


def format_money(nanos: int, digits: int = 2) -> str:
    """Money as text with `digits` decimals, rounded half up in magnitude; exact integers inside.

    >>> format_money(-1_234_567_890), format_money(5, 9)
    ('-1.23', '0.000000005')
    """
    step = 10 ** (9 - digits)
    magnitude = (abs(nanos) + step // 2) // step
    sign = "-" if nanos < 0 and magnitude else ""
    whole, part = divmod(magnitude, 10**digits)
    return f"{sign}{whole}.{part:0{digits}d}" if digits else f"{sign}{whole}"
