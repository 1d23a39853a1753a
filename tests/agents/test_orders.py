"""What agents send to the market: honest, ordered, and blind to the future."""

from itertools import pairwise

import numpy as np
import pytest

from tellegen.agents import FleetError, KnowledgeError, Tariff, connect, expected_prices, price_statistics
from tellegen.agents.plan import expect
from tellegen.records import Device, Product, Side

OFFSETS = [0, 1, 95, 150, 230, 287]


def day_plan(town, gate):
    column = gate - town.reality.first_column
    published = town.price[column - 288 : column]
    price = expected_prices(published, town.price[:column], np.tile(town.price[:column], (len(town.fleet.homes), 1)))
    return town.fleet.plan(town.reality.past(gate), price, town.first)


def real_time(town, interval, plan, state):
    past = town.reality.past(interval)
    column = interval - town.reality.first_column
    mean, deviation = price_statistics(np.tile(town.price[:column], (len(town.fleet.homes), 1)))
    return town.fleet.real_time_orders(interval, town.fleet.replan(plan, past), state, past, mean, deviation)


@pytest.mark.parametrize("lead", [0, 144])
def test_no_future_value_changes_a_day_ahead_order(make, lead):
    """Redrawing loads, sun, heat, draws, prices and arrivals after gate closure changes nothing."""
    truth = make(seed=7)
    gate = truth.first - lead
    other = make(seed=7, change_after=gate)
    books = [
        town.fleet.day_ahead_orders(day_plan(town, gate), town.fleet.initial_state(), known_until=gate)
        for town in (truth, other)
    ]
    for mine, theirs in zip(*books, strict=True):
        assert mine.orders.equals(theirs.orders)


@pytest.mark.parametrize("offset", OFFSETS)
def test_no_future_value_changes_a_real_time_order(make, offset):
    truth = make(seed=7)
    interval = truth.first + offset
    other = make(seed=7, change_after=interval)
    mine, theirs = (
        real_time(town, interval, day_plan(town, town.first), town.fleet.initial_state()) for town in (truth, other)
    )
    assert mine.orders.equals(theirs.orders)


def test_the_past_ends_where_the_present_begins(neighbourhood):
    town = neighbourhood
    past = town.reality.past(town.first)
    assert past.load_kw.shape[1] == town.first - town.reality.first_column
    with pytest.raises(ValueError, match="read-only"):
        past.load_kw[0, 0] = 1.0
    assert town.fleet.homes.inverters.pv_kw.shape[1] == 0
    with pytest.raises(KnowledgeError):
        town.reality.past(town.first + 400)


def test_orders_refuse_a_past_that_knows_the_interval(neighbourhood):
    town = neighbourhood
    plan = day_plan(town, town.first)
    flat = np.full(len(town.fleet.homes), 0.1)
    with pytest.raises(FleetError, match="cannot know"):
        town.fleet.real_time_orders(
            town.first, plan, town.fleet.initial_state(), town.reality.past(town.first + 1), flat, flat
        )


def every_offer(town):
    plan = day_plan(town, town.first)
    state = town.fleet.initial_state()
    yield from town.fleet.day_ahead_orders(plan, state, known_until=town.first)
    for offset in OFFSETS:
        yield real_time(town, town.first + offset, plan, state)


def test_buy_steps_fall_and_sell_steps_rise(neighbourhood):
    for offers in every_offer(neighbourhood):
        orders = offers.orders
        keys = list(zip(orders.customer, orders.device, orders.product, orders.side, offers.row, strict=True))
        for k, (one, two) in enumerate(pairwise(keys)):
            if one == two and not orders.price_taker[k]:
                rise = int(orders.price_micros[k + 1] - orders.price_micros[k])
                assert rise * int(orders.side[k]) <= 0


def test_a_customers_rows_stand_together_and_none_is_empty(neighbourhood):
    for offers in every_offer(neighbourhood):
        orders = offers.orders
        assert np.all(np.diff(orders.customer) >= 0)
        assert orders.quantity_w.min() >= 1
        limits = neighbourhood.fleet.parameters
        assert orders.price_micros.min() >= limits.price_floor * 1e6
        assert orders.price_micros.max() <= limits.price_cap * 1e6
        assert np.all(orders.price_micros[orders.price_taker == 1] == 0)


def test_no_home_trades_with_itself_at_a_gain(neighbourhood):
    """A battery's dearest bid stays at or below its cheapest offer: it never does both."""
    for offers in every_offer(neighbourhood):
        orders = offers.orders
        for customer in np.unique(orders.customer):
            mine = orders.take((orders.customer == customer) & (orders.device == int(Device.BATTERY)))
            buys, sells = mine.take(mine.side > 0).price_micros, mine.take(mine.side < 0).price_micros
            if buys.size and sells.size:
                assert buys.max() <= sells.min() + 1


def test_sun_is_offered_at_nothing_and_own_use_below_it(neighbourhood):
    """Own use saves network tariff and tax, so PV that serves it stops at minus those."""
    town = neighbourhood
    offers = real_time(town, town.first + 150, day_plan(town, town.first), town.fleet.initial_state())
    orders = offers.orders
    sun = (orders.device == int(Device.PV)) & (orders.product == int(Product.ENERGY))
    assert set(orders.price_micros[sun].tolist()) == {0, -100_000}
    reactive = orders.product == int(Product.REACTIVE)
    assert set(orders.side[reactive].tolist()) == {1, -1}
    assert np.all(orders.price_micros[reactive] == 0)


def test_the_base_load_takes_any_price_active_and_reactive(neighbourhood):
    town = neighbourhood
    offers = real_time(town, town.first + 95, day_plan(town, town.first), town.fleet.initial_state())
    base = offers.orders.take(offers.orders.device == int(Device.LOAD))
    assert np.all(base.price_taker == 1)
    assert np.all(base.side == int(Side.BUY))
    active, reactive = (base.take(base.product == int(p)).quantity_w for p in (Product.ENERGY, Product.REACTIVE))
    assert np.allclose(reactive, 0.2 * active, atol=1.5)  # whole W and var


def test_higher_surcharges_lower_what_is_bid(make):
    """Agents see the network tariff in their effective price (law 8)."""
    cheap, dear = make(tariff=Tariff(0.0, 0.0)), make(tariff=Tariff(0.2, 0.0))
    totals = []
    for town in (cheap, dear):
        offers = real_time(town, town.first + 40, day_plan(town, town.first), town.fleet.initial_state())
        orders = offers.orders
        battery = orders.take((orders.device == int(Device.BATTERY)) & (orders.side > 0))
        totals.append(battery.price_micros.mean())
    assert totals[1] < totals[0]


def test_sales_tax_is_part_of_the_import_price():
    tariff = Tariff(0.08, 0.02, 0.19)
    assert float(tariff.import_price(0.1)) == pytest.approx(0.238)
    assert float(tariff.market_price(0.238)) == pytest.approx(0.1)


def test_the_same_inputs_give_the_same_orders(make):
    books = []
    for _ in range(2):
        town = make(seed=3)
        books.append(real_time(town, town.first + 100, day_plan(town, town.first), town.fleet.initial_state()))
    assert books[0].orders.equals(books[1].orders)


def test_homes_without_devices_only_buy(make):
    fleet, world = connect(np.array([1]), np.full((1, 576), 0.5), np.zeros((1, 576)), 0)
    plan = fleet.plan(world.past(288), np.full((1, 288), 0.1), 288)
    flat = np.array([0.1])
    offers = fleet.real_time_orders(300, plan, fleet.initial_state(), world.past(300), flat, flat * 0)
    assert offers.orders.quantity_w.tolist() == [500]
    assert len(fleet.day_ahead_orders(plan, fleet.initial_state(), known_until=288)) == 24


def test_an_error_that_the_plan_has_learned_is_not_corrected_twice(neighbourhood):
    """Right after replanning, the plan and the guess at gate closure are the same."""
    town, interval = neighbourhood, neighbourhood.first + 100
    past = town.reality.past(interval)
    plan = town.fleet.replan(day_plan(town, town.first), past)
    guess = expect(plan, town.fleet.homes, past, interval)
    assert np.allclose(guess.load_kw, plan.load_kw[:, 100])
    assert np.allclose(guess.pv_kw, plan.pv_kw[:, 100])
