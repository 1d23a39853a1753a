"""``tellegen powerflow`` and ``tellegen clear``: one network, one interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import app, errors
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.workbench import ClearingResult, FlowResult

NetworkOption = Annotated[
    str,
    typer.Option("--network", help="OpenDSS .dss, MATPOWER .m, pandapower .json, simbench:CODE or pandapower:NAME."),
]
_PHASES = 3
"""Nodes of higher number are neutrals, whose voltage says nothing about supply."""
LIMITS_SHOWN = 12
"""Limits that are printed for people, those that gave way at the largest cost first."""
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.command()
def powerflow(network: NetworkOption, as_json: AsJson = False) -> None:
    """AC power flow of a file's own loads and generators."""
    from tellegen.workbench import load_network
    from tellegen.workbench import powerflow as solve

    result = solve(load_network(network))
    warn(result.warnings)
    if as_json:
        print(result.to_json())
    else:
        _print_flow(result)


@app.command()
def clear(
    network: NetworkOption,
    orders: Annotated[
        Path,
        typer.Option(help="CSV: participant, node, phases, product, side, price, quantity_kw, kvar_per_kw, slope."),
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
    agreements: Annotated[
        Path | None,
        typer.Option(help="CSV of connection agreements: participant, node, phases, import_kw, export_kw, ..."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            help="CSV of reference prices: participant, product, price. Offers of who is pivotal are held to them."
        ),
    ] = None,
    period_minutes: Annotated[float, typer.Option(help="How long the dispatch lasts.")] = 5.0,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for pictures of the result (needs the extra `pictures`).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Clear one interval: dispatch and prices on the AC network."""
    from tellegen.workbench import OptionError, load_network
    from tellegen.workbench import clear as clear_network

    try:
        result = clear_network(
            load_network(network),
            orders,
            root_price=root_price,
            root_limit_kw=root_limit_kw,
            v_min=v_min,
            v_max=v_max,
            orders_only=orders_only,
            agreements=agreements,
            references=references,
            period_minutes=period_minutes,
        )
    except OptionError as error:
        raise InputError("command line", f"--{error.option.replace('_', '-')}", error.problem) from None
    warn(result.warnings)
    if pictures is not None:
        from tellegen.cli.pictures import write_pictures

        write_pictures(result, pictures)
    if as_json:
        print(result.to_json())
    else:
        _print_clearing(result)


def warn(warnings: tuple[str, ...]) -> None:
    """Say what of the file is left out; only once there is a result, so that an error stays one line."""
    for warning in warnings:
        errors.print(f"tellegen: warning: {warning}")


def _print_flow(result: FlowResult) -> None:
    document = result.to_dict()
    voltages = [v for v in document["voltages"] if v["phase"] <= _PHASES]
    print(f"{result.feeder.name}: {len(document['voltages'])} nodes")
    print(f"  root       {result.root_kw:.3f} kW, {result.root_kvar:.3f} kvar")
    print(f"  losses     {result.losses_kw:.3f} kW")
    low, high = (edge(voltages, key=lambda v: float(v["pu"])) for edge in (min, max))
    print(f"  voltages   {low['pu']:.5f} pu at {called(low)} to {high['pu']:.5f} pu at {called(high)}")
    if document["loadings"]:
        worst = max(document["loadings"], key=lambda loading: float(loading["percent"]))
        print(f"  loading    {worst['percent']:.1f} % on {worst['element']}")


def called(voltage: dict[str, object]) -> str:
    """A node as a person names it: bus, or bus and phase."""
    return f"{voltage['node']}.{voltage['phase']}" if voltage["phase"] else str(voltage["node"])


def _print_clearing(result: ClearingResult) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{result.feeder.name}: {result.status}", box=None, pad_edge=False)
    names = ["participant", "node", "phases", "product", "side"]
    if result.feeder.network.balanced:
        names.remove("phases")
    for name in (*names, "awarded kW", "price"):
        table.add_column(name, justify="right" if name in ("awarded kW", "price") else "left")
    document = result.to_dict()
    for award in document["awards"]:
        cells = [str(award[key]) for key in names]
        price = award.get("status", "") if award["price"] is None else f"{award['price']:.6f}"
        table.add_row(*cells, f"{award['quantity_kw']:.4f}", price)
    console.print(table)
    energy = [price["energy"] for price in document["prices"]]
    print(
        f"welfare {result.welfare:.6f} per h, rent {result.rent:.6f} per h, losses {result.losses_kw:.4f} kW, "
        f"root {result.root_kw:.4f} kW"
    )
    print(f"prices {min(energy):.6f} to {max(energy):.6f} per kWh")
    for reserve in document["reserve_prices"]:
        print(f"{reserve['product'].replace('_', ' ')} {reserve['price']:.6f} per kW and h")
    limits = sorted(result.clearing.limits, key=lambda limit: -limit.excess * limit.dual)
    for limit in limits[:LIMITS_SHOWN]:
        price = limit.price
        gave = f", gave way by {limit.excess:.3g} {limit.unit} at {price:.6g} per kWh" if limit.excess else ""
        print(f"limit: {result.limit_name(limit)}, {limit.dual:.6g} per h and {limit.unit}{gave}")
    if len(limits) > LIMITS_SHOWN:
        print(f"and {len(limits) - LIMITS_SHOWN} more limits; --json lists all")
    for finding in document.get("mitigation", ()):
        held = "held to" if finding["mitigated"] else "within"
        print(
            f"pivotal: {finding['participant']} on {finding['limit']}: {finding['needed_kw']:.4g} kW needed, "
            f"{finding['others_kw']:.4g} without it; {finding['side']}s {finding['product'].replace('_', ' ')} at "
            f"{finding['offered']:.6g}, {held} {finding['reference']:.6g}; price {finding['price_before']:.6f} to "
            f"{finding['price_after']:.6f}"
        )
    choice = document["optima"]
    if choice["seen"] > 1:
        print(
            f"optima: {choice['seen']} seen from {choice['starts']} starts, the best is taken; the worst is "
            f"{choice['welfare_spread']:.6g} per h below"
        )
    if result.reason:
        print(f"fallback: {result.reason}")
