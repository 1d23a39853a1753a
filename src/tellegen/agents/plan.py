"""What an agent expects of a day: its home, prices, and the value of what it can store."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.forecast import PER_DAY, day_ahead_forecast, error_persistence, real_time_forecast
from tellegen.agents.heating import buildings, tanks
from tellegen.agents.homes import Homes
from tellegen.agents.knowledge import Actual, Past
from tellegen.agents.parameters import Parameters, Tariff
from tellegen.agents.storage import Surroundings, stored_energy_value, terminal_value

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Persistence:
    """How long the error of a forecast lasts (see `error_persistence`), per row of each series."""

    load: FloatArray
    reactive: FloatArray
    pv: FloatArray
    heat: FloatArray
    draw: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Expectations for a window of market intervals; column 0 is `first_interval`.

    Attributes
    ----------
    load_kw, load_kvar : float64[n, T], base load. Its reactive power is a series of its own: in the data it
        follows heat pumps, not the household's active power.
    pv_kw : float64[inverters, T]; heat_w : float64[heat pumps, T]; draw_w : float64[water heaters, T].
    price : float64[n, T], market price expected at each home, currency per kWh.
    home_price : float64[n, T], what a further kWh of demand is expected to cost behind the meter: the
        import price where the home imports, the market price where it exports.
    storage_value : float64[T + 1, batteries, cells], see `stored_energy_value`; columns before the
        latest planning are stale.
    storage_around : what storage was valued against.
    persistence : how forecast errors fade.
    """

    first_interval: int
    load_kw: FloatArray
    load_kvar: FloatArray
    pv_kw: FloatArray
    heat_w: FloatArray
    draw_w: FloatArray
    price: FloatArray
    home_price: FloatArray
    storage_value: FloatArray
    storage_around: Surroundings
    persistence: Persistence

    @property
    def intervals(self) -> int:
        """Length of the window."""
        return int(self.load_kw.shape[1])

    def column(self, intervals: IntArray | int) -> IntArray:
        """Column that stands for market intervals; those beyond the window look back one day."""
        offset = np.asarray(intervals) - self.first_interval
        beyond = np.minimum(offset % PER_DAY, self.intervals - 1)
        return np.asarray(np.where(offset < self.intervals, np.maximum(offset, 0), beyond))


def make_plan(
    homes: Homes,
    past: Past,
    price: FloatArray,
    first_interval: int,
    tariff: Tariff,
    parameters: Parameters,
) -> Plan:
    """Plan the window that starts at `first_interval` from the past and expected prices.

    Parameters
    ----------
    price : float64[n, T], market prices expected; T is the length of the window, whole hours.
    """
    lead, intervals = first_interval - past.known_until, price.shape[1]

    def foresee(series: FloatArray) -> FloatArray:
        return day_ahead_forecast(series, lead=lead, intervals=intervals)

    empty = Surroundings(*(np.zeros((len(homes.batteries), intervals)) for _ in range(3)))
    plan = Plan(
        first_interval=first_interval,
        load_kw=foresee(past.load_kw),
        load_kvar=day_ahead_forecast(past.load_kvar, lead=lead, intervals=intervals, floor=-np.inf),
        pv_kw=np.minimum(foresee(past.pv_kw), homes.inverters.rated_kva[:, None]),
        heat_w=foresee(past.heat_w),
        draw_w=foresee(past.draw_w),
        price=price,
        home_price=price,
        storage_value=np.zeros((intervals + 1, len(homes.batteries), parameters.storage_cells)),
        storage_around=empty,
        persistence=Persistence(
            error_persistence(past.load_kw),
            error_persistence(past.load_kvar),
            error_persistence(past.pv_kw),
            error_persistence(past.heat_w),
            error_persistence(past.draw_w),
        ),
    )
    return _valued(plan, homes, 0, tariff, parameters, renew_end=True)


def replan(
    plan: Plan,
    homes: Homes,
    past: Past,
    tariff: Tariff,
    parameters: Parameters,
    *,
    price: FloatArray | None = None,
) -> Plan:
    """Bring a plan up to date: forecasts corrected by their latest errors, storage valued anew.

    price : float64[n, T] for the whole window, once better prices are known (a day-ahead clearing);
        None keeps the plan's.
    """
    known = past.known_until - plan.first_interval
    if known >= plan.intervals:
        return plan
    start, keep = max(known, 0), plan.persistence
    updated = []
    for series, ahead, fade, floor in (
        (past.load_kw, plan.load_kw, keep.load, 0.0),
        (past.load_kvar, plan.load_kvar, keep.reactive, -np.inf),
        (past.pv_kw, plan.pv_kw, keep.pv, 0.0),
        (past.heat_w, plan.heat_w, keep.heat, 0.0),
        (past.draw_w, plan.draw_w, keep.draw, 0.0),
    ):
        renewed = np.concatenate(
            [ahead[:, :start], real_time_forecast(series, ahead, known=known, persistence=fade, floor=floor)], axis=1
        )
        if start:  # the error is corrected now: the latest interval must not show it once more
            renewed[:, start - 1] = series[:, -1]
        updated.append(renewed)
    load, reactive, pv, heat, draw = updated
    changed = replace(
        plan,
        load_kw=load,
        load_kvar=reactive,
        pv_kw=np.minimum(pv, homes.inverters.rated_kva[:, None]),
        heat_w=heat,
        draw_w=draw,
        price=plan.price if price is None else price,
    )
    return _valued(changed, homes, start, tariff, parameters, renew_end=price is not None)


def _valued(plan: Plan, homes: Homes, start: int, tariff: Tariff, parameters: Parameters, *, renew_end: bool) -> Plan:
    """Fill in prices behind the meter and the value of storage from column `start` on."""
    net_w = 1000.0 * plan.load_kw
    for devices, power_w in (
        (homes.inverters, -1000.0 * plan.pv_kw),
        (homes.heat_pumps, buildings(homes.heat_pumps).holding_w(plan.heat_w)),
        (homes.water_heaters, tanks(homes.water_heaters).holding_w(plan.draw_w)),
    ):
        np.add.at(net_w, devices.customer - 1, power_w)
    import_price = tariff.import_price(plan.price)
    home_price = np.where(net_w < 0.0, plan.price, import_price)
    owner = homes.batteries.customer - 1
    share = homes.share_of_kind(homes.batteries, homes.batteries.power_w)
    around = Surroundings(share[:, None] * net_w[owner], import_price[owner], plan.price[owner])
    value = plan.storage_value.copy()
    if len(homes.batteries):
        wear = parameters.wear_per_kwh
        end = _end_value(plan, homes, around, parameters) if renew_end else value[-1]
        value[start:] = stored_energy_value(homes.batteries, around.part(slice(start, None)), end, wear=wear)
    return replace(plan, home_price=home_price, storage_value=value, storage_around=around)


def _end_value(plan: Plan, homes: Homes, around: Surroundings, parameters: Parameters) -> FloatArray:
    """Value of stored energy when the window ends, float64[k, cells].

    The day after is expected to be like the day of the window, and to end with the starting state of
    charge; with `Parameters.return_to_start` that is asked of the window itself.
    """
    batteries, wear = homes.batteries, parameters.wear_per_kwh
    back = terminal_value(batteries, around, batteries.soc_wh, wear=wear, cells=parameters.storage_cells)
    if parameters.return_to_start:
        return back
    following = plan.column(plan.first_interval + plan.intervals + np.arange(PER_DAY))
    return np.asarray(stored_energy_value(batteries, around.part(following), back, wear=wear)[0])


def expect(plan: Plan, homes: Homes, past: Past, interval: int) -> Actual:
    """Best guess of one interval at gate closure: the plan, corrected by its latest error."""
    column = interval - plan.first_interval
    known = past.known_until - plan.first_interval
    from_column = min(max(known - 1, 0), column)
    keep = plan.persistence

    def corrected(series: FloatArray, ahead: FloatArray, fade: FloatArray, floor: float = 0.0) -> FloatArray:
        window = ahead[:, from_column : column + 1]
        shown = real_time_forecast(series, window, known=known - from_column, persistence=fade, floor=floor)
        return shown[:, -1]

    return Actual(
        load_kw=corrected(past.load_kw, plan.load_kw, keep.load),
        load_kvar=corrected(past.load_kvar, plan.load_kvar, keep.reactive, -np.inf),
        pv_kw=np.minimum(corrected(past.pv_kw, plan.pv_kw, keep.pv), homes.inverters.rated_kva),
        heat_w=corrected(past.heat_w, plan.heat_w, keep.heat),
        draw_w=corrected(past.draw_w, plan.draw_w, keep.draw),
    )
