"""The fleet: all homes of a feeder with their agents, as the operations loop meets them.

Agents see `Past` and states only; what is to come stays with `Reality`, which the loop holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.agents import day_ahead, real_time
from tellegen.agents.answers import answers
from tellegen.agents.behaviour import DevicePowers, OffPeak, World, advance, dispatched, local_behaviour
from tellegen.agents.charging import joined, of_cars_away
from tellegen.agents.curves import Offers
from tellegen.agents.devices import Batteries, HeatPumps, Inverters, Vehicles, WaterHeaters
from tellegen.agents.homes import (
    NEGLIGIBLE_WH,
    DeviceState,
    FleetError,
    Homes,
    empty_batteries,
    empty_heat_pumps,
    empty_inverters,
    empty_vehicles,
    empty_water_heaters,
    initial_state,
    without_series,
)
from tellegen.agents.knowledge import Actual, Past, Reality
from tellegen.agents.parameters import Parameters, Tariff
from tellegen.agents.plan import Plan, expect, make_plan, replan
from tellegen.agents.welfare import Closing, battery_wear, close_day, discomfort

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What all homes did in one interval.

    customer_kw, customer_kvar : float64[n], net withdrawal of each home.
    state : devices at the interval's end. powers : of every device.
    curtailed_kw : float64[n], PV power not used. wear, discomfort : float64[n], currency.
    """

    customer_kw: FloatArray
    customer_kvar: FloatArray
    state: DeviceState
    powers: DevicePowers
    curtailed_kw: FloatArray
    wear: FloatArray
    discomfort: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """Homes, the tariff they see and their preferences. Build one with `connect`."""

    homes: Homes
    tariff: Tariff
    parameters: Parameters

    def initial_state(self) -> DeviceState:
        """State with which the device tables start the day."""
        return initial_state(self.homes)

    def plan(self, past: Past, price: FloatArray, first_interval: int) -> Plan:
        """Plan the day that starts at `first_interval`; price float64[n, T] as the homes expect it."""
        return make_plan(self.homes, past, price, first_interval, self.tariff, self.parameters)

    def replan(self, plan: Plan, past: Past, *, price: FloatArray | None = None) -> Plan:
        """Renew a plan: latest errors, and perhaps better prices for the whole window."""
        return replan(plan, self.homes, past, self.tariff, self.parameters, price=price)

    def day_ahead_orders(
        self, plan: Plan, state: DeviceState, *, known_until: int, announced: Vehicles | None = None
    ) -> list[Offers]:
        """Orders for each hour of the plan, see `tellegen.agents.day_ahead`.

        Parameters
        ----------
        state : as expected at the start of the day.
        known_until : gate closure; sessions that arrive at it or later are not known.
        announced : sessions that owners expect besides (`expected_sessions`); None for none.
        """
        cars = self.homes.vehicles
        known = (
            (cars.arrival < known_until) & (cars.deadline > plan.first_interval) & (state.remaining_wh > NEGLIGIBLE_WH)
        )
        sessions = replace(cars, energy_wh=state.remaining_wh).take(np.flatnonzero(known))
        if announced is not None:
            to_come = announced.take(np.flatnonzero(announced.arrival >= known_until))
            sessions = joined(sessions, of_cars_away(to_come, sessions))
        return day_ahead.day_ahead_orders(self.homes, plan, state.soc_wh, sessions, self.tariff, self.parameters)

    def real_time_orders(
        self,
        interval: int,
        plan: Plan,
        state: DeviceState,
        past: Past,
        price_mean: FloatArray,
        price_deviation: FloatArray,
    ) -> Offers:
        """Orders for one market interval, see `tellegen.agents.real_time`.

        price_mean, price_deviation : float64[n] from `price_statistics` of the last 24 hours.

        Raises
        ------
        FleetError : the past reaches into the interval, or the plan does not cover it.
        """
        if past.known_until > interval:
            raise FleetError(f"orders for interval {interval} cannot know of interval {past.known_until - 1}")
        if not 0 <= interval - plan.first_interval < plan.intervals:
            raise FleetError(f"interval {interval} is outside the plan, which starts at {plan.first_interval}")
        return real_time.real_time_orders(
            self.homes,
            plan,
            state,
            expect(plan, self.homes, past, interval),
            interval,
            price_mean,
            price_deviation,
            self.tariff,
            self.parameters,
        )

    def respond(
        self,
        interval: int,
        state: DeviceState,
        actual: Actual,
        offers: Offers,
        quantity_mw: IntArray,
        *,
        deaf: BoolArray | None = None,
    ) -> Response:
        """Devices follow their awards for one interval.

        Parameters
        ----------
        quantity_mw : int64[m], awards of the rows of ``offers.orders`` in mW (mvar).
        deaf : bool[n], homes that ignore their dispatch; they behave as under a flat tariff.

        Raises
        ------
        FleetError : awards and orders differ in number.
        """
        if len(quantity_mw) != len(offers.orders):
            raise FleetError(f"{len(quantity_mw)} awards for {len(offers.orders)} orders")
        powers = dispatched(self.homes, state, actual, interval, offers, quantity_mw)
        if deaf is not None and deaf.any():
            alone = local_behaviour(self.homes, state, actual, interval, World.FLAT)
            powers = powers.chosen(alone, self.homes, deaf)
        return self._step(state, actual, powers)

    def answer_price(
        self,
        interval: int,
        plan: Plan,
        state: DeviceState,
        actual: Actual,
        price: float,
        price_mean: FloatArray,
        price_deviation: FloatArray,
    ) -> Response:
        """One interval of homes that may buy and sell all they want at one market price, see `answers`."""
        statistics = price_mean, price_deviation
        powers = answers(self.homes, plan, state, actual, interval, price, *statistics, self.tariff, self.parameters)
        return self._step(state, actual, powers)

    def baseline_step(
        self, world: World, interval: int, state: DeviceState, actual: Actual, *, off_peak: OffPeak | None = None
    ) -> Response:
        """One interval of homes that hear no prices, see `local_behaviour`."""
        return self._step(state, actual, local_behaviour(self.homes, state, actual, interval, world, off_peak=off_peak))

    def close_day(self, state: DeviceState, interval: int, past: Past | None = None) -> Closing:
        """What is stored, and what cars lacked, at the start of `interval`, see `Closing`.

        past : values heat above the desired temperature by its use; without it that counts for nothing.
        """
        return close_day(self.homes, state, interval, past)

    def _step(self, state: DeviceState, actual: Actual, wanted: DevicePowers) -> Response:
        homes = self.homes
        after, powers = advance(homes, state, actual, wanted)
        devices_w = (
            homes.total(homes.batteries, powers.battery_w)
            + homes.total(homes.vehicles, powers.vehicle_w)
            + homes.total(homes.heat_pumps, powers.heat_pump_w)
            + homes.total(homes.water_heaters, powers.water_heater_w)
        )
        return Response(
            customer_kw=actual.load_kw + devices_w / 1000.0 - homes.total(homes.inverters, powers.pv_kw),
            customer_kvar=actual.load_kvar + homes.total(homes.inverters, powers.pv_kvar),
            state=after,
            powers=powers,
            curtailed_kw=homes.total(homes.inverters, actual.pv_kw - powers.pv_kw),
            wear=battery_wear(homes, powers, self.parameters),
            discomfort=discomfort(homes, after, self.parameters),
        )


def connect(
    node: IntArray,
    load_kw: FloatArray,
    load_kvar: FloatArray,
    first_column: int,
    *,
    batteries: Batteries | None = None,
    vehicles: Vehicles | None = None,
    heat_pumps: HeatPumps | None = None,
    water_heaters: WaterHeaters | None = None,
    inverters: Inverters | None = None,
    tariff: Tariff = Tariff(),  # noqa: B008 - frozen value
    parameters: Parameters = Parameters(),  # noqa: B008 - frozen value
) -> tuple[Fleet, Reality]:
    """Part devices into what agents may know (`Fleet`) and how the series really run (`Reality`).

    Parameters
    ----------
    node : int64[n], node of customer 1..n.
    load_kw, load_kvar : float64[n, T], base load; column 0 is market interval `first_column`, as in
        the series of the device tables.

    Examples
    --------
    >>> fleet, world = connect(np.array([1, 2]), np.ones((2, 576)), np.zeros((2, 576)), 0)
    >>> day = fleet.plan(world.past(288), np.full((2, 288), 0.1), 288)
    >>> orders = fleet.day_ahead_orders(day, fleet.initial_state(), known_until=288)[0].orders
    >>> orders.customer.tolist(), orders.quantity_w.tolist(), orders.price_taker.tolist()
    ([1, 2], [1000, 1000], [1, 1])
    """
    heat = heat_pumps if heat_pumps is not None else empty_heat_pumps()
    water = water_heaters if water_heaters is not None else empty_water_heaters()
    sun = inverters if inverters is not None else empty_inverters()
    reality = Reality(first_column, load_kw, load_kvar, sun.pv_kw, heat.demand_w, water.draw_w)
    bare_heat, bare_water, bare_sun = without_series(heat, water, sun)
    homes = Homes(
        np.asarray(node, dtype=np.int64),
        batteries if batteries is not None else empty_batteries(),
        vehicles if vehicles is not None else empty_vehicles(),
        bare_heat,
        bare_water,
        bare_sun,
    )
    if load_kw.shape[0] != len(homes):
        raise FleetError(f"{load_kw.shape[0]} load series for {len(homes)} homes")
    return Fleet(homes, tariff, parameters), reality
