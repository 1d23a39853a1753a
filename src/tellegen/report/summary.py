"""What `summary.json` says of a run, read with types; a field that a short run lacks is empty."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tellegen.errors import InputError
from tellegen.rules.form import TimeZone


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Feeder(_Part):
    """Where the market ran; limits in per unit of nominal voltage."""

    grid: str = ""
    nodes: int = 0
    customers: int = 0
    devices: dict[str, int] = {}
    v_min_pu: float = 0.95
    v_max_pu: float = 1.05


class Day(_Part):
    """When it ran; `complete` is false for a rehearsal of some hours."""

    date: date
    timezone: TimeZone = "UTC"
    first_interval: int
    intervals: int = Field(ge=1)
    complete: bool = True


class World(_Part):
    """One world of the comparison: the same homes and weather under one way of paying.

    stores : by name, what they held at the start and at the end.
    """

    name: str
    title: str = ""
    welfare_eur: Decimal | None = None
    wholesale_cost_eur: Decimal | None = None
    bills_eur: Decimal | None = None
    bills_before_tax_eur: Decimal | None = None
    tax_eur: Decimal | None = None
    network_eur: Decimal | None = None
    discomfort_eur: Decimal | None = None
    unmet_eur: Decimal | None = None
    wear_eur: Decimal | None = None
    stored_change_eur: Decimal | None = None
    adjusted_cost_eur: Decimal | None = None
    drawn_from_stores_kwh: float | None = None
    stores: dict[str, tuple[float, float]] = {}
    import_kwh: float | None = None
    export_kwh: float | None = None
    used_kwh: float | None = None
    cars_kwh: float | None = None
    peak_kw: float | None = None
    peak_at: datetime | None = None
    export_peak_kw: float | None = None
    curtailed_kwh: float | None = None
    losses_kwh: float | None = None
    losses_percent: float | None = None
    v_min_pu: float | None = None
    v_max_pu: float | None = None
    voltage_violations: int | None = None
    voltage_excess_pu: float | None = None
    voltage_excess_pu_hours: float | None = None
    loading_violations: int | None = None
    max_loading_percent: float | None = None
    overload_percent_hours: float | None = None


class Comparison(_Part):
    """The market against one baseline.

    saving_eur : fall of all bills together. real_saving_eur : fall of the cost of what was used up.
    transfer_eur : what only moves between bills.
    """

    vs: str
    saving_eur: Decimal | None = None
    real_saving_eur: Decimal | None = None
    transfer_eur: Decimal | None = None
    winners: int | None = None
    losers: int | None = None
    text: str = ""


class MarketPrices(_Part):
    """Prices of one market over nodes and intervals, currency per kWh."""

    min: Decimal | None = None
    mean: Decimal | None = None
    max: Decimal | None = None
    parts_mean: dict[str, Decimal] = {}
    parts_largest: dict[str, Decimal] = {}
    negative_intervals: int = 0
    ranges: int = 0


class Evidence(_Part):
    """The largest residuals on which clearings were accepted, and what referees found."""

    max_violation_pu: float | None = None
    max_mismatch_pu: float | None = None
    max_kkt: float | None = None
    replay_max_dv_pu: float | None = None
    fd_max_relative: float | None = None
    settles_afresh: bool | None = None


class Money(_Part):
    """Sums of the books at the close: `accounts` are balances, positive owed by the account."""

    in_eur: Decimal = Decimal(0)
    out_eur: Decimal = Decimal(0)
    balanced: bool = False
    customers_eur: Decimal | None = None
    accounts: dict[str, Decimal] = {}


class Flow(_Part):
    """Money that went from one party to another; negative: it went the other way."""

    origin: str = Field(alias="from")
    target: str = Field(alias="to")
    eur: Decimal


class Check(_Part):
    """One check of the verifier."""

    name: str
    ok: bool
    count: int = 0
    detail: str = ""


class Record(_Part):
    """What is on record for good, and how it was checked."""

    entries: int = 0
    rows: int = 0
    checkpoints: int = 0
    receipts_checked: int = 0
    verify_ok: bool | None = None
    verify_checks: list[Check] = []
    root: str = ""
    bytes: int = 0


class Correction(_Part):
    """A wrong fact of the day and what its correction moved."""

    customer: str
    start: datetime | None = Field(default=None, alias="from")
    end: datetime | None = Field(default=None, alias="to")
    intervals: int = 0
    flagged: int | None = None
    rule: str = ""
    estimated_kwh: float | None = None
    true_kwh: float | None = None
    accounts_moved: int | None = None
    largest_move_eur: Decimal | None = None
    own_move_eur: Decimal | None = None
    tasks_rerun: int | None = None
    tasks_total: int | None = None
    replay_equal: bool | None = None
    text: str = ""


class Summary(_Part):
    """The whole of `summary.json`."""

    name: str
    about: list[str] = []
    seed: int = 0
    feeder: Feeder = Feeder()
    day: Day
    currency: str = "EUR"
    prices_source: str = ""
    worlds: list[World] = []
    comparisons: list[Comparison] = []
    prices: dict[str, MarketPrices] = {}
    statuses: dict[str, int] = {}
    binding_intervals: int | None = None
    homes_on_hold: int | None = None
    evidence: Evidence = Evidence()
    money: Money | None = None
    flows: list[Flow] = []
    record: Record | None = None
    correction: Correction | None = None
    erased: list[str] = []

    def world(self, name: str) -> World | None:
        """The world of that name, if the run played it."""
        return next((world for world in self.worlds if world.name == name), None)


def read_summary(document: dict[str, Any], source: object = "summary.json") -> Summary:
    """Check a parsed `summary.json`.

    Raises
    ------
    InputError : a field is missing or of the wrong type.

    >>> day = {"date": "2016-05-08", "first_interval": 4875408, "intervals": 288}
    >>> read_summary({"name": "A day", "day": day}).currency
    'EUR'
    """
    try:
        return Summary.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(source, f"key '{place}'", f"{first['msg']} (found {first.get('input')!r:.60})") from None
