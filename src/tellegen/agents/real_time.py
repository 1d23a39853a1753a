"""Real-time orders: what each home bids for one market interval, from its state at gate closure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.agents.charging import PER_DAY, ChargingBid, charging_bid, plugged_in
from tellegen.agents.curves import OfferBook, Offers, buy_curve, sell_curve, share_own
from tellegen.agents.day_ahead import effective_range, offer_load, offer_sun
from tellegen.agents.devices import Vehicles
from tellegen.agents.heating import buildings, heating_bid, tanks
from tellegen.agents.homes import HOURS, DeviceState, Homes
from tellegen.agents.knowledge import Actual
from tellegen.agents.parameters import Parameters, Tariff
from tellegen.agents.plan import Plan
from tellegen.agents.storage import storage_bid
from tellegen.records import Device, Side

FloatArray = NDArray[np.float64]


def real_time_orders(
    homes: Homes,
    plan: Plan,
    state: DeviceState,
    expected: Actual,
    interval: int,
    price_mean: FloatArray,
    price_deviation: FloatArray,
    tariff: Tariff,
    parameters: Parameters,
) -> Offers:
    """Orders of all homes for `interval`: whole quantities, not differences from day-ahead awards.

    - Base load: price-taker at its forecast, active and reactive power.
    - PV: forecast at price 0, own use at minus the surcharges saved; reactive power both ways at 0.
    - Cars: what cannot be postponed is a price-taker, the rest bids the price it expects to save.
    - Heat pumps and water heaters: what keeps the comfort range is a price-taker, the rest bids by the
      ramp rule.
    - Batteries: steps of the marginal value of stored energy, both ways, with losses and wear.

    The home's expected surplus is first kept for cars, then heat pumps, water heaters, batteries.

    Parameters
    ----------
    expected : forecast of the interval, see `expect`.
    price_mean, price_deviation : float64[n], of the last 24 hours' market prices at each home.
    """
    book = OfferBook(homes.node, parameters.price_floor, parameters.price_cap)
    load_w = 1000.0 * expected.load_kw
    offer_load(book, load_w, 1000.0 * expected.load_kvar)
    rows = plugged_in(homes.vehicles, state.remaining_wh, interval)
    cars = homes.vehicles.take(rows)
    charging = charging_bid(cars, state.remaining_wh[rows], interval, later_prices(plan, cars, interval))
    book.add(cars.customer - 1, rows, Device.VEHICLE, Side.BUY, charging.must_w, price=None, step=-1)
    heating = []
    firm_w = load_w + homes.total(cars, charging.must_w)
    for kind, devices, bodies, temperature, draw in (
        (Device.HEAT_PUMP, homes.heat_pumps, buildings(homes.heat_pumps), state.building_c, expected.heat_w),
        (Device.WATER_HEATER, homes.water_heaters, tanks(homes.water_heaters), state.tank_c, expected.draw_w),
    ):
        if not len(devices):
            continue
        owner = devices.customer - 1
        prices = effective_range(price_mean[owner], price_deviation[owner], tariff, parameters)
        must, flexible, value = heating_bid(bodies, temperature, draw, prices, parameters.ramp)
        book.add(owner, np.arange(len(owner)), kind, Side.BUY, must, price=None, step=-1)
        firm_w = firm_w + homes.total(devices, must)
        heating.append((kind, owner, flexible, value))
    offer_sun(book, homes, expected.pv_kw, firm_w, tariff, reactive=True)
    net_w = firm_w - homes.total(homes.inverters, 1000.0 * expected.pv_kw)
    surplus, demand = np.maximum(-net_w, 0.0), np.maximum(net_w, 0.0)
    surplus = _offer_cars(book, cars, rows, charging, surplus, tariff)
    for kind, owner, flexible, value in heating:
        own, surplus = share_own(owner, flexible.sum(axis=1), surplus)
        buy_curve(book, owner, np.arange(len(owner)), kind, flexible, value, own, tariff)
    _offer_batteries(book, homes, plan, state, interval, surplus, demand, tariff, parameters)
    return book.build()


def later_prices(plan: Plan, cars: Vehicles, interval: int) -> FloatArray:
    """Effective prices expected after `interval`, as far as the last of `cars` needs; float64[k, L]."""
    length = int(np.clip((cars.deadline - interval - 1).max(initial=0), 0, 2 * PER_DAY))
    columns = plan.column(interval + 1 + np.arange(length))
    return np.asarray(plan.home_price[np.ix_(cars.customer - 1, columns)])


def _offer_cars(
    book: OfferBook,
    cars: Vehicles,
    rows: NDArray[np.int64],
    charging: ChargingBid,
    surplus_w: FloatArray,
    tariff: Tariff,
) -> FloatArray:
    if not len(cars):
        return surplus_w
    own, left = share_own(cars.customer - 1, charging.steps_w.sum(axis=1), surplus_w)
    buy_curve(book, cars.customer - 1, rows, Device.VEHICLE, charging.steps_w, charging.value, own, tariff)
    return left


def _offer_batteries(
    book: OfferBook,
    homes: Homes,
    plan: Plan,
    state: DeviceState,
    interval: int,
    surplus_w: FloatArray,
    demand_w: FloatArray,
    tariff: Tariff,
    parameters: Parameters,
) -> None:
    batteries = homes.batteries
    if not len(batteries):
        return
    owner, row = batteries.customer - 1, np.arange(len(batteries))
    share = homes.share_of_kind(batteries, batteries.power_w)
    surplus, demand = share * surplus_w[owner], share * demand_w[owner]
    bid = storage_bid(
        batteries,
        state.soc_wh,
        plan.storage_value[interval - plan.first_interval + 1],
        surplus_w=surplus,
        demand_w=demand,
        wear=parameters.wear_per_kwh,
        hours=HOURS,
    )
    buy_curve(book, owner, row, Device.BATTERY, bid.charge_w, bid.charge_value, surplus, tariff)
    sell_curve(book, owner, row, Device.BATTERY, bid.discharge_w, bid.discharge_cost, demand, tariff)
