"""Honest homes under the price run: how far what settles is from the guide, and who pays for the difference.

Nobody plays a trick here. Homes bid what they mean and do as awarded as far as they can; but forecasts are wrong,
meters fail, some homes are deaf, messages are lost, and the wires are not those of the market's model. So meters differ
from awards, and the price of the run from the guide that devices answered.

By the price run a home's bill is ``(m - q_RT) (l - guide) + (q_RT - q_DA) (l - guide)`` dearer than at the guide. The
first part is its own deviation at the difference of prices; the second it pays however well it keeps to its award.
Bills are the lines of energy and reactive power; percentages are of what a home's metered energy is worth at the guide.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.assess.registry import Figure, Options, Report
from tellegen.errors import InputError
from tellegen.operations.reading import RecordedDay, Round, read_day
from tellegen.operations.record import ShardRecord
from tellegen.records import ClearingStatus, Line, Quality
from tellegen.simulation.market_alone import play_market
from tellegen.simulation.scenario import PlantErrors, Scenario, demo_scenario, with_options
from tellegen.simulation.setup import PRICE_HISTORY_DAYS, prepare
from tellegen.simulation.summary import about
from tellegen.simulation.wholesale import read_prices
from tellegen.spawned import pooled
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray, interval_start

FloatArray = NDArray[np.float64]

SEEDS, QUICK_SEEDS, QUICK_HOURS = 10, 1, 4
APART_CT_MAX, DEAF_APART_CT_MAX = 1.0, 2.0
"""Most that what settles may be from the guide at the 99th percentile of homes and intervals, ct/kWh."""
WORSE_PERCENT_MAX = 1.0
"""Most by which the run may worsen a home's bill beyond its own deviation, percent of what its energy is worth."""
PLANT = PlantErrors(
    impedance_error=0.2, reactive_error=0.2, phase_unbalance=0.3, voltage_response=1.0, movement=0.1,
    lost_dispatch=0.01, ignored_dispatch=0.02,
)  # fmt: skip
"""How the plant differs from the market's model."""
AEP_DAY, WINTER = date(2009, 1, 16), date(2016, 12, 14)
TOLD = 3
"""Intervals that are named of each day."""
CT = 100 / MICROS
NANOS = 1e-9


@dataclass(frozen=True, slots=True)
class Case:
    """A day on which homes are honest.

    Attributes
    ----------
    limits_pu : of voltage, instead of the demo's. day : instead of the demo's. price_day : of the price file.
    deaf, lost, lost_bids : shares of homes that never do as awarded, of awards and of bids that get lost; None: the
        plant's.
    """

    name: str
    limits_pu: tuple[float, float] | None = None
    day: date | None = None
    price_day: date | None = None
    deaf: float | None = None
    lost: float | None = None
    lost_bids: float = 0.0

    def scenario(self, seed: int, prices: Path | None, hours: int | None) -> Scenario:
        """The day to be played; `seed` 0 is the demo's own."""
        demo = demo_scenario()
        low, high = self.limits_pu or (None, None)
        plant = PLANT.model_copy(update={"lost_bids": self.lost_bids})
        return with_options(
            demo.model_copy(update={"plant": plant}),
            seed=demo.seed + seed,
            day=self.day,
            v_min_pu=low,
            v_max_pu=high,
            deaf=self.deaf,
            lost=self.lost,
            prices=prices if self.price_day else None,
            price_day=self.price_day,
            hours=hours,
        )

    @property
    def apart_ct_max(self) -> float:
        """Its target for the distance of what settles from the guide."""
        return APART_CT_MAX if self.deaf is None else DEAF_APART_CT_MAX


TIGHT = (1.0, 1.031)
CASES = (
    Case("demo"),
    Case("limits of 1.000 to 1.031 pu", TIGHT),
    Case(f"AEP's prices of {AEP_DAY}", price_day=AEP_DAY),
    Case(f"{WINTER:%d %B}", day=WINTER),
    Case("limits of 1.000 to 1.031 pu, 30 % of homes deaf, 20 % of awards lost", TIGHT, deaf=0.3, lost=0.2),
    Case("limits of 1.000 to 1.031 pu, 30 % of homes deaf, 20 % of bids lost", TIGHT, deaf=0.3, lost_bids=0.2),
)


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What a day came to, T intervals that were cleared twice and n homes.

    Attributes
    ----------
    apart_ct : float64[T, n], what settled less the guide, ct/kWh. guide_ct : float64[T, n].
    off_kw : float64[T], sum over homes of the distance of meters from awards.
    bound : bool[2, T], whether a limit binds in the guide and in the run. status : int64[2, T].
    at_bound : intervals in which a price that settles is at cap or floor.
    bill, bill_guide : float64[n], currency, by the run and at the guide.
    on_award, on_deviation : float64[n], by how much the run is dearer on ``q_RT - q_DA`` and on ``m - q_RT``.
    worth : float64[n], what metered energy is worth at the guide. whole_bill : float64[n], with network and taxes.
    missing : readings that were missing, of all. held : intervals of the day without a run.
    gate_s, run_s : CPU. begin : first interval, of `first` of the day.
    """

    seed: int
    apart_ct: FloatArray
    guide_ct: FloatArray
    off_kw: FloatArray
    bound: NDArray[np.bool_]
    status: IntArray
    at_bound: int
    bill: FloatArray
    bill_guide: FloatArray
    on_award: FloatArray
    on_deviation: FloatArray
    worth: FloatArray
    whole_bill: FloatArray
    missing: int
    gate_s: float
    run_s: float
    begin: int


def play(case: Case, seed: int, prices: Path | None, hours: int | None = None) -> Played:
    """Play one day, and compare its two clearings of each interval."""
    setup = prepare(case.scenario(seed, prices, hours))
    with tempfile.TemporaryDirectory() as folder:
        cpu_s = play_market(setup, Path(folder) / "day")
        with ShardRecord.open(Path(folder) / "day") as record:
            day = read_day(record, setup.scenario.day.date, setup.feeder)
    market = setup.rules.market
    bounds = round(market.price_floor * MICROS), round(market.price_cap * MICROS)
    return compared(day, setup.node, bounds, seed, (cpu_s.get("clear", 0.0), cpu_s.get("price", 0.0)))


def compared(
    day: RecordedDay, node: IntArray, bounds: tuple[int, int], seed: int = 0, cpu_s: tuple[float, float] = (0.0, 0.0)
) -> Played:
    """Both clearings of each interval of a recorded day.

    Parameters
    ----------
    node : int64[n], of customers 1..n. bounds : price floor and cap, micro-currency/kWh. cpu_s : of gates and of runs.
    """
    first, count = day.bounds.start, len(day.bounds)
    guide = {each.interval: each for each in day.rounds if each.interval in day.bounds and each.market == "real_time"}
    pairs = [(guide[each.interval], each) for each in day.runs]
    if not pairs or len(pairs) != count:
        raise InputError(day.day, "price runs", f"{len(pairs)} of {count} intervals have one; does the rulebook?")
    energy = np.stack([[_at(each, node, "energy") for each in pair] for pair in pairs])
    reactive = np.stack([[_at(each, node, "reactive") for each in pair] for pair in pairs])
    dearer = energy[:, 1] - energy[:, 0]
    postings = day.all_postings()
    mine = (postings.account > 0) & (postings.account <= node.size)
    mine &= (postings.interval >= first) & (postings.interval < first + count)

    def quantity(line: Line) -> IntArray:
        rows = np.flatnonzero(mine & (postings.line == line))
        found = np.zeros((count, node.size), dtype=np.int64)
        np.add.at(found, (postings.interval[rows] - first, postings.account[rows] - 1), postings.quantity[rows])
        return found

    def bill(lines: Sequence[Line]) -> FloatArray:
        rows = np.flatnonzero(mine & np.isin(postings.line, lines))
        whose = postings.account[rows] - 1
        return np.asarray(np.bincount(whose, weights=postings.amount[rows] * NANOS, minlength=node.size), dtype=float)

    adjusted, deviated = quantity(Line.REAL_TIME), quantity(Line.IMBALANCE)
    settled = bill((Line.FORWARD, Line.REAL_TIME, Line.IMBALANCE, Line.REACTIVE))
    on_award, on_deviation = ((dearer * each).sum(axis=0) * NANOS for each in (adjusted, deviated))
    on_reactive = ((reactive[:, 1] - reactive[:, 0]) * quantity(Line.REACTIVE)).sum(axis=0) * NANOS
    metered = quantity(Line.FORWARD) + adjusted + deviated
    clearings = [[each.period.clearing for each in pair] for pair in pairs]
    missing = sum(int((table.quality == Quality.ESTIMATED).sum()) for _, table in day.energy)
    return Played(
        seed=seed,
        apart_ct=np.asarray(dearer * CT),
        guide_ct=np.asarray(energy[:, 0] * CT),
        off_kw=np.abs(deviated).sum(axis=1) * INTERVALS_PER_HOUR / 1000,
        bound=np.array([[int(each.binding[0]) > 0 for each in pair] for pair in clearings]).T,
        status=np.array([[int(each.status[0]) for each in pair] for pair in clearings]).T,
        at_bound=int(((energy[:, 1] <= bounds[0]) | (energy[:, 1] >= bounds[1])).any(axis=1).sum()),
        bill=settled,
        bill_guide=settled - on_award - on_deviation - on_reactive,
        on_award=on_award,
        on_deviation=on_deviation,
        worth=(np.abs(metered) * np.abs(energy[:, 0])).sum(axis=0) * NANOS,
        whole_bill=bill(tuple(Line)),
        missing=missing,
        gate_s=cpu_s[0],
        run_s=cpu_s[1],
        begin=first,
    )


def _at(each: Round, node: IntArray, column: str) -> IntArray:
    """A price of a clearing at some nodes."""
    prices = each.period.prices
    at = np.argsort(prices.node, kind="stable")
    found: IntArray = getattr(prices, column)[at[np.searchsorted(prices.node[at], node)]]
    return found


def figures(case: Case, days: list[Played]) -> Iterator[Figure]:
    """What some seeds of a day came to."""
    apart = np.abs(np.concatenate([day.apart_ct.ravel() for day in days]))
    yield Figure(
        f"{case.name}: settled less guide, 99th percentile of homes and intervals",
        round(float(np.quantile(apart, 0.99)), 4),
        "ct/kWh",
        target=case.apart_ct_max,
        spread={"mean": round(float(apart.mean()), 4), "most": round(float(apart.max()), 3)},
        conditions=_conditions(days),
    )
    beyond = np.concatenate([day.bill - day.bill_guide - day.on_deviation for day in days])
    worth = np.maximum(np.concatenate([day.worth for day in days]), 0.01)
    dearer = np.concatenate([day.bill - day.bill_guide for day in days])
    formula = dearer - np.concatenate([day.on_award for day in days])
    worst = int(np.argmax(beyond / worth))
    whole = np.maximum(np.abs(np.concatenate([day.whole_bill for day in days])), 0.01)
    yield Figure(
        f"{case.name}: worst home, beyond its own deviation",
        round(float(100 * (beyond / worth).max()), 3),
        "% of its energy's worth",
        target=WORSE_PERCENT_MAX,
        conditions={
            "currency": round(float(beyond[worst]), 4),
            "of its whole bill, %": round(float(100 * (beyond / whole)[worst]), 3),
            "with its deviation": round(float(100 * (dearer / worth).max()), 3),
            "beyond (l - guide) (q_RT - q_DA)": round(float(100 * (formula / worth).max()), 3),
            "median home": round(float(100 * np.median(dearer / worth)), 3),
        },
    )
    yield Figure(f"{case.name}: intervals at cap or floor", sum(day.at_bound for day in days), "intervals", target=0)


def _conditions(days: list[Played]) -> dict[str, str | float]:
    bound = np.concatenate([day.bound for day in days], axis=1)
    status = np.concatenate([day.status for day in days], axis=1)
    counts = (int(bound[0].sum()), int(bound[1].sum()), int(bound.all(axis=0).sum()))
    bills = [sum(float(each.sum()) for each in side) for side in ([d.bill_guide for d in days], [d.bill for d in days])]
    gate_s, run_s = sum(day.gate_s for day in days), sum(day.run_s for day in days)
    given_up = [int((side != ClearingStatus.OPTIMAL).sum()) for side in status]
    return {
        "a limit binds in guide / run / both": " / ".join(map(str, counts)) + f" of {bound.shape[1]} intervals",
        "relaxed or fallback, guide / run": " / ".join(map(str, given_up)),
        "bills at the guide / by the run": f"{bills[0]:.2f} / {bills[1]:.2f}",
        "missing readings": sum(day.missing for day in days),
        "CPU of run / gate": round(run_s / gate_s, 2) if gate_s else 0.0,
    }


def widest(case: Case, days: list[Played]) -> Iterator[str]:
    """The intervals in which what settled was furthest from the guide, in words."""
    found = [(float(np.abs(gap).max()), day, t) for day in days for t, gap in enumerate(day.apart_ct)]
    for gap, day, t in sorted(found, key=lambda each: -each[0])[:TOLD]:
        home = int(np.abs(day.apart_ct[t]).argmax())
        bound = {0: "no limit", 1: "a limit in the guide alone", 2: "a limit in the run alone", 3: "a limit in both"}
        here = bound[int(day.bound[0, t]) + 2 * int(day.bound[1, t])]
        guide = day.guide_ct[t, home]
        yield (
            f"{case.name}: seed +{day.seed}, {interval_start(day.begin + t):%H:%M} UTC, home {home + 1}: guide "
            f"{guide:.2f} ct, settled {guide + day.apart_ct[t, home]:.2f}, {gap:.2f} apart; {here} binds, meters are "
            f"{day.off_kw[t]:.1f} kW off awards"
        )


def measure(options: Options, report: Report) -> None:
    """Play every day with some seeds, as many at a time as there are cores."""
    seeds = options.seeds or (QUICK_SEEDS if options.quick else SEEDS)
    hours, times = (QUICK_HOURS if options.quick else None), f"{seeds} seed{'s' if seeds > 1 else ''}"
    cases = [case for case in CASES if case.price_day is None or options.prices is not None]
    left_out = [case.name for case in CASES if case not in cases]
    if left_out:
        report.notes.append(f"left out, for want of a price file (--prices): {', '.join(left_out)}")
    for case in cases:
        if case.price_day is not None and options.prices is not None:  # before anything is played
            read_prices(options.prices, case.price_day, INTERVALS_PER_HOUR * (hours or 24), PRICE_HISTORY_DAYS)
    report.about += about(prepare(CASES[0].scenario(0, None, hours)))
    report.about.append(
        f"Of the first of these days; each of {len(cases)} is played with {times} from that one on. Wires within "
        f"{PLANT.impedance_error:.0%} of the market's, reactive power of load within {PLANT.reactive_error:.0%} of "
        f"what homes foresee, phases up to {PLANT.phase_unbalance:.0%} apart, load in proportion to voltage."
    )
    with pooled(min(os.cpu_count() or 1, seeds * len(cases))) as pool:
        plays = [[pool.submit(play, case, seed, options.prices, hours) for seed in range(seeds)] for case in cases]
        for case, futures in zip(cases, plays, strict=True):
            options.progress(f"{case.name}, {times}")
            days = [future.result() for future in futures]
            report.figures += figures(case, days)
            report.notes += widest(case, days)
