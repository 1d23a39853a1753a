"""AC power flow on the complex admittance matrix: fixed point first, Newton where it contracts slowly.

Sources are ideal and eliminated: with free nodes L and source nodes S, and demand ``s`` (consumption
positive, per unit)::

    Y_LL v_L = -Y_LS v_S - conj(s / v_L)

Loads between nodes or with a law of voltage (`tellegen.grid.loads`) add their currents on the right.

No large admittance stands for a source, so nothing is lost to its conditioning. The powers that
leave the sources are ``v_S conj(Y_SS v_S + Y_SL v_L)``: the root is the residual (law 1).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tellegen.errors import TellegenError
from tellegen.grid.connections import Wiring, wire, with_plain_loads
from tellegen.grid.elimination import (
    Elimination,
    Engine,
    SingularMatrixError,
    eliminate,
    plan_elimination,
)
from tellegen.grid.jacobian import JacobianPattern, place_values, plan_jacobian
from tellegen.grid.loads import Draw
from tellegen.grid.network import ComplexArray, FixedLoads, FloatArray, IntArray, LimitKind, Network

MISMATCH_AIM_PU = 1e-12
MISMATCH_LIMIT_PU = 1e-9
ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Share of the sum of a node's branch powers that is rounding, not mismatch."""
FIXED_POINT_ITERATIONS_MAX = 60
NEWTON_ITERATIONS_MAX = 40
SLOW_CONTRACTION = 0.6
"""A fixed point that shrinks its step by less than this per iteration is handed to Newton."""
CACHED_NETWORKS_MAX = 16
CACHED_PATTERNS_MAX = 8
FALL_NODES_MAX = 250
"""Impedances between all nodes of a larger network are not worth their place."""
PHASES = 3
"""Nodes of a higher phase number are neutrals."""


class GridError(TellegenError):
    """The network has no (unique, energised) power flow for what is asked of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What depends on the topology alone and is computed once per network.

    Attributes
    ----------
    network : the network itself; engine : who eliminates on it, unless that loses accuracy.
    free : int64[n], nodes that are not sources.
    y_free : sparse complex [n, n]; y_size : its magnitudes; lu : its factorisation.
    source_current : complex[n], ``Y_LS v_S``.
    no_load : complex[n], free voltages without demand.
    y_source_free, source_self : ``Y_SL`` and ``Y_SS v_S``; root_seed : complex[n], ``Y_SL^H v_S``.
    rows_free, rows_source : branch current rows split into free columns and the constant source part.
    position : int64[N], of each node among the free ones, -1 at a source.
    terminal : int64[K], the same for the node of each branch terminal.
    neighbours : compressed rows (start int64[n + 1], index) of each free node and those joined to it in its phase.
    patterns : of the Jacobians that were asked for, by the ends of loads between nodes or with a law.
    known_impedance : float64[n], driving-point impedances that were asked for, NaN where not yet.
    known_fall : float64[n, n] where it was asked for, by how much a unit of demand at each node (column) may move each
        node's voltage, as shares of the voltages without demand.
    """

    network: Network
    engine: Engine
    free: IntArray
    y_free: sp.csr_matrix
    y_size: sp.csr_matrix
    lu: Elimination
    source_current: ComplexArray
    no_load: ComplexArray
    y_source_free: sp.csr_matrix
    source_self: ComplexArray
    root_seed: ComplexArray
    rows_free: sp.csr_matrix
    rows_source: ComplexArray
    position: IntArray
    terminal: IntArray
    neighbours: tuple[IntArray, IntArray]
    patterns: OrderedDict[bytes, JacobianPattern]
    known_impedance: FloatArray
    known_fall: list[FloatArray]

    def driving_impedance(self, node: IntArray) -> FloatArray:
        """Magnitude of the impedance that free nodes see, per unit: what a current at each does to its own voltage."""
        place = np.searchsorted(self.free, node)
        fresh = np.unique(place[np.isnan(self.known_impedance[place])])
        for k in fresh.tolist():
            # One by one: what is found must not depend on what was asked for together.
            unit = np.zeros(self.free.size, dtype=np.complex128)
            unit[k] = 1.0
            self.known_impedance[k] = abs(self.lu.solve(unit)[k])
        return np.asarray(self.known_impedance[place])

    def is_high_branch(self, draw: Draw, voltage_free: ComplexArray) -> bool:
        """Whether a solution is certainly the one that is reached from no load; False where that takes a power flow.

        With ``xi = max_i sum_j |Z_ij| |s_j| / (|w_i| |w_j|)``, w the voltages without demand, any solution whose
        voltages are within ``r < 1/2`` of w has ``r (1 - r) <= xi``, and where ``xi < 1/4`` there is one such alone, to
        which the fixed point contracts from w (Wang, Bernstein, Le Boudec, Paolone 2018).
        """
        if draw.incidence is not None or self.free.size > FALL_NODES_MAX:
            return False
        if not float(np.abs(voltage_free - self.no_load).max() / np.abs(self.no_load).min()) < 0.5:
            return False
        if not self.known_fall:
            size = np.maximum(np.abs(self.no_load), 1e-6)
            impedance = self.lu.solve(np.eye(self.free.size, dtype=np.complex128))
            self.known_fall.append(np.abs(impedance) / size / size[:, None])
        return float((self.known_fall[0] @ np.abs(draw.load)).max()) < 0.25


@dataclass(frozen=True, slots=True, eq=False)
class PowerFlow:
    """A solved power flow.

    Attributes
    ----------
    voltage : complex128[N], per unit, sources included.
    root_kw, root_kvar : power taken from the sources, summed, demand at source nodes included; through the
        network's `root_terminals` where it has any.
    losses_kw : root less all demand, as drawn at the solved voltage.
    terminal_pu : float64[K], current or apparent power at each branch terminal, as its limit's kind.
    rating_pu : float64[K], the network's.
    iterations : fixed-point and Newton steps.
    mismatch_pu : largest ``|s + v conj(Y v)|`` over the free nodes, per unit of base power; where it is above 1e-11,
        beyond what the rounding of voltages explains (at switches of microohms).
    """

    voltage: ComplexArray
    root_kw: float
    root_kvar: float
    losses_kw: float
    terminal_pu: FloatArray
    rating_pu: FloatArray
    iterations: int
    mismatch_pu: float

    @property
    def loading_percent(self) -> FloatArray:
        """Loading of each branch terminal, float64[K], of its rating; 0 where there is none."""
        idle = np.zeros_like(self.terminal_pu)
        return np.divide(100.0 * self.terminal_pu, self.rating_pu, out=idle, where=self.rating_pu > 0)


_cache: OrderedDict[tuple[int, Engine], Factors] = OrderedDict()


def factorise(network: Network, engine: Engine = Engine.SUPERLU) -> Factors:
    """Factors of a network; kept for the networks used last.

    Raises
    ------
    GridError : there is no source, or part of the network hangs on none.
    MissingEngineError : the engine is not installed.
    """
    key = (id(network), engine)
    known = _cache.get(key)
    if known is not None and known.network is network:
        _cache.move_to_end(key)
        return known
    factors = _factorise(network, engine)
    # The entry holds the network itself, so its id cannot be taken by another while it is a key.
    _cache[key] = factors
    while len(_cache) > CACHED_NETWORKS_MAX:
        _cache.popitem(last=False)
    return factors


def _factorise(network: Network, engine: Engine) -> Factors:
    size = len(network.nodes)
    free = network.free
    if network.source.size == 0:
        raise GridError(f"{network.name}: no source node; the network is not energised")
    if not 0 < network.base_kva < np.inf:
        raise GridError(f"{network.name}: base_kva {network.base_kva:g} must be positive and finite")
    if free.size == 0:
        raise GridError(f"{network.name}: every node is a source; there is nothing to solve")
    admittance = sp.csr_matrix(network.admittance, dtype=np.complex128)
    y_free = sp.csr_matrix(admittance[free][:, free])
    source_current = admittance[free][:, network.source] @ network.source_voltage
    try:
        plan = plan_elimination(y_free)
        lu = eliminate(plan, place_values(plan, y_free), engine=engine)
        no_load = lu.solve(-source_current)
    except SingularMatrixError:
        no_load = np.full(free.size, np.nan, dtype=np.complex128)
    # Only a neutral may stand at zero.
    alive = np.isfinite(no_load) & ((np.abs(no_load) >= 1e-6) | (network.phase[free] > PHASES))
    if not alive.all():
        dead = [network.nodes[k] for k in free[~alive][:3]]
        raise GridError(f"{network.name}: node {', '.join(dead)} is not connected to a source; leave dead parts out")
    place = np.full(size, -1, dtype=np.int64)
    place[free] = np.arange(free.size)
    rows = sp.csr_matrix(network.branches.current_rows, dtype=np.complex128)
    return Factors(
        network=network,
        engine=engine,
        free=free,
        y_free=y_free,
        y_size=abs(y_free),
        lu=lu,
        source_current=source_current,
        no_load=no_load,
        y_source_free=sp.csr_matrix(admittance[network.source][:, free]),
        root_seed=admittance[network.source][:, free].conj().T @ network.source_voltage,
        source_self=admittance[network.source][:, network.source] @ network.source_voltage,
        rows_free=sp.csr_matrix(rows[:, free]),
        rows_source=rows[:, network.source] @ network.source_voltage,
        position=place,
        terminal=place[network.branches.node],
        neighbours=_neighbours(y_free, network.phase[free]),
        patterns=OrderedDict(),
        known_impedance=np.full(free.size, np.nan),
        known_fall=[],
    )


def _neighbours(y_free: sp.csr_matrix, phase: IntArray) -> tuple[IntArray, IntArray]:
    size = phase.size
    entries = sp.coo_matrix(y_free)
    alike = (phase[entries.row] == phase[entries.col]) & (entries.row != entries.col)
    row = np.concatenate([np.arange(size), entries.row[alike]])
    order = np.argsort(row, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=size))]).astype(np.int64)
    return start, np.concatenate([np.arange(size), entries.col[alike]])[order].astype(np.int64)


def factorise_jacobian(factors: Factors, voltage_free: ComplexArray, draw: Draw) -> Elimination:
    """Eliminate the Jacobian ``dv -> (Y + A) dv + C conj(dv)``, with A and C of the `Draw`.

    Raises
    ------
    GridError : the Jacobian is singular, the point where voltage collapses.
    """
    try:
        return _pattern(factors, draw.incidence).eliminate(draw, voltage_free, factors.engine)
    except SingularMatrixError as error:
        raise GridError(f"{factors.network.name}: the power flow is at the point of voltage collapse") from error


def _pattern(factors: Factors, incidence: sp.csr_matrix | None) -> JacobianPattern:
    known = factors.patterns
    key = (
        b""
        if incidence is None
        else b"".join(x.tobytes() for x in (incidence.indptr, incidence.indices, incidence.data))
    )
    if key not in known:
        known[key] = plan_jacobian(factors.y_free, factors.lu.plan, incidence)
        while len(known) > CACHED_PATTERNS_MAX:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def solve_powerflow(
    network: Network,
    demand_kva: ComplexArray,
    *,
    loads: FixedLoads | None = None,
    wiring: Wiring | None = None,
    factors: Factors | None = None,
    start: ComplexArray | None = None,
    follow: bool = False,
) -> PowerFlow:
    """Solve the AC power flow of constant-power demand, and of loads with connections and laws of their own.

    Parameters
    ----------
    network : the energised network.
    demand_kva : complex128, kW + j kvar, consumption positive, at each node (or place, see `Wiring`); at a source it
        is served at once.
    loads : drawn besides `demand_kva`.
    wiring : of `loads` and of places beyond the nodes, from `wire`; instead of `loads`.
    factors : from `factorise`; looked up where absent.
    start : complex128[N], a voltage near the solution (the last interval's).
    follow : Newton, where it is needed, begins at `start` too and keeps to its branch, be it one of low voltage; else
        at no load, from which it finds that of high voltage.

    Returns
    -------
    PowerFlow with a mismatch of about 1e-12 pu, at most 1e-9 (or rounding, at switches of microohms).

    Raises
    ------
    GridError : the demand is beyond what the network can carry, or is not finite.

    Examples
    --------
    One line of 0.1 pu resistance feeding 0.09 pu: v = 0.9 solves v (1 - v) = 0.009.

    >>> import scipy.sparse as sp
    >>> from tellegen.grid.network import Branches, Network
    >>> y = sp.csr_matrix(np.array([[10, -10], [-10, 10]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.9), np.full(2, 1.1), line)
    >>> flow = solve_powerflow(net, np.array([0, 0.9]) + 0j)
    >>> round(float(abs(flow.voltage[1])), 9), round(flow.losses_kw, 9)
    (0.9, 0.1)
    """
    known = factorise(network) if factors is None else factors
    wired = wire(network, known.free, loads) if wiring is None else wiring
    demand = np.asarray(demand_kva, dtype=np.complex128)
    if demand.shape != (wired.places,):
        raise GridError(f"{network.name}: demand has shape {demand.shape}, the network {wired.places} places")
    if not np.isfinite(demand).all():
        at = int(np.argmin(np.isfinite(demand)))
        called = network.nodes[at] if at < len(network.nodes) else f"connection {at - len(network.nodes)}"
        raise GridError(f"{network.name}: demand at node {called} is not finite")
    if wiring is None:
        demand = with_plain_loads(network, demand, loads)
    draw = wired.draw(demand)
    first = known.no_load if start is None else np.asarray(start, dtype=np.complex128)[known.free]
    voltage, iterations = _fixed_point(known, draw, first)
    if voltage is None:
        voltage, extra = _newton_from_near(known, draw, first if follow and start is not None else None)
        iterations += extra
    return _measure(known, wired.port_demand(demand)[: len(network.nodes)], draw, voltage, iterations)


def _fixed_point(factors: Factors, draw: Draw, start: ComplexArray) -> tuple[ComplexArray | None, int]:
    """Z-bus iteration; None where it contracts too slowly. The mismatch of a step is ``|s| |dv/v|``."""
    size = draw.size()
    # Rounding in the solve bounds what any step can show.
    floor = 8 * np.finfo(np.float64).eps * float(size.max(initial=0.0))
    aim = max(MISMATCH_AIM_PU * min(1.0, float(size.max(initial=0.0)) + 1e-3), floor)
    if factors.lu.engine is Engine.SWEEPS:
        return _contract(factors.lu, factors.source_current, draw, size, start, aim)
    voltage, last = start, np.inf
    with np.errstate(all="ignore"):
        for k in range(1, FIXED_POINT_ITERATIONS_MAX + 1):
            fresh = factors.lu.solve(-factors.source_current - draw.current(voltage))
            change = size * np.abs(fresh - voltage) / np.abs(fresh)
            step = float(change[size > 0].max(initial=0.0))
            voltage = fresh
            if step <= aim:
                return voltage, k
            if not np.isfinite(step) or (k > 4 and step > SLOW_CONTRACTION * last):
                # Stagnation at rounding level is convergence; anything else is for Newton.
                if step <= 1e3 * aim:
                    return voltage, k
                return None, k
            last = step
    return None, FIXED_POINT_ITERATIONS_MAX


def _contract(
    lu: Elimination, source_current: ComplexArray, draw: Draw, size: FloatArray, start: ComplexArray, aim: float
) -> tuple[ComplexArray | None, int]:
    """`_fixed_point` as one compiled loop."""
    from tellegen.grid.contraction import contract

    plan, power, law = lu.plan, np.zeros(0, dtype=np.complex128), np.zeros((7, 0))
    begin, end, share = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    if draw.incidence is not None and draw.power is not None and draw.law is not None:
        legs, power, own = draw.incidence.T.tocsr(), draw.power, draw.law
        begin, end, share = legs.indptr.astype(np.int64), plan.place[legs.indices], legs.data.astype(np.float64)
        exponents = (own.p_exponent, own.q_exponent, own.edge_exponent)
        law = np.stack([own.rated_pu, *exponents, own.low, own.minimum, own.maximum])
    voltage = start[plan.order]
    iterations, arrived = contract(
        plan.start,
        plan.row,
        *lu.triangles(),
        source_current[plan.order],
        draw.load[plan.order],
        size[plan.order],
        begin,
        end,
        share,
        power,
        law,
        voltage,
        aim,
        SLOW_CONTRACTION,
        FIXED_POINT_ITERATIONS_MAX,
    )
    return (voltage[plan.place] if arrived else None), int(iterations)


def _newton_from_near(factors: Factors, draw: Draw, near: ComplexArray | None) -> tuple[ComplexArray, int]:
    """Newton from a voltage near the solution, which keeps to its branch; where that fails, or from none, no load."""
    if near is not None:
        try:
            return _newton(factors, draw, near)
        except GridError:
            pass
    return _newton(factors, draw, factors.no_load)


def _newton(factors: Factors, draw: Draw, start: ComplexArray) -> tuple[ComplexArray, int]:
    """Damped Newton; from no load it finds the high-voltage solution."""
    voltage = start.copy()
    size = factors.y_size

    def residual(v: ComplexArray) -> tuple[ComplexArray, float]:
        """Currents that do not balance, and the largest of them as a multiple of what counts as none."""
        current = np.asarray(factors.y_free @ v + factors.source_current + draw.current(v))
        # An idle stiff node must not hide a loaded weak one: each is measured by its own rounding.
        allowed = MISMATCH_AIM_PU + ROUNDING / 4 * (size @ np.abs(v))
        return current, float((np.abs(current) / allowed).max())

    error, excess = residual(voltage)
    for k in range(1, NEWTON_ITERATIONS_MAX + 1):
        step = -factorise_jacobian(factors, voltage, draw).solve(error)
        scale = 1.0
        while scale > 1e-3:
            trial = voltage + scale * step
            fresh, fresh_excess = residual(trial)
            if np.isfinite(fresh_excess) and fresh_excess < (1 - 0.1 * scale) * excess:
                break
            scale /= 2
        else:
            if float(np.abs(voltage * np.conj(error)).max()) <= MISMATCH_LIMIT_PU / 10 or excess <= 4.0:
                return voltage, k
            break
        voltage, error, excess = trial, fresh, fresh_excess
        if excess <= 1.0:
            return voltage, k
    raise GridError(f"{factors.network.name}: no power flow solution: the demand is beyond what the network can carry")


def _measure(
    factors: Factors, demand_kva: ComplexArray, draw: Draw, voltage_free: ComplexArray, iterations: int
) -> PowerFlow:
    """Powers, flows and mismatch that follow from a voltage, with demand of the nodes to ground.

    Raises
    ------
    GridError : the mismatch is above 1e-9 pu, and above what rounding explains.
    """
    network = factors.network
    voltage = np.empty(len(network.nodes), dtype=np.complex128)
    voltage[network.source] = network.source_voltage
    voltage[factors.free] = voltage_free
    current = factors.y_free @ voltage_free + factors.source_current
    error = np.abs(voltage_free * np.conj(draw.current(voltage_free) + current))
    mismatch = float(error.max(initial=0.0))
    if mismatch > MISMATCH_LIMIT_PU / 100:
        # Between nodes joined by a microohm, the rounding of the voltages themselves shows as power.
        rounding = ROUNDING * (factors.y_size @ np.abs(voltage_free)) * np.abs(voltage_free)
        mismatch = float((error - rounding).max(initial=0.0))
    if not mismatch <= MISMATCH_LIMIT_PU:
        raise GridError(f"{network.name}: power flow stopped at a mismatch of {mismatch:.1e} pu")
    demand = complex(demand_kva.sum()) + complex(draw.drawn(draw.across(voltage_free))[0].sum()) * network.base_kva
    branch = factors.rows_free @ voltage_free + factors.rows_source
    if network.root_terminals is None:
        leaving = network.source_voltage * np.conj(factors.source_self + factors.y_source_free @ voltage_free)
        root = complex(leaving.sum()) * network.base_kva + complex(demand_kva[network.source].sum())
    else:
        at = network.root_terminals
        root = -complex((voltage[network.branches.node[at]] * np.conj(branch[at])).sum()) * network.base_kva
    terminal = np.abs(branch)
    power = np.flatnonzero(network.branches.kind == LimitKind.APPARENT_POWER)
    terminal[power] *= np.abs(voltage[network.branches.node[power]])
    return PowerFlow(
        voltage=voltage,
        root_kw=root.real,
        root_kvar=root.imag,
        losses_kw=root.real - demand.real,
        terminal_pu=terminal,
        rating_pu=network.branches.rating_pu,
        iterations=iterations,
        mismatch_pu=mismatch,
    )
