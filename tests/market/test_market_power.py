"""Pivotal suppliers: numbers that can be checked by hand on two buses, three products and both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.grid.network import LimitKind, Network
from tellegen.market import (
    Clearing,
    LimitType,
    Mitigated,
    OrderBook,
    Parameters,
    PivotalTest,
    References,
    clear,
    clear_mitigated,
)
from tellegen.market.paper import PAPER
from tellegen.market.withheld import Idle, withheld
from tellegen.records import ClearingStatus, Product, Side

HOMES, BIG, SMALL, THIRD = 1, 2, 3, 4
ROOT = 0.3


@pytest.fixture(scope="module")
def line(tree: Callable[..., Network]) -> Network:
    """A bus behind a line of 10 kVA that loses next to nothing."""
    return tree([0], np.array([1e-6 + 0j]), rating_kva=np.array([10.0]), kind=LimitKind.APPARENT_POWER)


def pocket(big_kw: float = 9.0, small_kw: float = 6.0, big_price: float = 2.0, small_price: float = 0.31) -> OrderBook:
    """18 kW that must be served behind the line; 8 of them must come from two sellers there."""
    return OrderBook.of(
        1, [1, -1, -1], [np.nan, big_price, small_price], [18.0, big_kw, small_kw], participant=[HOMES, BIG, SMALL]
    )


def pivotal(outcome: Mitigated) -> list[int]:
    return [finding.participant for finding in outcome.findings]


def test_the_seller_without_whom_a_line_is_too_small_is_held_to_its_reference(line: Network) -> None:
    """8 kW are needed: without the big seller there are 6, without the small one 9."""
    outcome = clear_mitigated(line, pocket(), ROOT)
    (finding,) = outcome.findings
    assert finding.participant == BIG
    assert finding.limit == "rating of line 1 at node 0"
    assert finding.kind == LimitType.RATING
    assert finding.needed_kw == pytest.approx(8.0, abs=1e-3)
    assert finding.own_kw == pytest.approx(9.0, abs=1e-3)
    assert finding.others_kw == pytest.approx(6.0, abs=1e-3)
    assert finding.dual_price == pytest.approx(2.0 - ROOT, abs=1e-3)
    assert (finding.rows, finding.side, finding.product) == ((1,), Side.SELL, Product.ENERGY)
    assert (finding.offered, finding.reference, finding.mitigated) == (2.0, 0.33, True)
    # It sets the price before and after: what it asked, and what it is held to.
    assert outcome.before.prices.energy[1] == pytest.approx(2.0)
    assert outcome.clearing.prices.energy[1] == pytest.approx(0.33)
    assert finding.effect == pytest.approx(0.33 - 2.0)
    np.testing.assert_allclose(outcome.clearing.award_kw, [18.0, 2.0, 6.0], atol=1e-3)


def test_nobody_is_mitigated_where_each_can_be_done_without(line: Network) -> None:
    book = OrderBook.concat(pocket(8.5, 8.5, 2.0, 1.9))
    outcome = clear_mitigated(line, book, ROOT)
    assert outcome.findings == ()
    assert outcome.clearing is outcome.before
    assert outcome.book is book
    assert outcome.before.limits


def test_two_who_can_each_be_done_without_may_be_pivotal_together(line: Network) -> None:
    """Three sellers of 7 kW for 8: without one there are 14, without two 7."""
    book = OrderBook.concat(pocket(7.0, 7.0, 2.0, 1.9), OrderBook.of([1], -1, 1.8, 7.0, participant=THIRD))
    assert clear_mitigated(line, book, ROOT).findings == ()
    together = clear_mitigated(line, book, ROOT, test=PivotalTest(jointly=2))
    assert pivotal(together) == [BIG, SMALL, THIRD]
    assert {finding.besides for finding in together.findings} == {(SMALL,), (BIG,)}
    assert all(finding.others_kw == pytest.approx(7.0, abs=1e-3) for finding in together.findings)
    assert together.clearing.prices.energy[1] == pytest.approx(0.33, abs=1e-6)


def test_published_references_go_before_the_default_rule(line: Network) -> None:
    references = References.of([BIG, SMALL], Product.ENERGY, [0.8, 0.2])
    outcome = clear_mitigated(line, pocket(), ROOT, references=references)
    assert outcome.findings[0].reference == 0.8
    assert outcome.clearing.prices.energy[1] == pytest.approx(0.8)


def test_an_offer_within_its_reference_stays_and_is_on_record(line: Network) -> None:
    outcome = clear_mitigated(line, pocket(big_price=0.32), ROOT)
    (finding,) = outcome.findings
    assert not finding.mitigated
    assert finding.effect == 0.0
    assert outcome.clearing is outcome.before


def test_a_limit_without_a_price_is_not_examined(line: Network) -> None:
    """7 kW pass the line freely; the only seller behind it may ask what it likes."""
    book = OrderBook.of(1, [1, -1], [np.nan, 9.0], [7.0, 5.0], participant=[HOMES, BIG])
    assert clear_mitigated(line, book, ROOT).findings == ()


def test_customers_who_can_be_turned_down_are_competition_unless_the_rule_says_how_far(line: Network) -> None:
    """4 of the 18 kW would be left off at 0.9: they are relief at any price, but not within 0.5 of the price."""
    book = OrderBook.of(
        1, [1, 1, -1, -1], [np.nan, 0.9, 0.7, 0.31], [12.0, 6.0, 6.0, 3.0], participant=[HOMES, THIRD, BIG, SMALL]
    )
    outcome = clear_mitigated(line, book, ROOT)
    assert outcome.findings == ()  # 12 - 10 = 2 kW are needed once all is turned down; 3 are there without the big one
    near = clear_mitigated(line, book, ROOT, test=PivotalTest(price_reach=0.1))
    assert pivotal(near) == [BIG, SMALL]  # 8 kW needed; 3 and 6 without them
    assert near.findings[0].needed_kw == pytest.approx(8.0, abs=1e-3)


def test_nobody_is_made_to_buy(line: Network) -> None:
    """16 kW of must-run sun behind a line of 10 kVA: 6 must be used there, and only one customer is large enough.

    Its bid stays as it is, and so does what it gets; that it is pivotal is found.
    """
    book = OrderBook.of(
        1, [-1, 1, 1], [np.nan, -0.5, 0.2], [16.0, 8.0, 4.0], participant=[HOMES, BIG, SMALL]
    )  # fmt: skip
    outcome = clear_mitigated(line, book, ROOT)
    (finding,) = outcome.findings
    assert (finding.participant, finding.side) == (BIG, Side.BUY)
    assert finding.needed_kw == pytest.approx(6.0, abs=1e-3)
    assert finding.others_kw == pytest.approx(4.0, abs=1e-3)
    assert not finding.mitigated
    assert outcome.clearing is outcome.before
    assert outcome.book is book
    assert outcome.clearing.prices.energy[1] == pytest.approx(-0.5)
    np.testing.assert_allclose(outcome.clearing.award_kw, [16.0, 2.0, 4.0], atol=1e-3)


def test_reserve_that_is_required_is_a_limit_like_any_other(line: Network) -> None:
    offers = OrderBook.of([0, 0], -1, [0.5, 0.01], [5.0, 4.0], product=Product.RESERVE_UP, participant=[BIG, SMALL])
    need = OrderBook.of([0], 1, 3.0, [6.0], product=Product.RESERVE_UP)
    outcome = clear_mitigated(line, OrderBook.concat(offers, need), ROOT)
    assert pivotal(outcome) == [BIG, SMALL]  # 4 and 5 of 6 kW without them
    assert [f.limit for f in outcome.findings] == ["reserve up"] * 2
    assert [f.mitigated for f in outcome.findings] == [True, False]
    assert outcome.findings[0].needed_kw == pytest.approx(6.0)
    assert outcome.before.prices.required[0] == pytest.approx(0.5)
    assert outcome.clearing.prices.required[0] == pytest.approx(0.03)


def test_a_voltage_limit_is_tested_with_its_exact_derivatives(street: Callable[..., Network]) -> None:
    """Only who sits behind the sagging node can hold it up."""
    book = OrderBook.of(
        [12, 12, 1], [1, -1, -1], [np.nan, 3.0, 0.35], [40.0, 25.0, 60.0], participant=[HOMES, BIG, SMALL]
    )
    outcome = clear_mitigated(street(), book, ROOT, v_min=0.97)
    assert pivotal(outcome) == [BIG]
    assert outcome.findings[0].kind == LimitType.VOLTAGE_MIN
    assert outcome.clearing.status == ClearingStatus.OPTIMAL
    assert outcome.clearing.prices.energy[12] < outcome.before.prices.energy[12] - 2


def test_offers_are_held_beyond_the_lower_of_two_conduct_thresholds(line: Network) -> None:
    """References of 0.315: half a tenth of the root's price may be added to it, or 0.002 where that is less."""
    thresholds = PivotalTest(margin=0.05, conduct_share=0.05, conduct_price=0.025)
    for asked, test, held in (
        (0.329, thresholds, False),
        (0.331, thresholds, True),
        (0.319, replace(thresholds, conduct_price=0.002), True),
        (0.316, replace(thresholds, conduct_price=0.002), False),
    ):
        outcome = clear_mitigated(line, pocket(big_price=asked), ROOT, test=test)
        (finding,) = outcome.findings
        assert finding.mitigated == held
        assert outcome.clearing.prices.energy[1] == pytest.approx(0.315 if held else asked)


def test_mitigation_that_lowers_no_price_by_enough_is_not_done(line: Network) -> None:
    """Held to 0.33, an offer of 0.36 lowers the price by 0.03."""
    for impact, done in ((0.02, True), (0.04, False)):
        test = PivotalTest(impact_share=1.0, impact_price=impact)
        outcome = clear_mitigated(line, pocket(big_price=0.36), ROOT, test=test)
        assert [finding.mitigated for finding in outcome.findings] == [done]
        assert (outcome.clearing is outcome.before) == (not done)
        assert outcome.clearing.prices.energy[1] == pytest.approx(0.33 if done else 0.36)


def test_who_sells_from_a_store_is_held_to_what_its_energy_is_worth_elsewhere(line: Network) -> None:
    forgone = np.array([np.nan, 0.55, np.nan])
    outcome = clear_mitigated(line, pocket(), ROOT, forgone=forgone)
    assert outcome.findings[0].reference == pytest.approx(0.55)
    assert outcome.clearing.prices.energy[1] == pytest.approx(0.55)
    # cheaper energy elsewhere lowers nobody's reference
    assert clear_mitigated(line, pocket(), ROOT, forgone=0.1 * forgone).findings[0].reference == 0.33


@pytest.mark.parametrize("asked", [0.3, 0.32, 0.33, 0.4, 1.0, 5.0])
def test_a_pivotal_seller_gains_no_more_than_the_margin_of_the_root_price_on_its_own_energy(
    line: Network, asked: float
) -> None:
    """Margin and conduct threshold together are a tenth: so the rulebook has them. Beside it: without the test."""
    test = PivotalTest(margin=0.05, conduct_share=0.05, conduct_price=0.025, impact_share=0.05, impact_price=0.025)
    honest = clear(line, pocket(big_price=ROOT, small_price=0.2), ROOT)

    def gain(outcome: Clearing) -> float:
        return float(outcome.award_kw[1] * (outcome.prices.energy[1] - honest.prices.energy[1]))

    book = pocket(big_price=asked, small_price=0.2)
    free, held = clear(line, book, ROOT), clear_mitigated(line, book, ROOT, test=test).clearing
    assert gain(free) == pytest.approx(2.0 * (asked - ROOT), abs=1e-3)
    assert gain(held) <= 0.1 * ROOT * float(held.award_kw[1]) + 1e-6


def test_relief_that_a_pivotal_home_does_not_offer_is_found(line: Network) -> None:
    """Of the big seller's 9 kW 1 is offered: paper at 5.00 holds the line, which its other 8 would have got."""
    paper = OrderBook.of(1, -1, 5.0, 20.0, participant=PAPER)
    book = OrderBook.concat(pocket(big_kw=1.0, big_price=0.3), paper)
    test = PivotalTest()
    outcome = clear_mitigated(line, book, ROOT, test=test)
    assert outcome.clearing.prices.energy[1] == pytest.approx(5.0)

    def found(kw: float, worth: float, node: int = 1) -> list[tuple[int, float]]:
        rest = Idle(np.array([BIG]), np.array([node]), np.array([kw]), np.array([worth]))
        return [(each.participant, each.idle_kw) for each in withheld(outcome.run, outcome.book, rest, test)]

    assert found(8.0, 0.3) == [(BIG, 8.0)]
    assert found(8.0, 5.2) == [], "its energy is worth more elsewhere"
    assert found(8.0, 0.1, node=0) == [], "there it relieves nothing"
    # where others can do it nobody has withheld anything
    full = clear_mitigated(line, pocket(big_kw=1.0, small_kw=9.0, small_price=1.0), ROOT, test=test)
    rest = Idle(np.array([BIG]), np.array([1]), np.array([8.0]), np.array([0.3]))
    assert full.clearing.limits
    assert withheld(full.run, full.book, rest, test) == ()


def test_splitting_an_offer_among_steps_changes_nothing(line: Network) -> None:
    whole = clear_mitigated(line, pocket(), ROOT)
    steps = OrderBook.of(
        1, [1, -1, -1, -1], [np.nan, 1.5, 2.0, 0.31], [18.0, 4.0, 5.0, 6.0], participant=[HOMES, BIG, BIG, SMALL]
    )
    split = clear_mitigated(line, steps, ROOT)
    assert split.findings[0].rows == (1, 2)
    assert split.findings[0].offered == 2.0
    assert split.clearing.prices.energy[1] == pytest.approx(whole.clearing.prices.energy[1])


def test_what_is_cleared_last_is_what_the_mitigated_book_clears_to(line: Network) -> None:
    outcome = clear_mitigated(line, pocket(), ROOT)
    again = clear(line, outcome.book, ROOT)
    assert again.prices.energy.tobytes() == outcome.clearing.prices.energy.tobytes()
    np.testing.assert_array_equal(outcome.book.price[1:], [0.33, 0.31])


def test_references_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="named twice"):
        References.of([1, 1], 0, 0.3)
    with pytest.raises(InputError, match="must be finite"):
        References.of([1], 0, np.nan)
    with pytest.raises(InputError, match="jointly"):
        PivotalTest(jointly=0)


def test_a_fallback_has_no_findings(line: Network) -> None:
    outcome = clear_mitigated(line, pocket(), ROOT, parameters=Parameters(iterations_max=0))
    assert outcome.before.status == ClearingStatus.FALLBACK
    assert outcome.findings == ()
