"""The rulebook: every version of the rules that was ever enacted, found by date.

A version is one TOML file named after the date from which it holds, ``2016-01-01.toml``; a second
act for the same date carries a suffix, ``2016-01-01-appeal.toml``. Versions are never edited: a
change is a new file. Which rules hold is a question with two times, the day that settles and the
day as of which one asks: the latest version in force on the one, adopted by the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path

from tellegen.errors import InputError
from tellegen.foreign.folder import Folder
from tellegen.market.paper import Ladder
from tellegen.market.parameters import Parameters as MarketParameters
from tellegen.market.pivotal import PivotalTest
from tellegen.records import Document
from tellegen.rules.calendar import TimetableParameters
from tellegen.rules.credit import CreditRule
from tellegen.rules.form import RulebookForm, read_form
from tellegen.rules.price_run import PriceRun
from tellegen.rules.root_prices import RootPriceParameters
from tellegen.rules.tariffs import MarketPowerTest, RetailParameters, SettlementParameters, Tariff
from tellegen.units import MICROS

_FILE_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(-[a-z0-9]+)?\.toml")
_DOCUMENT_PREFIX = "rulebook/"
VERSIONS_MAX = 1_000
"""A rulebook has at most this many versions."""
BYTES_MAX = 64 * 2**20
"""Of all versions together."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who holds which office; no two are the same (governance)."""

    enact: str
    operate: str
    certify: str
    audit: str


@dataclass(frozen=True, slots=True)
class Rules:
    """One version of the rules, as the rest of the house reads it.

    Attributes
    ----------
    name : file name of the version.
    effective, adopted : first day it governs, and day of the act.
    title, docket, retroactive_order, currency : what the act says of itself.
    roles : holders of the four offices.
    settlement : parameters of settlement.
    market : parameters of clearing; tolerances of the solver are not the regulator's and keep their defaults.
    tariff : what customers' agents see.
    timetable : when the market's verbs are due.
    pivotal : thresholds of the test for market power; None: nobody is tested.
    root_prices : what must prove a wholesale price.
    credit : how much an account may owe; None: any amount.
    price_run : what counts when real time settles by a second clearing on meters; None: the gate's prices settle.
    trailing_days : days of metered withdrawal in the sharing keys of a day.
    sha256 : digest of the file, hex.
    content : the file.
    """

    name: str
    effective: date
    adopted: date
    title: str
    docket: str
    retroactive_order: str | None
    currency: str
    roles: Roles
    settlement: SettlementParameters
    market: MarketParameters
    tariff: Tariff
    timetable: TimetableParameters
    pivotal: PivotalTest | None
    root_prices: RootPriceParameters
    price_run: PriceRun | None
    credit: CreditRule | None
    trailing_days: int
    sha256: str
    content: bytes

    def document(self) -> Document:
        """The version as a document for the journal."""
        return Document(name=f"{_DOCUMENT_PREFIX}{self.name}", content=self.content)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All versions, ordered by effective date, then by adoption.

    >>> book = Rulebook.load()
    >>> book.at(date(2016, 7, 1)).settlement.network_withdrawal_micros_per_kwh
    80000
    >>> book.at(date(2017, 7, 1)).settlement.network_withdrawal_micros_per_kwh
    85000
    """

    source: str
    versions: tuple[Rules, ...]

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Rulebook:
        """Read every version in `folder`; None reads the default rulebook of the package.

        Raises
        ------
        InputError : the folder is no rulebook, or a file is wrong; with file, key and remedy.
        """
        if folder is None:
            place = resources.files("tellegen.rules") / "rulebooks" / "default"
            files = {item.name: item.read_bytes() for item in place.iterdir() if item.name.endswith(".toml")}
            return cls.parse(files, source="default rulebook")
        path = Path(folder)
        if not path.is_dir():
            raise InputError(path, "folder", "is not there; a rulebook is a folder of files such as 2016-01-01.toml")
        names = sorted(item.name for item in islice(path.glob("*.toml"), VERSIONS_MAX + 1))
        if len(names) > VERSIONS_MAX:
            raise InputError(path, "folder", f"holds more than {VERSIONS_MAX} versions")
        held = Folder(str(path), path, BYTES_MAX)
        return cls.parse({name: held.read((name,), "folder") for name in names}, source=str(path))

    @classmethod
    def from_documents(cls, documents: Mapping[str, bytes]) -> Rulebook:
        """Rebuild the rulebook from documents on record, by document name; others are passed over."""
        files = {
            name.removeprefix(_DOCUMENT_PREFIX): content
            for name, content in documents.items()
            if name.startswith(_DOCUMENT_PREFIX)
        }
        return cls.parse(files, source="rulebook on record")

    @classmethod
    def parse(cls, files: Mapping[str, bytes], source: str) -> Rulebook:
        """Compose a rulebook from the contents of its files, by file name."""
        if not files:
            raise InputError(source, "folder", "holds no version; add a file such as 2016-01-01.toml")
        if len(files) > VERSIONS_MAX:
            raise InputError(source, "folder", f"holds {len(files)} versions; at most {VERSIONS_MAX} are read")
        versions = sorted(
            (_compose(source, name, content) for name, content in files.items()),
            key=lambda rules: (rules.effective, rules.adopted, rules.name),
        )
        for earlier, later in pairwise(versions):
            if (earlier.effective, earlier.adopted) == (later.effective, later.adopted):
                raise InputError(
                    f"{source}/{later.name}",
                    "[order] adopted",
                    f"is also that of {earlier.name} for the same effective date; of two acts one must be later",
                )
        return cls(source, tuple(versions))

    def at(self, day: date, *, known_by: date | None = None) -> Rules:
        """The rules that govern a billing day, as of today or as they stood on the day `known_by`.

        Raises
        ------
        InputError : no version was in force.
        """
        adopted = [rules for rules in self.versions if known_by is None or rules.adopted <= known_by]
        held = [rules for rules in adopted if rules.effective <= day]
        if not held:
            since = min((rules.effective for rules in adopted), default=None)
            remedy = f"the first holds from {since}" if since else f"none was adopted by {known_by}"
            raise InputError(self.source, f"day {day}", f"is governed by no version; {remedy}")
        return held[-1]

    @property
    def sha256(self) -> str:
        """Digest over the names and digests of all versions, hex."""
        listing = "".join(f"{rules.sha256}  {rules.name}\n" for rules in self.versions)
        return hashlib.sha256(listing.encode()).hexdigest()

    def documents(self) -> tuple[Document, ...]:
        """Every version as a document for the journal."""
        return tuple(rules.document() for rules in self.versions)


def _compose(source: str, name: str, content: bytes) -> Rules:
    place = f"{source}/{name}"
    matched = _FILE_NAME.fullmatch(name)
    try:
        effective = date.fromisoformat(matched[1]) if matched else None
    except ValueError:
        effective = None
    if effective is None:
        raise InputError(place, "file name", "is not a date; call it YYYY-MM-DD.toml after its first day")
    form = read_form(place, content)
    if form.order.adopted > effective and form.order.retroactive_order is None:
        raise InputError(
            place,
            "[order] adopted",
            f"is after the effective date {effective}; a retroactive act needs retroactive_order, its refund docket",
        )
    return Rules(
        name=name,
        effective=effective,
        adopted=form.order.adopted,
        title=form.order.title,
        docket=form.order.docket,
        retroactive_order=form.order.retroactive_order,
        currency=form.order.currency,
        roles=Roles(form.roles.enact, form.roles.operate, form.roles.certify, form.roles.audit),
        settlement=_settlement(form),
        market=_market(form),
        tariff=Tariff(
            network_micros_per_kwh=form.network.withdrawal_per_kwh,
            energy_tax_micros_per_kwh=form.taxes.energy_per_kwh,
            sales_tax_ppm=form.taxes.sales_percent,
            price_floor_micros_per_kwh=form.market.price_floor_per_kwh,
            price_cap_micros_per_kwh=form.market.price_cap_per_kwh,
        ),
        timetable=_timetable(form),
        pivotal=_pivotal(form),
        root_prices=RootPriceParameters(
            form.root_prices.proof, form.root_prices.source, form.root_prices.publisher_key
        ),
        price_run=_price_run(form),
        credit=None if form.credit is None else CreditRule(form.credit.limit_per_account, form.credit.price_per_kwh),
        trailing_days=form.settlement.trailing_days,
        sha256=hashlib.sha256(content).hexdigest(),
        content=content,
    )


def _settlement(form: RulebookForm) -> SettlementParameters:
    return SettlementParameters(
        time_zone=form.order.time_zone,
        network_withdrawal_micros_per_kwh=form.network.withdrawal_per_kwh,
        network_fixed_nanos_per_day=form.network.fixed_per_customer_day,
        network_revenue_nanos_per_customer_day=form.network.revenue_per_customer_day,
        energy_tax_micros_per_kwh=form.taxes.energy_per_kwh,
        sales_tax_ppm=form.taxes.sales_percent,
        rent_key=form.settlement.rent_key,
        unaccounted_key=form.settlement.unaccounted_key,
        true_up_key=form.settlement.true_up_key,
        rounding=form.settlement.rounding,
        imbalance=form.settlement.imbalance,
        reactive=form.settlement.reactive,
        retail=RetailParameters(
            peak_start_hour=form.retail.peak_start_hour,
            peak_end_hour=form.retail.peak_end_hour,
            off_peak_ratio_ppm=form.retail.off_peak_percent_of_peak,
            feed_in_micros_per_kwh=form.retail.feed_in_per_kwh,
        ),
        late_feed_in_micros_per_kwh=form.price_run.late_feed_in if form.price_run.settles else None,
    )


def _market(form: RulebookForm) -> MarketParameters:
    # clearing optimises in floating point; what settles is rounded to micro-currency afterwards
    return MarketParameters(
        price_cap=form.market.price_cap_per_kwh / MICROS,
        price_floor=form.market.price_floor_per_kwh / MICROS,
        penalty_margin_price=form.market.penalty_margin_per_kwh / MICROS,
        penalty_price=form.market.penalty_per_kwh / MICROS,
        margin_rating=form.market.margin_rating_percent / MICROS,
        margin_voltage_pu=form.market.margin_voltage_percent / MICROS,
    )


def _timetable(form: RulebookForm) -> TimetableParameters:
    return TimetableParameters(
        day_ahead_minute=form.timetable.day_ahead_local,
        gate_lead_s=form.timetable.gate_lead_s,
        gate_deadline_s=form.timetable.gate_deadline_s,
        reading_wait_s=form.timetable.reading_wait_s,
        longest_meter_minutes=form.timetable.longest_meter_minutes,
        tick_s=form.timetable.tick_s,
        correction_window_days=form.timetable.correction_window_days,
        correction_days=form.timetable.correction_days,
        administrative_order=form.timetable.administrative_order,
        administrative_micros_per_kwh=form.timetable.administrative_price,
        gap_energy=form.timetable.gap_energy,
        snapshot_every=form.timetable.snapshot_every,
    )


def _pivotal(form: RulebookForm) -> PivotalTest | None:
    said = form.market_power
    if said.test is MarketPowerTest.NONE:
        return None
    return PivotalTest(
        jointly=said.jointly,
        residual_min=said.residual_percent / MICROS,
        margin=said.reference_margin_percent / MICROS,
        conduct_share=said.conduct_percent / MICROS,
        conduct_price=said.conduct_per_kwh / MICROS,
        impact_share=said.impact_percent / MICROS,
        impact_price=said.impact_per_kwh / MICROS,
        storage_efficiency=said.storage_efficiency_percent / MICROS,
    )


def _price_run(form: RulebookForm) -> PriceRun | None:
    said = form.price_run
    if not said.settles:
        return None
    return PriceRun(
        ladder=Ladder(said.paper_w, said.paper_spread_per_kwh, said.paper_last_w) if said.paper else None,
        fills=said.fills,
        reactive_stays=said.reactive_stays,
        reactive_more_ppm=said.reactive_more_percent,
        relief=said.relief,
        relief_share_ppm=said.relief_share_percent,
        relief_w=said.relief_w,
        growth_ppm=said.growth_percent,
        within_connection=said.within_connection,
        within_devices=said.within_devices,
        attested=said.attested,
        reserve_of_devices=said.reserve_of_devices,
        late_feed_in_micros=said.late_feed_in,
        missing_ppm=said.missing_percent,
        hold_ppm=said.hold_share_percent,
        hold_wh=said.hold_wh,
        hold_hours=said.hold_hours,
        absent_stand=said.absent_stand,
        stand_reactive=said.stand_reactive,
    )
