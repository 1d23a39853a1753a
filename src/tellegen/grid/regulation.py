"""Taps and capacitors between two market periods: power flow, controls decide, new admittance, until nobody moves.

Controls act in the order of their delays, as in the static mode of OpenDSS: after each power flow every control says
whether it wants to move and how soon; those with the shortest delay move, all others wait and are asked again. A
regulator goes seven tenths of the way to its set-point at once, at least one step. That order decides among the
positions at which nobody wants to move, for a band leaves room for several. The method was learnt from the
documentation and behaviour of OpenDSS (static control mode); the referee in the tests is OpenDSS itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tellegen.grid.controls import CapacitorControl, CapacitorSignal, Controls, Pick, Regulator
from tellegen.grid.network import Case, ComplexArray, FixedLoads, IntArray, Network
from tellegen.grid.positions import positions, with_controls
from tellegen.grid.powerflow import PowerFlow, solve_powerflow

ROUNDS_MAX = 100
"""Power flows in one settlement."""
JOINT_ROUNDS_MAX = 8
"""Dispatches in one joint settlement."""
SHARE_AT_ONCE = 0.7
"""Share of the way to the set-point that a regulator goes in one move."""
INVERSE_TIME_MOST = 10.0
"""An inverse-time regulator shortens its delay by at most this factor."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of one element.

    Attributes
    ----------
    round : power flow after which it was made, counted from 1.
    control, element : names; winding : whose tap moved, counted from 1; 0 for a capacitor.
    steps : signed; of a capacitor, how many came in.
    position : afterwards: the tap per unit, or how many steps of the capacitor are in.
    """

    round: int
    control: str
    element: str
    winding: int
    steps: int
    position: float


@dataclass(frozen=True, slots=True, eq=False)
class Settlement:
    """Where taps and capacitors came to rest, or why they did not.

    Attributes
    ----------
    case : with the new positions.
    moves : in the order in which they were made.
    rounds : power flows solved.
    settled : whether no control wants to move any more.
    cycle : controls that go round in circles; empty unless such a circle was found.
    before, after : the power flows at the first and at the last positions.
    """

    case: Case
    moves: tuple[Move, ...]
    rounds: int
    settled: bool
    cycle: tuple[str, ...]
    before: PowerFlow
    after: PowerFlow


@dataclass(slots=True)
class _Relay:
    """What a control remembers between power flows."""

    pending: int = 0
    armed: bool = False
    reversed: bool = False
    turning: bool = False
    opened: bool = False


@dataclass(slots=True)
class _Queue:
    """Moves that wait for their delay: ``(due in seconds, control, whether it only turns round)``."""

    waiting: list[tuple[float, int, bool]] = field(default_factory=list)

    def push(self, due_s: float, control: int, turn: bool = False) -> None:
        self.waiting.append((due_s, control, turn))

    def drop(self, control: int, turn: bool = False) -> None:
        self.waiting = [entry for entry in self.waiting if entry[1:] != (control, turn)]

    def next(self) -> list[tuple[float, int, bool]]:
        """Take out all entries with the shortest delay."""
        first = min((entry[0] for entry in self.waiting), default=0.0)
        due = [entry for entry in self.waiting if entry[0] <= first]
        self.waiting = [entry for entry in self.waiting if entry[0] > first]
        return due


@dataclass(slots=True)
class _Measured:
    """Volts to ground and branch currents of one power flow; index -1 is the ground."""

    volt: ComplexArray
    ampere: ComplexArray
    branch_node: IntArray

    @classmethod
    def of(cls, network: Network, flow: PowerFlow) -> _Measured:
        volt = flow.voltage * network.base_kv * 1000.0
        at = network.branches.node
        ampere = (network.branches.current_rows @ flow.voltage) * (network.base_kva / network.base_kv[at])
        return cls(np.append(volt, 0.0), ampere, at)

    def across(self, high: IntArray, low: IntArray) -> ComplexArray:
        return self.volt[high] - self.volt[low]

    def power_kva(self, rows: IntArray) -> complex:
        """Power into an element at these rows."""
        return complex((self.volt[self.branch_node[rows]] * np.conj(self.ampere[rows])).sum()) / 1000.0


def settle_taps(
    case: Case,
    demand_kva: ComplexArray | None = None,
    *,
    loads: FixedLoads | None = None,
    rounds_max: int = ROUNDS_MAX,
) -> Settlement:
    """Let the controls of a network move its taps and capacitors at a demand.

    Parameters
    ----------
    case : with `Case.controls`; without any the network stays as it is.
    demand_kva : complex128[N], constant power besides the loads, consumption positive; None: nothing.
    loads : instead of the case's own.
    rounds_max : most power flows.

    Returns
    -------
    Settlement; not settled where the rounds ran out or the controls repeat themselves.

    Raises
    ------
    GridError : there is no power flow at some positions.

    Examples
    --------
    A network without controls is settled at once.

    >>> import scipy.sparse as sp
    >>> from tellegen.grid.network import Branches, Generators
    >>> y = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> none = np.zeros(0)
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.9), np.full(2, 1.1), line)
    >>> case = Case(net, FixedLoads(("x",), np.array([1]), np.array([0.9]), np.zeros(1)),
    ...             Generators((), np.zeros(0, int), *[none] * 6, np.zeros(0, bool), none, none), None)
    >>> result = settle_taps(case)
    >>> result.settled, result.rounds, result.moves, round(float(abs(result.after.voltage[1])), 6)
    (True, 1, (), 0.9)
    """
    demand = np.zeros(len(case.network.nodes), dtype=np.complex128) if demand_kva is None else demand_kva
    connected = case.loads if loads is None else loads
    first = flow = solve_powerflow(case.network, demand, loads=connected)
    controls = case.controls
    if controls is None or not (controls.regulators or controls.switches):
        return Settlement(case, (), 1, True, (), first, first)
    relays = [_Relay() for _ in (*controls.regulators, *controls.switches)]
    queue = _Queue()
    moves: list[Move] = []
    seen: dict[object, int] = {}
    rounds = 1
    while True:
        assert case.controls is not None
        _sample(case.network, case.controls, flow, relays, queue)
        if not queue.waiting:
            return Settlement(case, tuple(moves), rounds, True, (), first, flow)
        state = _state(case.controls, relays, queue)
        if state in seen:
            around = sorted({move.control for move in moves if move.round >= seen[state]})
            return Settlement(case, tuple(moves), rounds, False, tuple(around), first, flow)
        if rounds >= rounds_max:
            return Settlement(case, tuple(moves), rounds, False, (), first, flow)
        seen[state] = rounds
        moved, made = _act(case.controls, relays, queue, rounds)
        if made:
            case = with_controls(case, moved)
            moves += made
            flow = solve_powerflow(case.network, demand, loads=connected, start=flow.voltage)
        rounds += 1


@dataclass(frozen=True, slots=True, eq=False)
class Dispatch:
    """What is drawn in a period: demand of the nodes, complex128[N] kVA, and loads with ends or laws of their own."""

    demand_kva: ComplexArray
    loads: FixedLoads


@dataclass(frozen=True, slots=True, eq=False)
class JointSettlement:
    """A dispatch and positions that fit each other, or why there are none.

    Attributes
    ----------
    case : with the last positions; before : the power flow of the first dispatch at the first positions.
    steps : the settlement after each dispatch; the last one moved nothing where all `settled`.
    settled : whether the last dispatch leaves taps and capacitors where they are.
    cycle : controls that go round in circles, with the dispatch or without it.
    """

    case: Case
    before: PowerFlow
    steps: tuple[Settlement, ...]
    settled: bool
    cycle: tuple[str, ...]


def settle_jointly(
    case: Case, dispatch: Callable[[Case], Dispatch], *, rounds_max: int = JOINT_ROUNDS_MAX
) -> JointSettlement:
    """Dispatch, settle at the dispatch, dispatch again, until taps stay where they are.

    Parameters
    ----------
    case : with its controls.
    dispatch : what is drawn on a case with these positions: a clearing of the market.
    rounds_max : most dispatches. Positions that come back end it too: a joint fixed point need not exist.
    """
    steps: list[Settlement] = []
    last = positions(case.controls)
    seen = {last: 0}
    while True:
        wanted = dispatch(case)
        step = settle_taps(case, wanted.demand_kva, loads=wanted.loads)
        steps.append(step)
        case, here = step.case, positions(step.case.controls)
        ends, settled, cycle = True, False, step.cycle
        if step.settled and here == last:
            settled = True
        elif step.settled and here in seen:
            cycle = tuple(sorted({move.control for later in steps[seen[here] :] for move in later.moves}))
        elif step.settled and len(steps) < rounds_max:
            ends = False
        if ends:
            return JointSettlement(case, steps[0].before, tuple(steps), settled, cycle)
        seen[here] = len(steps)
        last = here


def _state(controls: Controls, relays: list[_Relay], queue: _Queue) -> tuple[object, ...]:
    """All on which the next moves depend; what comes back, comes back for ever."""
    memory = tuple((r.pending, r.armed, r.reversed, r.turning, r.opened) for r in relays)
    return positions(controls), memory, tuple(sorted(queue.waiting))


def _sample(network: Network, controls: Controls, flow: PowerFlow, relays: list[_Relay], queue: _Queue) -> None:
    """Ask every control; those that want to move join the queue, those that do no longer leave it."""
    measured = _Measured.of(network, flow)
    for k, regulator in enumerate(controls.regulators):
        _sample_regulator(k, regulator, controls, measured, relays[k], queue)
    for k, switch in enumerate(controls.switches, start=len(controls.regulators)):
        _sample_switch(k, switch, controls, measured, relays[k], queue)


def _sample_regulator(
    k: int, regulator: Regulator, controls: Controls, measured: _Measured, relay: _Relay, queue: _Queue
) -> None:
    if regulator.steps_max == 0:
        return
    element = controls.transformers[regulator.transformer]
    step, tap = element.step(regulator.tap_winding), element.windings[regulator.tap_winding].tap
    reverse = regulator.reverse
    if reverse is not None and not regulator.remote:
        away = -measured.power_kva(regulator.power_row).real
        turn = away > reverse.threshold_kw if relay.reversed else away < -reverse.threshold_kw
        if turn and not relay.turning:
            queue.push(reverse.delay_s, k, turn=True)
        elif relay.turning and not turn:
            queue.drop(k, turn=True)
        relay.turning = turn
        if relay.reversed and reverse.to_neutral:
            relay.pending = round((1.0 - tap) / step)
            if relay.pending and not relay.armed:
                queue.push(reverse.neutral_delay_s, k)
                relay.armed = True
            return
    backwards = relay.reversed
    volt, local = _sensed(regulator, measured, reversed_=backwards)
    v_reg, band = regulator.v_reg, regulator.band
    if backwards and reverse is not None:
        volt, v_reg, band = volt / tap, reverse.v_reg, reverse.band
    too_high = regulator.v_limit > 0 and local > regulator.v_limit
    if not (abs(v_reg - volt) > band / 2 or too_high):
        relay.pending = 0
        if relay.armed:
            queue.drop(k)
            relay.armed = False
        return
    boost = regulator.v_limit - local if too_high else v_reg - volt
    rated = element.windings[regulator.winding].rated_volt(element.phases)
    relay.pending = round(boost * regulator.pt_ratio / rated / step)
    if regulator.tap_winding != regulator.winding or backwards:
        relay.pending = -relay.pending
    room = (
        tap < element.tap_max[regulator.tap_winding]
        if relay.pending > 0
        else tap > element.tap_min[regulator.tap_winding]
    )
    if relay.pending and not relay.armed and room:
        hurry = min(INVERSE_TIME_MOST, 2 * abs(regulator.v_reg - volt) / regulator.band) if regulator.band else 1.0
        queue.push(regulator.delay_s / hurry if regulator.inverse_time else regulator.delay_s, k)
        relay.armed = True


def _sensed(regulator: Regulator, measured: _Measured, *, reversed_: bool) -> tuple[float, float]:
    """Secondary volts that count for the band, after compensation, and those at the winding itself."""
    across = measured.across(regulator.high, regulator.low)
    size = np.abs(across)
    phase = 0
    if regulator.pick != Pick.MEAN:
        phase = int(np.argmax(size) if regulator.pick == Pick.LARGEST else np.argmin(size))
    volt = complex(across[phase]) / regulator.sense_pt_ratio
    local = abs(volt)
    r, x, magnitude = regulator.r_volt, regulator.x_volt, regulator.magnitude_volt
    compensated = bool(r or x or magnitude)
    if reversed_ and regulator.reverse is not None:
        # Whether there is compensation at all is a matter of the forward settings.
        r, x, magnitude = regulator.reverse.r_volt, regulator.reverse.x_volt, regulator.reverse.magnitude_volt
    if regulator.remote:
        local = abs(complex(measured.across(regulator.local_high, regulator.local_low)[0])) / regulator.pt_ratio
    elif compensated:
        ampere = complex(measured.ampere[regulator.current_row[phase]]) / regulator.ct_primary_a
        if regulator.magnitude_volt:
            return abs(volt) - abs(ampere) * magnitude, local
        # The current counts into the winding, so this takes the drop along the line off.
        volt += complex(r, x) * ampere
    return abs(volt), local


def _sample_switch(
    k: int, switch: CapacitorControl, controls: Controls, measured: _Measured, relay: _Relay, queue: _Queue
) -> None:
    bank = controls.capacitors[switch.capacitor]
    closed, more = bool(bank.on.any()), bank.last_on < bank.on.size
    wanted = 0
    if switch.signal != CapacitorSignal.VOLTAGE:
        over = np.abs(measured.across(switch.override_high, switch.override_low))
        volt = switch.override_pick.of(over) / switch.pt_ratio
        if not closed and volt < switch.override_min:
            wanted = 1
        elif closed and volt > switch.override_max:
            wanted = -1
    if wanted == 0:
        close, open_ = _asked(switch, measured)
        if close and (not closed or more):
            wanted = 1
        elif open_ and closed:
            wanted = -1
    relay.pending = wanted
    if wanted and not relay.armed:
        after = switch.delay_on_s + (switch.dead_s if relay.opened else 0.0)
        queue.push(after if wanted > 0 else switch.delay_off_s, k)
        relay.armed = True
    elif not wanted and relay.armed:
        queue.drop(k)
        relay.armed = False


def _asked(switch: CapacitorControl, measured: _Measured) -> tuple[bool, bool]:
    """Whether the signal asks the bank to close, to open."""
    if switch.signal == CapacitorSignal.VOLTAGE:
        volt = switch.voltage_pick.of(np.abs(measured.across(switch.high, switch.low))) / switch.pt_ratio
        return volt < switch.on, volt > switch.off
    if switch.signal == CapacitorSignal.CURRENT:
        value = switch.current_pick.of(np.abs(measured.ampere[switch.current_row])) / switch.ct_ratio
    else:
        value = measured.power_kva(switch.power_row).imag
    return value > switch.on, value < switch.off


def _act(controls: Controls, relays: list[_Relay], queue: _Queue, round_: int) -> tuple[Controls, list[Move]]:
    """Carry out what is due next."""
    transformers, banks = list(controls.transformers), list(controls.capacitors)
    moves: list[Move] = []
    for _, k, turn in queue.next():
        relay = relays[k]
        if turn:
            relay.reversed, relay.turning = not relay.reversed, False
            continue
        relay.armed = False
        if k >= len(controls.regulators):
            switch = controls.switches[k - len(controls.regulators)]
            old = banks[switch.capacitor]
            new = old.moved(relay.pending)
            if relay.pending < 0 and not new.on.any():
                relay.opened = True
            if new is not old:
                banks[switch.capacitor] = new
                moves.append(Move(round_, switch.name, new.name, 0, relay.pending, float(new.on.sum())))
            continue
        if relay.pending == 0:
            continue
        regulator = controls.regulators[k]
        before, at = transformers[regulator.transformer], regulator.tap_winding
        # Written as OpenDSS rounds it: 7 of 10 steps may come out as 6.
        step = before.step(at)
        count = max(1, int(SHARE_AT_ONCE * abs(relay.pending * step) / step))
        steps = int(np.sign(relay.pending)) * min(count, regulator.steps_max)
        relay.pending = 0
        after = before.moved(at, steps)
        change = round((after.windings[at].tap - before.windings[at].tap) / step)
        if after.windings[at].tap != before.windings[at].tap:
            transformers[regulator.transformer] = after
            moves.append(Move(round_, regulator.name, after.name, at + 1, change, after.windings[at].tap))
    return replace(controls, transformers=tuple(transformers), capacitors=tuple(banks)), moves
