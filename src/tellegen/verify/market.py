"""Checks across the two journals of a shard: what the market did rests on what the intake had on record in time.

Bids count below a cut of the intake's journal, and so do readings. The record says where each cut was made; the
rulebook on record says when it was to be made; so anybody can see that nothing came in afterwards and that nothing was
left out. What the rows say that only the vault can open, `tellegen replay` checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tellegen.records import (
    Clearings,
    ClearingStatus,
    CloseKind,
    Closes,
    GateOutcome,
    Gates,
    Header,
)
from tellegen.units import INTERVALS_PER_HOUR
from tellegen.verify.calendar import Calendar
from tellegen.verify.record import Entries, PublicRows
from tellegen.verify.report import RefusedError

_GATE, _READ = "gate/", "read/"
_CLOCKS, _RUN = "clocks", "price_run"
Place = tuple[str, str, int]
"""A market, a feeder, the first interval of a period."""


class IntakeTimes:
    """When the entries of the intake's journal became known, and where its clock was set right."""

    def __init__(self, entries: Entries) -> None:
        self._at = np.array([header.known_at for header, _ in entries], dtype=np.int64)
        self._turns = np.array([k for k, (header, _) in enumerate(entries) if header.kind == _CLOCKS], dtype=np.int64)
        # the latest time since the clock was last set right, up to each entry
        self._latest = np.zeros_like(self._at)
        for start, stop in zip([0, *self._turns], [*self._turns, self._at.size], strict=True):
            self._latest[start:stop] = np.maximum.accumulate(self._at[start:stop])

    def __len__(self) -> int:
        return int(self._at.size)

    def check_cut(self, cut: int, due: int, what: str, *, silent: bool = False) -> None:
        """Refuse a cut that lets in what came at `due` or later, or leaves out what came before.

        Parameters
        ----------
        silent : the intake had put nothing on record until long after; then the cut is where its record ended.
        """
        if not 0 <= cut <= len(self):
            raise RefusedError(f"{what}: cut at entry {cut}, the intake has {len(self)}")
        if cut and self._latest[cut - 1] >= due:
            raise RefusedError(f"{what}: closed at {due}, and counts entries of {self._latest[cut - 1]}")
        if cut < len(self) and self._at[cut] < due and not silent and cut not in self._turns:
            raise RefusedError(f"{what}: leaves out entry {cut}, which became known before {due}")


@dataclass(slots=True)
class _Row:
    """What a gate says of one feeder and period."""

    entry: int
    outcome: int
    root_price: int
    cleared: bool = False


@dataclass(slots=True)
class MarketChecks:
    """Checks of the market's journal against the intake's.

    Parameters
    ----------
    entries : of the market's journal. public : its plain rows. intake : of the intake's. calendar : of the rulebook.
    simulated : its name says so; then days may be final before their windows are over, to show an erasure.
    """

    entries: Entries
    public: Sequence[PublicRows]
    intake: IntakeTimes
    calendar: Calendar
    simulated: bool = False
    _rows: dict[Place, _Row] = field(default_factory=dict)
    _gates: dict[tuple[str, int], int] = field(default_factory=dict)

    # Gates and what they clear

    def check_gates(self) -> tuple[int, str]:
        """Each gate cut the intake's record at its time by the rulebook; each clearing is of a gate, and one of it."""
        clearings = 0
        for batch in self.public:
            if isinstance(batch.table, Gates):
                self._take_gate(batch, batch.table)
            elif isinstance(batch.table, Clearings):
                self._take_clearing(batch, batch.table)
                clearings += 1
        told = f"{len(self._gates)} gates cut the intake's record at their times by the rulebook"
        return len(self._gates), f"{told}; {clearings} clearings name theirs"

    def _take_gate(self, batch: PublicRows, table: Gates) -> None:
        header, what = batch.header, f"gate of entry {batch.index}"
        cut = _number(header.name, _GATE, what)
        if (table.cut != cut).any():
            raise RefusedError(f"{what}: its rows name another cut than {cut}")
        key = header.market, header.interval
        if key in self._gates:
            self._overrule(batch, table)
            return
        day = self.calendar.day_of(header.interval)
        due = self.calendar.gate_at(*key)
        missed = bool((table.outcome == GateOutcome.MISSED).all())
        if header.market == _RUN:
            missed = header.known_at > due + self.calendar.patience_s(header.interval)
        self.intake.check_cut(cut, due, what, silent=missed)
        if header.known_at < due:
            raise RefusedError(f"{what}: committed at {header.known_at}, before it closed at {due}")
        if set(table.rules.tolist()) != {self.calendar.rules(day).sha256}:
            raise RefusedError(f"{what}: not by the rulebook that governs {day}")
        if header.market == _RUN and not self._follows_gate(header, table):
            raise RefusedError(f"{what}: is no run of the gate before it, at its wholesale prices")
        periods = self.calendar.periods(*key)
        self._gates[key] = batch.index
        for feeder, first, length, price, outcome in zip(
            table.feeder.tolist(), *(getattr(table, name).tolist() for name in _GATE_COLUMNS), strict=True
        ):
            place = header.market, feeder.decode("ascii", "replace"), first
            if periods.get(first) != length or place in self._rows:
                raise RefusedError(f"{what}: {length} intervals from {first} are no period of it, or are there twice")
            self._rows[place] = _Row(batch.index, outcome, price)
        feeders = len(set(table.feeder.tolist()))
        if len(table) != feeders * len(periods):
            raise RefusedError(f"{what}: a feeder lacks a period")

    def _follows_gate(self, header: Header, table: Gates) -> bool:
        """Whether a price run is of the interval's gate, prices what that cleared, and nothing else."""
        if self._gates.get(("real_time", header.interval)) not in header.causes:
            return False
        for feeder, price, outcome in zip(
            table.feeder.tolist(), table.root_price.tolist(), table.outcome.tolist(), strict=True
        ):
            gate = self._rows.get(("real_time", feeder.decode("ascii", "replace"), header.interval))
            closed = gate is not None and gate.outcome == GateOutcome.CLOSED
            own = (GateOutcome.CLOSED, GateOutcome.UNMETERED, GateOutcome.DEADLINE)
            if gate is None or price != gate.root_price or (outcome not in own if closed else outcome != gate.outcome):
                return False
        return True

    def _overrule(self, batch: PublicRows, table: Gates) -> None:
        """A later row may say that a feeder was not cleared in time, nothing else."""
        for feeder, first, outcome in zip(
            table.feeder.tolist(), table.interval.tolist(), table.outcome.tolist(), strict=True
        ):
            row = self._rows.get((batch.header.market, feeder.decode("ascii", "replace"), first))
            if row is None or row.cleared or (row.outcome, outcome) != (GateOutcome.CLOSED, GateOutcome.DEADLINE):
                raise RefusedError(f"entry {batch.index} says of a gate what it may not say afterwards")
            row.outcome = outcome

    def _take_clearing(self, batch: PublicRows, table: Clearings) -> None:
        header, what = batch.header, f"clearing of entry {batch.index}"
        place = header.market, header.feeder, header.interval
        row = self._rows.get(place)
        if row is None or row.entry not in header.causes or len(table) != 1:
            raise RefusedError(f"{what}: names no gate that closed for it")
        if row.cleared:
            raise RefusedError(f"{what}: {header.feeder} was cleared for interval {header.interval} already")
        row.cleared = True
        administrative = int(table.status[0]) == ClearingStatus.ADMINISTRATIVE
        if administrative == (row.outcome == GateOutcome.CLOSED):
            raise RefusedError(f"{what}: its status is not what its gate says")
        if not administrative and int(table.root_price[0]) != row.root_price:
            raise RefusedError(f"{what}: its wholesale price is not that of its gate")

    # Settlement

    def check_settlements(self) -> tuple[int, str]:
        """Intervals settle in order, each feeder once, with the readings that were on record at their time."""
        settled: dict[int, dict[str, int]] = {}
        posted = 0
        for index, (header, _) in enumerate(self.entries):
            if header.kind == "energy":
                what = f"energy of entry {index}"
                if settled and header.interval not in (last := next(reversed(settled)), last + 1):
                    raise RefusedError(f"{what}: interval {header.interval} follows {last}")
                feeders = settled.setdefault(header.interval, {})
                if header.feeder in feeders:
                    raise RefusedError(f"{what}: {header.feeder} has settled interval {header.interval} already")
                feeders[header.feeder] = index
                due = self.calendar.settle_at(header.interval)
                silent = header.known_at > due + self.calendar.patience_s(header.interval)
                self.intake.check_cut(_number(header.name, _READ, what), due, what, silent=silent)
            elif header.kind == "postings" and header.market:
                self._check_causes(index, header, settled)
                posted += 1
            elif header.name.startswith(_READ) and _number(header.name, _READ, f"entry {index}") > len(self.intake):
                raise RefusedError(f"entry {index} rests on more entries than the intake has")
        told = f"{len(settled)} intervals settled in order with the readings that were there; {posted} batches of "
        return len(settled), told + "postings name energy and clearing"

    def _check_causes(self, index: int, header: Header, settled: dict[int, dict[str, int]]) -> None:
        energy = settled.get(header.interval, {}).get(header.feeder)
        settles_by = self.calendar.settles_by(header.interval)
        cleared = [
            cause
            for cause in header.causes
            if (of := self.entries[cause][0]).kind == "clearings"
            and (of.market, of.feeder, of.interval) == (settles_by, header.feeder, header.interval)
        ]
        if energy not in header.causes or len(cleared) != 1:
            raise RefusedError(f"postings of entry {index} do not follow from the energy and the clearing of theirs")

    # Holds

    def check_holds(self) -> tuple[int, str]:
        """Who is held goes with a settlement, from the next gate on, for as long as the rules say.

        Refusals that name holds lie within them. Why an order is refused is sealed: that no other is refused for a hold
        is the replay's to check.
        """
        holds: dict[int, range] = {}
        gated, settled = -1, -1
        for index, (header, _) in enumerate(self.entries):
            if header.kind == "gates" and header.market == "real_time":
                gated = max(gated, header.interval)
            elif header.kind == "energy":
                settled = header.interval
            elif header.kind == "holds":
                what = f"holds of entry {index}"
                causes = [self.entries[cause][0] for cause in header.causes]
                if [(of.kind, of.feeder, of.interval) for of in causes] != [("energy", header.feeder, settled)]:
                    raise RefusedError(f"{what}: follow from no energy of {header.feeder} that has just settled")
                hours = self.calendar.rules(self.calendar.day_of(settled)).hold_hours
                if (header.interval, header.intervals) != (gated + 1, hours * INTERVALS_PER_HOUR):
                    raise RefusedError(f"{what}: are not about the {hours} hours from interval {gated + 1} on")
                holds[index] = range(header.interval, header.interval + header.intervals)
        refused = 0
        for index, (header, _) in enumerate(self.entries):
            named = [holds[cause] for cause in header.causes if cause in holds]
            if header.kind != "refused_orders" or not named:
                continue
            if any(header.interval not in during for during in named):
                raise RefusedError(f"refused orders of entry {index}: of somebody who is not on hold then")
            refused += 1
        if not holds:
            return 0, "none: nobody was found to claim and not to deliver"
        told = f"{len(holds)} batches of holds go with settlements, each from the next gate on by the rulebook"
        return len(holds), f"{told}; {refused} batches of refusals name theirs"

    # Closes

    def check_closes(self) -> tuple[int, str]:
        """A feeder's day closes once, may be shared anew, and is final once its correction window is over."""
        stands: dict[tuple[str, int], int] = {}
        for batch in self.public:
            table = batch.table
            if not isinstance(table, Closes):
                continue
            what = f"close of entry {batch.index}"
            if len(table) != 1:
                raise RefusedError(f"{what}: holds {len(table)} rows")
            day = Calendar.numbered(int(table.day[0]))
            bounds = self.calendar.bounds(day)
            if (int(table.first_interval[0]), int(table.intervals[0])) != (bounds.start, len(bounds)):
                raise RefusedError(f"{what}: {day} has intervals {bounds.start} to {bounds.stop - 1}")
            kind, before = int(table.close_kind[0]), stands.get((batch.header.feeder, bounds.start))
            if (kind == CloseKind.FIRST) != (before is None) or before == CloseKind.FINAL:
                raise RefusedError(f"{what}: out of order")
            earliest = self.calendar.final_at(day) if kind == CloseKind.FINAL else self.calendar.close_at(day)
            shown = self.simulated and kind == CloseKind.FINAL
            if (batch.header.known_at < earliest and not shown) or int(table.read_size[0]) > len(self.intake):
                raise RefusedError(f"{what}: earlier than {earliest}, or of readings that are not there")
            stands[batch.header.feeder, bounds.start] = kind
        if not stands:
            return 0, "none: no day has been closed"
        final = sum(kind == CloseKind.FINAL for kind in stands.values())
        return len(stands), f"{len(stands)} days of feeders are closed, each once; {final} of them are final"


_GATE_COLUMNS = ("interval", "intervals", "root_price", "outcome")


def _number(name: str, beginning: str, what: str) -> int:
    digits = name.removeprefix(beginning)
    if not name.startswith(beginning) or not digits.isdecimal():
        raise RefusedError(f"{what}: its name {name!r} says no cut")
    return int(digits)
