"""The form of a rulebook file: its tables and keys, checked at the edge.

Money is written as decimal text ("0.085"), never as a TOML float, and becomes an integer exactly:
micro-currency for prices, nano-currency for amounts. A percentage is decimal text as well and
becomes parts per million.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tellegen.errors import InputError
from tellegen.foreign.documents import toml_document
from tellegen.journal import JournalError, NoteVerifier
from tellegen.market.paper import Ladder
from tellegen.metering.gap_energy import GapEnergy
from tellegen.records.published import ADDRESS_BYTES_MAX
from tellegen.rules.calendar import AdministrativePrice, TimetableParameters
from tellegen.rules.price_run import HOLD_HOURS_MAX, PriceRun
from tellegen.rules.root_prices import PriceProof
from tellegen.rules.tariffs import ImbalanceRule, MarketPowerTest, ReactiveRule, RoundingRule, ShareKey
from tellegen.units import MARKET_INTERVAL_S, MICROS, NANOS, known_zone

_DECIMAL = re.compile(r"-?\d{1,9}(\.\d{1,9})?", re.ASCII)
_LONG = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_LOCAL_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00")
METER_MINUTES = (5, 10, 15, 20, 30, 60)
BYTES_MAX = 65_536
"""A rulebook file is a page of text."""


def _exact(scale: int, unit: str) -> Callable[[object], int]:
    def parse(given: object) -> int:
        if isinstance(given, str) and _LONG.fullmatch(given) and not _DECIMAL.fullmatch(given):
            raise ValueError(f"is {given:.40}: at most 9 digits before the point and 9 behind it")
        if not isinstance(given, str) or not _DECIMAL.fullmatch(given):
            raise ValueError(f'must be a decimal number in quotes, such as "0.085", not {given!r}')
        counted = Decimal(given) * scale
        if counted != int(counted):
            raise ValueError(f"has more digits than {unit} can count; round it")
        return int(counted)

    return parse


def _parse_late(given: object) -> int | None:
    if given == "settled":
        return None
    if not isinstance(given, str) or not _LONG.fullmatch(given):
        raise ValueError(f'must be "settled" or a price in quotes, such as "0", not {given!r}')
    micros = _parse_micros(given)
    if abs(micros) > _PRICE_LIMIT:
        raise ValueError(f"is {given}: at most {_decimal(_PRICE_LIMIT, MICROS)} per kWh, and no less than minus that")
    return micros


def _parse_minute(given: object) -> int:
    if not isinstance(given, str) or not _LOCAL_TIME.fullmatch(given):
        raise ValueError(f'must be a local time in quotes, "00:00" to "24:00", such as "12:00", not {given!r}')
    return int(given[:2]) * 60 + int(given[3:])


_parse_micros = _exact(MICROS, "millionths of the currency")
_parse_nanos = _exact(NANOS, "billionths of the currency")
_parse_ppm = _exact(10_000, "parts per million")
_PRICE_LIMIT = 1_000 * MICROS

Micros = Annotated[int, BeforeValidator(_parse_micros), Field(ge=-_PRICE_LIMIT, le=_PRICE_LIMIT)]
Late = Annotated[int | None, BeforeValidator(_parse_late)]
Tariffed = Annotated[int, BeforeValidator(_parse_micros), Field(ge=0, le=_PRICE_LIMIT)]
Nanos = Annotated[int, BeforeValidator(_parse_nanos), Field(ge=0, le=10_000 * NANOS)]
Ppm = Annotated[int, BeforeValidator(_parse_ppm), Field(ge=0, le=10 * MICROS)]
TimeZone = Annotated[str, AfterValidator(known_zone)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Hour = Annotated[int, Field(ge=0, le=24)]
Minute = Annotated[int, BeforeValidator(_parse_minute)]
Wait = Annotated[int, Field(ge=0, le=3600)]
Steps = Annotated[tuple[Annotated[int, Field(ge=1, le=10_000_000)], ...], Field(strict=False, max_length=8)]
WindowDays = Annotated[int, Field(ge=1, le=400)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OrderForm(_Section):
    """The act itself: its docket, when it was adopted, and for which currency and calendar."""

    title: Text
    docket: Text
    adopted: date
    retroactive_order: Text | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    time_zone: TimeZone


class RolesForm(_Section):
    """Who enacts, operates, certifies and audits."""

    enact: Text
    operate: Text
    certify: Text
    audit: Text

    @model_validator(mode="after")
    def _separate(self) -> RolesForm:
        held = [self.enact, self.operate, self.certify, self.audit]
        for holder in held:
            if held.count(holder) > 1:
                raise ValueError(f"gives '{holder}' two of enact, operate, certify, audit; name different holders")
        return self


class NetworkForm(_Section):
    """Regulated network revenue and the tariff that raises it."""

    withdrawal_per_kwh: Tariffed
    fixed_per_customer_day: Nanos
    revenue_per_customer_day: Nanos


class TaxesForm(_Section):
    """Taxes on energy withdrawn and on the bill."""

    energy_per_kwh: Tariffed
    sales_percent: Ppm


class SettlementForm(_Section):
    """Which rule settles what."""

    imbalance: Annotated[ImbalanceRule, Field(strict=False)]
    reactive: Annotated[ReactiveRule, Field(strict=False)]
    rent_key: Annotated[ShareKey, Field(strict=False)]
    unaccounted_key: Annotated[ShareKey, Field(strict=False)]
    true_up_key: Annotated[ShareKey, Field(strict=False)]
    trailing_days: Annotated[int, Field(ge=1, le=400)]
    rounding: Annotated[RoundingRule, Field(strict=False)]


class MarketForm(_Section):
    """Limits on prices, and the penalty curve of a limit that must give way (two steps)."""

    price_cap_per_kwh: Micros
    price_floor_per_kwh: Micros
    penalty_margin_per_kwh: Annotated[Tariffed, Field(gt=0)]
    penalty_per_kwh: Annotated[Tariffed, Field(gt=0)]
    margin_rating_percent: Annotated[Ppm, Field(gt=0)]
    margin_voltage_percent: Annotated[Ppm, Field(gt=0)]

    @model_validator(mode="after")
    def _ordered(self) -> MarketForm:
        if self.price_floor_per_kwh >= self.price_cap_per_kwh:
            raise ValueError("has a price floor at or above the price cap; the floor must be lower")
        if self.penalty_margin_per_kwh > self.penalty_per_kwh:
            raise ValueError("has a margin penalty above the full penalty; the curve must not fall")
        return self


class RetailForm(_Section):
    """The tariff of the worlds without a market."""

    peak_start_hour: Hour
    peak_end_hour: Hour
    off_peak_percent_of_peak: Ppm
    feed_in_per_kwh: Tariffed

    @model_validator(mode="after")
    def _ordered(self) -> RetailForm:
        if self.peak_start_hour >= self.peak_end_hour:
            raise ValueError("has a peak that ends before it starts; hours are local, 0 to 24")
        return self


_DEFAULT, _RUN = TimetableParameters(), PriceRun()


class TimetableForm(_Section):
    """When the market's verbs are due; every key may be left out, and stands then at its default."""

    day_ahead_local: Minute = _DEFAULT.day_ahead_minute
    gate_lead_s: Wait = _DEFAULT.gate_lead_s
    gate_deadline_s: Annotated[Wait, Field(gt=0)] = _DEFAULT.gate_deadline_s
    reading_wait_s: Wait = _DEFAULT.reading_wait_s
    longest_meter_minutes: int = _DEFAULT.longest_meter_minutes
    tick_s: Annotated[int, Field(ge=1, le=MARKET_INTERVAL_S)] = _DEFAULT.tick_s
    correction_window_days: WindowDays = _DEFAULT.correction_window_days
    correction_days: Annotated[tuple[WindowDays, ...], Field(strict=False, max_length=32)] = _DEFAULT.correction_days
    administrative_order: Annotated[
        tuple[Annotated[AdministrativePrice, Field(strict=False)], ...], Field(strict=False)
    ] = _DEFAULT.administrative_order
    administrative_price: Micros = _DEFAULT.administrative_micros_per_kwh
    gap_energy: Annotated[GapEnergy, Field(strict=False)] = _DEFAULT.gap_energy
    snapshot_every: Annotated[int, Field(ge=1, le=288)] = _DEFAULT.snapshot_every

    @model_validator(mode="after")
    def _possible(self) -> TimetableForm:
        if self.longest_meter_minutes not in METER_MINUTES:
            raise ValueError(
                f"has longest_meter_minutes {self.longest_meter_minutes}; a meter's interval is whole market intervals "
                f"and divides the hour: {', '.join(map(str, METER_MINUTES))}"
            )
        most = self.reading_wait_s + 60 * self.longest_meter_minutes
        if self.gate_deadline_s > most:
            raise ValueError(
                "has a gate_deadline_s after the interval settles; at most reading_wait_s and longest_meter_minutes, "
                f"here {most} s"
            )
        days = self.correction_days
        if list(days) != sorted(set(days)) or any(day > self.correction_window_days for day in days):
            raise ValueError(
                f"has correction_days {list(days)}; they must rise, and end within correction_window_days "
                f"({self.correction_window_days})"
            )
        order = self.administrative_order
        if len(set(order)) != len(order) or not order or order[-1] is not AdministrativePrice.FIXED:
            raise ValueError(
                f"has administrative_order {[str(each) for each in order]}; each at most once, and 'fixed' last, "
                "because it alone is always there"
            )
        return self


class MarketPowerForm(_Section):
    """Whether offers behind a limit that nobody else can relieve are held to a reference; every key may be left out."""

    test: Annotated[MarketPowerTest, Field(strict=False)] = MarketPowerTest.NONE
    jointly: Annotated[int, Field(ge=1, le=3)] = 1
    residual_percent: Annotated[Ppm, Field(gt=0)] = 1_000_000
    reference_margin_percent: Ppm = 50_000
    conduct_percent: Ppm = 50_000
    conduct_per_kwh: Tariffed = 25_000
    impact_percent: Ppm = 50_000
    impact_per_kwh: Tariffed = 25_000
    storage_efficiency_percent: Annotated[Ppm, Field(gt=0, le=1_000_000)] = 900_000


class RootPricesForm(_Section):
    """Where wholesale prices come from and what must prove them; every key may be left out."""

    proof: Annotated[PriceProof, Field(strict=False)] = PriceProof.NONE
    source: str = ""
    publisher_key: str = ""

    @model_validator(mode="after")
    def _provable(self) -> RootPricesForm:
        if len(self.source.encode()) > ADDRESS_BYTES_MAX:
            raise ValueError(f"has a source of more than {ADDRESS_BYTES_MAX} bytes; give a shorter address")
        if self.proof is PriceProof.HASH and not self.source:
            raise ValueError("has proof 'hash' and no source; give the address at which the prices are published")
        if self.proof is PriceProof.SIGNATURE and not self.publisher_key:
            raise ValueError("has proof 'signature' and no publisher_key; give what `tellegen prices key` printed")
        if self.publisher_key:
            try:
                NoteVerifier.parse(self.publisher_key)
            except JournalError as error:
                raise ValueError(f"has a publisher_key that is none: {error}") from None
        return self


class PriceRunForm(_Section):
    """Whether real time settles by a second clearing on meters, and what counts there; every key may be left out."""

    settles: bool = False
    paper: bool = True
    paper_w: Steps = Ladder().quantity_w
    paper_spread_per_kwh: Annotated[tuple[Annotated[Tariffed, Field(gt=0)], ...], Field(strict=False, max_length=8)] = (
        Ladder().spread_micros
    )
    paper_last_w: Annotated[int, Field(ge=1, le=1_000_000)] = Ladder().last_w
    fills: bool = _RUN.fills
    reactive_stays: bool = _RUN.reactive_stays
    reactive_more_percent: Ppm = _RUN.reactive_more_ppm
    relief: bool = _RUN.relief
    relief_share_percent: Ppm = _RUN.relief_share_ppm
    relief_w: Annotated[int, Field(ge=0, le=1_000_000)] = _RUN.relief_w
    growth_percent: Ppm = _RUN.growth_ppm
    within_connection: bool = _RUN.within_connection
    within_devices: bool = _RUN.within_devices
    attested: bool = _RUN.attested
    reserve_of_devices: bool = _RUN.reserve_of_devices
    late_feed_in: Late = _RUN.late_feed_in_micros
    missing_percent: Annotated[Ppm, Field(le=1_000_000)] = _RUN.missing_ppm
    hold_share_percent: Ppm = _RUN.hold_ppm
    hold_wh: Annotated[int, Field(ge=0, le=1_000_000_000)] = _RUN.hold_wh
    hold_hours: Annotated[int, Field(ge=0, le=HOLD_HOURS_MAX)] = _RUN.hold_hours
    absent_stand: bool = _RUN.absent_stand
    stand_reactive: bool = _RUN.stand_reactive

    @model_validator(mode="after")
    def _a_ladder(self) -> PriceRunForm:
        if len(self.paper_w) != len(self.paper_spread_per_kwh):
            raise ValueError(
                f"has {len(self.paper_w)} steps in paper_w and {len(self.paper_spread_per_kwh)} in "
                "paper_spread_per_kwh; give each step both"
            )
        if list(self.paper_spread_per_kwh) != sorted(self.paper_spread_per_kwh):
            raise ValueError("has paper_spread_per_kwh that falls; sort the steps from the inside out")
        return self


class CreditForm(_Section):
    """How much an account may owe before its orders of the day ahead are refused; a file without it sets no limit."""

    limit_per_account: Annotated[int, BeforeValidator(_parse_nanos), Field(ge=0, le=10**9 * NANOS)]
    price_per_kwh: Annotated[Tariffed, Field(gt=0)]


class RulebookForm(_Section):
    """One version of the rules, as its file states it."""

    order: OrderForm
    roles: RolesForm
    network: NetworkForm
    taxes: TaxesForm
    settlement: SettlementForm
    market: MarketForm
    retail: RetailForm
    timetable: TimetableForm = TimetableForm()
    market_power: MarketPowerForm = MarketPowerForm()
    root_prices: RootPricesForm = RootPricesForm()
    price_run: PriceRunForm = PriceRunForm()
    credit: CreditForm | None = None

    @model_validator(mode="after")
    def _admissible(self) -> RulebookForm:
        # not for a default: a file without the section reads as it always did
        stated = "administrative_price" in self.timetable.model_fields_set
        low, high = self.market.price_floor_per_kwh, self.market.price_cap_per_kwh
        if stated and not low <= self.timetable.administrative_price <= high:
            raise ValueError(
                "[timetable] administrative_price is outside the price floor and cap of [market]; move it inside"
            )
        if low > self.retail.feed_in_per_kwh:
            raise ValueError(
                "[market] price_floor_per_kwh is above feed_in_per_kwh of [retail], so that sun would "
                "earn no less than without a market however much there is; lower the floor"
            )
        return self


def read_form(source: str, content: bytes) -> RulebookForm:
    """Parse one rulebook file.

    Raises
    ------
    InputError : the first thing that is wrong, with file, key and remedy.
    """
    if len(content) > BYTES_MAX:
        raise InputError(source, "file", f"has {len(content)} bytes; a rulebook has at most {BYTES_MAX}")
    try:
        document = toml_document(content.decode("utf-8"), source)
    except UnicodeDecodeError as error:
        raise InputError(source, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8") from None
    try:
        return RulebookForm.model_validate(document)
    except ValidationError as error:
        # a misspelt key is missing under its name, too: the misspelling is what is to be told
        first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        place, problem = _place(first["loc"]), _problem(dict(first))
        if not place:  # what two sections say together names the first of them
            section, _, problem = problem.partition(" ")
            place = section
        raise InputError(source, place, problem) from None


def _place(location: Sequence[str | int]) -> str:
    parts = [str(part) for part in location]
    return "" if not parts else f"[{parts[0]}]" + (f" {'.'.join(parts[1:])}" if parts[1:] else "")


def _problem(error: dict[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "is missing; every key must be stated (see `tellegen rules show` for an example)"
        case "extra_forbidden":
            return f"is not known to this version; remove it or correct its spelling (known: {_siblings(error['loc'])})"
        case "value_error":
            return str(error["ctx"]["error"])
        case "date_type" if isinstance(error["input"], datetime | str):
            return "must be a plain TOML date without quotes or time, such as 2016-01-01"
        case "less_than_equal" | "greater_than_equal" | "greater_than" | "less_than":
            (bound,) = error["ctx"].values()
            scale = _scale(error["loc"])
            most = f'"{_decimal(bound, scale)}"' if scale > 1 else str(bound)
            return f"is {error['input']!r}: it must be {_BOUNDS[error['type']]} {most}"
        case _:
            shown = error["msg"][:1].lower() + error["msg"][1:]
            return f"is {error['input']!r}: {shown}"


_BOUNDS = {
    "less_than_equal": "at most",
    "less_than": "less than",
    "greater_than_equal": "at least",
    "greater_than": "more than",
}


def _scale(location: Sequence[str | int]) -> int:
    """What a number of this key was multiplied with when it was read; 1 for a whole number."""
    key = str(location[1]) if len(location) > 1 else ""
    if key.endswith("_percent") or "_percent_" in key:
        return MICROS // 100
    if key.endswith("_per_customer_day") or key == "limit_per_account":
        return NANOS
    return MICROS if key.endswith("_per_kwh") or key == "administrative_price" else 1


def _decimal(counted: int, scale: int) -> str:
    """A number as the file would state it.

    >>> _decimal(1_255_000, 10_000)
    '125.5'
    """
    return f"{(Decimal(counted) / scale).normalize():f}"


def _siblings(location: Sequence[str | int]) -> str:
    model: type[BaseModel] = RulebookForm
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return ", ".join(model.model_fields)
