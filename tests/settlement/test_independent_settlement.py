"""Law 10: a settlement written a second time, from the definitions, with plain integers and loops.

It shares with the product the facts, the names of the tie-breaking contexts and nothing else.
"""

from collections import defaultdict
from dataclasses import replace
from datetime import date
from fractions import Fraction
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.records import Account, Line
from tellegen.rules import ReactiveRule, Rulebook, ShareKey
from tellegen.settlement import DayFacts, Parameters, hourly_to_intervals, settle_day, specimen_day

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
CENT = 10_000_000


def hashed(context, member):
    key = blake2b(context.encode(), digest_size=32).digest()
    return int.from_bytes(blake2b(member.to_bytes(8, "little", signed=True), digest_size=8, key=key).digest(), "little")


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


def settle_by_hand(day: DayFacts, rules: Parameters) -> dict[tuple[int, int, int], tuple[int, int]]:
    """(quantity, amount) by (account, interval, line)."""
    book = defaultdict(lambda: (0, 0))
    facts = day.steps
    names = facts.customer.tolist()

    def post(account, interval, line, quantity, amount):
        q, a = book[account, interval, line]
        book[account, interval, line] = (q + quantity, a + amount)

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
            post(name, interval, Line.IMBALANCE, net - now, (net - now) * price)
            for line, account, tariff in (
                (Line.NETWORK_ENERGY, Account.NETWORK, rules.network_withdrawal_micros_per_kwh),
                (Line.ENERGY_TAX, Account.TAX, rules.energy_tax_micros_per_kwh),
            ):
                post(name, interval, line, bought, bought * tariff)
                post(account, interval, line, -bought, -bought * tariff)
            post(Account.RENT, interval, Line.RENT_FORWARD, -ahead, -ahead * price_ahead)
            post(Account.RENT, interval, Line.RENT_REAL_TIME, -(now - ahead), -(now - ahead) * price)
            post(Account.RENT, interval, Line.RENT_DEVIATION, 0, -(net - now) * (price - root_price))
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

    first = int(facts.interval[0])
    trailing = dict(zip(names, day.key_wh.tolist(), strict=True))

    def by(key):
        return trailing if key is ShareKey.TRAILING_WITHDRAWAL else dict.fromkeys(names, 1)

    def owed(account, lines=None):
        return sum(a for (who, _, line), (_, a) in book.items() if who == account and (lines is None or line in lines))

    def charge(line, amounts, against):
        for name, amount in amounts.items():
            post(name, first, line, 0, amount)
            post(against, first, line, 0, -amount)

    charge(Line.NETWORK_FIXED, dict.fromkeys(names, rules.network_fixed_nanos_per_day), Account.NETWORK)
    missing = len(names) * rules.network_revenue_nanos_per_customer_day + owed(Account.NETWORK)
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
    base = {}
    for name in names:
        energy = owed(name) - owed(name, grid)
        base[name] = max(0, owed(name, grid) + max(0, energy))
    tax = sum(base.values()) * rules.sales_tax_ppm // 10**6
    charge(Line.SALES_TAX, largest_remainder(tax, base, f"sales tax/{first}"), Account.TAX)
    exact = {name: owed(name) + int(c) for name, c in zip(names, day.rounding_carry_nanos, strict=True)}
    cents = {name: nanos // CENT for name, nanos in exact.items()}
    lifts = (sum(exact.values()) - CENT * sum(cents.values()) + CENT // 2) // CENT
    for name in sorted(names, key=lambda n: (-(exact[n] % CENT), hashed(f"cents/{first}", n)))[:lifts]:
        cents[name] += 1
    charge(Line.ROUNDING, {name: CENT * cents[name] - owed(name) for name in names}, Account.ROUNDING)
    return {key: value for key, value in book.items() if value != (0, 0)}


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
    ours = {
        (account, interval, line): (quantity, amount)
        for account, interval, line, quantity, amount in zip(
            postings.account.tolist(),
            postings.interval.tolist(),
            postings.line.tolist(),
            postings.quantity.tolist(),
            postings.amount.tolist(),
            strict=True,
        )
    }
    assert len(ours) == len(postings)
    assert ours == settle_by_hand(day, rules)


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
