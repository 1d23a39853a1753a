"""``tellegen powerflow`` and ``tellegen clear``: one network, one interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tellegen.cli import app, errors
from tellegen.errors import InputError
from tellegen.grid import Case, Network, PowerFlow, load_case, solve_powerflow, with_plain_loads
from tellegen.market import Clearing, OrderBook, OrderFile, read_orders_csv
from tellegen.market import clear as clear_market
from tellegen.records import Product, Side

NetworkOption = Annotated[
    str,
    typer.Option("--network", help="OpenDSS .dss, MATPOWER .m, pandapower .json, simbench:CODE or pandapower:NAME."),
]
_PHASES = 3
"""Nodes of higher number are neutrals, whose voltage says nothing about supply."""
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.command()
def powerflow(network: NetworkOption, as_json: AsJson = False) -> None:
    """AC power flow of a file's own loads and generators."""
    case = load_case(network)
    flow = solve_powerflow(case.network, _generation(case, dispatchable=True), loads=case.loads)
    document = {**_flow(case.network, flow), "root_kvar": flow.root_kvar, "warnings": list(case.warnings)}
    _warn(case)
    if as_json:
        print(json.dumps(document, allow_nan=False))
        return
    voltages = [v for v in document["voltages"] if v["phase"] <= _PHASES]
    print(f"{case.network.name}: {len(document['voltages'])} nodes")
    print(f"  root       {flow.root_kw:.3f} kW, {flow.root_kvar:.3f} kvar")
    print(f"  losses     {flow.losses_kw:.3f} kW")
    low, high = (edge(voltages, key=lambda v: float(v["pu"])) for edge in (min, max))
    print(f"  voltages   {low['pu']:.5f} pu at {_called(low)} to {high['pu']:.5f} pu at {_called(high)}")
    worst = int(np.argmax(flow.loading_percent)) if flow.loading_percent.size else None
    if worst is not None:
        print(f"  loading    {flow.loading_percent[worst]:.1f} % on {case.network.branches.element[worst]}")


@app.command()
def clear(
    network: NetworkOption,
    orders: Annotated[
        Path,
        typer.Option(
            help="CSV with the columns participant, node, phases, product, side, price, quantity_kw, kvar_per_kw."
        ),
    ],
    root_price: Annotated[float | None, typer.Option(help="Price per kWh at which the root buys and sells.")] = None,
    root_limit_kw: Annotated[
        float | None, typer.Option(min=0.0, help="Most that may pass the root, both ways.")
    ] = None,
    v_min: Annotated[float | None, typer.Option(help="Lower voltage limit, per unit.")] = None,
    v_max: Annotated[float | None, typer.Option(help="Upper voltage limit, per unit.")] = None,
    orders_only: Annotated[
        bool, typer.Option("--orders-only", help="Leave the file's own loads and generators out.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Clear one interval: dispatch and prices on the AC network."""
    case = load_case(network)
    if not case.network.balanced:
        raise InputError(network, "network", "three-phase networks are not cleared yet; `tellegen powerflow` solves it")
    file = read_orders_csv(orders, case.network)
    price = root_price if root_price is not None else case.root_price
    if price is None:
        raise InputError(network, "root", "has no reference cost in the file; give --root-price")
    for name, value, bounds in (("--v-min", v_min, (0.5, 1.0)), ("--v-max", v_max, (1.0, 1.5))):
        if value is not None and not bounds[0] <= value <= bounds[1]:
            raise InputError("command line", name, f"is {value:g} pu; give {bounds[0]:g} to {bounds[1]:g}")
    if not np.isfinite(price):
        raise InputError("command line", "--root-price", "must be a finite number")
    book = file.book
    fixed = None
    if not orders_only:
        fixed = with_plain_loads(case.network, _generation(case, dispatchable=False), case.loads)
        book = OrderBook.concat(book, _generator_offers(case))
    cleared = clear_market(
        case.network,
        book,
        price,
        root_limit_kw=root_limit_kw,
        fixed_kva=fixed,
        v_min=v_min,
        v_max=v_max,
        tie_context="clear",
    )
    _warn(case)
    if as_json:
        print(json.dumps(_document(case, file, cleared), allow_nan=False))
    else:
        _print_clearing(case, file, cleared)


def _warn(case: Case) -> None:
    """Say what of the file is left out; only once there is a result, so that an error stays one line."""
    for warning in case.warnings:
        errors.print(f"tellegen: warning: {warning}")


def _called(voltage: dict[str, Any]) -> str:
    """A node as a person names it: bus, or bus and phase."""
    return f"{voltage['node']}.{voltage['phase']}" if voltage["phase"] else str(voltage["node"])


def _generation(case: Case, *, dispatchable: bool) -> NDArray[np.complex128]:
    """What the file's generators inject, as negative demand; those with costs only if `dispatchable` is set."""
    demand = np.zeros(len(case.network.nodes), dtype=np.complex128)
    units = case.generators
    counted = np.ones(len(units.node), dtype=bool) if dispatchable else ~units.has_cost
    np.add.at(demand, units.node[counted], -(units.p_kw + 1j * units.q_kvar)[counted])
    return demand


def _generator_offers(case: Case) -> OrderBook:
    """Offers of the generators with costs: a linear piece above their minimum, and reactive power."""
    units = case.generators
    rows: list[tuple[int, int, int, float, float, float]] = []
    for k in np.flatnonzero(units.has_cost).tolist():
        node, low, high = int(units.node[k]), float(units.p_min_kw[k]), float(units.p_max_kw[k])
        slope = 2 * float(units.cost_quadratic[k])
        if low > 0:
            rows.append((node, Product.ENERGY, Side.SELL, np.nan, 0.0, low))
        if low < 0:
            rows.append((node, Product.ENERGY, Side.BUY, float(units.cost_linear[k]), slope, -low))
        start = max(low, 0.0)
        marginal = float(units.cost_linear[k]) + slope * start
        rows.append((node, Product.ENERGY, Side.SELL, marginal, slope, high - start))
        rows.append((node, Product.REACTIVE, Side.SELL, 0.0, 0.0, max(float(units.q_max_kvar[k]), 0.0)))
        rows.append((node, Product.REACTIVE, Side.BUY, 0.0, 0.0, max(-float(units.q_min_kvar[k]), 0.0)))
    if not rows:
        return OrderBook.empty()
    nodes, products, sides, prices, slopes, quantities = (np.array(column) for column in zip(*rows, strict=True))
    return OrderBook.of(nodes, sides, prices, quantities, product=products, slope=slopes)


def _flow(network: Network, flow: PowerFlow) -> dict[str, Any]:
    hidden: set[int] = set()
    feeds: set[str] = set()
    if network.root_terminals is not None:
        # The ideal nodes behind a source's impedance are ours, not the file's.
        hidden = set(network.source.tolist())
        feeds = {network.branches.element[k] for k in network.root_terminals.tolist()}
    percent: dict[str, float] = {}
    for element, value in zip(network.branches.element, flow.loading_percent.tolist(), strict=True):
        if element not in feeds:
            percent[element] = max(percent.get(element, 0.0), value)
    voltage = np.abs(flow.voltage).tolist()
    return {
        "voltages": [
            {"node": network.nodes[k], "phase": int(network.phase[k]), "pu": pu}
            for k, pu in enumerate(voltage)
            if k not in hidden
        ],
        "loadings": [{"element": element, "percent": value} for element, value in percent.items()],
        "losses_kw": flow.losses_kw,
        "root_kw": flow.root_kw,
    }


def _document(case: Case, file: OrderFile, cleared: Clearing) -> dict[str, Any]:
    network, prices = case.network, cleared.prices
    parts = ("root", "losses", "congestion", "voltage")
    per_node = [
        {
            "node": node,
            "phase": int(network.phase[k]),
            "energy": float(prices.energy[k]),
            "energy_parts": {("energy" if p == "root" else p): float(getattr(prices, p)[k]) for p in parts},
            "energy_range": [float(prices.low[k]), float(prices.high[k])],
            "reactive": float(prices.reactive[k]),
        }
        for k, node in enumerate(network.nodes)
    ]
    return {
        "status": cleared.status.name.lower(),
        "reason": cleared.reason,
        "welfare": cleared.welfare,
        "rent": cleared.rent,
        "prices": per_node,
        "reserve_prices": [],
        "awards": _awards(case, file, cleared),
        "network": _flow(network, cleared.flow),
        "limits": [_limit(limit) for limit in cleared.limits],
        "relaxations": [_limit(limit) for limit in cleared.relaxations],
        "evidence": {
            "ac_mismatch_pu": cleared.evidence.ac_mismatch_pu,
            "kkt_residual": _finite(cleared.evidence.kkt_residual),
            "max_violation_pu": cleared.evidence.max_violation_pu,
            "iterations": cleared.evidence.iterations,
        },
        "warnings": list(case.warnings),
    }


def _awards(case: Case, file: OrderFile, cleared: Clearing) -> list[dict[str, Any]]:
    book, awards = file.book, []
    for k in range(len(book)):
        node = int(book.node[k])
        reactive = int(book.product[k]) == 1
        price = cleared.prices.reactive[node] if reactive else cleared.prices.energy[node]
        awards.append(
            {
                "row": int(file.row[k]),
                "participant": file.participant[k],
                "node": case.network.nodes[node],
                "phases": "",
                "product": "reactive" if reactive else "energy",
                "side": "buy" if book.side[k] > 0 else "sell",
                "quantity_kw": float(cleared.award_kw[k]),
                "price": float(price),
            }
        )
    return awards


def _limit(limit: Any) -> dict[str, Any]:
    return {"name": limit.name, "dual": limit.dual, "unit": limit.unit, "excess": limit.excess}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _print_clearing(case: Case, file: OrderFile, cleared: Clearing) -> None:
    console = Console()
    table = Table(title=f"{case.network.name}: {cleared.status.name.lower()}", box=None, pad_edge=False)
    for name in ("participant", "node", "product", "side", "awarded kW", "price"):
        table.add_column(name, justify="right" if name in ("awarded kW", "price") else "left")
    for award in _awards(case, file, cleared):
        cells = [str(award[key]) for key in ("participant", "node", "product", "side")]
        table.add_row(*cells, f"{award['quantity_kw']:.4f}", f"{award['price']:.6f}")
    console.print(table)
    energy = cleared.prices.energy
    print(
        f"welfare {cleared.welfare:.6f} per h, rent {cleared.rent:.6f} per h, losses {cleared.flow.losses_kw:.4f} kW, "
        f"root {cleared.flow.root_kw:.4f} kW"
    )
    print(f"prices {energy.min():.6f} to {energy.max():.6f} per kWh")
    for limit in cleared.limits:
        gave = f", gave way by {limit.excess:.3g} {limit.unit}" if limit.excess else ""
        print(f"limit: {limit.name}, {limit.dual:.6g} per h and {limit.unit}{gave}")
    if cleared.reason:
        print(f"fallback: {cleared.reason}")
