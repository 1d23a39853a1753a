"""The form of a rulebook file: its tables and keys, checked at the edge.

Money is written as decimal text ("0.085"), never as a TOML float, and becomes an integer exactly:
micro-currency for prices, nano-currency for amounts. A percentage is decimal text as well and
becomes parts per million.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from tellegen.errors import InputError
from tellegen.rules.tariffs import ImbalanceRule, ReactiveRule, RoundingRule, ShareKey
from tellegen.units import MICROS, NANOS

_DECIMAL = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
BYTES_MAX = 65_536
"""A rulebook file is a page of text."""


def _exact(scale: int, unit: str) -> Callable[[object], int]:
    def parse(given: object) -> int:
        if not isinstance(given, str) or not _DECIMAL.fullmatch(given):
            raise ValueError(f'must be a decimal number in quotes, such as "0.085", not {given!r}')
        counted = Decimal(given) * scale
        if counted != int(counted):
            raise ValueError(f"has more digits than {unit} can count; round it")
        return int(counted)

    return parse


_parse_micros = _exact(MICROS, "millionths of the currency")
_parse_nanos = _exact(NANOS, "billionths of the currency")
_parse_ppm = _exact(10_000, "parts per million")
_PRICE_LIMIT = 1_000 * MICROS

Micros = Annotated[int, BeforeValidator(_parse_micros), Field(ge=-_PRICE_LIMIT, le=_PRICE_LIMIT)]
Tariffed = Annotated[int, BeforeValidator(_parse_micros), Field(ge=0, le=_PRICE_LIMIT)]
Nanos = Annotated[int, BeforeValidator(_parse_nanos), Field(ge=0, le=10_000 * NANOS)]
Ppm = Annotated[int, BeforeValidator(_parse_ppm), Field(ge=0, le=10 * MICROS)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Hour = Annotated[int, Field(ge=0, le=24)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OrderForm(_Section):
    """The act itself: its docket, when it was adopted, and for which currency and calendar."""

    title: Text
    docket: Text
    adopted: date
    retroactive_order: Text | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    time_zone: str

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("is not a time zone; use an IANA name such as Europe/Berlin") from None
        return name


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


class RulebookForm(_Section):
    """One version of the rules, as its file states it."""

    order: OrderForm
    roles: RolesForm
    network: NetworkForm
    taxes: TaxesForm
    settlement: SettlementForm
    market: MarketForm
    retail: RetailForm


def read_form(source: str, content: bytes) -> RulebookForm:
    """Parse one rulebook file.

    Raises
    ------
    InputError : the first thing that is wrong, with file, key and remedy.
    """
    if len(content) > BYTES_MAX:
        raise InputError(source, "file", f"has {len(content)} bytes; a rulebook has at most {BYTES_MAX}")
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(source, f"byte {error.start}", "is not UTF-8 text; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(source, "file", f"is not TOML: {error}") from None
    try:
        return RulebookForm.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(source, _place(first["loc"]), _problem(dict(first))) from None


def _place(location: Sequence[str | int]) -> str:
    parts = [str(part) for part in location]
    return "file" if not parts else f"[{parts[0]}]" + (f" {'.'.join(parts[1:])}" if parts[1:] else "")


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
        case _:
            shown = error["msg"][:1].lower() + error["msg"][1:]
            return f"is {error['input']!r}: {shown}"


def _siblings(location: Sequence[str | int]) -> str:
    model: type[BaseModel] = RulebookForm
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return ", ".join(model.model_fields)
