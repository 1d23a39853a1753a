"""Everything a simulated day starts from: community, network with the market's limits, prices, rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from tellegen.agents import (
    Closing,
    DeviceState,
    Fleet,
    Parameters,
    Reality,
    Tariff,
    Vehicles,
    connect,
    with_the_night_before,
)
from tellegen.errors import InputError
from tellegen.grid import Network
from tellegen.rules import Rulebook, Rules
from tellegen.simulation.community import Community, build_community
from tellegen.simulation.plant import Plant, require_engine
from tellegen.simulation.scenario import Scenario
from tellegen.simulation.wholesale import WholesalePrices, default_prices, read_prices
from tellegen.simulation.world import FeederWorld
from tellegen.units import INTERVALS_PER_HOUR

PRICE_HISTORY_DAYS = 8
FEEDER_CHARACTERS_MAX = 32
SUBSTATION_METER = 1
QUARTER_HOUR = 3
"""Market intervals that a reading of a coarse meter spans."""
_METERS = 19


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A scenario made ready.

    Attributes
    ----------
    intervals : market intervals that are played; all of the day unless the scenario cuts it short.
    network : the market's network, its voltage limits tightened by the margin.
    limits : the same network with the limits that count as violated.
    tonight : int64[m], cars that stand until the morning after; the last m rows of the fleet's cars are those of the
        night before, in the same order.
    reads_every : int64[n], market intervals that one reading of each home's meter spans.
    silent : bool[n], whose readings never come.
    past_net_wh : int64[days, 288, n], what the meters counted on the days before, net withdrawal.
    """

    scenario: Scenario
    community: Community
    intervals: int
    network: Network
    limits: Network
    wholesale: WholesalePrices
    rulebook: Rulebook
    rules: Rules
    fleet: Fleet
    reality: Reality
    tonight: NDArray[np.int64]
    past_net_wh: NDArray[np.int64]
    reads_every: NDArray[np.int64]
    silent: NDArray[np.bool_]

    @property
    def first(self) -> int:
        """Market interval of local midnight."""
        return self.community.first_interval

    @property
    def node(self) -> NDArray[np.int64]:
        """Node of customers 1..n."""
        return np.asarray(self.community.customers.node, dtype=np.int64)

    @property
    def complete(self) -> bool:
        """Whether the whole billing day is played."""
        return self.intervals == self.community.intervals

    def last_week(self) -> Vehicles:
        """Sessions of the cars on the same day of the week before, which owners expect again."""
        return _community(self.scenario, self.scenario.day.date - timedelta(days=7)).vehicles

    def close_devices(self, state: DeviceState, interval: int) -> Closing:
        """What devices hold at the start of an interval, heat at what will be used of it."""
        return self.fleet.close_day(state, interval, self.reality.past(interval))

    def world(self) -> FeederWorld:
        """A fresh plant with all meters at their starting registers."""
        errors = self.scenario.plant
        plant = Plant(self.community.case, perturb=errors.impedance_error, seed=self.scenario.seed)
        return FeederWorld(plant, self.node, self.limits, errors, self.scenario.seed)

    @property
    def feeder(self) -> str:
        """Name of the feeder in the registry of connections."""
        return self.scenario.feeder.grid.rpartition(":")[2][:FEEDER_CHARACTERS_MAX]

    @property
    def substation(self) -> int:
        """Number under which the operator's meter at the root stands in the registry, like a customer's."""
        return self.node.size + 1

    @property
    def meters(self) -> NDArray[np.int64]:
        """Serial numbers of all meters, int64[n + 1]; the first is the substation's."""
        return np.concatenate([[SUBSTATION_METER], np.asarray(self.community.customers.meter, dtype=np.int64)])

    def trailing_wh(self) -> NDArray[np.int64]:
        """Withdrawal of customers 1..n over the days before that count for the sharing keys."""
        return np.asarray(np.maximum(self.past_net_wh[-self.rules.trailing_days :], 0).sum(axis=(0, 1)))


def prepare(scenario: Scenario) -> Setup:
    """Load the grid, the community's day, prices and rules of a scenario.

    Raises
    ------
    InputError : whatever is wrong with them, with file, place and remedy; or the extra ``plant`` is not installed.
    """
    require_engine()
    day = scenario.day
    community = _community(scenario, day.date)
    intervals = community.intervals
    if day.hours is not None:
        intervals = min(intervals, day.hours * INTERVALS_PER_HOUR)
    rulebook = Rulebook.load(scenario.rulebook)
    rules = rulebook.at(day.date)
    if rules.settlement.time_zone != day.timezone:
        raise InputError(
            scenario.source,
            "key 'day.timezone'",
            f"is {day.timezone}, but the rulebook bills in {rules.settlement.time_zone}; give the same",
        )
    if rules.trailing_days > day.history_days:
        raise InputError(
            scenario.source,
            "key 'day.history_days'",
            f"must be at least {rules.trailing_days}, as the sharing keys need",
        )
    wholesale = _wholesale(scenario, day.date, community.intervals)
    vehicles, tonight = with_the_night_before(community.vehicles, community.first_interval, community.intervals)
    fleet, reality = connect(
        np.asarray(community.customers.node),
        community.load_kw,
        community.load_kvar,
        community.first_interval - community.history,
        batteries=community.batteries,
        vehicles=vehicles,
        heat_pumps=community.heat_pumps,
        water_heaters=community.water_heaters,
        inverters=community.inverters,
        tariff=_tariff(rules),
        parameters=Parameters(
            price_floor=rules.market.price_floor,
            price_cap=rules.market.price_cap,
            comfort_deviation=_price_deviation(wholesale, rules),
        ),
    )
    _check_fault(scenario, community, intervals)
    every, silent = _meters(scenario, rules, len(community.names))
    limits = _with_limits(community.case.network, scenario.feeder.v_min_pu, scenario.feeder.v_max_pu)
    margin = scenario.feeder.margin_pu
    return Setup(
        scenario=scenario,
        community=community,
        intervals=intervals,
        network=_with_limits(limits, scenario.feeder.v_min_pu + margin, scenario.feeder.v_max_pu - margin),
        limits=limits,
        wholesale=wholesale,
        rulebook=rulebook,
        rules=rules,
        fleet=fleet,
        reality=reality,
        tonight=tonight,
        past_net_wh=_past_net_wh(fleet, reality, community),
        reads_every=every,
        silent=silent,
    )


def _community(scenario: Scenario, day: date) -> Community:
    scales = scenario.community
    return build_community(
        scenario.feeder.grid,
        day,
        seed=scenario.seed,
        history_days=scenario.day.history_days,
        timezone=scenario.day.timezone,
        water_heaters=scales.water_heaters,
        pv_scale=scales.pv_scale,
        vehicle_scale=scales.vehicle_scale,
        heat_pump_scale=scales.heat_pump_scale,
        battery_scale=scales.battery_scale,
    )


def _tariff(rules: Rules) -> Tariff:
    settled = rules.settlement
    return Tariff(
        network_per_kwh=settled.network_withdrawal_micros_per_kwh / 1e6,
        tax_per_kwh=settled.energy_tax_micros_per_kwh / 1e6,
        sales_tax=settled.sales_tax_ppm / 1e6,
    )


def _price_deviation(wholesale: WholesalePrices, rules: Rules) -> float:
    """Standard deviation of the day before's prices as homes pay them: what their bids are scaled with."""
    latest = wholesale.real_time_micros[wholesale.past - 288 : wholesale.past] / 1e6
    return float(latest.std()) * (1.0 + rules.settlement.sales_tax_ppm / 1e6)


def _with_limits(network: Network, v_min_pu: float, v_max_pu: float) -> Network:
    size = len(network.nodes)
    return replace(network, v_min=np.full(size, v_min_pu), v_max=np.full(size, v_max_pu))


def _wholesale(scenario: Scenario, day: date, intervals: int) -> WholesalePrices:
    prices = scenario.prices
    if prices.file is None:
        return default_prices(scenario.seed, intervals, PRICE_HISTORY_DAYS)
    return read_prices(prices.file, prices.day or day, intervals, PRICE_HISTORY_DAYS)


def _past_net_wh(fleet: Fleet, reality: Reality, community: Community) -> NDArray[np.int64]:
    """Metered energy of the history: base load, heat at its need, less the sun; whole Wh."""
    past = reality.past(community.first_interval)
    homes = fleet.homes
    net_kw = past.load_kw.copy()
    for devices, power_kw in (
        (homes.heat_pumps, past.heat_w / homes.heat_pumps.cop[:, None] / 1000.0),
        (homes.inverters, -past.pv_kw),
    ):
        np.add.at(net_kw, devices.customer - 1, power_kw)
    energy = np.rint(net_kw * 1000.0 / INTERVALS_PER_HOUR).astype(np.int64)
    return np.ascontiguousarray(energy.T.reshape(community.history_days, 288, -1))


def _meters(scenario: Scenario, rules: Rules, homes: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How often each home's meter is read, and whose readings never come."""
    longest = rules.timetable.longest_meter_intervals
    if scenario.meters.quarter_hour and longest < QUARTER_HOUR:
        raise InputError(
            scenario.source,
            "key 'meters.quarter_hour'",
            "needs rules that wait for such meters; give a rulebook with longest_meter_minutes = 15 or more",
        )
    rng = np.random.default_rng([scenario.seed, _METERS])
    every = np.where(_share(rng, homes, scenario.meters.quarter_hour), QUARTER_HOUR, 1)
    return every, _share(rng, homes, scenario.meters.silent)


def _share(rng: np.random.Generator, homes: int, share: float) -> NDArray[np.bool_]:
    """So many of the homes as the share says, whichever they are."""
    return np.asarray(rng.random(homes).argsort().argsort() < round(share * homes))


def _check_fault(scenario: Scenario, community: Community, intervals: int) -> None:
    fault = scenario.fault
    if fault is None:
        return
    if fault.customer not in community.names:
        raise InputError(
            scenario.source,
            "key 'fault.customer'",
            f"'{fault.customer}' is not one of {community.names[0]} to {community.names[-1]}",
        )
    if (fault.start_hour + fault.hours) * INTERVALS_PER_HOUR >= intervals or fault.start_hour < 1:
        raise InputError(scenario.source, "section [fault]", "must lie within the day, at least an hour from its start")
