"""The whole problem with voltages as unknowns: balances, limits, cost, and their derivatives.

Unknowns are, for each state of the network, the voltages v of its free nodes and the currents w of loads that lie
between nodes or have a law (complex), and the shares y of the orders (real). So all equations but the laws are products
of two affine forms, ``p conj(q)``:

    v conj(Y v + c + M w) + s(y) = 0    nodes; without the factor v where nothing is drawn
    u conj(w) - S(|u|, y) = 0           loads, with u = M'v across them

Limits are on magnitudes of affine forms (voltages, currents), on products of two of them (apparent power), on the
root's power, or linear in the orders. Derivatives are by the real parts of all complex unknowns, their imaginary parts,
and the orders. Money is in units of the price scale times the base power, power is per unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tellegen.grid.loads import Draw
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, LimitKind
from tellegen.market.limits import LimitType
from tellegen.market.operating_point import Task, price_scale
from tellegen.market.steps import Scenario

ROUND = 1e-6
"""Magnitudes below this, per unit, are rounded off: an idle line has no direction."""
SHARE_LEAST = 0.02
"""Orders begin no nearer to their bounds than this share."""
BEND = 1e-5
"""Share of its voltage by which a load with a law is moved to see its slope change."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """``matrix x + constant`` of complex unknowns; `real` is the matrix on real parts and then imaginary parts."""

    matrix: sp.csr_matrix
    constant: ComplexArray
    real: sp.csr_matrix

    @classmethod
    def of(cls, matrix: sp.spmatrix, constant: ComplexArray | FloatArray) -> Affine:
        """The form with its real matrix."""
        rows = sp.csr_matrix(matrix, dtype=np.complex128)
        both = sp.bmat([[rows.real, -rows.imag], [rows.imag, rows.real]], format="csr")
        return cls(rows, np.asarray(constant, dtype=np.complex128), both)

    @classmethod
    def beside(cls, parts: list[Affine]) -> Affine:
        """Some forms, one below the other."""
        return cls.of(sp.vstack([part.matrix for part in parts]), np.concatenate([part.constant for part in parts]))

    def at(self, x: ComplexArray) -> ComplexArray:
        """Its values."""
        return np.asarray(self.matrix @ x + self.constant)

    def along(self, value: ComplexArray) -> sp.csr_matrix:
        """Derivative of half its squared magnitude, where it stands at `value`."""
        return sp.csr_matrix(sp.hstack([sp.diags(value.real), sp.diags(value.imag)]) @ self.real)

    def size(self, x: ComplexArray) -> FloatArray:
        """Magnitudes."""
        return np.asarray(np.sqrt(np.abs(self.at(x)) ** 2 + ROUND**2))

    def size_slope(self, x: ComplexArray) -> sp.csr_matrix:
        """Derivative of the magnitudes."""
        return sp.csr_matrix(sp.diags(1 / self.size(x)) @ self.along(self.at(x)))

    def size_bend(self, x: ComplexArray, weight: FloatArray) -> sp.csr_matrix:
        """Second derivative of the weighted sum of magnitudes."""
        share, slope = sp.diags(weight / self.size(x)), self.size_slope(x)
        return self.real.T @ sp.block_diag([share, share]) @ self.real - slope.T @ share @ slope


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """``p conj(q)``, row by row; derivatives have real parts above imaginary ones."""

    p: Affine
    q: Affine

    def at(self, x: ComplexArray) -> ComplexArray:
        """Their values."""
        return np.asarray(self.p.at(x) * np.conj(self.q.at(x)))

    def slope(self, x: ComplexArray) -> sp.csr_matrix:
        """Derivatives of all real and then all imaginary parts."""
        p, q = self.p.at(x), self.q.at(x)
        a, b, c, d = (sp.diags(part) for part in (p.real, p.imag, q.real, q.imag))
        return sp.csr_matrix(sp.bmat([[c, d], [-d, c]]) @ self.p.real + sp.bmat([[a, b], [b, -a]]) @ self.q.real)

    def bend(self, real: FloatArray, imag: FloatArray) -> sp.csr_matrix:
        """Second derivative of real parts and imaginary parts in weighted sum."""
        e, f = sp.diags(real), sp.diags(imag)
        half = self.p.real.T @ sp.bmat([[e, -f], [f, e]]) @ self.q.real
        return half + half.T


class Equations:
    """The problem of a task.

    Attributes
    ----------
    hard : how many of the values are balances; they come first, the others are limits.
    cap : float64[k], most that a unit of each limit's excess costs; a limit with two penalties stands twice.
    unit : currency/h that one unit of money stands for.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.unit = task, price_scale(task) * task.network.base_kva
        wiring, factors = task.wiring, task.factors
        self.states = len(task.steps.scenarios)
        self.nodes, self.lawful = factors.free.size, wiring.power.size
        self.incidence = sp.csr_matrix((self.nodes, 0)) if wiring.incidence is None else wiring.incidence
        self.loads = self.incidence.shape[1]
        self.wide = self.nodes + self.loads
        self._take_orders()
        self._take_balances()
        self._take_root()
        self._take_limits()

    def _take_orders(self) -> None:
        """What the orders draw, per unit, when each is taken in full, and what is drawn besides."""
        task, steps, channels = self.task, self.task.steps, self.task.steps.channels
        base, size, count = task.network.base_kva, len(task.network.nodes), task.steps.channels.place.size
        self.totals = sp.csr_matrix(
            (steps.sign * steps.width, (steps.channel, np.arange(steps.width.size))), (count, steps.width.size)
        )
        rows, given, source = [], [], task.network.source
        self.at_source: list[tuple[ComplexArray, complex]] = []
        for scenario in steps.scenarios:
            power = channels.activation(scenario) * (channels.active + 1j * channels.reactive)
            drawn = sp.csr_matrix((power, (channels.place, np.arange(count))), (task.wiring.places, count))
            drawn = sp.csr_matrix((drawn if task.wiring.ports is None else task.wiring.ports @ drawn) @ self.totals)
            drawn, fixed = drawn / base, task.wiring.port_demand(steps.fixed_kva[scenario]) / base
            idle = sp.csr_matrix((self.lawful, steps.width.size))
            rows.append(sp.vstack([drawn[task.factors.free], idle, -drawn[size:]]))
            given.append(np.concatenate([fixed[task.factors.free], np.zeros(self.lawful), -fixed[size:]]))
            self.at_source.append((np.asarray(drawn[source].sum(axis=0)).ravel(), complex(fixed[source].sum())))
        self.orders, self.given = sp.csr_matrix(sp.vstack(rows), dtype=np.complex128), np.concatenate(given)
        self.by_orders = sp.vstack([self.orders.real, self.orders.imag], format="csr")

    def _take_balances(self) -> None:
        factors, loads, nodes = self.task.factors, self.loads, self.nodes
        drawn = np.asarray(abs(self.orders).sum(axis=1)).ravel() + np.abs(self.given)
        # Where nothing is drawn currents balance, which is linear.
        draws = (drawn.reshape(self.states, self.wide)[:, :nodes] > 0).any(axis=0)
        p = sp.bmat([[sp.diags(draws * 1.0), sp.csr_matrix((nodes, loads))], [self.incidence.T, None]])
        p.resize(self.wide, self.wide)
        q = sp.bmat([[factors.y_free, self.incidence], [sp.csr_matrix((loads, nodes)), sp.identity(loads)]])
        alone = np.concatenate([np.where(draws, 0.0, 1.0), np.zeros(loads)])
        fed = np.concatenate([factors.source_current, np.zeros(loads)])
        every = sp.identity(self.states)
        self.balance = Products(
            Affine.of(sp.kron(every, p), np.tile(alone, self.states)),
            Affine.of(sp.kron(every, q), np.tile(fed, self.states)),
        )
        self.hard = 2 * self.states * self.wide
        law = None if self.task.wiring.law is None else self.task.wiring.law.take(slice(0, self.lawful))
        self.draw = Draw(np.zeros(nodes, np.complex128), self.incidence[:, : self.lawful], self.task.wiring.power, law)
        ends = sp.hstack([self.incidence.T[: self.lawful], sp.csr_matrix((self.lawful, loads))])
        self.across = Affine.of(sp.kron(every, ends), np.zeros(self.states * self.lawful))
        first = np.arange(self.states)[:, None] * self.wide + nodes
        self.of_law = (first + np.arange(self.lawful)).ravel()

    def _take_root(self) -> None:
        network, factors = self.task.network, self.task.factors
        held, at = np.zeros(len(network.nodes), dtype=np.complex128), network.root_terminals
        held[network.source] = network.source_voltage
        self.held, self.root = held, []
        for state in range(self.states):
            if at is None:
                nothing = sp.csr_matrix((network.source.size, self.states * self.wide))
                p = Affine.of(nothing, network.source_voltage)
                q = Affine.of(self._in_state(factors.y_source_free, state), factors.source_self)
            else:
                p = self._volts(factors.terminal[at], network.branches.node[at], np.full(at.size, state))
                q = Affine.of(self._in_state(-factors.rows_free[at], state), -factors.rows_source[at])
            self.root.append(Products(p, q))

    def _take_limits(self) -> None:
        task, limits, branches = self.task, self.task.limits, self.task.network.branches
        kind, linear = limits.kind, np.arange(limits.kind.size) >= limits.first_linear
        # A lowest voltage of nothing is none.
        level = np.isfinite(limits.level) & (limits.level > 0)
        volt = np.flatnonzero((kind <= LimitType.VOLTAGE_MAX) & ~linear & level)
        rated = np.flatnonzero((kind == LimitType.RATING) & ~linear)
        rooted = np.flatnonzero((kind > LimitType.RATING) & ~linear)
        own, state = np.flatnonzero(linear), np.zeros(kind.size, dtype=np.int64)
        for k, scenario in enumerate(task.steps.scenarios):
            state[limits.scenario == scenario] = k
        self.rows, self.rooted = np.concatenate([volt, rated, rooted, own]), state[rooted]
        node, line = limits.index[volt], limits.index[rated]
        lines = sp.vstack(
            [self._in_state(task.factors.rows_free[k], s) for k, s in zip(line, state[rated], strict=True)]
            or [sp.csr_matrix((0, self.states * self.wide))]
        )
        self.sizes = Affine.beside(
            [
                self._volts(task.factors.position[node], node, state[volt]),
                Affine.of(lines, task.factors.rows_source[line]),
                self._volts(task.factors.terminal[line], branches.node[line], state[rated]),
            ]
        )
        # Of the magnitudes a limit is on the first, and for apparent power on its product with the second.
        self.first = np.arange(volt.size + rated.size)
        self.second = np.concatenate([np.arange(volt.size), volt.size + rated.size + np.arange(rated.size)])
        self.power = np.zeros(self.first.size)
        self.power[volt.size :] = branches.kind[line] == LimitKind.APPARENT_POWER
        sign, scale = limits.sign[self.rows], limits.scale[self.rows]
        level = np.where(kind == LimitType.ROOT_EXPORT, -limits.level, limits.level)[self.rows]
        self.weight, self.edge = sign / scale, sign * level / scale
        self.own = sp.csr_matrix(limits.linear.matrix @ self.totals) if own.size else sp.csr_matrix(self.totals[:0])
        kink, penalty = task.penalties(self.rows)
        again = np.flatnonzero(penalty[:, 1] > (1 + 1e-9) * penalty[:, 0])
        self.of = np.concatenate([np.arange(self.rows.size), again])
        self.beyond = np.concatenate([np.zeros(self.rows.size), kink[again, 1]])
        self.cap = np.concatenate([penalty[:, 0], (penalty[:, 1] - penalty[:, 0])[again]]) / self.unit

    def _in_state(self, rows: sp.csr_matrix, state: int) -> sp.csr_matrix:
        """Rows over the free nodes as rows over all unknowns."""
        entries = sp.coo_matrix(rows)
        shape = (rows.shape[0], self.states * self.wide)
        return sp.csr_matrix((entries.data, (entries.row, entries.col + state * self.wide)), shape)

    def _volts(self, place: IntArray, node: IntArray, state: IntArray) -> Affine:
        """Voltages of nodes, by their place among the free ones (-1: a source)."""
        free = np.flatnonzero(place >= 0)
        shape = (place.size, self.states * self.wide)
        chosen = sp.csr_matrix((np.ones(free.size), (free, (place + state * self.wide)[free])), shape)
        return Affine.of(chosen, np.where(place >= 0, 0.0, self.held[node]))

    def start(self, share: FloatArray, flat: bool) -> tuple[ComplexArray, FloatArray]:
        """Unknowns to begin with: voltages within their limits, at the angle of the source or those of no load."""
        task, limits = self.task, self.task.limits
        voltage = task.factors.no_load.copy()
        size = np.abs(voltage)
        for kind, clip in ((LimitType.VOLTAGE_MIN, np.maximum), (LimitType.VOLTAGE_MAX, np.minimum)):
            rows = np.flatnonzero((limits.kind == kind) & (limits.scenario == Scenario.DISPATCH))
            at = task.factors.position[limits.index[rows]]
            size[at] = clip(size[at], limits.level[rows])
        if flat:
            voltage[:] = task.network.source_voltage[0]
        voltage *= size / np.maximum(np.abs(voltage), ROUND)
        share = np.clip(share, SHARE_LEAST, 1 - SHARE_LEAST)
        x = np.tile(np.concatenate([voltage, np.zeros(self.loads)]), self.states)
        if self.loads:
            power = -(self.orders @ share + self.given).reshape(self.states, self.wide)[:, self.nodes :]
            power[:, : self.lawful] += task.wiring.power
            across = self.incidence.T @ voltage
            across = np.where(np.abs(across) < ROUND, 1.0, across)
            x.reshape(self.states, self.wide)[:, self.nodes :] = np.conj(power / across)
        return x, share

    def voltages(self, x: ComplexArray) -> tuple[ComplexArray, ...]:
        """Those of all nodes, state by state."""
        whole = np.tile(self.held, (self.states, 1))
        whole[:, self.task.factors.free] = x.reshape(self.states, self.wide)[:, : self.nodes]
        return tuple(whole)

    def value(self, x: ComplexArray, y: FloatArray) -> FloatArray:
        """Balances, real and then imaginary parts, and limits; positive is an excess."""
        balance = self.balance.at(x) + self.orders @ y + self.given
        balance[self.of_law] -= self._drawn(self.across.at(x))[0]
        size = self.sizes.size(x)
        power = [self._root_power(x, y, state).real for state in self.rooted]
        held = size[self.first] * np.where(self.power > 0, size[self.second], 1.0)
        limits = self.weight * np.concatenate([held, power, self.own @ y]) - self.edge
        return np.concatenate([balance.real, balance.imag, limits[self.of] - self.beyond])

    def slope(self, x: ComplexArray) -> sp.csr_matrix:
        """Derivatives of the values."""
        size, by_size = self.sizes.size(x), self.sizes.size_slope(x)
        held = sp.diags(np.where(self.power > 0, size[self.second], 1.0)) @ by_size[self.first]
        held = held + sp.diags(self.power * size[self.first]) @ by_size[self.second]
        root = np.array([self._root_slope(x, state)[0] for state in self.rooted]).reshape(
            -1, 2 * x.size + self.by_orders.shape[1]
        )
        limits = sp.vstack(
            [_wider(held, root.shape[1]), sp.csr_matrix(root), _wider(self.own, root.shape[1], left=True)]
        )
        limits = sp.csr_matrix(sp.diags(self.weight) @ limits)
        balance = self.balance.slope(x)
        if self.lawful:
            across = self.across.at(x)
            slope = self._drawn(across)[1]
            row = np.concatenate([self.of_law, self.of_law + x.size])
            spread = sp.csr_matrix(
                (np.concatenate([slope.real, slope.imag]), (row, np.tile(np.arange(across.size), 2))),
                (2 * x.size, across.size),
            )
            balance = balance - spread @ sp.diags(1 / np.abs(across)) @ self.across.along(across)
        return sp.csr_matrix(sp.vstack([sp.hstack([balance, self.by_orders]), limits[self.of]]))

    def cost_slope(self, x: ComplexArray, y: FloatArray) -> FloatArray:
        """Derivatives of the cost: orders and the root."""
        task, steps = self.task, self.task.steps
        active, reactive = self._root_slope(x, 0)
        slope = task.root_price * active + task.root_reactive_price * reactive
        slope[2 * x.size :] += (steps.price + steps.slope * steps.width * y) * steps.width
        return slope / self.unit

    def bend(self, x: ComplexArray, weight: FloatArray) -> sp.csr_matrix:
        """Second derivative of the cost plus the values in weighted sum."""
        task, half = self.task, self.hard // 2
        limits = self.weight * np.bincount(self.of, weight[self.hard :], minlength=self.rows.size)
        held = limits[: self.first.size]
        size, by_size = self.sizes.size(x), self.sizes.size_slope(x)
        by_first = np.bincount(self.first, held * np.where(self.power > 0, size[self.second], 1.0), minlength=size.size)
        by_second = np.bincount(self.second, held * self.power * size[self.first], minlength=size.size)
        cross = by_size[self.first].T @ sp.diags(held * self.power) @ by_size[self.second]
        total = self.balance.bend(weight[:half], weight[half : self.hard]) + cross + cross.T
        total = total + self.sizes.size_bend(x, np.asarray(by_first + by_second, dtype=np.float64))
        price = np.zeros((2, self.states))
        price[:, 0] = task.root_price / self.unit, task.root_reactive_price / self.unit
        np.add.at(price[0], self.rooted, limits[held.size : held.size + self.rooted.size])
        for root, (active, reactive) in zip(self.root, (price * task.network.base_kva).T, strict=True):
            one = np.ones(root.p.constant.size)
            total = total + root.bend(active * one, reactive * one)
        if self.lawful:
            across = self.across.at(x)
            lam = weight[self.of_law] - 1j * weight[half + self.of_law]
            size = np.abs(across)
            first, up, down = (-(lam * self._drawn(part * across)[1]).real for part in (1.0, 1.0 + BEND, 1.0 - BEND))
            along, second = sp.diags(1 / size) @ self.across.along(across), (up - down) / (2 * BEND * size)
            share = sp.diags(np.tile(first / size, 2))
            total = total + along.T @ sp.diags(second - first / size) @ along
            total = total + self.across.real.T @ share @ self.across.real
        steps = task.steps
        return sp.csr_matrix(sp.block_diag([total, sp.diags(steps.slope * steps.width**2 / self.unit)]))

    def _drawn(self, across: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Power of the loads with laws, and its slope by the magnitude of their voltage."""
        parts = [self.draw.drawn(part) for part in across.reshape(self.states, -1)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _root_power(self, x: ComplexArray, y: FloatArray, state: int) -> complex:
        """Power taken from the root, kW + j kvar."""
        power = complex(self.root[state].at(x).sum())
        if self.task.network.root_terminals is None:
            orders, given = self.at_source[state]
            power += complex(orders @ y) + given
        return power * self.task.network.base_kva

    def _root_slope(self, x: ComplexArray, state: int) -> tuple[FloatArray, FloatArray]:
        root = self.root[state]
        slope, count = root.slope(x), root.p.constant.size
        at_source = self.at_source[state][0]
        own = at_source if self.task.network.root_terminals is None else 0 * at_source
        active, reactive = (np.asarray(part.sum(axis=0)).ravel() for part in (slope[:count], slope[count:]))
        base = self.task.network.base_kva
        return base * np.concatenate([active, own.real]), base * np.concatenate([reactive, own.imag])


def _wider(matrix: sp.spmatrix, width: int, *, left: bool = False) -> sp.csr_matrix:
    """A matrix with columns of nothing beside it."""
    nothing = sp.csr_matrix((matrix.shape[0], width - matrix.shape[1]))
    return sp.csr_matrix(sp.hstack([nothing, matrix] if left else [matrix, nothing]))
