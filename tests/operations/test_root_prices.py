"""The price at the root is somebody else's word: what its rules ask for stands on record with it, or it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playing import FIRST, Street

from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.journal import NoteVerifier
from tellegen.operations import price_record
from tellegen.operations.compaction import compact
from tellegen.operations.market import Market
from tellegen.operations.price_proof import doubt
from tellegen.operations.price_signing import signed_table, unsigned_lines
from tellegen.operations.prices import PriceFile, read_prices
from tellegen.operations.process import Event, Operator
from tellegen.operations.refusals import MarketError
from tellegen.operations.rerun import rerun
from tellegen.privacy import Vault
from tellegen.records import GateOutcome, Gates, PriceSources, PublishedPrices, RootPrices
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S, interval_start
from tellegen.verify import PriceComparison, Report, verify_directory

NAME, ADDRESS = "exchange.example/DE-LU", "https://exchange.example/DE-LU.csv"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLISHER = NoteVerifier(NAME, KEY.public_key().public_bytes_raw())
SIGNATURE = f'proof = "signature"\nsource = "{ADDRESS}"\npublisher_key = "{PUBLISHER.vkey}"\n'
HASH = f'proof = "hash"\nsource = "{ADDRESS}"\n'
INTERVALS = range(FIRST, FIRST + 4)
SHADED = (FIRST + 1, FIRST + 3)
ON_RECORD = 14
"""Prices of the first hour in real time, and of two hours day-ahead."""


def rules(section: str) -> Rulebook:
    """The first default rules, with a section about root prices."""
    content = Rulebook.load().versions[0].content
    return Rulebook.parse({"2016-01-01.toml": content + f"\n[root_prices]\n{section}".encode()}, "test")


def publish(path: Path) -> Path:
    """What the exchange publishes: prices of a few intervals, in real time and day-ahead, and signed."""
    lines = [f"{interval_start(t):%Y-%m-%dT%H:%MZ},0.0{60 + t % 7},0.05" for t in range(FIRST, FIRST + 24)]
    path.write_text("time,real_time,day_ahead\n" + "\n".join(lines) + "\n")
    path.write_text(signed_table(path, NAME, KEY.sign))
    return path


def shade(path: Path) -> None:
    """Move some prices by a millionth, as an operator would who earns from it."""
    lines = path.read_text().splitlines()
    for t in SHADED:
        row = lines[1 + t - FIRST].split(",")
        lines[1 + t - FIRST] = ",".join([row[0], f"{float(row[1]) + 1e-6:.6f}", *row[2:]])
    path.write_text("\n".join(lines) + "\n")


def operate(folder: Path, section: str, file: Path) -> list[Event]:
    """Operate a shard over a few intervals with the prices of a file."""
    street, events = Street(folder, meters=200, rulebook=rules(section)), list[Event]()
    for interval in (*INTERVALS, INTERVALS.stop):
        for later in (0, 60, 61):
            street.clock.at(interval * MARKET_INTERVAL_S + later, street.tick)
    operator = Operator(street.market, street.clock, street.stop, PriceFile(file, rules(section)), tell=events.append)
    operator.run(INTERVALS.stop * MARKET_INTERVAL_S - 1)
    street.close()
    return events


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], tuple[Path, Path, list[Event]]]:
    """A shard by what its rules ask for and whether its operator shades; the published prices; what happened."""
    made: dict[tuple[str, bool], tuple[Path, Path, list[Event]]] = {}

    def play(section: str, shaded: bool) -> tuple[Path, Path, list[Event]]:
        if (section, shaded) not in made:
            folder = tmp_path_factory.mktemp("root")
            published, own = publish(folder / "published.csv"), publish(folder / "own.csv")
            if shaded:
                shade(own)
            made[section, shaded] = folder / "shard", published, operate(folder / "shard", section, own)
        return made[section, shaded]

    return play


def found(report: Report, name: str) -> str:
    return next(check.detail for check in report.checks if check.name == name)


def compared(path: Path, published: Path) -> tuple[Report, PriceComparison]:
    report = verify_directory(path, root_prices=published)
    assert report.root_prices is not None
    return report, report.root_prices


def refused(path: Path) -> list[int]:
    """Intervals whose gates went without a price."""
    with Market.open(path) as market:
        entries = market.record.journal.find(kind=Gates.kind, market="real_time")
        tables = [market.record.table(entry, Gates) for entry in entries]
    return [int(t.interval[0]) for t in tables if t.outcome[0] == GateOutcome.NO_PRICE]


# What is signed


def test_signed_prices_are_taken_and_anybody_can_check_them(operated) -> None:
    path, published, events = operated(SIGNATURE, False)
    assert [each.warning for each in events if "signature" in each.warning] == []
    assert refused(path) == []
    report, comparison = compared(path, published)
    assert [check for check in report.checks if not check.ok] == []
    assert f"{ON_RECORD} signed by {NAME}" in found(report, "root prices")
    assert (comparison.agree, comparison.differ, comparison.not_recorded) == (ON_RECORD, [], [])


def test_a_shaded_price_is_refused_in_a_line_that_says_where_and_what_to_do(operated) -> None:
    """By a millionth on some intervals: those gates have no price, and their intervals settle by the rulebook's."""
    path, published, events = operated(SIGNATURE, True)
    lines = [each.warning for each in events if "real_time_signature" in each.warning]
    assert len(lines) == len(SHADED)
    for line, interval in zip(lines, SHADED, strict=True):
        assert f"own.csv: line {2 + interval - FIRST}, real_time_signature" in line
        assert f"is not that of {NAME} over this price; take the file from there again" in line
        assert "\n" not in line
    assert refused(path) == list(SHADED)
    report, comparison = compared(path, published)
    assert [check.name for check in report.checks if not check.ok] == ["published root prices"]
    assert [each.interval for each in comparison.not_recorded] == list(SHADED)


def test_a_price_without_a_signature_is_named_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(f"{interval_start(FIRST):%Y-%m-%dT%H:%MZ},0.06\n")
    quotes = read_prices(file, None).of("real_time", [range(FIRST, FIRST + 1)], ADDRESS)
    kept, wrong = quotes.proven(lambda interval: rules(SIGNATURE).versions[0].root_prices)
    assert len(kept) == 0
    assert wrong[FIRST] == (
        f"{file}: line 1, real_time_signature is missing; the rules ask for one by {NAME}: have the publisher "
        "`tellegen prices sign`"
    )


@pytest.mark.parametrize(("market", "shift"), [("day_ahead", 0), ("real_time", 1)])
def test_a_signature_says_nothing_in_another_market_or_at_another_time(tmp_path: Path, market: str, shift: int) -> None:
    series = read_prices(publish(tmp_path / "prices.csv"), None)
    period = range(FIRST, FIRST + 1)
    provenance, asked = series.of("real_time", [period], ADDRESS).provenance, rules(SIGNATURE).versions[0].root_prices
    micros = int(series.real_time.prices.micros[0])
    assert doubt("real_time", period, micros, provenance, asked) is None
    moved = PublishedPrices.from_rows(provenance.published.rows())
    object.__setattr__(moved, "interval", moved.interval + shift)
    object.__setattr__(provenance, "published", moved)
    assert doubt(market, range(FIRST + shift, FIRST + shift + 1), micros, provenance, asked) is not None
    assert doubt("real_time", period, micros + 1, provenance, asked) is not None


def test_the_market_takes_no_price_without_its_proof(operated) -> None:
    path, _, _ = operated(SIGNATURE, False)
    with Market.open(path) as market:
        price = RootPrices(interval=[FIRST + 100], micros=[60_000], source=np.array([b"mine"], dtype="S64"))
        before = len(market.record.journal)
        with pytest.raises(MarketError, match=rf"2016-10-23 06:20 UTC: comes from none, the rules name {ADDRESS}"):
            market.take_prices("real_time", price, FIRST * MARKET_INTERVAL_S)
        assert len(market.record.journal) == before


def test_an_operator_who_passes_over_the_proof_is_seen_by_anybody(
    operated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a program of its own it might put a price on record that its publisher has not signed."""
    path = Path(shutil.copytree(operated(SIGNATURE, False)[0], tmp_path / "shard"))
    later = FIRST + 13
    series = read_prices(operated(SIGNATURE, False)[1], None)
    quotes = series.of("real_time", [range(later, later + 1)], ADDRESS)
    shaded = RootPrices(interval=[later], micros=quotes.prices.micros + 1, source=quotes.prices.source)
    monkeypatch.setattr(price_record, "doubt", lambda *given: None)
    with Market.open(path) as market:
        assert market.take_prices("real_time", shaded, INTERVALS.stop * MARKET_INTERVAL_S, quotes.provenance) == 1
    report = verify_directory(path)
    assert [check.name for check in report.checks if not check.ok] == ["root prices"]
    assert found(report, "root prices").endswith(f"is not what {NAME} signed")


# The document


def test_a_document_on_record_convicts_whoever_shades_it(operated) -> None:
    """Nothing inside the record shows it; whoever holds what was published does."""
    path, published, _ = operated(HASH, True)
    assert verify_directory(path).ok
    report, comparison = compared(path, published)
    assert not report.ok
    assert [(each.interval, each.recorded, each.published) for each in comparison.differ] == [
        (t, 60_000 + 1_000 * (t % 7) + 1, 60_000 + 1_000 * (t % 7)) for t in SHADED
    ]
    assert comparison.documents_equal == 0
    assert "2 differ" in found(report, "published root prices")


def test_a_document_that_grew_still_begins_with_the_bytes_on_record(operated, tmp_path: Path) -> None:
    path, published, _ = operated(HASH, False)
    with Market.open(path) as market:
        (entry,) = market.record.journal.find(kind=PriceSources.kind)  # read once, put once
        document = market.record.table(entry, PriceSources)
    assert document.address.tolist() == [ADDRESS.encode()]
    assert document.size.tolist() == [published.stat().st_size]
    later = tmp_path / "later.csv"
    later.write_text(published.read_text() + f"{interval_start(FIRST + 24):%Y-%m-%dT%H:%MZ},0.07,,,\n")
    report, comparison = compared(path, later)
    assert report.ok
    assert (comparison.agree, comparison.documents_equal) == (ON_RECORD, 1)
    assert "with address, time and digest on record" in found(report, "root prices")


def test_what_is_unproven_is_said(operated) -> None:
    path, published, _ = operated('proof = "none"\n', False)
    report, _ = compared(path, published)
    assert report.ok
    words = f"{ON_RECORD} unproven, as the rules ask for no proof: the operator names own.csv"
    assert words in found(report, "root prices")


def test_a_file_about_other_times_compares_nothing(operated, tmp_path: Path) -> None:
    path, _, _ = operated(HASH, False)
    file = tmp_path / "other.csv"
    file.write_text("2020-01-01T00:00Z,0.06,0.05\n")
    report, comparison = compared(path, file)
    assert (report.ok, comparison.agree, comparison.outside) == (False, 0, ON_RECORD)


# The record lives on


def test_a_record_with_proofs_replays_opens_from_its_snapshot_and_is_compacted(operated, tmp_path: Path) -> None:
    path = Path(shutil.copytree(operated(SIGNATURE, False)[0], tmp_path / "shard"))
    assert [check for check in rerun(path) if not check.ok] == []
    with Market.open(path) as market:
        now = market.record.journal.known_at(len(market.record.journal) - 1)
        assert market.snapshot(now, afresh=True)
    with Market.open(path) as market:
        assert differing(parts_of(market.state), parts_of(folded_from_zero(market.record))) == []
    with Vault.open(path / "vault") as vault:
        compact(path, vault, known_at=now + 86_400, until_day=now // 86_400)
    report = verify_directory(path)
    assert [check for check in report.checks if not check.ok] == []
    assert f"{ON_RECORD} signed by {NAME}" in found(report, "root prices")


# The publisher


def test_a_publisher_signs_what_stands_and_sees_what_does_not(tmp_path: Path) -> None:
    file = publish(tmp_path / "prices.csv")
    assert unsigned_lines(file, PUBLISHER) == (48, [])
    shade(file)
    assert unsigned_lines(file, PUBLISHER) == (46, [(2 + t - FIRST, "real_time") for t in SHADED])
    assert signed_table(publish(file), NAME, KEY.sign) == file.read_text()  # signing again changes nothing
