"""An interval settles: readings are judged, energy and postings of every feeder go on record together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tellegen.metering.past import Past
from tellegen.operations.corrections import cleared_at
from tellegen.operations.facts import Cleared, Forward, Metered, settle_interval
from tellegen.operations.forward import forward_of
from tellegen.operations.meters import meter_states
from tellegen.operations.positions import party_keys
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError, NotYetError
from tellegen.operations.runs import PriceRuns
from tellegen.operations.state import NONE, READ, State
from tellegen.operations.timetable import settle_at
from tellegen.operations.topology import Connected
from tellegen.operations.writer import Writer
from tellegen.privacy.recorder import Span
from tellegen.records import OPERATOR, Energy, Postings, Quality
from tellegen.records.market import REAL_TIME
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True)
class Settled:
    """What an interval settled to: customers settled, those with estimates, rows of postings, who is on hold by it."""

    customers: int
    estimated: int
    postings: int
    held: int = 0


class Settling:
    """Settles intervals; where the rules hold a price run, at its prices."""

    def __init__(self, record: ShardRecord, state: State, writer: Writer, runs: PriceRuns) -> None:
        self._record, self._state, self._writer, self._runs = record, state, writer, runs
        self._hours: dict[int, Cleared] = {}

    def settle(self, interval: int, past: Past, at: int) -> tuple[Settled, list[tuple[int, Postings]]]:
        """Settle an interval with the readings on record at its time; what is missing is estimated.

        Returns
        -------
        What it came to, and its postings by journal index.

        Raises
        ------
        MarketError : out of order, or not cleared. NotYetError : the intake's record has not reached its time.
        """
        gate = self._state.gates.get((REAL_TIME, interval))
        if gate is None or (gate.cleared == NONE).any():
            raise MarketError(f"interval {interval} has not been cleared on every feeder; close its gate first")
        if self._state.settled not in (NONE, interval - 1):
            raise MarketError(f"interval {self._state.settled + 1} has not been settled; intervals settle in order")
        cut = self._cut(interval, at)
        stages = self._writer.stages
        with stages("collect"):
            connected = self._state.connected(REAL_TIME, interval, interval)
            readings = self._record.registers(interval, cut, connected)
        self._install(interval, connected, cut, at)
        with stages("validate"):
            estimates = past.estimates(connected.customer, interval)
            energy = self._state.meters.judge(interval, readings, connected, estimates)
        parameters = self._state.book.at(self._state.date_of(interval)).settlement
        span = Span(self._writer.time(at), interval, 1, REAL_TIME)
        validated = [self._put_energy(k, connected, energy, span, cut) for k in range(len(self._record.feeders))]
        held = self._put_holds(interval, connected, energy, at, validated)
        runs = self._runs.close(interval, connected, energy, cut, at) if self._runs.are_held(interval) else []
        posted: list[tuple[int, Postings]] = []
        for k, feeder in enumerate(self._record.feeders):
            clearing = int(gate.cleared[k, 0])
            with stages("settle"):
                metered = _metered(connected, energy, k)
                cleared = cleared_at(self._record, clearing)
                if runs:
                    clearing, cleared = runs[k].entry, runs[k].settles(cleared)
                postings = settle_interval(interval, metered, cleared, self._forward(k, interval), parameters)
            posted.append(
                (self._writer.put(postings, span, feeder=feeder.name, causes=(validated[k], clearing)), postings)
            )
        self._writer.commit(at)
        estimated = int(np.count_nonzero(energy.quality[: connected.customers] == Quality.ESTIMATED))
        return Settled(connected.customers, estimated, sum(len(p) for _, p in posted), held), posted

    def _put_holds(self, interval: int, connected: Connected, energy: Energy, at: int, validated: list[int]) -> int:
        """Who claimed and did not deliver again and again is held from the next gate on; how many are."""
        holds = self._state.to_hold(interval, energy)
        if not len(holds):
            return 0
        first, until = int(holds.from_interval[0]), int(holds.until_interval[0])
        span = Span(self._writer.time(at), first, until - first, REAL_TIME)
        for k, feeder in enumerate(self._record.feeders):
            here = np.isin(holds.customer, connected.customer[connected.on(k)])
            if here.any():
                self._writer.put(holds.take(here), span, feeder=feeder.name, causes=(validated[k],))
        return len(holds)

    def _put_energy(self, feeder: int, connected: Connected, energy: Energy, span: Span, cut: int) -> int:
        here = connected.on(feeder)
        root = energy.take([connected.substation(feeder)])
        operators = replace(root, customer=np.array([OPERATOR], dtype=np.int32))
        said = Energy.concat([operators, energy.take(np.arange(here.start, here.stop))])
        return self._writer.put(said, span, feeder=self._record.feeders[feeder].name, name=f"{READ}{cut}")

    def _install(self, interval: int, connected: Connected, cut: int, at: int) -> None:
        """Meters that are new count from their registers at the start of the interval, where these were read."""
        meters = self._state.meters
        if not meters.is_new(connected):
            return
        read = meters.bases(interval, self._record.registers(interval - 1, cut, connected), connected)
        if read.customer.size:
            span = Span(self._writer.time(at), interval - 1, 1, REAL_TIME)
            self._writer.put(meter_states(read), span, name=f"{READ}{cut}")
            self._writer.commit(at)

    def _cut(self, interval: int, at: int) -> int:
        due = settle_at(self._state.book, interval)
        if at < due:
            raise MarketError(f"interval {interval} settles at {due}, not at {at} already")
        size = self._record.refresh()
        cut = self._record.submitted.cut(due)
        if cut is None and at > due + self._state.book.at(self._state.date_of(interval)).timetable.gate_deadline_s:
            return size  # nobody waits for an intake that is silent: what it still brings comes late
        if cut is None:
            raise NotYetError(f"the intake's record has not reached {due}, when interval {interval} settles")
        return cut

    def _forward(self, feeder: int, interval: int) -> Forward:
        position = self._state.positions.get((feeder, self._state.day_range(interval).start))
        hour = -1 if position is None else position.hour_of(interval)
        if position is None or hour < 0:
            return Forward.nothing()
        clearing = int(position.clearing[hour])
        if clearing not in self._hours:
            if len(self._hours) > len(self._record.feeders):
                self._hours.clear()
            self._hours[clearing] = cleared_at(self._record, clearing)
        found = self._hours[clearing]
        return forward_of(position, interval, found.prices, found.clearing)


def _metered(connected: Connected, energy: Energy, feeder: int) -> Metered:
    """Energy of everybody on a feeder, by party."""
    here = connected.on(feeder)
    party = party_keys(connected.customer[here], connected.node[here])
    order: IntArray = np.argsort(party, kind="stable")
    return Metered(party[order], energy.take(here.start + order), energy.take([connected.substation(feeder)]))
