"""Scenario files: which feeder, which day, what goes wrong."""

from __future__ import annotations

from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from tellegen.errors import InputError
from tellegen.foreign.documents import bounded_text, toml_document
from tellegen.units import known_zone

Share = Annotated[float, Field(ge=0.0, le=0.5)]
Scale = Annotated[float, Field(gt=0.0, le=20.0)]
BAND_MIN_PU = 0.01
"""A market needs room between its voltage limits; within less, hardly any dispatch is possible."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Feeder(_Section):
    """The network and the limits the market keeps (per unit of nominal voltage)."""

    grid: str
    v_min_pu: float = Field(default=0.95, ge=0.5, le=1.0)
    v_max_pu: float = Field(default=1.05, ge=1.0, le=1.5)
    margin_pu: float = Field(default=0.0, ge=0.0, le=0.02)


class Day(_Section):
    """The billing day; `hours` below 24 cuts it short (a rehearsal, flagged in the summary)."""

    date: date
    timezone: Annotated[str, AfterValidator(known_zone)] = "Europe/Berlin"
    history_days: int = Field(default=28, ge=8, le=90)
    hours: int | None = Field(default=None, ge=1, le=25)


class CommunityScales(_Section):
    """Multiples of the SimBench devices, and how many homes get an electric water heater."""

    pv_scale: Scale = 1.0
    vehicle_scale: Scale = 1.0
    heat_pump_scale: Scale = 1.0
    battery_scale: Scale = 1.0
    water_heaters: int = Field(default=12, ge=0, le=10_000)


class Prices(_Section):
    """Wholesale prices at the substation: a file, or the documented default."""

    file: Path | None = None
    day: date | None = None


class PlantErrors(_Section):
    """How reality differs from the market's model, and what becomes of messages."""

    impedance_error: Share = 0.10
    reactive_error: Share = 0.0
    phase_unbalance: Share = 0.0
    voltage_response: float = Field(default=0.0, ge=0.0, le=2.0)
    movement: Share = 0.10
    lost_bids: Share = 0.0
    lost_dispatch: Share = 0.01
    ignored_dispatch: Share = 0.02


class Fault(_Section):
    """One meter whose registers stand still for some hours."""

    customer: str
    start_hour: int = Field(ge=0, le=24)
    hours: int = Field(default=3, ge=1, le=12)


class Meters(_Section):
    """Shares of the homes whose meters read every quarter of an hour, and of those whose readings never come."""

    quarter_hour: float = Field(default=0.0, ge=0.0, le=1.0)
    silent: Share = 0.0


class Scenario(_Section):
    """A simulated market day, as its TOML file says.

    >>> demo_scenario().feeder.grid
    'simbench:1-LV-rural3--2-sw'
    """

    name: str
    seed: int = Field(ge=0, lt=2**63)
    feeder: Feeder
    day: Day
    community: CommunityScales = CommunityScales()
    prices: Prices = Prices()
    plant: PlantErrors = PlantErrors()
    meters: Meters = Meters()
    fault: Fault | None = None
    rulebook: Path | None = None
    _source: str = PrivateAttr(default="")

    @property
    def source(self) -> str:
        """The file that it was read from, for whoever is told what is wrong with it; else its name."""
        return self._source or self.name


def read_scenario(path: Path) -> Scenario:
    """Read and check a scenario file; file names in it are relative to it.

    Raises
    ------
    InputError : unreadable file, unknown key, or a value out of range.
    """
    scenario = _parse(bounded_text(path), str(path))
    beside = path.parent
    prices, rulebook = scenario.prices, scenario.rulebook
    if prices.file is not None:
        prices = prices.model_copy(update={"file": beside / prices.file})
    if rulebook is not None:
        rulebook = beside / rulebook
    read = scenario.model_copy(update={"prices": prices, "rulebook": rulebook})
    read._source = str(path)
    return read


def demo_scenario() -> Scenario:
    """The scenario of ``tellegen demo``."""
    text = resources.files("tellegen.simulation").joinpath("scenarios/demo.toml").read_text("utf-8")
    return _parse(text, "demo.toml")


def _parse(text: str, source: str) -> Scenario:
    try:
        scenario = Scenario.model_validate(toml_document(text, source))
    except ValidationError as error:
        # a misspelt key is missing under its name, too: the misspelling is what is to be told
        first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(source, f"key '{key}'", _problem(dict(first))) from None
    return _with_room(scenario, source, "keys 'feeder.v_min_pu' and 'feeder.v_max_pu'")


def _problem(error: dict[str, Any]) -> str:
    """What is wrong with a key, and what would be right."""
    match error["type"]:
        case "missing":
            return "is missing; state it (docs/scenarios.md lists what a scenario says)"
        case "extra_forbidden":
            return f"is not known; remove it or correct its spelling (known: {', '.join(_known(error['loc'][:-1]))})"
        case _:
            said = str(error["msg"])
            return f"is {error.get('input')!r:.60}: {said[:1].lower()}{said[1:]}; correct it"


def _known(place: tuple[str | int, ...]) -> list[str]:
    model: Any = Scenario
    for part in place:
        annotation = model.model_fields[str(part)].annotation
        model = next((each for each in getattr(annotation, "__args__", ()) if each is not type(None)), annotation)
    return list(model.model_fields)


def _with_room(scenario: Scenario, source: str, place: str) -> Scenario:
    """A scenario whose market has room between its voltage limits.

    Raises
    ------
    InputError : it has not.
    """
    feeder = scenario.feeder
    if feeder.v_max_pu - feeder.v_min_pu - 2 * feeder.margin_pu < BAND_MIN_PU - 1e-9:
        kept = f", each kept by {feeder.margin_pu:g}" if feeder.margin_pu else ""
        raise InputError(
            source,
            place,
            f"leave voltage no room: {feeder.v_min_pu:g} to {feeder.v_max_pu:g} pu{kept}; move the limits at least "
            f"{BAND_MIN_PU:g} apart",
        )
    return scenario


def with_options(
    scenario: Scenario,
    *,
    seed: int | None = None,
    day: date | None = None,
    v_min_pu: float | None = None,
    v_max_pu: float | None = None,
    deaf: float | None = None,
    lost: float | None = None,
    prices: Path | None = None,
    price_day: date | None = None,
    hours: int | None = None,
) -> Scenario:
    """A scenario with what the command line asks for besides, which is in range; `deaf` and `lost` are the plant's
    `ignored_dispatch` and `lost_dispatch`.

    A fault that would fall outside a day cut short moves to its second hour and lasts no longer than a
    third of the day.

    Raises
    ------
    InputError : voltage limits without room between them.
    """

    def given(section: BaseModel, **values: object) -> BaseModel:
        return section.model_copy(update={name: value for name, value in values.items() if value is not None})

    changed: dict[str, object] = {
        "seed": scenario.seed if seed is None else seed,
        "feeder": given(scenario.feeder, v_min_pu=v_min_pu, v_max_pu=v_max_pu),
        "day": given(scenario.day, date=day, hours=hours),
        "plant": given(scenario.plant, ignored_dispatch=deaf, lost_dispatch=lost),
    }
    if prices is not None or price_day is not None:
        changed["prices"] = Prices(file=prices or scenario.prices.file, day=price_day or scenario.prices.day)
    if hours is not None:
        fault = scenario.fault
        if fault is not None and fault.start_hour + fault.hours >= hours:
            changed["fault"] = fault.model_copy(update={"start_hour": 1, "hours": max(min(fault.hours, hours // 3), 1)})
    return _with_room(scenario.model_copy(update=changed), "command line", "--v-min and --v-max")
