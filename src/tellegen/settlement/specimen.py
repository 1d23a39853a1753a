"""Made-up days for examples, tests and benchmarks: lawful facts of every kind, from a seed.

The numbers are not physical (nothing was cleared), which settlement must not care about: its laws
hold for any facts.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from tellegen.settlement.apportioning import hourly_to_intervals
from tellegen.settlement.facts import READ, DayFacts, IntervalFacts
from tellegen.units import INTERVALS_PER_HOUR, IntArray


def specimen_day(seed: int, *, hours: int = 2, customers: int = 8, first_interval: int = 4_838_400) -> DayFacts:
    """A day of consumers and producers with prices of both signs, losses, theft and keys.

    >>> day = specimen_day(7, hours=1, customers=3)
    >>> day.steps.forward_wh.shape, bool((day.steps.real_time_price < 0).any())
    ((12, 3), True)
    """
    draw = np.random.default_rng(seed)
    periods = hours * INTERVALS_PER_HOUR
    number = np.sort(draw.choice(np.arange(1, 10 * customers + 1), customers, replace=False)).astype(np.int64)
    interval = first_interval + np.arange(periods, dtype=np.int64)

    def around(size: tuple[int, ...], low: int, high: int) -> IntArray:
        return draw.integers(low, high, size=size, dtype=np.int64)

    hourly = around((hours, customers), -3_000, 6_000)
    forward = hourly_to_intervals(hourly, number, first_interval)
    real_time = forward + around((periods, customers), -150, 150)
    metered = real_time + around((periods, customers), -80, 80) * around((periods, customers), 0, 2)
    # a home may take and give within one interval: import and export both above zero
    both = around((periods, customers), 0, 30) * around((periods, customers), 0, 2)
    root_hourly = hourly.sum(axis=1, keepdims=True) + around((hours, 1), 0, 400)
    losses = around((periods,), 0, 60)
    theft = around((periods,), -20, 60)
    wholesale_forward = around((hours,), -60_000, 300_000)
    wholesale_real_time = around((periods,), -150_000, 500_000)
    hourly_price = wholesale_forward[:, None] + around((hours, customers), -40_000, 60_000)
    # some meters were missing when the price was made, and counted with more or less than they then showed; a generator
    # of its own, so that all else of a seed stands
    unread = np.random.default_rng([seed, 1])
    expected = np.maximum(-metered + unread.integers(-60, 60, size=metered.shape), 0)
    counted = np.where(unread.random(metered.shape) < 0.3, expected, READ)
    steps = IntervalFacts(
        interval=interval,
        customer=number,
        node=np.arange(customers, dtype=np.int64),
        forward_wh=forward,
        real_time_wh=real_time,
        forward_price=np.repeat(hourly_price, INTERVALS_PER_HOUR, axis=0),
        real_time_price=wholesale_real_time[:, None] + around((periods, customers), -80_000, 80_000),
        reactive_price=around((periods, customers), -9_000, 9_000),
        import_wh=np.maximum(metered, 0) + both,
        export_wh=np.maximum(-metered, 0) + both,
        reactive_varh=around((periods, customers), -60, 200),
        counted_feed_in_wh=counted,
        root_forward_wh=hourly_to_intervals(root_hourly, [0], first_interval)[:, 0],
        losses_wh=losses,
        substation_wh=metered.sum(axis=1) + losses + theft,
        wholesale_forward_price=np.repeat(wholesale_forward, INTERVALS_PER_HOUR),
        wholesale_real_time_price=wholesale_real_time,
    )
    key = around((customers,), 0, 300_000)
    key[0] += 1
    return DayFacts(steps=steps, key_wh=key, rounding_carry_nanos=around((customers,), -5_000_000, 5_000_000))


def specimen_move(steps: IntervalFacts, column: int, price_micros_per_kwh: int) -> IntervalFacts:
    """The same facts after the customer of a column moved on the feeder, between the day-ahead gate and the intervals.

    Its position stays at the old node; what was awarded in real time and metered is at a new one, with a real-time
    price of its own.

    >>> day = specimen_day(7, hours=1, customers=3)
    >>> specimen_move(day.steps, 1, 250_000).forward_wh.shape
    (12, 4)
    """
    staying, moving = ("forward_wh",), ("real_time_wh", "import_wh", "export_wh", "reactive_varh")
    place = np.insert(np.arange(steps.customer.size), column + 1, column)
    arrays = {
        spec.name: array[..., place] if array.ndim == 2 or spec.name in ("customer", "node") else array.copy()
        for spec in fields(steps)
        for array in [getattr(steps, spec.name)]
    }
    arrays["node"][column + 1] = steps.node.max() + 1
    for names, emptied in ((moving, column), (staying, column + 1)):
        for name in names:
            arrays[name][:, emptied] = 0
    arrays["real_time_price"][:, column + 1] = price_micros_per_kwh
    return IntervalFacts(**arrays)
