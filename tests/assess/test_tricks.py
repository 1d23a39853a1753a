"""Orders that nobody means earn what gates let them, and nothing by the price run; each rule has its trick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.tricks import TRICKS, Claim, Scene, Stage, Trick, Withheld, drawn, random_trick, recorded
from tellegen.assess.tricks.accounts import cast, joined
from tellegen.assess.tricks.benchmark import GAIN_MAX, any_size, play_random, target_of
from tellegen.assess.tricks.books import booked_losses, cycled, key_worth, wash
from tellegen.assess.tricks.rules_off import OFF, Off, amounts
from tellegen.operations.record import ShardRecord
from tellegen.records import AllocationKeys, Postings, Product
from tellegen.rules import Rulebook
from tellegen.settlement import settle_day, specimen_day

SETTLEMENT = Rulebook.load().at(date(2016, 7, 1)).settlement
STREET = "synthetic:30x1"


@pytest.fixture(scope="module")
def night(run_directory: Path) -> Iterator[Scene]:
    """The played night."""
    with ShardRecord.open(run_directory, use_snapshot=False) as record:
        record.refresh()
        yield recorded(record)


@pytest.fixture(scope="module")
def street() -> Scene:
    """Evenings and noons whose limits bind."""
    return drawn(STREET, 2)


def named(each: Trick | Off) -> str:
    return each.name


@pytest.mark.parametrize("trick", [each for each in TRICKS if each.only_says][::7], ids=named)
def test_what_is_only_said_moves_no_price_while_meters_stand(night: Scene, street: Scene, trick: Trick) -> None:
    for scene in (night, street):
        stage = Stage(scene, any_size, peer=False)
        found = stage.hourly(trick, every=12)
        assert found.moved == 0 or stage.says_relief(trick)
        assert found.rounded <= 1 or stage.says_relief(trick), "the last digit of where a run starts"


def test_at_the_prices_of_gates_the_same_claim_pays(night: Scene) -> None:
    """What the run is for."""
    claim = Trick("claim", 1, 20, (Claim(600),), hour=2)
    found = Stage(night, any_size).hourly(claim, every=6)
    assert found.before > 100
    assert found.answered <= GAIN_MAX
    assert Stage(night).hourly(claim, every=6).refused == 1, "and its author's connection carries no such thing"


@pytest.mark.parametrize("trick", [each for each in TRICKS if each.drawn_kw > 0 or each.undrawn], ids=named)
def test_who_draws_as_much_as_it_bought_ahead_earns_nothing_by_that(night: Scene, trick: Trick) -> None:
    """A small feeder: what is held is no more than what is drawn, else its price is its holder's."""
    acts = replace(trick, ahead_kw=min(trick.ahead_kw, trick.drawn_kw))
    assert Stage(night, peer=False).hourly(acts, every=6).answered <= 0


@pytest.mark.parametrize("how", [Withheld.NOT_OFFERED, Withheld.OFFERED_HIGH])
def test_relief_that_is_kept_back_earns_no_more_than_the_margin(night: Scene, how: Withheld) -> None:
    trick = Trick("withheld", 5, 4, withheld=how, hour=2)
    found = Stage(night, peer=False).hourly(trick, every=6)
    most = target_of(trick, found)
    assert most is not None
    assert found.answered <= most


def test_who_goes_silent_earns_nothing_by_its_position(night: Scene) -> None:
    assert Stage(night, peer=False).hourly(Trick("silent", 5, 20, silent=True, hour=1), every=6).answered == 0


def test_reserve_of_no_device_is_not_paid(night: Scene) -> None:
    """Meters show no capacity; so only a device holds it, for which somebody vouches."""
    reserve = Trick("reserve", 1, claims=(Claim(-10, 0.0, Product.RESERVE_UP),), hour=1)
    found = Stage(night, peer=False).hourly(reserve, every=12)
    assert (found.answered, found.refused) == (0, 1)
    believed = Stage(night, lambda rules: replace(rules, reserve_of_devices=False), peer=False)
    assert believed.hourly(reserve, every=12).answered > 0


@pytest.mark.parametrize("rule", OFF, ids=named)
def test_with_a_rule_off_its_trick_pays_and_with_it_on_it_does_not(rule: Off) -> None:
    off, on = amounts(rule)
    assert off > 1.0
    # a hold comes after some minutes; what is only said beside a real act may still scare neighbours
    most = off / 2 if rule.name == "hold_hours" else GAIN_MAX if rule.beside is None else off / 100
    assert on <= most


def test_accounts_that_say_nothing_change_nothing(night: Scene) -> None:
    (interval,) = night.at(2)[:1]
    stage = Stage(night, peer=False)
    found = stage.amounts(Trick("nothing", 3, 20), interval)
    assert (found.answered, found.deaf, found.moved, found.rounded) == (0, 0, 0, 0)
    beside = joined(interval, np.array([0, 1]))
    assert beside.gate.customer.size == interval.gate.customer.size + 2
    assert beside.delivered.metered.net_w[-2:].tolist() == [0, 0]
    assert len(cast(interval, Trick("two", 2, claims=(Claim(5), Claim(-5)))).who) == 2


def test_a_search_covers_claims_relief_reactive_power_draws_and_silence() -> None:
    rng = np.random.default_rng(1)
    tricks = [random_trick(rng) for _ in range(200)]
    claims = [claim for trick in tricks for claim in trick.claims]
    assert {claim.product for claim in claims} == {Product.ENERGY, Product.REACTIVE}
    assert {claim.kw > 0 for claim in claims} == {trick.ahead_kw > 0 for trick in tricks} == {True, False}
    assert {claim.price is None for claim in claims} == {claim.from_root for claim in claims} == {True, False}
    assert {trick.silent for trick in tricks} == {trick.apart for trick in tricks} == {True, False}
    assert {trick.withheld for trick in tricks} == set(Withheld)
    assert {trick.accounts for trick in tricks} == {1, 2, 5, 10}
    assert any(trick.drawn_kw for trick in tricks)


def test_a_search_finds_the_same_again() -> None:
    found = [[each.amounts for each in play_random(STREET, 0, 3)] for _ in range(2)]
    assert found[0] == found[1]


def test_a_wash_trade_between_two_accounts_moves_no_bill() -> None:
    """But for the sales tax of who bought."""
    untaxed = replace(SETTLEMENT, sales_tax_ppm=0)
    found = wash(specimen_day(3), untaxed, 5_000)
    assert found.gain == 0
    assert found.others == 0
    assert wash(specimen_day(3), SETTLEMENT, 5_000).gain <= 0


def test_cycling_costs_what_tariffs_say_and_has_no_share_of_the_day() -> None:
    day = specimen_day(3)
    without_key = replace(day, key_wh=np.where(np.arange(day.customer.size) == 0, 0, day.key_wh))
    found = cycled(without_key, SETTLEMENT, 100)
    kwh = 0.1 * day.steps.interval.size
    tariff = SETTLEMENT.network_withdrawal_micros_per_kwh + SETTLEMENT.energy_tax_micros_per_kwh
    assert found.gain <= -kwh * tariff / 1e6


def test_losses_that_are_booked_move_no_bill() -> None:
    """They leave unaccounted-for energy as they enter rent, and both are shared by one key."""
    assert booked_losses(specimen_day(4), SETTLEMENT, 500_000).others <= 1e-9


def test_a_kwh_in_the_keys_earns_less_than_it_pays(run_directory: Path) -> None:
    day = specimen_day(5, hours=24)
    keys = AllocationKeys(customer=day.customer.astype(np.int32), weight_wh=28 * day.steps.import_wh.sum(axis=0))
    postings: Postings = settle_day(day, SETTLEMENT)
    assert np.isfinite(key_worth(postings, keys, 28))
