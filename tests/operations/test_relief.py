"""Market power behind a line of 10 kVA, as gates and price runs cure it and find it: amounts before and after.

18.5 kW are drawn there at any price, 6 come from a roof, and a battery of 9 kW alone can bring the last 2.5. Without it
paper brings them, 2 kW at 0.25 above the root's price and the rest at 0.75.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from tellegen.grid.network import Branches, Network
from tellegen.market import Parameters, PivotalTest
from tellegen.market.facts import CARRIED
from tellegen.market.paper import Ladder
from tellegen.operations.awarded import AwardedPower, SpanAwards
from tellegen.operations.devices import Devices
from tellegen.operations.gate import Cleared, Delivered, GateTask, Held, Period, Wires, clear_feeder
from tellegen.operations.price_run import MeteredPower
from tellegen.operations.relief import NO_PRICE, Knowledge, forgone, idle, undelivered
from tellegen.records import Device, Orders, Product, Side
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.rules.price_run import PriceRun

HOME, STORE, ROOF = 1, 2, 3
ROOT, HONEST = 300_000, 301_000
CUSTOMER = np.array([HOME, STORE, ROOF])
NODE = np.array([1, 1, 1])
FUSES = np.full(3, 20_000)
VOUCHED = PriceRun(ladder=Ladder((2_000, 4_000, 8_000), (250_000, 750_000, 2_000_000)))
NOTHING_LATER = np.array([NO_PRICE])
RULES = Rulebook.load().versions[-1].pivotal
assert RULES is not None
TEST: PivotalTest = RULES
MARGIN = TEST.margin + TEST.conduct_share


def devices(customer: list[int], device: list[Device], export_w: list[int], *, attested: bool = True) -> Devices:
    """As the registry has them."""
    watts = np.array(export_w)
    return Devices(np.array(customer) * 256 + np.array(device), watts, watts, watts, np.full(watts.size, attested))


DEVICES = devices([STORE, ROOF], [Device.BATTERY, Device.PV], [9_000, 8_000])


@pytest.fixture(scope="module")
def wires() -> Wires:
    y = 1e6 * sp.csr_matrix(np.array([[1, -1], [-1, 1]], dtype=complex))
    line = Branches(("line 0",), np.array([0]), y[:1], np.array([10.0]), np.array([1]))
    one = np.array([1 + 0j])
    ends = np.full(2, 0.4), y, np.array([0]), one, np.full(2, 0.8), np.full(2, 1.1)
    return Wires(Network("two", ("0", "1"), np.zeros(2, int), 1.0, *ends, line))


def book(asked: int = HONEST, offered_w: int = 9_000, device: Device = Device.BATTERY) -> Orders:
    rows = np.zeros(3, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["product"] = CUSTOMER, NODE, Product.ENERGY
    rows["device"] = [Device.LOAD, device, Device.PV]
    rows["side"], rows["price_taker"] = [Side.BUY, Side.SELL, Side.SELL], [1, 0, 0]
    rows["price_micros"], rows["quantity_w"] = [0, asked, 200_000], [18_500, offered_w, 6_000]
    return Orders.from_rows(rows[rows["quantity_w"] > 0])


def cleared(
    wires: Wires,
    orders: Orders,
    *,
    net_w: tuple[int, int, int] | None = None,
    test: PivotalTest | None = TEST,
    later: np.ndarray = NOTHING_LATER,
    guide: Cleared | None = None,
    known: Knowledge | None = None,
    rules: PriceRun = VOUCHED,
    **period: object,
) -> Cleared:
    """The gate's clearing, or the run's on what meters show; `period` says more of it."""
    delivered = None
    if net_w is not None:
        assert guide is not None
        none = np.zeros(3, dtype=np.int64)
        metered = MeteredPower(CUSTOMER, NODE, np.array(net_w), none, none.astype(bool), FUSES, FUSES)
        delivered = Delivered(guide.awards.by_order(len(orders)), guide.prices, metered)
    known = known or Knowledge(later, DEVICES, FUSES)
    one = Period(12, 1, ROOT, orders, CUSTOMER, NODE, delivered, known=known)
    task = GateTask(
        feeder="F1",
        market=REAL_TIME if net_w is None else PRICE_RUN,
        periods=(replace(one, **period),),  # type: ignore[arg-type]
        network="two",
        parameters=Parameters(price_cap=5.0, price_floor=-1.0),
        customer=CUSTOMER,
        carry=np.zeros((3, CARRIED), dtype=np.int64),
        pivotal=test,
        price_run=rules,
    )
    return clear_feeder(task, wires)[0]


def delivered_run(
    wires: Wires,
    asked: int,
    test: PivotalTest | None,
    device: Device = Device.BATTERY,
    later: np.ndarray = NOTHING_LATER,
) -> int:
    """The settled price behind the line where everybody does as the gate awarded."""
    orders = book(asked, device=device)
    gate = cleared(wires, orders, test=test, later=later)
    award = gate.awards.by_order(len(orders)) // 1000
    net = 18_500, -int(award[1]), -int(award[2])
    run = cleared(wires, orders, net_w=net, test=test, guide=gate, later=later)
    held = {finding.participant for finding in run.found.findings if finding.mitigated}
    assert held <= {STORE}
    return int(run.prices.energy[1])


@pytest.mark.parametrize("asked", [310_000, 329_000, 331_000, 400_000, 549_000, 1_000_000, 5_000_000])
def test_asking_too_much_earns_a_pivotal_home_no_more_than_the_margin(wires: Wires, asked: int) -> None:
    """Micro-currency for each kWh that it sells: without the test all that it asks, up to where paper comes in."""
    free, held, honest = (
        delivered_run(wires, *each, device=Device.PV) for each in ((asked, None), (asked, TEST), (HONEST, TEST))
    )
    assert honest == pytest.approx(HONEST, abs=50)
    assert free == pytest.approx(asked, abs=50) or free >= 549_000
    assert held - ROOT <= MARGIN * ROOT + 50
    assert held == pytest.approx(asked if asked <= (1 + MARGIN) * ROOT else (1 + TEST.margin) * ROOT, abs=50)


def test_a_store_is_held_to_what_its_energy_is_worth_later(wires: Wires) -> None:
    """0.50 of an hour to come, as day-ahead prices on record say; with none, what it costs to fill it again."""
    later = np.array([0, 500_000])
    assert delivered_run(wires, 900_000, TEST, later=later) == pytest.approx(500_000, abs=50)
    assert delivered_run(wires, 900_000, TEST) == pytest.approx(ROOT / 0.9, abs=50)
    worth = forgone(book(), Knowledge(later, DEVICES, FUSES), ROOT, TEST)
    assert np.isnan(worth[[0, 2]]).all(), "a roof forgoes nothing"
    assert worth[1] == 0.5


def test_relief_that_is_not_offered_is_found_at_the_gate_with_what_it_did_to_the_price(wires: Wires) -> None:
    """It raises the price by a quarter of a euro or more; the finding names home, limit and how much was kept back."""
    full, short = cleared(wires, book()), cleared(wires, book(offered_w=0))
    assert not full.found.withheld
    (found,) = short.found.withheld
    assert (found.participant, found.idle_kw) == (STORE, 9.0)
    assert found.limit == "rating of line 0 at node 0"
    assert short.prices.energy[1] - full.prices.energy[1] >= 250_000
    assert found.price * 1e6 == pytest.approx(short.prices.energy[1], abs=1)


def test_relief_that_was_awarded_and_is_not_delivered_is_found_by_the_run(wires: Wires) -> None:
    """And what others pay for it, who had bought 2.5 kW beyond what the line carries.

    While nobody vouches for its battery: else the rest of its offer counts as relief, the price stays where it was, and
    there is nothing to find.
    """
    orders = book()
    gate = cleared(wires, orders)
    for rules in (replace(VOUCHED, attested=False), VOUCHED):
        kept = cleared(wires, orders, net_w=(18_500, -2_500, -6_000), guide=gate, rules=rules)
        assert not kept.found.withheld
        run = cleared(wires, orders, net_w=(18_500, 0, -6_000), guide=gate, rules=rules)
        if rules.attested:
            assert not run.found.withheld
            assert run.prices.energy[1] == pytest.approx(HONEST, abs=50)
            continue
        (found,) = run.found.withheld
        assert found.participant == STORE
        assert found.idle_kw == pytest.approx(2.5, abs=0.01)
        assert run.prices.energy[1] - kept.prices.energy[1] >= 250_000


def test_nobody_withholds_where_the_price_is_less_than_its_energy_is_worth(wires: Wires) -> None:
    assert not cleared(wires, book(offered_w=0), later=np.array([0, 2_000_000])).found.withheld


def test_a_roof_is_measured_by_what_other_roofs_offer() -> None:
    """At night none of them offers, and none has kept anything back; at noon one that offers nothing has."""
    customer = np.arange(1, 5)
    rows = np.zeros(3, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["device"] = [1, 2, 3], [1, 2, 3], Device.PV
    rows["side"], rows["quantity_w"] = Side.SELL, [8_000, 6_000, 7_000]
    roofs = devices(customer.tolist(), [Device.PV] * 4, [10_000] * 4)
    known = Knowledge(NOTHING_LATER, roofs, np.full(4, 20_000))
    noon = idle(Orders.from_rows(rows), known, customer, customer, ROOT, TEST)
    assert (noon.participant.tolist(), noon.kw.tolist()) == ([4], [3.5])
    night = idle(Orders.empty(), known, customer, customer, ROOT, TEST)
    assert not night.participant.size
    kept = replace(known, devices=roofs.take(np.zeros(4, dtype=bool)))
    assert not idle(Orders.from_rows(rows), kept, customer, customer, ROOT, TEST).participant.size


def test_nobody_is_asked_for_more_than_its_connection_may_feed_in() -> None:
    """Roof and battery of 9 kW behind a connection for 5: what it draws itself, and what it offers, count as well."""
    who = np.array([STORE])
    both = devices([STORE, STORE], [Device.PV, Device.BATTERY], [9_000, 9_000])
    known = Knowledge(NOTHING_LATER, both, np.array([5_000]))
    rows = np.zeros(2, dtype=Orders.row_dtype())
    rows["customer"], rows["node"], rows["device"] = STORE, 1, [Device.LOAD, Device.BATTERY]
    rows["side"], rows["price_taker"], rows["quantity_w"] = [Side.BUY, Side.SELL], [1, 0], [2_000, 3_000]
    for drawn, offered, kept_kw in ((0, 0, [5.0]), (2_000, 0, [7.0]), (2_000, 3_000, [4.0]), (0, 5_000, [])):
        rows["quantity_w"] = drawn, offered
        orders = Orders.from_rows(rows[rows["quantity_w"] > 0])
        assert idle(orders, known, who, who, ROOT, TEST).kw.tolist() == kept_kw


@pytest.mark.parametrize("orders", [book(5_000_001), book(offered_w=9_001)])
def test_an_offer_that_the_gate_refuses_is_none(wires: Wires, orders: Orders) -> None:
    """A micro above the cap, or a watt more than the connection carries: all the same it brings no relief."""
    gate = cleared(wires, orders, capacity_w=np.array([40_000, 9_000, 40_000]))
    assert gate.refused.customer.tolist() == [STORE]
    assert [(each.participant, each.idle_kw) for each in gate.found.withheld] == [(STORE, 9.0)]


def test_nobody_is_asked_for_what_the_gate_would_refuse(wires: Wires) -> None:
    """Of who is on hold, and of a battery for which nobody vouches, while the rule asks that."""
    unattested = devices([STORE], [Device.BATTERY], [9_000], attested=False)
    for orders in (book(), book(offered_w=0)):
        held = cleared(wires, orders, held=Held(np.array([STORE]), np.array([0]), np.array([0])))
        alone = cleared(wires, orders, known=Knowledge(NOTHING_LATER, unattested, FUSES), devices=unattested)
        assert held.prices.energy[1] > ROOT
        assert not held.found.withheld
        assert not alone.found.withheld


def test_who_stands_at_no_node_of_the_network_keeps_nothing_back(wires: Wires) -> None:
    assert not cleared(wires, book(offered_w=0), node=np.array([1, 7, 1])).found.withheld


def test_of_a_coarse_meter_the_award_is_the_mean_of_its_span() -> None:
    """9 kW awarded in one of three intervals, all of it delivered: the meter shows 3."""
    none = np.zeros(1, dtype=np.int64)
    spans = SpanAwards(np.array([1]), AwardedPower(none, none + 3_000, none, none))
    metered = MeteredPower(
        CUSTOMER, NODE, np.array([18_500, -3_000, -6_000]), np.zeros(3, int), np.zeros(3, bool), FUSES, FUSES, spans
    )
    known = Knowledge(NOTHING_LATER, DEVICES, FUSES)
    awarded = np.array([18_500, 9_000, 6_000]) * 1_000
    short = undelivered(book(), awarded, metered, known, ROOT, TEST, PriceRun())
    assert not short.participant.size
    exact = undelivered(book(), awarded, replace(metered, spans=None), known, ROOT, TEST, PriceRun())
    assert (exact.participant.tolist(), exact.kw.tolist()) == ([STORE], [6.0])
