"""Every day settles under the rule of its time, and a wrong rulebook is named with its remedy."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.rules import (
    AdministrativePrice,
    PriceProof,
    ReactiveRule,
    Rulebook,
    ShareKey,
    TimetableParameters,
    diff,
    render,
)
from tellegen.rules.calendar import MIDNIGHT_MIN
from tellegen.rules.price_run import PriceRun

DEFAULT = Rulebook.load()
TEXT = DEFAULT.versions[0].content.decode()


def book(**files: str) -> Rulebook:
    """A rulebook of files by name; underscores stand for dashes."""
    contents = {f"{name.strip('_').replace('_', '-')}.toml": text.encode() for name, text in files.items()}
    return Rulebook.parse(contents, source="book")


def edited(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


def test_money_becomes_integers_exactly():
    """Law 1: decimal text, micro per kWh, nano per day, parts per million."""
    rules = DEFAULT.at(date(2016, 7, 1)).settlement
    assert rules.network_withdrawal_micros_per_kwh == 80_000
    assert rules.network_fixed_nanos_per_day == 250_000_000
    assert rules.network_revenue_nanos(100) == 105_000_000_000
    assert rules.energy_tax_micros_per_kwh == 20_000
    assert rules.sales_tax_ppm == 190_000
    assert rules.retail.off_peak_ratio_ppm == 500_000
    assert rules.rent_key is ShareKey.TRAILING_WITHDRAWAL
    assert rules.reactive is ReactiveRule.REAL_TIME_PRICE


def test_a_rulebook_without_a_timetable_stands_at_its_defaults():
    """Files written before there was a calendar of the market still read."""
    old = TEXT[: TEXT.index("# When the gates close")]
    assert book(_2016_01_01=old).versions[0].timetable == TimetableParameters()
    assert TimetableParameters().day_ahead_minute == 12 * 60
    narrow = old.replace('price_cap_per_kwh = "5.00"', 'price_cap_per_kwh = "0.20"')
    assert book(_2016_01_01=narrow).versions[0].market.price_cap == 0.2  # the default price is not the file's


def test_the_default_rulebook_closes_day_ahead_at_midnight():
    for rules in DEFAULT.versions:
        stated = rules.timetable
        assert stated.day_ahead_minute == MIDNIGHT_MIN
        assert stated.administrative_order == tuple(AdministrativePrice)
        assert stated.administrative_micros_per_kwh == 300_000
        assert stated == replace(TimetableParameters(), day_ahead_minute=MIDNIGHT_MIN)


def test_a_past_day_keeps_the_rules_of_its_time():
    """Governance: a new version does not reach back."""
    assert DEFAULT.at(date(2016, 12, 31)).docket == "2015-17"
    assert DEFAULT.at(date(2017, 1, 1)).docket == "2016-22"
    assert DEFAULT.at(date(2031, 1, 1)).docket == "2016-22"
    assert DEFAULT.at(date(2017, 6, 1), known_by=date(2016, 6, 1)).docket == "2015-17"


def test_no_rule_before_the_first():
    with pytest.raises(InputError, match="day 2015-12-31 is governed by no version; the first holds from 2016-01-01"):
        DEFAULT.at(date(2015, 12, 31))
    with pytest.raises(InputError, match="none was adopted by 2000-01-01"):
        DEFAULT.at(date(2016, 5, 5), known_by=date(2000, 1, 1))


def test_a_retroactive_act_names_its_refund_docket():
    """Governance: what reaches back needs an order, and does not change what was known before."""
    late = edited("adopted = 2015-11-30", "adopted = 2016-03-01")
    with pytest.raises(
        InputError, match=r"\[order\] adopted is after the effective date 2016-01-01; a retroactive act"
    ):
        book(_2016_01_01=late)
    ordered = late.replace("adopted =", 'retroactive_order = "2016-03 refunds"\nadopted =').replace("0.080", "0.070")
    both = book(_2016_01_01=TEXT, _2016_01_01_appeal=ordered)
    assert both.at(date(2016, 2, 1)).tariff.network_micros_per_kwh == 70_000
    assert both.at(date(2016, 2, 1), known_by=date(2016, 2, 2)).tariff.network_micros_per_kwh == 80_000


def test_nobody_holds_two_offices():
    """Governance: enact, operate, certify and audit are held apart."""
    with pytest.raises(InputError, match=r"\[roles\] gives 'regulator' two of enact, operate, certify, audit"):
        book(_2016_01_01=edited('audit = "auditor"', 'audit = "regulator"'))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"0.080"', "0.080", r"\[network\] withdrawal_per_kwh must be a decimal number in quotes"),
        ('"0.080"', '"0.0800001"', r"\[network\] withdrawal_per_kwh has more digits than millionths"),
        (
            '"0.080"',
            '"-0.080"',
            r"\[network\] withdrawal_per_kwh is '-0.080': it must be at least .0.",
        ),
        ('"0.080"', '"1e-3"', "must be a decimal number in quotes"),
        ('"0.080"', '"NaN"', "must be a decimal number in quotes"),
        ('sales_percent = "19"', 'vat = "19"', r"\[taxes\] vat is not known .*sales_percent"),
        (
            'floor_per_kwh = "-1.00"',
            'floor_per_kwh = "0.07"',
            r"\[market\] price_floor_per_kwh is above feed_in_per_kwh of \[retail\]",
        ),
        ('limit_per_account = "1000"', "", r"\[credit\] limit_per_account is missing"),
        ('limit_per_account = "1000"', 'limit_per_account = "-1"', r"\[credit\] limit_per_account is '-1'"),
        (
            '[credit]\nlimit_per_account = "1000"\nprice_per_kwh = "1.00"',
            '[credit]\nlimit_per_account = "1"\nprice_per_kwh = "0"',
            r"\[credit\] price_per_kwh",
        ),
        ("within_devices = true", 'within_devices = "yes"', r"\[price_run\] within_devices is 'yes'"),
        ('late_feed_in = "0"', 'late_feed_in = "free"', r'\[price_run\] late_feed_in must be "settled" or a price in'),
        (
            'late_feed_in = "0"',
            "late_feed_in = 0",
            r'\[price_run\] late_feed_in must be "settled" or a price in quotes',
        ),
        ('late_feed_in = "0"', 'late_feed_in = "1001"', r"\[price_run\] late_feed_in is 1001: at most 1000 per"),
        (
            'sales_percent = "19"',
            'sales_percent = "19"\nvat = "19"',
            r"\[taxes\] vat is not known .*energy_per_kwh, sales",
        ),
        ("[taxes]", "[tax]", r"\[tax\] is not known"),
        ('rent_key = "trailing_withdrawal"', 'rent_key = "volume"', r"\[settlement\] rent_key is 'volume'.*trailing"),
        ("trailing_days = 28", "trailing_days = true", r"\[settlement\] trailing_days is True"),
        ("trailing_days = 28", "trailing_days = 0", r"\[settlement\] trailing_days is 0"),
        ("adopted = 2015-11-30", 'adopted = "2015-11-30"', r"\[order\] adopted must be a plain TOML date"),
        ("Europe/Berlin", "Berlin", r"\[order\] time_zone is not a time zone"),
        ('currency = "EUR"', 'currency = "Euro"', r"\[order\] currency is 'Euro'"),
        ('price_floor_per_kwh = "-1.00"', 'price_floor_per_kwh = "9"', r"\[market\] has a price floor at or above"),
        ('penalty_per_kwh = "10.00"', 'penalty_per_kwh = "1.00"', r"\[market\] has a margin penalty above"),
        ("peak_start_hour = 17", "peak_start_hour = 22", r"\[retail\] has a peak that ends before it starts"),
        (
            'day_ahead_local = "24:00"',
            "day_ahead_local = 12",
            r"\[timetable\] day_ahead_local must be a local time in quotes",
        ),
        (
            'day_ahead_local = "24:00"',
            'day_ahead_local = "24:01"',
            r"\[timetable\] day_ahead_local must be a local time",
        ),
        ("gate_deadline_s = 240", "gate_deadline_s = 400", r"\[timetable\] has a gate_deadline_s after .* here 360"),
        (
            "[1, 3, 10, 55]",
            "[1, 3, 10, 61]",
            r"\[timetable\] has correction_days .* within correction_window_days \(60\)",
        ),
        ("[1, 3, 10, 55]", "[3, 1]", r"\[timetable\] has correction_days \[3, 1\]; they must rise"),
        ("[1, 3, 10, 55]", "[1, 0]", r"\[timetable\] correction_days.1 is 0: it must be at least 1"),
        ('"day_ahead", "fixed"]', '"fixed", "day_ahead"]', r"\[timetable\] has administrative_order .*'fixed' last"),
        (
            '"last_spread", ',
            '"mean", ',
            r"\[timetable\] administrative_order.0 is 'mean': .*'last_spread', 'day_ahead'",
        ),
        (
            'administrative_price = "0.30"',
            'administrative_price = "5.01"',
            r"administrative_price is outside .*\[market\]",
        ),
        (
            "snapshot_every = 12",
            "snapshots = 12",
            r"\[timetable\] snapshots is not known .*day_ahead_local, gate_lead_s",
        ),
        (
            "[order]",
            "[root_prices]\nproof = 'word'\n[order]",
            r"\[root_prices\] proof is 'word': .*'hash' or 'signature'",
        ),
        ("[order]", "[root_prices]\nproof = 'hash'\n[order]", r"proof 'hash' and no source; give the address"),
        (
            "[order]",
            "[root_prices]\nproof = 'signature'\n[order]",
            r"no publisher_key; give what `tellegen prices key`",
        ),
        ("[order]", "[root_prices]\npublisher_key = 'k'\n[order]", r"a publisher_key that is none: .*NAME\+ID\+BASE64"),
        ("[order]", "[order", r"is not TOML"),
    ],
)
def test_a_wrong_entry_is_named_with_file_key_and_remedy(old, new, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        book(_2016_01_01=edited(old, new))
    assert str(caught.value).startswith("book/2016-01-01.toml: ")
    assert "\n" not in str(caught.value)


def test_files_are_called_by_their_date(tmp_path: Path):
    (tmp_path / "latest.toml").write_text(TEXT)
    with pytest.raises(InputError, match=r"latest.toml: file name is not a date; call it YYYY-MM-DD.toml"):
        Rulebook.load(tmp_path)
    with pytest.raises(InputError, match="file name is not a date"):
        book(_2016_02_30=TEXT)


def test_an_absent_or_empty_folder_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="is not there"):
        Rulebook.load(tmp_path / "none")
    with pytest.raises(InputError, match="holds no version"):
        Rulebook.load(tmp_path)


def test_two_acts_of_one_day_for_one_day_are_refused():
    with pytest.raises(InputError, match="of two acts one must be later"):
        book(_2016_01_01=TEXT, _2016_01_01_b=TEXT)


def test_bytes_that_are_no_text_are_named():
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        Rulebook.parse({"2016-01-01.toml": b"\xff\xfe"}, source="book")
    with pytest.raises(InputError, match="a rulebook has at most"):
        Rulebook.parse({"2016-01-01.toml": b"#" * 70_000}, source="book")


def test_the_rulebook_on_record_is_the_same_rulebook():
    """Law 3: what governs can be rebuilt from the journal's documents."""
    documents = {document.name: document.content for document in DEFAULT.documents()}
    rebuilt = Rulebook.from_documents(documents | {"scenario": b""})
    assert rebuilt.sha256 == DEFAULT.sha256
    assert rebuilt.versions == DEFAULT.versions


def test_the_digest_follows_every_byte():
    assert book(_2016_01_01=TEXT).sha256 != book(_2016_01_01=TEXT + "\n# note\n").sha256


def test_market_and_agents_read_the_same_limits():
    """The clearing's caps are those that agents bid within."""
    rules = DEFAULT.at(date(2016, 7, 1))
    assert round(rules.market.price_cap * 1_000_000) == rules.tariff.price_cap_micros_per_kwh
    assert round(rules.market.price_floor * 1_000_000) == rules.tariff.price_floor_micros_per_kwh
    assert rules.tariff.withdrawal_micros_per_kwh == 100_000


def test_a_rulebook_that_says_nothing_of_root_prices_asks_for_no_proof():
    assert DEFAULT.versions[0].root_prices.proof is PriceProof.NONE
    named = book(_2016_01_01=TEXT + '\n[root_prices]\nproof = "hash"\nsource = "https://exchange.example/a.csv"\n')
    assert named.versions[0].root_prices.words == "read from https://exchange.example/a.csv, with its digest on record"


def test_show_and_diff_state_what_the_acts_state():
    first, second = DEFAULT.versions
    shown = render(first)
    assert "0.080 EUR/kWh" in shown
    assert first.sha256 in shown
    changed = {change.key: (change.before, change.after) for change in diff(first, second)}
    assert changed["network.withdrawal_per_kwh"] == ("0.080", "0.085")
    assert "taxes.sales_percent" not in changed
    assert diff(first, first) == ()


def test_bounds_of_a_hold_are_read_and_a_wrong_one_is_named() -> None:
    """Files that do not name them stand at the defaults, which the default rulebook states; no hours: no rule."""
    silent = TEXT[: TEXT.index("hold_wh")]
    assert book(_2016_01_01=silent).versions[0].price_run == DEFAULT.versions[0].price_run
    assert (DEFAULT.versions[0].price_run or PriceRun()).hold_hours == 24
    run = (
        book(_2016_01_01=f'{silent}hold_share_percent = "62.5"\nhold_wh = 800\nhold_hours = 0\n').versions[0].price_run
    )
    assert run is not None
    assert (run.hold_ppm, run.hold_wh, run.hold_hours) == (625_000, 800, 0)
    for line, place in (
        ("hold_hours = 169", "hold_hours"),
        ("hold_wh = -1", "hold_wh"),
        ("hold_share_percent = 50", ""),
    ):
        with pytest.raises(InputError, match=rf"\[price_run\] {place}") as error:
            book(_2016_01_01=f"{silent}{line}\n")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stated", "instead", "told"),
    [
        (
            'missing_percent = "20"',
            'missing_percent = "120"',
            "[price_run] missing_percent is '120': it must be at most \"100\"",
        ),
        ('"1000"', '"99999999999999999"', "[credit] limit_per_account is 99999999999999999: at most 9 digits before"),
        ("limit_per_account", "limit_per_acount", "[credit] limit_per_acount is not known to this version"),
        ('administrative_price = "0.30"', 'administrative_price = "7"', ".toml: [timetable] administrative_price is"),
    ],
)
def test_a_wrong_number_is_told_as_the_file_states_it(stated: str, instead: str, told: str) -> None:
    assert stated in TEXT
    with pytest.raises(InputError) as error:
        book(_2016_01_01=TEXT.replace(stated, instead))
    assert told in str(error.value)
