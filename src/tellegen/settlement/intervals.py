r"""From facts to postings, interval by interval: exact products, and two pools that take the rest.

With withdrawals positive and an amount positive where the account owes, customer i at prices
:math:`\lambda` owes in an interval

=============== ==================================================
FORWARD         q_DA,i * lambda_DA,i
REAL_TIME       (q_RT,i - q_DA,i) * lambda_RT,i
IMBALANCE       (m_i - q_RT,i) * lambda_RT,i
REACTIVE        varh_i * mu_RT,i
NETWORK_ENERGY  import_i * network tariff
ENERGY_TAX      import_i * energy tax
=============== ==================================================

The DSO buys at the substation at wholesale prices pi; WHOLESALE is owed (negative amounts)
``Q_DA * pi_DA + (M - Q_DA) * pi_RT``, with Q_DA the root's day-ahead energy and M the substation
meter. NETWORK and TAX mirror their lines. What is left follows exactly from two definitions,

- ``Q_RT = sum(q_RT) + losses`` (real-time schedule of the root, modelled losses included),
- ``UFE = M - sum(m) - losses`` (unaccounted-for energy),

because then ``M = Q_RT + sum(m - q_RT) + UFE`` and the customers' energy lines less the wholesale
cost are, term by term,

========================= ==========================================================
RENT, RENT_FORWARD        sum(q_DA * lambda_DA) - Q_DA * pi_DA
RENT, RENT_REAL_TIME      sum((q_RT - q_DA) * lambda_RT) - (Q_RT - Q_DA) * pi_RT
RENT, RENT_DEVIATION      sum((m - q_RT) * (lambda_RT - pi_RT))
RENT, RENT_REACTIVE       sum(varh * mu_RT)
UNACCOUNTED               - UFE * pi_RT
========================= ==========================================================

Of energy that i fed in beyond what a price counted of its missing meter (s_i), IMBALANCE has a row of its own at the
rulebook's limit L, where that is less: ``(m_i - q_RT,i + s_i) * lambda_RT,i - s_i * min(lambda_RT,i, L)``. What is
not paid is in RENT_DEVIATION.

RENT is posted with the opposite sign of these (it is a credit that the day hands back). UNACCOUNTED
is posted as ``+ UFE * pi_RT``: it stands like a customer who withdrew the UFE at the root, and owes
for it until the day shares it out. So every interval sums to zero, in money by these identities and
in energy as well: the quantities of all energy lines, with RENT carrying the modelled losses, add up
to zero.
"""

from __future__ import annotations

import numpy as np

from tellegen.books import row_sums
from tellegen.records import Account, Line, Postings
from tellegen.settlement.facts import IntervalFacts
from tellegen.settlement.parameters import Parameters, ReactiveRule
from tellegen.settlement.rows import PostingRows
from tellegen.units import IntArray, QuantityError, amount_nanos, check_rows

INTERVAL_LINES = frozenset(
    {
        Line.FORWARD,
        Line.REAL_TIME,
        Line.IMBALANCE,
        Line.REACTIVE,
        Line.NETWORK_ENERGY,
        Line.ENERGY_TAX,
        Line.WHOLESALE_FORWARD,
        Line.WHOLESALE_REAL_TIME,
        Line.RENT_FORWARD,
        Line.RENT_REAL_TIME,
        Line.RENT_DEVIATION,
        Line.RENT_REACTIVE,
        Line.UNACCOUNTED_ENERGY,
    }
)
"""The lines that `settle_intervals` posts."""

ENERGY_LINES = INTERVAL_LINES - {Line.REACTIVE, Line.NETWORK_ENERGY, Line.ENERGY_TAX, Line.RENT_REACTIVE}
"""The lines whose quantities, over all accounts of an interval, sum to zero Wh."""


def settle_intervals(facts: IntervalFacts, parameters: Parameters) -> Postings:
    """Postings of every interval in `facts`; each interval's amounts sum to zero.

    Pure and separable by interval: settling some of the rows gives exactly those rows' postings,
    which is what lets a correction re-run only what it touches. The limits of a row hold for the
    feeder's totals too, since they are rows of the counter-accounts.

    Returns
    -------
    Postings : one row per account, interval and line, and node where a customer has several; ``cause`` 0, rows of
        nothing left out; ordered by interval, account, line.

    Raises
    ------
    QuantityError : a deviation, a total or a sum leaves the range of exact arithmetic.
    """
    rows = PostingRows(facts.interval)
    _settle_energy(rows, facts, parameters)
    if parameters.reactive is ReactiveRule.REAL_TIME_PRICE:
        reactive = amount_nanos(facts.reactive_varh, facts.reactive_price)
        rows.add(facts.customer, Line.REACTIVE, facts.reactive_varh, facts.reactive_price, reactive)
        rows.add(Account.RENT, Line.RENT_REACTIVE, -row_sums(facts.reactive_varh), _UNPRICED, -row_sums(reactive))
    for account, line, tariff in (
        (Account.NETWORK, Line.NETWORK_ENERGY, parameters.network_withdrawal_micros_per_kwh),
        (Account.TAX, Line.ENERGY_TAX, parameters.energy_tax_micros_per_kwh),
    ):
        price = np.array([tariff], dtype=np.int64)
        total = -row_sums(facts.import_wh)
        rows.add(facts.customer, line, facts.import_wh, price, amount_nanos(facts.import_wh, price))
        rows.add(account, line, total, price, amount_nanos(total, price))
    return rows.postings()


def _settle_energy(rows: PostingRows, facts: IntervalFacts, parameters: Parameters) -> None:
    # the two-settlement lines of customers, the purchase at the root, and the two residual accounts
    adjustment = check_rows(facts.real_time_wh - facts.forward_wh, "real-time less day-ahead award")
    deviation = check_rows(facts.metered_wh - facts.real_time_wh, "metered less awarded energy")
    forward = amount_nanos(facts.forward_wh, facts.forward_price)
    real_time = amount_nanos(adjustment, facts.real_time_price)
    # what no price counted, for it was not read, is paid no more than the rules say
    late, late_price = _late(facts, parameters)
    late_paid = amount_nanos(-late, late_price)
    imbalance = amount_nanos(deviation + late, facts.real_time_price) + late_paid
    rows.add(facts.customer, Line.FORWARD, facts.forward_wh, facts.forward_price, forward)
    rows.add(facts.customer, Line.REAL_TIME, adjustment, facts.real_time_price, real_time)
    rows.add(facts.customer, Line.IMBALANCE, deviation + late, facts.real_time_price, imbalance - late_paid)
    rows.add(facts.customer, Line.IMBALANCE, -late, late_price, late_paid)

    bought, price_forward = -facts.root_forward_wh, facts.wholesale_forward_price
    bought_later, price = facts.root_forward_wh - facts.substation_wh, facts.wholesale_real_time_price
    cost_forward = amount_nanos(bought, price_forward)
    rows.add(Account.WHOLESALE, Line.WHOLESALE_FORWARD, bought, price_forward, cost_forward)
    rows.add(Account.WHOLESALE, Line.WHOLESALE_REAL_TIME, bought_later, price, amount_nanos(bought_later, price))

    losses_forward = facts.root_forward_wh - row_sums(facts.forward_wh)
    losses_later = facts.losses_wh - losses_forward
    cost_later = amount_nanos(row_sums(adjustment) + losses_later, price)  # (Q_RT - Q_DA) * pi_RT
    cost_deviation = amount_nanos(row_sums(deviation), price)
    rent_forward = _difference(-cost_forward, row_sums(forward))
    rent_later = _difference(cost_later, row_sums(real_time))
    rent_deviation = _difference(cost_deviation, row_sums(imbalance))
    rows.add(Account.RENT, Line.RENT_FORWARD, losses_forward, _UNPRICED, rent_forward)
    rows.add(Account.RENT, Line.RENT_REAL_TIME, losses_later, _UNPRICED, rent_later)
    rows.add(Account.RENT, Line.RENT_DEVIATION, np.zeros_like(price), _UNPRICED, rent_deviation)

    lost = facts.substation_wh - row_sums(facts.metered_wh) - facts.losses_wh
    rows.add(Account.UNACCOUNTED, Line.UNACCOUNTED_ENERGY, lost, price, amount_nanos(lost, price))


def _late(facts: IntervalFacts, parameters: Parameters) -> tuple[IntArray, IntArray]:
    """Energy fed in that comes too late for its price, and the price at which it settles, int64[T, n] each."""
    limit = parameters.late_feed_in_micros_per_kwh
    if limit is None:
        return np.zeros_like(facts.metered_wh), facts.real_time_price
    late = np.where(facts.real_time_price > limit, facts.late_feed_in_wh, 0)
    return late, np.full_like(facts.real_time_price, limit)


_UNPRICED = np.zeros(1, dtype=np.int64)


def _difference(first: IntArray, second: IntArray) -> IntArray:
    if first.size and int(np.abs(first).max()) + int(np.abs(second).max()) >= 2**63:
        raise QuantityError("a difference of amounts does not fit int64")
    return np.asarray(first - second)
