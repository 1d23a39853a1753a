"""A gate on one feeder: the same integers in whatever process, and from whatever memory, it is cleared."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid import Case, Engine, Network, at_steps, best_engine, steps_moved
from tellegen.grid.document import network_to_json
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.market import Agreements, Parameters, References
from tellegen.operations.clearers import AHEAD, Clearers, Done, _Work
from tellegen.operations.gate import Before, Cleared, GateTask, Held, Period, Wires, clear_feeder
from tellegen.operations.price_run import inflexible
from tellegen.operations.topology import RecordedWires
from tellegen.records import OPERATOR, ClearingStatus, Orders, Product, Refusal, Side
from tellegen.simulation.workload import ROOT_PRICE, BidForm, Binding, Situation, limits_that_bind, market_books

FIRST, HOURS, CUSTOMERS = 4925928, 4, 40
ROOT_MICROS = round(ROOT_PRICE * 1e6)
COLUMNS = Orders.row_dtype().names or ()
TABLES = ("refused", "awards", "schedules", "prices", "starts", "clearing")


@pytest.fixture(scope="module")
def street() -> tuple[Network, tuple[Period, ...]]:
    """A feeder whose lowest voltage binds, and the hours of an evening."""
    feeder = synthetic_feeder(CUSTOMERS, phases=3, seed=4)
    rounds = market_books(feeder, 7, intervals=HOURS, form=BidForm.STEPS, situation=Situation.EVENING)
    limited = limits_that_bind(feeder.network, rounds[0].book, Binding.LOWEST_VOLTAGE)
    free = np.full(len(feeder.network.nodes), 1.5)
    network = replace(limited.network, v_min=free * 0 + limited.limits["v_min"], v_max=free)
    customer = np.arange(1, CUSTOMERS + 1)
    periods = [
        Period(FIRST + 12 * k, 12, ROOT_MICROS, of.orders, customer, feeder.customer_node)
        for k, of in enumerate(rounds)
        if of.orders is not None
    ]
    return network, tuple(periods)


def task_of(street: tuple[Network, tuple[Period, ...]], **more: object) -> GateTask:
    customer = np.arange(1, CUSTOMERS + 1)
    task = GateTask(
        "F1", "day_ahead", street[1], "street", Parameters(), customer, np.zeros((CUSTOMERS, 4), dtype="i8")
    )
    return replace(task, **more)  # type: ignore[arg-type]


def same(one: Cleared, two: Cleared) -> bool:
    """Every integer that goes on record."""
    tables = all(getattr(one, name).equals(getattr(two, name)) for name in TABLES)
    arrays = all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("carry", "taps", "taps_after"))
    return tables and arrays and one.first == two.first


def before(cleared: Cleared, period: Period) -> Before:
    """What a clearing leaves, read back from bytes."""
    tables = (cleared.prices, cleared.starts, cleared.awards, period.orders)
    return Before(*(type(table).from_bytes(table.rows().tobytes()) for table in tables))  # type: ignore[arg-type]


def one_by_one(task: GateTask, cleared: tuple[Cleared, ...]) -> list[GateTask]:
    """Each period as a gate of its own, from the records of the last that ended at an optimum."""
    alone, start = [], task.start
    carry, taps = task.carry, task.taps
    for period, done in zip(task.periods, cleared, strict=True):
        alone.append(replace(task, periods=(period,), start=start, carry=carry, taps=taps))
        carry, taps = done.carry, done.taps_after
        if done.clearing.status[0] <= ClearingStatus.RELAXED:
            start = before(done, period)
    return alone


def test_who_is_held_stands_at_its_usual_use_and_is_awarded_nothing(street: tuple[Network, tuple[Period, ...]]) -> None:
    """To the bit as if it had bid for that at any price; what it did bid for is refused, with the reason."""
    network, (period, *_) = street
    who, usual_w, usual_var = np.array([7]), np.array([-1_500]), np.array([400])
    mine, where = period.orders.customer == 7, period.node[who - 1]
    stands = Held(who, usual_w, usual_var)
    (held,) = clear_feeder(task_of(street, periods=(replace(period, held=stands),)), Wires(network))
    usual = [inflexible(who, where, usual_w, Product.ENERGY), inflexible(who, where, usual_var, Product.REACTIVE)]
    book = replace(period, orders=Orders.concat([period.orders.take(~mine), *usual]))
    (plain,) = clear_feeder(task_of(street, periods=(book,)), Wires(network))
    for name in ("schedules", "prices", "clearing", "starts"):
        assert getattr(held, name).equals(getattr(plain, name)), name
    assert held.schedules.energy_wh[held.schedules.customer == 7].tolist() == [-1_500]  # of an hour
    assert 7 not in held.awards.customer
    assert set(held.refused.customer.tolist()) == {7}
    assert len(held.refused) == mine.sum()
    assert set(held.refused.refusal.tolist()) == {Refusal.NOT_DELIVERED}


# -- the record decides, not memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", Engine)
def test_hours_in_a_row_are_hours_each_from_the_record(
    street: tuple[Network, tuple[Period, ...]], engine: Engine
) -> None:
    if engine is Engine.SWEEPS and best_engine() is not engine:
        pytest.skip("compiled loops need the extra 'fast'")
    task = task_of(street, engine=engine)
    chained = clear_feeder(task, Wires(street[0]))
    assert {int(each.clearing.status[0]) for each in chained} == {ClearingStatus.OPTIMAL}
    # backwards, on copies of the network: neither order nor what is kept of a network has a say
    for done, alone in reversed(list(zip(chained, one_by_one(task, chained), strict=True))):
        (again,) = clear_feeder(alone, Wires(replace(street[0])))
        assert same(again, done)


def test_fresh_processes_clear_what_one_process_clears(street: tuple[Network, tuple[Period, ...]]) -> None:
    """Two processes that have cleared nothing before share the hours, from bytes of the record, the network's too."""
    task = task_of(street)
    chained = clear_feeder(task, Wires(street[0]))
    with Clearers(2) as clearers:
        clearers.know("street", RecordedWires("street", network_to_json(street[0])))
        answers = {done.place: done for done in clearers.clear(one_by_one(task, chained))}
    assert all(same(answers[k].cleared[0], done) for k, done in enumerate(chained))


def test_an_hour_that_sheds_load_follows_from_the_record_again(street: tuple[Network, tuple[Period, ...]]) -> None:
    """What is asked is more than the wires carry: who is not served in full is the same in another process's memory."""
    network, periods = street
    orders = periods[1].orders
    firm = replace(
        orders,
        price_taker=np.ones(len(orders), dtype=np.uint8),
        side=np.ones(len(orders), dtype=np.int8),
        quantity_w=np.full(len(orders), 60_000),
    )
    task = task_of(street, periods=(periods[0], replace(periods[1], orders=firm), periods[2]))
    chained = clear_feeder(task, Wires(network))
    assert [int(each.clearing.status[0]) for each in chained] == [
        ClearingStatus.OPTIMAL,
        ClearingStatus.RELAXED,
        ClearingStatus.OPTIMAL,
    ]
    assert chained[1].awards.quantity_mw.sum() < 1000 * firm.quantity_w.sum()
    for done, alone in reversed(list(zip(chained, one_by_one(task, chained), strict=True))):
        (again,) = clear_feeder(alone, Wires(replace(network)))
        assert same(again, done)


def test_after_a_fallback_the_last_optimum_is_where_it_starts(street: tuple[Network, tuple[Period, ...]]) -> None:
    network, periods = street
    impossible = replace(
        periods[1].orders,
        price_taker=np.ones(len(periods[1].orders), dtype=np.uint8),
        side=-np.ones(len(periods[1].orders), dtype=np.int8),
        quantity_w=np.full(len(periods[1].orders), 10**9),
    )
    task = task_of(street, periods=(periods[0], replace(periods[1], orders=impossible), periods[2]))
    task = replace(task, spread_micros=np.arange(len(network.nodes)))
    first, fell, third = clear_feeder(task, Wires(network))
    assert fell.clearing.status[0] == ClearingStatus.FALLBACK
    assert np.array_equal(fell.prices.energy, ROOT_MICROS + np.arange(len(network.nodes)))
    assert not len(fell.starts)
    alone = replace(task, periods=periods[2:3], start=before(first, periods[0]), carry=fell.carry)
    assert same(clear_feeder(alone, Wires(network))[0], third)


def test_who_is_pivotal_is_held_to_its_reference(street: tuple[Network, tuple[Period, ...]]) -> None:
    """The root lets 10 kW of 18 through: without customer 2, who asks 2.00, they cannot be had."""
    network, periods = street
    columns = {name: [0, 0, 0] for name in COLUMNS} | {"customer": [1, 2, 3], "side": [1, -1, -1]}
    wanted = {"price_taker": [1, 0, 0], "price_micros": [0, 2_000_000, 310_000], "quantity_w": [18_000, 15_000, 6000]}
    orders = Orders(**columns | {"node": periods[0].node[:3]} | wanted)
    plain = task_of(street, periods=(replace(periods[0], orders=orders),), root_limit_kw=10.0)
    tested = replace(plain, references=References.of([2], Product.ENERGY, 0.4))
    wires = Wires(replace(network, v_min=network.v_min * 0))
    (free,), (held,) = (clear_feeder(task, wires) for task in (plain, tested))
    assert [(finding.participant, finding.mitigated) for finding in held.found.findings] == [(2, True)]
    assert not free.found.findings
    assert free.prices.energy[orders.node[1]] == 2_000_000
    assert held.prices.energy[orders.node[1]] == 400_000


# -- what is taken, and what goes on record --------------------------------------------------------------------------


def test_refused_rows_are_named_and_awards_name_rows_of_the_book(street: tuple[Network, tuple[Period, ...]]) -> None:
    network, periods = street
    orders, node = periods[0].orders, periods[0].node.copy()
    node[2], node[4] = node[3], 10**6  # customer 3 bids where it is not; customer 5 hangs nowhere in this network
    price = orders.price_micros.copy()
    price[np.flatnonzero(orders.customer == 7)[0]] = 6_000_000
    period = replace(periods[0], orders=replace(orders, price_micros=price), node=node)
    (cleared,) = clear_feeder(task_of(street, periods=(period,)), Wires(network))
    bad = np.isin(orders.customer, (3, 5, 7))
    assert cleared.refused.order.tolist() == np.flatnonzero(bad).tolist()
    assert not bad[cleared.awards.order].any()
    assert np.array_equal(orders.customer[cleared.awards.order], cleared.awards.customer)
    assert (cleared.awards.quantity_mw > 0).all()
    assert cleared.schedules.customer.tolist() == np.unique(orders.customer[~bad]).tolist()


def test_who_moves_between_hours_keeps_what_is_not_yet_whole(street: tuple[Network, tuple[Period, ...]]) -> None:
    """Customer 9 is here in the second hour alone: its carry neither moves nor is lost in the others."""
    network, periods = street
    left = np.flatnonzero(periods[0].customer != 9)
    gone = [replace(p, customer=p.customer[left], node=p.node[left]) for p in (periods[0], periods[2])]
    carry = np.full((CUSTOMERS, 4), 7)
    task = task_of(street, periods=(gone[0], periods[1], gone[1]), carry=carry)
    before_it, at_it, after_it = clear_feeder(task, Wires(network))
    assert before_it.carry[8].tolist() == [7] * 4
    assert 9 not in before_it.schedules.customer
    assert 9 in at_it.schedules.customer
    assert after_it.carry[8].tolist() == at_it.carry[8].tolist()
    row = int(np.flatnonzero(at_it.schedules.customer == 9)[0])
    assert at_it.schedules.carry_energy[row] == at_it.carry[8, 0]


def test_reserve_is_required_by_the_operator_and_paid_where_it_is_held(
    street: tuple[Network, tuple[Period, ...]],
) -> None:
    network, periods = street
    book = periods[0].orders.take([0, 1, 2, 3])
    node = periods[0].node

    def order(customer: int, side: Side, price: int, quantity: int) -> Orders:
        at = 0 if customer == OPERATOR else int(node[customer - 1])
        columns = {name: [0] for name in COLUMNS} | {"node": [at], "side": [side]}
        named = {"customer": [customer], "product": [Product.RESERVE_UP], "price_micros": [price]}
        return Orders(**columns | named | {"quantity_w": [quantity]})

    offers = [order(21, Side.SELL, 10_000, 2000), order(22, Side.SELL, 20_000, 2001)]
    wants = [order(OPERATOR, Side.BUY, 500_000, 3001), order(23, Side.BUY, 500_000, 900)]
    orders = Orders.concat([book, *offers, *wants])
    agreements = Agreements.of([21, 22], node[[20, 21]], export_kw=9.0)
    period = replace(periods[0], orders=orders, intervals=1)
    (cleared,) = clear_feeder(task_of(street, periods=(period,), agreements=agreements), Wires(network))
    held = dict(zip(cleared.schedules.customer.tolist(), cleared.schedules.reserve_up_wh.tolist(), strict=True))
    assert cleared.refused.order.tolist() == [len(orders) - 1]  # nobody but the operator requires reserve
    assert OPERATOR not in held
    assert (held[21], held[22]) == (2000 // 12, 1001 // 12)
    assert cleared.carry[21, 2] == 1_001_000 % 12_000
    assert cleared.prices.reserve_up[node[21]] == 20_000
    assert not cleared.prices.reserve_down.any()
    assert not cleared.schedules.energy_wh[np.isin(cleared.schedules.customer, (21, 22))].any()


def test_a_task_whose_parts_do_not_fit_is_refused(street: tuple[Network, tuple[Period, ...]]) -> None:
    wires = Wires(street[0])
    with pytest.raises(InputError, match="carry"):
        clear_feeder(task_of(street, carry=np.zeros((3, 4), dtype=np.int64)), wires)
    with pytest.raises(InputError, match="customers that the task lacks"):
        clear_feeder(task_of(street, customer=np.arange(2, CUSTOMERS + 2)), wires)
    with pytest.raises(InputError, match="nothing moves"):
        clear_feeder(task_of(street, taps=np.zeros(2, dtype=np.int64)), wires)


# -- taps between periods --------------------------------------------------------------------------------------------


def load_periods(case: Case, kilowatts: list[int]) -> tuple[Period, ...]:
    nodes = np.array([k for k, name in enumerate(case.network.nodes) if name == "b"])[:3]
    customer = np.array([1, 2, 3])
    columns = {name: [0, 0, 0] for name in COLUMNS}
    taken = {"customer": customer, "node": nodes, "side": [1, 1, 1], "price_taker": [1, 1, 1], "var_per_kw": [400] * 3}
    return tuple(
        Period(FIRST + k, 1, ROOT_MICROS, Orders(**columns | taken | {"quantity_w": [1000 * kw] * 3}), customer, nodes)
        for k, kw in enumerate(kilowatts)
    )


def test_taps_move_between_periods_and_stand_on_record(regulated: Case) -> None:
    periods = load_periods(regulated, [900, 900, 100, 100])
    task = GateTask(
        "F1", "real_time", periods, "regulated", Parameters(), np.arange(1, 4), np.zeros((3, 4), dtype="i8")
    )
    task = replace(task, taps=np.zeros(2, dtype=np.int64))
    chained = clear_feeder(task, Wires(regulated))
    stood = [each.taps.tolist() for each in chained]
    assert stood[0] == [0, 0]
    assert stood[1] != stood[0]
    assert stood[3] != stood[1]
    assert all(each.taps_settled for each in chained)
    assert chained[1].clearing.losses_wh[0] != chained[0].clearing.losses_wh[0]
    for done, alone in zip(chained, one_by_one(task, chained), strict=True):
        assert same(clear_feeder(alone, Wires(regulated))[0], done)


@pytest.mark.parametrize("steps", [(0, 0), (5, 1), (-16, -1), (14, 0)])
def test_steps_away_from_the_document_are_steps_from_it(regulated: Case, steps: tuple[int, int]) -> None:
    moved = at_steps(regulated, np.array(steps))
    assert regulated.controls is not None
    assert moved.controls is not None
    assert steps_moved(regulated.controls, moved.controls).tolist() == list(steps)
    with pytest.raises(InputError, match="can move"):
        at_steps(regulated, np.array([1]))


# -- worker processes ------------------------------------------------------------------------------------------------


class Poison:
    """A network that ends whoever reads it."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (7,)


@pytest.fixture(scope="module")
def clearers(street: tuple[Network, tuple[Period, ...]]) -> Iterator[Clearers]:
    with Clearers(1) as workers:
        workers.know("street", street[0])
        yield workers


def test_a_worker_that_is_killed_is_replaced_and_its_tasks_are_cleared(
    street: tuple[Network, tuple[Period, ...]], clearers: Clearers
) -> None:
    tasks = [task_of(street, feeder=f"F{k}", periods=street[1][:2]) for k in range(5)]
    expected = [clear_feeder(task, Wires(street[0])) for task in tasks]
    answers: list[Done] = []
    for done in clearers.clear(tasks):
        if not answers:
            os.kill(clearers.pids()[0], signal.SIGKILL)
        answers.append(done)
    assert sorted(done.place for done in answers) == list(range(5))
    for done in answers:
        assert not done.lost
        assert all(same(one, two) for one, two in zip(done.cleared, expected[done.place], strict=True))


def test_an_interrupt_is_the_parents_to_handle(street: tuple[Network, tuple[Period, ...]]) -> None:
    task = task_of(street, periods=street[1][:1])
    with Clearers(1) as workers:
        workers.know("street", street[0])
        workers.start()
        pids = workers.pids()
        for _ in ("while it starts", "while it waits"):
            os.kill(pids[0], signal.SIGINT)
            assert not next(workers.clear([task])).lost
        assert workers.pids() == pids


def test_a_worker_is_given_first_what_is_on_networks_that_it_knows(street: tuple[Network, tuple[Period, ...]]) -> None:
    work = _Work(AHEAD)
    for network in ("north", "south", "east", "south"):
        work.add(task_of(street, network=network))
    assert [work.next_on({"south"}) for _ in range(3)] == [1, 3, 0]
    assert list(work.fresh) == [2]


def test_what_ends_a_worker_twice_is_lost_and_the_others_are_not(
    street: tuple[Network, tuple[Period, ...]], clearers: Clearers
) -> None:
    clearers.know("poison", Poison())  # type: ignore[arg-type]
    good = task_of(street, periods=street[1][:1])
    answers = {done.place: done for done in clearers.clear([good, replace(good, network="poison"), good])}
    assert answers[1].lost == "its worker ended twice (exit code 7)"
    assert not answers[1].cleared
    assert len(answers[0].cleared) == len(answers[2].cleared) == 1


@pytest.mark.parametrize("processes", [0, 1])
def test_what_cannot_be_cleared_or_is_late_is_reported_and_nothing_waits_for_it(
    street: tuple[Network, tuple[Period, ...]], clearers: Clearers, processes: int
) -> None:
    workers = clearers if processes else Clearers()
    workers.know("street", street[0])
    good = task_of(street, periods=street[1][:1])
    bad = replace(good, carry=np.zeros((3, 4), dtype=np.int64))
    answers = {done.place: done for done in workers.clear([bad, good])}
    assert "carry" in answers[0].lost
    assert not answers[1].lost
    late = list(workers.clear([good, good], within_s=0.0))
    assert [done.lost for done in late] == ["not done in time"] * 2
    assert [len(done.cleared) for done in workers.clear([good])] == [1]
    with pytest.raises(InputError, match="is not known"):
        workers.clear([replace(good, network="elsewhere")])
    with pytest.raises(InputError, match="another"):
        workers.know("street", replace(street[0]))


def test_taps_stay_where_no_power_flow_tells_them_to_go(regulated: Case) -> None:
    """A demand beyond the wires moves nothing, and the record says that the taps have not come to rest."""
    size, controls = len(regulated.network.nodes), regulated.controls
    assert controls is not None
    steps = steps_moved(controls, controls)
    wires = Wires(regulated)
    after, settled = wires.rest(steps, Engine.SUPERLU, np.full(size, 1e9 + 0j))
    assert not settled
    assert np.array_equal(after, steps)
    assert wires.rest(steps, Engine.SUPERLU, np.zeros(size, dtype=complex))[1]
