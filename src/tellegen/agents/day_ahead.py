"""Day-ahead orders: what each home commits to for each hour of the coming day, and at what prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.charging import ChargingPlan, charging_plan
from tellegen.agents.curves import OfferBook, Offers, buy_curve, sell_curve, share_own
from tellegen.agents.devices import Devices, Vehicles
from tellegen.agents.heating import Bodies, PriceRange, buildings, hourly_heating_steps, tanks
from tellegen.agents.homes import PER_HOUR, Homes
from tellegen.agents.parameters import Parameters, Tariff
from tellegen.agents.physics import reactive_limit_kvar
from tellegen.agents.plan import Plan
from tellegen.agents.storage import schedule, storage_bid
from tellegen.records import Device, Product, Side

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HOURS_BEYOND = 24
"""Hours after the day that a charging session may use: its deadline may lie in the next morning."""


@dataclass(frozen=True, slots=True)
class _Day:
    """What all hours share."""

    homes: Homes
    plan: Plan
    sessions: Vehicles
    charging: ChargingPlan
    soc_wh: FloatArray
    mean: FloatArray
    deviation: FloatArray
    tariff: Tariff
    parameters: Parameters


def day_ahead_orders(
    homes: Homes,
    plan: Plan,
    soc_wh: FloatArray,
    sessions: Vehicles,
    tariff: Tariff,
    parameters: Parameters,
) -> list[Offers]:
    """Orders for each hour of the plan's window; quantities are W held for the hour.

    - The base load is a price-taker at its forecast, with its power factor.
    - PV offers its forecast at price 0, and what the home uses itself at minus the surcharges that
      own use saves. Reactive power is offered both ways at price 0 (`Parameters.day_ahead_reactive`).
    - A battery offers steps valued by its stored-energy curve at the end of the hour, from the state
      of charge at which its own schedule begins the hour.
    - Cars spread what they lack over the cheapest hours (`charging_plan`).
    - Heat pumps and water heaters buy around what holds the desired temperature, by the ramp rule
      with the mean and deviation of the day's expected prices.

    Parameters
    ----------
    soc_wh : float64[batteries], at the start of the window.
    sessions : charging sessions known or announced, with what they lack as `energy_wh`.
    """
    hours = plan.intervals // PER_HOUR
    ahead = plan.column(plan.first_interval + np.arange(PER_HOUR * (hours + HOURS_BEYOND)))
    hourly = plan.home_price[:, ahead].reshape(len(homes), -1, PER_HOUR).mean(axis=2)
    if len(homes.batteries):
        _, energy = schedule(
            homes.batteries, plan.storage_around, plan.storage_value, soc_wh, wear=parameters.wear_per_kwh
        )
    else:
        energy = np.zeros((0, plan.intervals + 1))
    day = _Day(
        homes,
        plan,
        sessions,
        charging_plan(sessions, plan.first_interval, hourly[sessions.customer - 1], hours),
        energy,
        plan.price.mean(axis=1),
        plan.price.std(axis=1),
        tariff,
        parameters,
    )
    return [_hour_offers(day, hour) for hour in range(hours)]


def _hour_offers(day: _Day, hour: int) -> Offers:
    homes, plan, tariff, parameters = day.homes, day.plan, day.tariff, day.parameters
    window = slice(hour * PER_HOUR, (hour + 1) * PER_HOUR)
    book = OfferBook(homes.node, parameters.price_floor, parameters.price_cap)
    load_w = 1000.0 * plan.load_kw[:, window].mean(axis=1)
    offer_load(book, load_w, 1000.0 * plan.load_kvar[:, window].mean(axis=1))
    pv_kw = plan.pv_kw[:, window].mean(axis=1)
    net_w = load_w - homes.total(homes.inverters, 1000.0 * pv_kw)
    offer_sun(book, homes, pv_kw, load_w, tariff, reactive=parameters.day_ahead_reactive)
    surplus, demand = np.maximum(-net_w, 0.0), np.maximum(net_w, 0.0)
    surplus = _cars(book, day, hour, surplus)
    for kind, devices, bodies, draw in (
        (Device.HEAT_PUMP, homes.heat_pumps, buildings(homes.heat_pumps), plan.heat_w),
        (Device.WATER_HEATER, homes.water_heaters, tanks(homes.water_heaters), plan.draw_w),
    ):
        surplus = _heating(book, day, kind, devices, bodies, draw[:, window].mean(axis=1), surplus)
    _batteries(book, day, hour, surplus, demand)
    return book.build()


def offer_load(book: OfferBook, load_w: FloatArray, load_var: FloatArray) -> None:
    """Base load of every home (float64[n]) as price-takers: active power, and reactive power either way."""
    everyone, row = np.arange(load_w.size), np.zeros(load_w.size, dtype=np.int64)
    book.add(everyone, row, Device.LOAD, Side.BUY, load_w, price=None)
    for side in (Side.BUY, Side.SELL):
        book.add(everyone, row, Device.LOAD, side, int(side) * load_var, price=None, product=Product.REACTIVE)


def offer_sun(
    book: OfferBook, homes: Homes, pv_kw: FloatArray, own_w: FloatArray, tariff: Tariff, *, reactive: bool
) -> None:
    """Offer PV power at its opportunity cost, and reactive power at no cost both ways.

    own_w : float64[n], what the home itself consumes; PV that serves it saves the import price.
    """
    inverters = homes.inverters
    if not len(inverters):
        return
    owner, row = inverters.customer - 1, np.arange(len(inverters))
    used, _ = share_own(owner, 1000.0 * pv_kw, own_w)
    sell_curve(book, owner, row, Device.PV, 1000.0 * pv_kw[:, None], np.zeros((len(row), 1)), used, tariff)
    if reactive:
        limit_var = 1000.0 * reactive_limit_kvar(inverters.rated_kva, np.minimum(pv_kw, inverters.rated_kva))
        for side in (Side.BUY, Side.SELL):
            book.add(owner, row, Device.PV, side, limit_var, price=0.0, product=Product.REACTIVE)


def _cars(book: OfferBook, day: _Day, hour: int, surplus_w: FloatArray) -> FloatArray:
    sessions, charging = day.sessions, day.charging
    if not len(sessions):
        return surplus_w
    owner = sessions.customer - 1
    steps = np.stack([charging.planned_w[:, hour], charging.spare_w[:, hour]], axis=1)
    value = np.stack([charging.planned_value, charging.spare_value], axis=1)
    own, left = share_own(owner, steps.sum(axis=1), surplus_w)
    row = np.zeros(len(owner), dtype=np.int64)
    buy_curve(book, owner, row, Device.VEHICLE, steps, value, own, day.tariff)
    return left


def _heating(
    book: OfferBook,
    day: _Day,
    kind: Device,
    devices: Devices,
    bodies: Bodies,
    draw_w: FloatArray,
    surplus_w: FloatArray,
) -> FloatArray:
    if not len(devices):
        return surplus_w
    owner = devices.customer - 1
    prices = effective_range(day.mean[owner], day.deviation[owner], day.tariff, day.parameters)
    steps, value = hourly_heating_steps(bodies, bodies.holding_w(draw_w), prices, day.parameters.ramp)
    own, left = share_own(owner, steps.sum(axis=1), surplus_w)
    buy_curve(book, owner, np.arange(len(owner)), kind, steps, value, own, day.tariff)
    return left


def _batteries(book: OfferBook, day: _Day, hour: int, surplus_w: FloatArray, demand_w: FloatArray) -> None:
    batteries = day.homes.batteries
    if not len(batteries):
        return
    owner, row = batteries.customer - 1, np.arange(len(batteries))
    share = day.homes.share_of_kind(batteries, batteries.power_w)
    surplus, demand = share * surplus_w[owner], share * demand_w[owner]
    bid = storage_bid(
        batteries,
        day.soc_wh[:, hour * PER_HOUR],
        day.plan.storage_value[(hour + 1) * PER_HOUR],
        surplus_w=surplus,
        demand_w=demand,
        wear=day.parameters.wear_per_kwh,
        hours=1.0,
    )
    buy_curve(book, owner, row, Device.BATTERY, bid.charge_w, bid.charge_value, surplus, day.tariff)
    sell_curve(book, owner, row, Device.BATTERY, bid.discharge_w, bid.discharge_cost, demand, day.tariff)


def effective_range(mean: FloatArray, deviation: FloatArray, tariff: Tariff, parameters: Parameters) -> PriceRange:
    """Statistics of market prices as a thermostat behind the meter sees them, per device."""
    return PriceRange(
        mean=tariff.import_price(mean),
        deviation=deviation * (1.0 + tariff.sales_tax),
        floor=float(tariff.import_price(parameters.price_floor)),
        cap=float(tariff.import_price(parameters.price_cap)),
    )
