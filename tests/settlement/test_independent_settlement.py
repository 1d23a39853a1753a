"""Law 10: a settlement written a second time, from the definitions, with plain integers and loops.

It shares with the product the facts, the names of the tie-breaking contexts and nothing else.
"""

from collections import defaultdict
from dataclasses import fields, replace
from datetime import date
from fractions import Fraction
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import fold
from tellegen.records import Account, Line, Postings
from tellegen.rules import ReactiveRule, Rulebook, ShareKey
from tellegen.settlement import (
    DayFacts,
    FeederDay,
    IntervalFacts,
    OpenBills,
    Parameters,
    ReserveFacts,
    close_feeder,
    hourly_to_intervals,
    line_sums,
    settle_day,
    settle_intervals,
    settle_reserves,
    specimen_day,
    specimen_move,
)

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
CENT = 10_000_000


def hashed(context, member):
    """SplitMix64 of the member's number xor a 64-bit hash of the context."""
    z = (member ^ int.from_bytes(blake2b(context.encode(), digest_size=8).digest(), "little")) + 0x9E3779B97F4A7C15
    z %= 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def largest_remainder(total, weights, context):
    """Hamilton's method on the magnitude of `total`; weights by member."""
    sign, whole = (-1 if total < 0 else 1), sum(weights.values())
    if not whole:
        assert total == 0
        return dict.fromkeys(weights, 0)
    exact = {member: Fraction(abs(total) * weight, whole) for member, weight in weights.items()}
    share = {member: int(quota) for member, quota in exact.items()}
    queue = sorted(weights, key=lambda member: (-(exact[member] - share[member]), hashed(context, member)))
    for member in queue[: abs(total) - sum(share.values())]:
        share[member] += 1
    return {member: sign * amount for member, amount in share.items()}


class HandBook:
    """(quantity, amount) by (account, interval, line)."""

    def __init__(self):
        self.sums = defaultdict(lambda: (0, 0))

    def post(self, account, interval, line, quantity, amount):
        q, a = self.sums[account, interval, line]
        self.sums[account, interval, line] = (q + quantity, a + amount)

    def rows(self):
        return {key: value for key, value in self.sums.items() if value != (0, 0)}


def unpaid_by_hand(counted: int, fed_in: int, price: int, limit: int | None) -> int:
    """What is kept of the pay for sun that nobody read in time."""
    if counted < 0 or limit is None or fed_in <= counted or price <= limit:
        return 0
    return (fed_in - counted) * (price - limit)


def settle_intervals_by_hand(book: HandBook, facts: IntervalFacts, rules: Parameters) -> None:
    post, names = book.post, facts.customer.tolist()
    for t, interval in enumerate(facts.interval.tolist()):
        root_price = int(facts.wholesale_real_time_price[t])
        root_forward, substation = int(facts.root_forward_wh[t]), int(facts.substation_wh[t])
        losses = int(facts.losses_wh[t])
        root_schedule = losses
        taken = 0
        for i, name in enumerate(names):
            ahead, now = int(facts.forward_wh[t, i]), int(facts.real_time_wh[t, i])
            bought = int(facts.import_wh[t, i])
            net = bought - int(facts.export_wh[t, i])
            price_ahead, price = int(facts.forward_price[t, i]), int(facts.real_time_price[t, i])
            root_schedule += now
            taken += net
            post(name, interval, Line.FORWARD, ahead, ahead * price_ahead)
            post(name, interval, Line.REAL_TIME, now - ahead, (now - ahead) * price)
            unpaid = unpaid_by_hand(int(facts.counted_feed_in_wh[t, i]), -net, price, rules.late_feed_in_micros_per_kwh)
            post(name, interval, Line.IMBALANCE, net - now, (net - now) * price + unpaid)
            for line, account, tariff in (
                (Line.NETWORK_ENERGY, Account.NETWORK, rules.network_withdrawal_micros_per_kwh),
                (Line.ENERGY_TAX, Account.TAX, rules.energy_tax_micros_per_kwh),
            ):
                post(name, interval, line, bought, bought * tariff)
                post(account, interval, line, -bought, -bought * tariff)
            post(Account.RENT, interval, Line.RENT_FORWARD, -ahead, -ahead * price_ahead)
            post(Account.RENT, interval, Line.RENT_REAL_TIME, -(now - ahead), -(now - ahead) * price)
            post(Account.RENT, interval, Line.RENT_DEVIATION, 0, -(net - now) * (price - root_price) - unpaid)
            if rules.reactive is ReactiveRule.REAL_TIME_PRICE:
                varh, price_q = int(facts.reactive_varh[t, i]), int(facts.reactive_price[t, i])
                post(name, interval, Line.REACTIVE, varh, varh * price_q)
                post(Account.RENT, interval, Line.RENT_REACTIVE, -varh, -varh * price_q)
        cost_ahead = root_forward * int(facts.wholesale_forward_price[t])
        post(Account.RENT, interval, Line.RENT_FORWARD, root_forward, cost_ahead)
        post(
            Account.RENT,
            interval,
            Line.RENT_REAL_TIME,
            root_schedule - root_forward,
            (root_schedule - root_forward) * root_price,
        )
        post(Account.WHOLESALE, interval, Line.WHOLESALE_FORWARD, -root_forward, -cost_ahead)
        later = substation - root_forward
        post(Account.WHOLESALE, interval, Line.WHOLESALE_REAL_TIME, -later, -later * root_price)
        missing = substation - taken - losses
        post(Account.UNACCOUNTED, interval, Line.UNACCOUNTED_ENERGY, missing, missing * root_price)


def settle_reserves_by_hand(book: HandBook, facts: ReserveFacts) -> None:
    for way, line in (("up", Line.RESERVE_UP), ("down", Line.RESERVE_DOWN)):
        for t, interval in enumerate(facts.interval.tolist()):
            for i, name in enumerate(facts.customer.tolist()):
                ahead, now, price_ahead, price = (
                    int(getattr(facts, f"{way}_{what}")[t, i])
                    for what in ("forward_wh", "real_time_wh", "forward_price", "real_time_price")
                )
                paid = ahead * price_ahead + (now - ahead) * price
                book.post(name, interval, line, -now, -paid)
                book.post(Account.RESERVES, interval, line, now, paid)


def close_by_hand(book: HandBook, day: FeederDay, rules: Parameters) -> None:
    """`day` says who was connected when, keys and carry; amounts and pools are taken from the book."""
    first, whole = day.first_interval, day.intervals
    names = day.customer.tolist()
    pieces = {name: [(a, b) for who, a, b in day.pieces.tolist() if who == name] for name in names}
    time = {name: sum(b - a for a, b in pieces[name]) for name in names}
    trailing = dict(zip(names, day.key_wh.tolist(), strict=True))

    def by(key):
        return trailing if key is ShareKey.TRAILING_WITHDRAWAL and any(trailing.values()) else time

    def part(daily):
        return {name: sum(daily * b // whole - daily * a // whole for a, b in pieces[name]) for name in names}

    def owed(account, lines=None):
        sums = book.sums.items()
        return sum(a for (who, _, line), (_, a) in sums if who == account and (lines is None or line in lines))

    def charge(line, amounts, against):
        for name, amount in amounts.items():
            book.post(name, first, line, 0, amount)
            book.post(against, first, line, 0, -amount)

    charge(Line.NETWORK_FIXED, part(rules.network_fixed_nanos_per_day), Account.NETWORK)
    missing = sum(part(rules.network_revenue_nanos_per_customer_day).values()) + owed(Account.NETWORK)
    charge(
        Line.NETWORK_TRUE_UP,
        largest_remainder(missing, by(rules.true_up_key), f"network true-up/{first}"),
        Account.NETWORK,
    )
    charge(Line.RENT_SHARE, largest_remainder(owed(Account.RENT), by(rules.rent_key), f"rent/{first}"), Account.RENT)
    charge(
        Line.UNACCOUNTED_SHARE,
        largest_remainder(owed(Account.UNACCOUNTED), by(rules.unaccounted_key), f"unaccounted-for energy/{first}"),
        Account.UNACCOUNTED,
    )
    grid = {Line.NETWORK_ENERGY, Line.ENERGY_TAX, Line.NETWORK_FIXED, Line.NETWORK_TRUE_UP}
    reserves = {Line.RESERVE_UP, Line.RESERVE_DOWN}
    base = {}
    for name in names:
        energy = owed(name) - owed(name, grid | reserves)
        base[name] = max(0, owed(name, grid) + max(0, energy))
    tax = sum(base.values()) * rules.sales_tax_ppm // 10**6
    charge(Line.SALES_TAX, largest_remainder(tax, base, f"sales tax/{first}"), Account.TAX)
    carry = dict(zip(day.bills.customer.tolist(), day.bills.carry_nanos.tolist(), strict=True))
    exact = {name: owed(name) + carried for name, carried in carry.items()}
    cents = {name: nanos // CENT for name, nanos in exact.items()}
    lifts = (sum(exact.values()) - CENT * sum(cents.values()) + CENT // 2) // CENT
    for name in sorted(cents, key=lambda n: (-(exact[n] % CENT), hashed(f"cents/{first}", n)))[:lifts]:
        cents[name] += 1
    charge(Line.ROUNDING, {name: CENT * cents[name] - owed(name) for name in cents}, Account.ROUNDING)


def feeder_day(day: DayFacts, postings: Postings, pieces: list[tuple[int, int, int]]) -> FeederDay:
    """The product's view of a day: its sums so far, and everybody invoiced here."""
    amounts, _ = line_sums(postings, day.customer)
    pools = {account: int(postings.amount[postings.account == account].sum()) for account in Account}
    return FeederDay(
        first_interval=day.first_interval,
        intervals=day.steps.interval.size,
        customer=day.customer,
        pieces=np.array(pieces).reshape(-1, 3),
        key_wh=day.key_wh,
        amounts=amounts,
        open_rent_nanos=pools[Account.RENT],
        open_unaccounted_nanos=pools[Account.UNACCOUNTED],
        bills=OpenBills(day.customer, amounts.sum(axis=1), day.rounding_carry_nanos),
    )


def settle_by_hand(day: DayFacts, rules: Parameters) -> dict[tuple[int, int, int], tuple[int, int]]:
    """A day on which everybody is on the feeder from start to end."""
    book = HandBook()
    settle_intervals_by_hand(book, day.steps, rules)
    whole = [(name, 0, day.steps.interval.size) for name in day.customer.tolist()]
    close_by_hand(book, feeder_day(day, Postings.empty(), whole), rules)
    return book.rows()


def rows_of(postings: Postings) -> dict[tuple[int, int, int], tuple[int, int]]:
    """What the product posted, rows of several prices added up."""
    sums = fold(postings, "account", "interval", "line")
    keys = zip(*(key.tolist() for key in sums.keys), strict=True)
    values = zip(sums.quantity.tolist(), sums.amount.tolist(), strict=True)
    return {key: value for key, value in zip(keys, values, strict=True) if value != (0, 0)}


@given(
    seed=st.integers(0, 10**6),
    customers=st.integers(1, 6),
    reactive=st.sampled_from(ReactiveRule),
    keys=st.tuples(*[st.sampled_from(ShareKey)] * 3),
)
@settings(max_examples=25, deadline=None)
def test_settlement_agrees_with_an_independent_one(seed, customers, reactive, keys):
    """Law 10: every posting of a random day, to the last nano and Wh."""
    day = specimen_day(seed, hours=1, customers=customers)
    true_up, rent, unaccounted = keys
    rules = replace(RULES, reactive=reactive, true_up_key=true_up, rent_key=rent, unaccounted_key=unaccounted)
    postings = settle_day(day, rules)
    rows = fold(postings, "account", "interval", "line", "price")
    assert rows.quantity.size == len(postings), "a row for each price"
    assert rows_of(postings) == settle_by_hand(day, rules)


@given(
    seed=st.integers(0, 10**6),
    mover=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 11), min_size=4, max_size=4),
    keyless=st.booleans(),
    keys=st.tuples(*[st.sampled_from(ShareKey)] * 3),
)
@settings(max_examples=25, deadline=None)
def test_a_day_of_movers_and_reserves_agrees_with_an_independent_one(seed, mover, cuts, keyless, keys):
    """Law 10: a home that changed its node, providers of reserve, homes that came or left during the day."""
    day = specimen_day(seed, hours=1, customers=4)
    day = replace(day, key_wh=day.key_wh * (not keyless))
    true_up, rent, unaccounted = keys
    rules = replace(RULES, true_up_key=true_up, rent_key=rent, unaccounted_key=unaccounted)
    steps = specimen_move(day.steps, mover, 150_000)
    draw = np.random.default_rng(seed)
    columns = {f.name: draw.integers(0, 5_000, (12, 2)) for f in fields(ReserveFacts)[2:]}
    reserves = ReserveFacts(interval=steps.interval, customer=day.customer[:2], **columns)
    pieces = [(name, cut, 12) for name, cut in zip(day.customer.tolist(), cuts, strict=True)]
    pieces += [(name, 0, cut - 2) for name, cut in zip(day.customer.tolist(), cuts, strict=True) if cut > 2]
    postings = Postings.concat([settle_intervals(steps, rules), settle_reserves(reserves)])
    facts = feeder_day(day, postings, pieces)
    postings = Postings.concat([postings, close_feeder(facts, rules).postings])

    book = HandBook()
    settle_intervals_by_hand(book, steps, rules)
    settle_reserves_by_hand(book, reserves)
    close_by_hand(book, facts, rules)
    assert rows_of(postings) == book.rows()


@given(
    hours=st.lists(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=3, max_size=3), min_size=1, max_size=3),
    first=st.integers(0, 10**7),
)
@settings(max_examples=40, deadline=None)
def test_hourly_energy_is_spread_by_largest_remainder(hours, first):
    """Law 1: each hour's Wh are conserved and spread as evenly as whole Wh allow, ties by hash."""
    members = [4, 0, 17]
    spread = hourly_to_intervals(hours, members, first)
    for hour, row in enumerate(hours):
        for column, total in enumerate(row):
            numbers = range(first + 12 * hour, first + 12 * hour + 12)
            block = spread[12 * hour : 12 * hour + 12, column].tolist()
            extra = abs(total) % 12
            lifted = sorted(numbers, key=lambda k: hashed(f"hour to interval/{k}", members[column]))[:extra]
            sign = -1 if total < 0 else 1
            assert block == [sign * (abs(total) // 12 + (number in lifted)) for number in numbers]


def test_a_worked_interval_by_hand():
    """A household of 1.2 kWh ahead, 1.0 kWh in real time and 1.1 kWh on the meter."""
    day = specimen_day(0, hours=1, customers=1)
    row = {
        name: getattr(day.steps, name)[:1] * 0 for name in ("forward_wh", "real_time_wh", "export_wh", "reactive_varh")
    }
    row |= {"forward_wh": row["forward_wh"] + 1_200, "real_time_wh": row["real_time_wh"] + 1_000}
    steps = replace(
        day.steps.take([0]),
        import_wh=row["export_wh"] + 1_100,
        forward_price=row["export_wh"] + 100_000,
        real_time_price=row["export_wh"] + 300_000,
        reactive_price=row["export_wh"],
        root_forward_wh=row["export_wh"][:, 0] + 1_250,
        losses_wh=row["export_wh"][:, 0] + 50,
        substation_wh=row["export_wh"][:, 0] + 1_160,
        wholesale_forward_price=row["export_wh"][:, 0] + 90_000,
        wholesale_real_time_price=row["export_wh"][:, 0] + 280_000,
        **row,
    )
    book = settle_by_hand(replace(day, steps=steps), RULES)
    lines = {line: amount for (account, _, line), (_, amount) in book.items() if account == int(steps.customer[0])}
    assert lines[Line.FORWARD] == 120_000_000  # 1.2 kWh at 0.10
    assert lines[Line.REAL_TIME] == -60_000_000  # 0.2 kWh sold back at 0.30
    assert lines[Line.IMBALANCE] == 30_000_000  # 0.1 kWh more than awarded at 0.30
    assert lines[Line.NETWORK_ENERGY] == 88_000_000
    assert lines[Line.ENERGY_TAX] == 22_000_000
    # 1.16 kWh through the substation, 1.10 metered, 0.05 modelled losses: 10 Wh are unaccounted for
    assert book[Account.UNACCOUNTED, int(steps.interval[0]), Line.UNACCOUNTED_ENERGY] == (10, 2_800_000)
    ours = settle_day(replace(day, steps=steps), RULES)
    assert {(a, n) for a, n in zip(ours.line.tolist(), ours.amount.tolist(), strict=True)} >= set(lines.items())


@pytest.mark.parametrize("total", [-7, 0, 7, 10**19])
def test_the_referee_conserves_what_it_shares(total):
    assert sum(largest_remainder(total, {1: 3, 2: 5, 9: 1}, "doc").values()) == total
