"""One clearing from a notebook: orders of any kind in, frames and the command line's document out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tellegen.errors import InputError
from tellegen.grid import Connector
from tellegen.grid.network import ComplexArray
from tellegen.market import (
    NOT_ENERGISED,
    BindingLimit,
    Clearing,
    Evidence,
    Finding,
    LimitType,
    Mitigated,
    OrderBook,
    Parameters,
    PivotalTest,
    clear_mitigated,
    start_after,
)
from tellegen.market import clear as clear_market
from tellegen.market.clearing import Options
from tellegen.records import Product
from tellegen.workbench.declared import generator_offers, set_points
from tellegen.workbench.feeder import Feeder
from tellegen.workbench.flow import NEUTRAL, loading_frame, network_document, shown_nodes, voltage_frame
from tellegen.workbench.order_rows import OrderFile
from tellegen.workbench.orders import OrdersLike, read_agreements, read_orders, read_references
from tellegen.workbench.tables import Columns, frame, rows

if TYPE_CHECKING:
    import polars as pl

V_MIN_RANGE, V_MAX_RANGE = (0.5, 1.0), (1.0, 1.5)
PARTS = {"energy": "root", "losses": "losses", "congestion": "congestion", "voltage": "voltage"}
"""Parts of a price as documents call them, and as the engine does."""
_PRODUCTS = {int(product): product.name.lower() for product in Product}
RESERVES = ("reserve_up", "reserve_down")


class OptionError(InputError):
    """An option of `clear` that makes no sense; `option` names it."""

    def __init__(self, option: str, problem: str) -> None:
        self.option = option
        super().__init__("clear", option, problem)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClearingResult:
    """The outcome of one clearing.

    Attributes
    ----------
    feeder : the network that was cleared.
    orders : the orders as they were read; rows of `awards` are theirs.
    book : all orders of the clearing, float64 arrays in kW: first the rows of `orders`, then the file's generators.
    fixed_kva : complex128[N], inflexible demand of the file; zero with `orders_only`.
    root_price : currency/kWh at which the root bought and sold.
    v_min, v_max : per unit, the limits given in place of the network's own, or None.
    clearing : the engine's own result.
    mitigated : the test for market power that was asked for, or None.
    """

    feeder: Feeder
    orders: OrderFile
    book: OrderBook
    fixed_kva: ComplexArray
    root_price: float
    v_min: float | None
    v_max: float | None
    clearing: Clearing
    mitigated: Mitigated | None = None

    @property
    def status(self) -> str:
        """``optimal``, ``relaxed`` (limits gave way at the published penalty) or ``fallback`` (administrative)."""
        return self.clearing.status.name.lower()

    @property
    def reason(self) -> str:
        """Why the fallback was taken, else empty."""
        return self.clearing.reason

    @property
    def welfare(self) -> float:
        """Currency per hour: value to buyers less cost of sellers and of the root."""
        return self.clearing.welfare

    @property
    def rent(self) -> float:
        """Currency per hour: what all demand pays at its prices less the cost of the root."""
        return self.clearing.rent

    @property
    def evidence(self) -> Evidence:
        """On what the result was accepted: mismatch, optimality residual, violation, iterations."""
        return self.clearing.evidence

    @property
    def losses_kw(self) -> float:
        """Losses of the dispatch."""
        return self.clearing.flow.losses_kw

    @property
    def root_kw(self) -> float:
        """Power taken from the root; negative where the feeder exports."""
        return self.clearing.flow.root_kw

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the network's file was left out or approximated, and what was done to orders."""
        return (*self.feeder.warnings, *self.clearing.warnings)

    @property
    def prices(self) -> pl.DataFrame:
        """One row per node, currency/kWh (kvarh).

        Columns `node`, `phase`, `energy`, its parts `energy_part`, `losses_part`, `congestion_part`, `voltage_part`
        (they sum to `energy`), the ends of its range `energy_low`, `energy_high`, and `reactive`; where reserves are
        traded also what they earn there, `reserve_up` and `reserve_down`, currency/h per kW.
        """
        return frame(self._price_columns())

    @property
    def awards(self) -> pl.DataFrame:
        """One row per order.

        Columns `row` (line of the file, position in a frame), `participant`, `node`, `phases`, `product`, `side`,
        `quantity_kw` (kvar for reactive orders), `price` (currency/kWh or kvarh; null where no source feeds the bus).
        """
        return frame(
            self._awards(),
            text=("participant", "node", "phases", "product", "side"),
            optional=("quantity_kw", "price"),
        )

    @property
    def voltages(self) -> pl.DataFrame:
        """One row per node: `node`, `phase`, `pu`, and the limits that bound there `v_min`, `v_max` (null: none)."""
        return voltage_frame(self.feeder.network, self.clearing.flow, self.v_min, self.v_max)

    @property
    def loadings(self) -> pl.DataFrame:
        """One row per line or transformer: `element`, `percent` of its rating at its worst terminal (0: no rating)."""
        return loading_frame(self.feeder.network, self.clearing.flow)

    @property
    def limits(self) -> pl.DataFrame:
        """Limits that bind.

        Columns `name`, `kind` (`LimitType` in small letters: ``voltage_max``, ``rating``, ``reserve_up``, ``export``,
        ...), `dual` (currency per hour and `unit` by which the limit would be widened), `unit`, `excess` (in `unit`;
        above 0 the limit gave way), `price` (the dual per kWh or kVAh that
        passes; of a voltage per kWh-equivalent).
        """
        limits = self.clearing.limits
        columns = {
            "name": [self.limit_name(limit) for limit in limits],
            "kind": [LimitType(limit.kind).name.lower() for limit in limits],
            "dual": [limit.dual for limit in limits],
            "unit": [limit.unit for limit in limits],
            "excess": [limit.excess for limit in limits],
            "price": [limit.price for limit in limits],
        }
        return frame(columns, text=("name", "kind", "unit"), optional=("dual", "excess", "price"))

    @property
    def reserve_prices(self) -> pl.DataFrame:
        """One row per reserve product that is traded, currency/h per kW.

        Columns `product`, `price` (what those pay who require it), the ends of its range `low`, `high`. What reserve
        earns at each node stands in `prices`.
        """
        return frame(self._reserve_columns(), text=("product",), optional=("price", "low", "high"))

    def to_dict(self) -> dict[str, Any]:
        """The document of ``tellegen clear --json``."""
        cleared = self.clearing
        return {
            "status": self.status,
            "reason": cleared.reason,
            "welfare": cleared.welfare,
            "rent": cleared.rent,
            "prices": self._price_rows(),
            "reserve_prices": [
                {"product": name, "price": price, "range": [low, high]}
                for name, price, low, high in zip(*self._reserve_columns().values(), strict=True)
            ],
            "awards": self._award_rows(),
            "network": network_document(self.feeder.network, cleared.flow),
            "limits": [self._limit(limit) for limit in cleared.limits],
            "relaxations": [self._limit(limit) for limit in cleared.relaxations],
            "evidence": {
                "ac_mismatch_pu": cleared.evidence.ac_mismatch_pu,
                "kkt_residual": cleared.evidence.kkt_residual if np.isfinite(cleared.evidence.kkt_residual) else None,
                "max_violation_pu": cleared.evidence.max_violation_pu,
                "iterations": cleared.evidence.iterations,
            },
            "optima": {
                "starts": cleared.evidence.choice.starts,
                "seen": cleared.evidence.choice.optima,
                "welfare_spread": cleared.evidence.choice.spread,
            },
            **({} if self.mitigated is None else {"mitigation": [self._finding(f) for f in self.mitigated.findings]}),
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """The document of ``tellegen clear --json`` as text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def limit_name(self, limit: BindingLimit) -> str:
        """What a limit is called, with participants by name."""
        if not LimitType.EXPORT <= limit.kind < LimitType.SERVED:
            return limit.name
        return limit.name.replace(f"participant {limit.index}", self.orders.participants[limit.index], 1)

    def _limit(self, limit: BindingLimit) -> dict[str, Any]:
        return {
            "name": self.limit_name(limit),
            "dual": limit.dual,
            "unit": limit.unit,
            "excess": limit.excess,
            "price": limit.price,
        }

    def _finding(self, finding: Finding) -> dict[str, Any]:
        names = self.orders.participants
        return {
            "participant": names[finding.participant],
            "limit": finding.limit,
            "limit_price": finding.dual_price,
            "needed_kw": finding.needed_kw,
            "own_kw": finding.own_kw,
            "others_kw": finding.others_kw,
            "besides": [names[k] for k in finding.besides],
            "product": _PRODUCTS[finding.product],
            "side": "buy" if finding.side > 0 else "sell",
            "rows": self.orders.row[list(finding.rows)].tolist(),
            "offered": finding.offered,
            "reference": finding.reference,
            "mitigated": finding.mitigated,
            "price_before": finding.price_before,
            "price_after": finding.price_after,
        }

    def _award_rows(self) -> list[dict[str, Any]]:
        listed = rows(self._awards())
        for row, place in zip(listed, self.orders.book.node.tolist(), strict=True):
            if place == NOT_ENERGISED:
                row |= {"price": None, "status": "not energised"}
        return listed

    def _reserves(self) -> list[int]:
        """Places in `RESERVES` of the reserve products that are traded."""
        products = (Product.RESERVE_UP, Product.RESERVE_DOWN)
        return [k for k, product in enumerate(products) if (self.book.product == product).any()]

    def _reserve_columns(self) -> Columns:
        prices, traded = self.clearing.prices, self._reserves()
        return {
            "product": [RESERVES[k] for k in traded],
            "price": prices.required[traded].tolist(),
            "low": prices.required_low[traded].tolist(),
            "high": prices.required_high[traded].tolist(),
        }

    def _price_rows(self) -> list[dict[str, Any]]:
        columns = self._price_columns()
        ends = zip(columns["energy_low"], columns["energy_high"], strict=True)
        parts = {name: columns[f"{name}_part"] for name in PARTS}
        return rows(
            {
                "node": columns["node"],
                "phase": columns["phase"],
                "energy": columns["energy"],
                "energy_parts": rows(parts),
                "energy_range": [list(pair) for pair in ends],
                "reactive": columns["reactive"],
                **{RESERVES[k]: columns[RESERVES[k]] for k in self._reserves()},
            }
        )

    def _price_columns(self) -> Columns:
        """Prices of the network's nodes, by column."""
        network, prices = self.feeder.network, self.clearing.prices
        # A neutral carries what customers share; nothing is sold there.
        shown = [k for k in shown_nodes(network) if network.phase[k] < NEUTRAL]
        return {
            "node": [network.nodes[k] for k in shown],
            "phase": network.phase[shown].tolist(),
            "energy": prices.energy[shown].tolist(),
            **{f"{name}_part": getattr(prices, own)[shown].tolist() for name, own in PARTS.items()},
            "energy_low": prices.low[shown].tolist(),
            "energy_high": prices.high[shown].tolist(),
            "reactive": prices.reactive[shown].tolist(),
            **{RESERVES[k]: prices.reserve[k, shown].tolist() for k in self._reserves()},
        }

    def _awards(self) -> Columns:
        book, file, prices = self.orders.book, self.orders, self.clearing.prices
        price = prices.of_orders(self.book)[: len(book)]
        called = dict(self.feeder.network.aliases)
        return {
            "row": file.row.tolist(),
            "participant": list(file.participant),
            "node": [called.get(name, name) for name in map(file.connector.bus, file.node)],
            "phases": ["" if phases == "0" else phases for phases in file.phases],
            "product": [_PRODUCTS[product] for product in book.product.tolist()],
            "side": ["buy" if side > 0 else "sell" for side in book.side.tolist()],
            "quantity_kw": self.clearing.award_kw[: len(book)].tolist(),
            "price": [None if math.isnan(each) else each for each in price.tolist()],
        }

    def __repr__(self) -> str:
        energy = self.clearing.prices.energy
        return (
            f"ClearingResult({self.feeder.name}: {self.status}, welfare {self.welfare:.6g} per h, prices "
            f"{energy.min():.6g} to {energy.max():.6g} per kWh, {len(self.clearing.limits)} limits bind)"
        )


def clear(
    feeder: Feeder,
    orders: OrdersLike | None = None,
    *,
    root_price: float | None = None,
    root_limit_kw: float | None = None,
    v_min: float | None = None,
    v_max: float | None = None,
    orders_only: bool = False,
    agreements: OrdersLike | None = None,
    period_minutes: float = 5.0,
    references: OrdersLike | None = None,
    pivotal_test: PivotalTest | None = None,
    parameters: Parameters | None = None,
    warm: ClearingResult | None = None,
) -> ClearingResult:
    """Clear one interval: the dispatch of largest welfare on the AC network, and its prices.

    Parameters
    ----------
    feeder : from `load_network`.
    orders : a Polars or pandas frame, a list of dicts, or the path of a CSV file, with the columns ``participant, node,
        phases, product, side, price, quantity_kw, kvar_per_kw, slope`` (`phases`, `kvar_per_kw` and `slope` may be
        missing; no price is a price-taker); None: no orders but the file's own generators.
    root_price : currency/kWh at which the root buys and sells; None: the file's reference cost.
    root_limit_kw : largest power through the root, both ways; None: no limit.
    v_min, v_max : per unit, for all nodes; None: the network's own limits.
    orders_only : leave the file's own loads and generators out.
    agreements : limits of participants' connections and the energy behind their reserve, of the kinds that `orders`
        may be, with the columns ``participant, node, phases, import_kw, export_kw, firm_import_kw, firm_export_kw,
        energy_up_kwh, energy_down_kwh``; what is empty or missing is no limit.
    period_minutes : how long the dispatch lasts; counts where stored energy stands behind reserve.
    references : reference prices, of the kinds that `orders` may be, with the columns ``participant, product, price``;
        with them, offers of who is pivotal on a binding limit are held to these (or to the default rule for who has
        none) and the market is cleared again.
    pivotal_test : thresholds of that test; given alone, it is run with the default rule for everybody.
    parameters : caps, penalties, acceptance; the defaults where absent.
    warm : the result of the interval before, on the same `feeder` object; it saves iterations, not accuracy.

    Returns
    -------
    ClearingResult, always with finite prices.

    Raises
    ------
    OptionError : an option is out of its range.
    InputError : an order or the network makes no sense, or there is no root price.

    Examples
    --------
    >>> from tellegen.workbench import load_network
    >>> feeder = load_network("pandapower:case33bw")                     # doctest: +SKIP
    >>> order = {"participant": "solar", "node": 17, "product": "energy", "side": "sell", "price": 0.1,
    ...          "quantity_kw": 900}
    >>> clear(feeder, [order], root_price=0.3).awards["quantity_kw"][0]  # doctest: +SKIP
    900.0
    """
    case = feeder.case
    file = _no_orders(feeder) if orders is None else read_orders(orders, case.network)
    limits = None if agreements is None else read_agreements(agreements, file)
    price = root_price if root_price is not None else case.root_price
    if price is None:
        raise InputError(
            feeder.spec, "root", "has no reference cost in the file; give root_price (--root-price on the command line)"
        )
    if not 0 < period_minutes <= 1440:
        raise OptionError("period_minutes", f"is {period_minutes:g}; give more than 0, at most 1440")
    for name, value, bounds in (("v_min", v_min, V_MIN_RANGE), ("v_max", v_max, V_MAX_RANGE)):
        if value is not None and not bounds[0] <= value <= bounds[1]:
            raise OptionError(name, f"is {value:g} pu; give {bounds[0]:g} to {bounds[1]:g}")
    if not np.isfinite(price):
        raise OptionError("root_price", "must be a finite number")
    if root_limit_kw is not None and not 0 <= root_limit_kw < np.inf:
        raise OptionError("root_limit_kw", f"is {root_limit_kw:g} kW; give a finite number that is not negative")
    # Agreements may name places where nobody trades.
    file = replace(file, book=replace(file.book, connections=file.connector.table()))
    book, fixed = file.book, np.zeros(len(case.network.nodes), dtype=np.complex128)
    if not orders_only:
        fixed = set_points(case, dispatchable=False)
        book = OrderBook.concat(book, generator_offers(case))
    options = Options(
        root_limit_kw=root_limit_kw,
        fixed_kva=fixed,
        loads=None if orders_only else case.loads,
        agreements=limits,
        period_hours=period_minutes / 60.0,
        v_min=v_min,
        v_max=v_max,
        parameters=parameters,
        start=None if warm is None else start_after(warm.clearing, warm.book),
        tie_context="clear",
    )
    mitigated = None
    if references is None and pivotal_test is None:
        cleared = clear_market(case.network, book, price, **options)
    else:
        known = None if references is None else read_references(references, file)
        mitigated = clear_mitigated(
            case.network, book, price, references=known, test=pivotal_test, **options
        )  # fmt: skip
        cleared = mitigated.clearing
    if not orders_only:
        np.add.at(fixed, case.loads.node, case.loads.p_kw + 1j * case.loads.q_kvar)
    return ClearingResult(feeder, file, book, fixed, float(price), v_min, v_max, cleared, mitigated)


def _no_orders(feeder: Feeder) -> OrderFile:
    return OrderFile(OrderBook.empty(), np.zeros(0, dtype=np.int64), (), (), (), Connector(feeder.network))
