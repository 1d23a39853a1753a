"""What a run of the city came to, as figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tellegen.assess.city.costs import Hardware
from tellegen.assess.city.phases import CityRun, Interval, Phase, Upkeep
from tellegen.assess.registry import Figure, median_figure
from tellegen.operations.correcting import Corrected
from tellegen.operations.market import DayClosed
from tellegen.operations.timetable import Verb, day_of
from tellegen.report.words import long_date, season
from tellegen.rules import Rulebook
from tellegen.simulation.city.population import City

INTERVAL_S = 300.0
TARGET_S, TARGET_BYTES = 120.0, 16e9
CLOSE_TARGET_S, DAY_AHEAD_TARGET_S = 60.0, 1800.0
WHO_AUTHENTICATES = (
    "a reading: by its meter's HMAC-SHA256 code, 16 bytes, under a key derived per meter (the head-end holds it too); "
    "a bid: by its customer's Ed25519 signature; a batch of up to 1,000: by its concentrator's Ed25519 signature; "
    "receipts: by the intake's Ed25519 checkpoint after fdatasync. All of them are checked within the measured time"
)
REAL = (
    "HTTP over loopback, cryptography, fdatasync, clearing on AC networks, settlement, late readings, the close of a "
    "day, books; the markets do what their timetable says, at a time that stands while they work"
)
SYNTHETIC = (
    "customers, networks and load; readings follow awards with 3 % noise, no plant is simulated; losses are 2 % of the "
    "flow; identities are admitted without certificates; load is generated on the same machine, outside the measured "
    "time, and sent within"
)


def about_city(city: City, book: Rulebook) -> list[str]:
    """What whoever sees a figure of the city must know first."""
    day = day_of(book, city.first_interval)
    rules = book.at(day)
    return [
        f"Simulated: a {season(day)} day, {long_date(day)}, in a made-up city of {city.meters:,} customers; load, "
        "sun and networks are made up.",
        "Devices are drawn, none are multiplied; wholesale prices are drawn at random, proven by nothing.",
        f"Seed {city.seed}; rules: {rules.title}, docket {rules.docket}, rulebook {book.sha256[:12]}.",
    ]


def figures(run: CityRun, hardware: Hardware) -> list[Figure]:
    """All figures of a run; the walls and CPU of an interval are medians over the measured intervals."""
    city, played, found = run.city, run.intervals, run.findings
    full = city.meters >= 1_000_000
    limits = float(np.mean([np.count_nonzero(each.binding) / run.feeders for each in played]))
    said: dict[str, str | float] = {
        "meters": city.meters,
        "feeders": run.feeders,
        "topologies": city.topology_sizes().size,
        "feeders whose limits bind": limits,
        "orders": played[-1].orders,
        "rows of postings": played[-1].postings,
        "meters of a quarter of an hour": city.coarse,
        "meters never heard of": city.silent,
        "real time settles": "by price runs" if city.price_run else "at the prices of gates",
    }
    walls = [each.wall_s for each in played]
    peak = _largest_peak(run)
    platform_s = float(np.median([_platform_s(each) for each in played]))
    made = [
        Figure("interval, bids sent to books balanced: longest", max(walls), "s", TARGET_S if full else None, {}, said),
        median_figure("interval, bids sent to books balanced", walls, "s"),
        Figure("share of the 300 s of an interval", float(np.median(walls)) / INTERVAL_S, "ratio"),
        median_figure("bids sent to receipts", [p.bids.sent_s for p in played], "s"),
        median_figure("bids sent to prices published", [p.bids.total_s for p in played], "s"),
        median_figure("readings sent to receipts", [p.readings.sent_s for p in played], "s"),
        median_figure("readings sent to books balanced", [p.readings.total_s for p in played], "s"),
        Figure("platform's CPU time per interval", platform_s, "CPU-s"),
        Figure("platform's CPU time per meter and interval", platform_s / city.meters * 1e6, "CPU-us"),
        *_stage_figures(played, city.meters),
        *_day_ahead(run, full),
        *_upkeep(run, full),
        *_written(played),
        Figure("peak memory of the platform's processes together", peak, "B", TARGET_BYTES if full else None),
        *(
            Figure(f"on disk after {len(run.warm_up) + len(played)} intervals: {part}", float(b), "B")
            for part, b in run.disk_bytes.items()
        ),
        _latency("receipts of bids, 1,000 a request, as fast as they go", [p.bids for p in played]),
        _latency("receipts of readings, 1,000 a request, as fast as they go", [p.readings for p in played]),
        Figure(
            "capital cost per meter and interval: one read and one market transaction",
            hardware.cost_per_transaction(city.meters) * 1e6,
            f"micro-{hardware.currency}",
            conditions={
                "machine": hardware.name,
                "price": hardware.price,
                "cores": hardware.cores,
                "life in years": hardware.life_years,
                "replicas": hardware.replicas,
                "basis": hardware.basis,
            },
        ),
        _asked(played),
        Figure("outside the measured time: making and signing bids", _median(played, lambda p: p.made_bids_s), "CPU-s"),
        Figure("outside the measured time: readings and codes", _median(played, lambda p: p.made_readings_s), "CPU-s"),
        Figure(
            "load generator's CPU within the measured time",
            _median(played, lambda p: p.bids.load.cpu_s + p.readings.load.cpu_s),
            "CPU-s",
        ),
        Figure("outside the measured time: enrolling everybody", run.set_up_s, "s"),
    ]
    faults = {
        "rows sent and not on record as sent": found.lost,
        "rows refused": found.refused,
        "customers with energy or an award and no posting": found.unposted,
        "trial balance": abs(found.trial_balance),
        "accounts astray from the fold of their postings": found.astray,
        "receipts that do not verify": found.bad_receipts,
        "late and corrected readings that were not settled": sum(each.unsettled for each in _corrected(run)),
    }
    made += [Figure(name, float(value), "count", 0.0) for name, value in faults.items()]
    made += [
        Figure("readings that had not come, an interval", _median(played, lambda p: p.estimated), "rows"),
        Figure("bids on record", float(found.bids), "rows"),
        Figure("readings on record", float(found.readings), "rows", conditions={"of these, substations": run.feeders}),
        Figure("receipts verified offline", float(found.receipts), "count"),
        Figure("row receipts verified offline", float(found.row_receipts), "count"),
        Figure(
            "clearings",
            float(found.clearings),
            "count",
            conditions={"relaxed or fallback": found.not_optimal, "with limits that bind": found.binding},
        ),
        Figure("largest power-flow mismatch of a clearing", found.mismatch_pu, "pu"),
        Figure("largest excess over a limit", found.violation_pu, "pu"),
        Figure(
            "largest error of a sampled price against a difference quotient",
            found.price_error,
            "relative",
            conditions={"prices": found.prices_checked},
        ),
    ]
    return made


def _day_ahead(run: CityRun, full: bool) -> list[Figure]:
    phase, meters = run.day_ahead, run.city.meters
    if phase is None:
        return []
    gates = phase.gates(Verb.CLOSE_DAY_AHEAD)
    said: dict[str, str | float] = {
        "hours": 24,
        "orders": sum(gate.orders for gate in gates),
        "feeders whose limits bind": float(np.mean(np.concatenate([gate.binding for gate in gates]) > 0)),
        "feeders with an hour that is not optimal": sum(int(np.count_nonzero(gate.status)) for gate in gates),
    }
    target = DAY_AHEAD_TARGET_S if full else None
    cpu_s = phase.intake.cpu_s + phase.market.cpu_s
    split = {**phase.intake_stages, **{f"market, {name}": seconds for name, seconds in phase.market_stages.items()}}
    return [
        Figure("day-ahead, every bid new: bids sent to prices published", phase.total_s, "s", target, {}, said),
        Figure("day-ahead: bids sent to receipts", phase.sent_s, "s"),
        Figure("day-ahead: platform's CPU time", cpu_s, "CPU-s", None, {}, {"CPU-us per meter": cpu_s / meters * 1e6}),
        *(Figure(f"stage day-ahead: {name}", seconds, "CPU-s") for name, seconds in split.items()),
        Figure("outside the measured time: making and signing a day's bids", run.made_day_ahead_s, "CPU-s"),
    ]


def _upkeep(run: CityRun, full: bool) -> list[Figure]:
    """What is due beside gates and settlement: the day's close and the corrections by what they came to."""
    made = []
    for each in run.upkeep:
        conditions: dict[str, str | float] = {
            "CPU-s": each.cpu_s,
            "CPU-us per meter": each.cpu_s / run.city.meters * 1e6,
            **{f"CPU-s {name}": seconds for name, seconds in each.stages.items()},
        }
        if each.verb is Verb.CLOSE_DAY:
            closed = [day for day in each.outcomes if isinstance(day, DayClosed)]
            conditions |= {
                "intervals settled of the day": run.day_intervals,
                "of these with readings": run.with_readings,
                "customers invoiced": sum(day.customers for day in closed),
                "feeders without keys": sum(day.without_keys for day in closed),
            }
            target = CLOSE_TARGET_S if full else None
            made.append(Figure("close of a day", each.wall_s, "s", target, {}, conditions))
        elif each.verb is Verb.CORRECT and any(_of(each)):
            corrected = _of(each)
            conditions |= {
                "late and corrected readings": sum(c.readings for c in corrected),
                "new versions of energy": sum(c.edits for c in corrected),
                "rows of postings": sum(c.postings for c in corrected),
                "feeders' days shared anew": sum(c.days_shared for c in corrected),
            }
            made.append(Figure("run of corrections", each.wall_s, "s", None, {}, conditions))
        elif each.verb is Verb.OPEN_DAY:
            made.append(Figure("opening of a day: keys frozen", each.wall_s, "s", None, {}, conditions))
    bulk = run.bulk
    if bulk.intervals:
        each_us = bulk.cpu_s / bulk.intervals / run.city.meters * 1e6
        words = "gates missed, nearly all readings missing and estimated, settled at the rulebook's price"
        conditions = {"intervals": bulk.intervals, "CPU-us per meter and interval": each_us, "how": words}
        made.append(Figure("made in bulk before the measured time", bulk.wall_s, "s", None, {}, conditions))
    return made


def _of(upkeep: Upkeep) -> list[Corrected]:
    return [each for each in upkeep.outcomes if isinstance(each, Corrected) and each.readings + each.unsettled]


def _corrected(run: CityRun) -> list[Corrected]:
    return [each for upkeep in run.upkeep for each in _of(upkeep)]


def _asked(played: Sequence[Interval]) -> Figure:
    """Awards by request: outside the measured time, as readings are."""
    walls = [max(asked.wall_s for asked in each.asked) for each in played]
    customers = sum(asked.customers for asked in played[-1].asked)
    return Figure("awards asked for, a request a gateway", float(np.median(walls)), "s", None, {}, {"for": customers})


def scaling_figure(per_meter: dict[int, float]) -> Figure:
    """How far the cost per meter of the sizes differs from that of the smallest, as a share."""
    first = per_meter[min(per_meter)]
    worst = max(abs(each / first - 1.0) for each in per_meter.values())
    each: dict[str, str | float] = {f"{meters} meters, CPU-us per meter": cost for meters, cost in per_meter.items()}
    return Figure("cost per meter against that of the smallest city", worst, "ratio", 0.2, {}, each)


def cost_per_meter_us(run: CityRun) -> float:
    """CPU microseconds of the platform per meter and interval, the median."""
    return float(np.median([_platform_s(each) for each in run.intervals])) / run.city.meters * 1e6


def beside_figures(run: CityRun, gates: CityRun) -> list[Figure]:
    """A city with its price runs beside the same one that settles at the prices of its gates.

    Parameters
    ----------
    gates : the one without runs, played before it in the same command.
    """
    walls = [float(np.median([each.wall_s for each in one.intervals])) for one in (run, gates)]
    cost = [cost_per_meter_us(one) for one in (run, gates)]
    said: dict[str, str | float] = {"s with runs": walls[0], "s without": walls[1]}
    used: dict[str, str | float] = {"CPU-us per meter with runs": cost[0], "CPU-us per meter without": cost[1]}
    peak = [_largest_peak(one) for one in (run, gates)]
    held: dict[str, str | float] = {"B with runs": peak[0], "B without": peak[1]}
    return [
        Figure(
            "an interval with its price run against one without, wall", walls[0] / walls[1], "ratio", 1.35, {}, said
        ),
        Figure("an interval with its price run against one without, CPU", cost[0] / cost[1], "ratio", None, {}, used),
        Figure("peak memory with price runs against without", peak[0] / peak[1], "ratio", None, {}, held),
    ]


def _platform_s(played: Interval) -> float:
    return sum(phase.intake.cpu_s + phase.market.cpu_s for phase in (played.bids, played.readings))


def _largest_peak(run: CityRun) -> int:
    return max(_peak_bytes(each) for each in (*run.warm_up, *run.intervals))


def _peak_bytes(played: Interval) -> int:
    return played.readings.intake.peak_bytes + played.readings.market.peak_bytes


def _median(played: Sequence[Interval], of: Callable[[Interval], float]) -> float:
    return float(np.median([of(each) for each in played]))


def _stage_figures(played: Sequence[Interval], meters: int) -> list[Figure]:
    """Medians over the intervals; what an interval has nothing of counts as nothing."""
    found: list[dict[str, float]] = []
    for each in played:
        stages: dict[str, float] = {}
        for what, phase in (("bids", each.bids), ("readings", each.readings)):
            for who, used, within, rest in (
                ("intake", phase.intake, phase.intake_stages, "HTTP and the rest"),
                ("market", phase.market, phase.market_stages, "the rest"),
            ):
                split = {**within, rest: used.cpu_s - sum(within.values())}
                stages |= {f"{what}: {who}, {stage}": seconds for stage, seconds in split.items()}
        found.append(stages)
    made = []
    for stage in dict.fromkeys(name for stages in found for name in stages):
        seconds = float(np.median([stages.get(stage, 0.0) for stages in found]))
        made.append(Figure(f"stage {stage}", seconds, "CPU-s", conditions={"CPU-us per meter": seconds / meters * 1e6}))
    return made


def _written(played: Sequence[Interval]) -> list[Figure]:
    of: dict[str, Callable[[Interval], float]] = {
        "bids, intake": lambda p: p.bids.intake.written_bytes,
        "awards and prices, market": lambda p: p.bids.market.written_bytes,
        "readings, intake": lambda p: p.readings.intake.written_bytes,
        "energy, postings and books, market": lambda p: p.readings.market.written_bytes,
    }
    return [Figure(f"written per interval: {what}", _median(played, which), "B") for what, which in of.items()]


def _latency(name: str, phases: Sequence[Phase]) -> Figure:
    seconds = np.concatenate([phase.latency_s for phase in phases])
    spread = {"p99": float(np.quantile(seconds, 0.99)), "max": float(seconds.max()), "requests": float(seconds.size)}
    return Figure(name, float(np.median(seconds)), "s", spread=spread)
