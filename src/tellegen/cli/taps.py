"""``tellegen settle-taps``: regulators and capacitors between two market periods."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellegen.cli import app
from tellegen.cli.grid import AsJson, NetworkOption, called, warn
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.grid import Case, Network, PowerFlow, Settlement

_PHASES = 3
"""Nodes of higher number are neutrals."""


@app.command("settle-taps")
def settle(
    network: NetworkOption,
    orders: Annotated[
        Path | None,
        typer.Option(help="Orders of the period: clear, settle at the dispatch, clear again until nothing moves."),
    ] = None,
    root_price: Annotated[float | None, typer.Option(help="Price per kWh at which the root buys and sells.")] = None,
    root_limit_kw: Annotated[
        float | None, typer.Option(min=0.0, help="Most that may pass the root, both ways.")
    ] = None,
    v_min: Annotated[float | None, typer.Option(min=0.5, max=1.0, help="Lower voltage limit, per unit.")] = None,
    v_max: Annotated[float | None, typer.Option(min=1.0, max=1.5, help="Upper voltage limit, per unit.")] = None,
    orders_only: Annotated[
        bool, typer.Option("--orders-only", help="Leave the file's own loads and generators out.")
    ] = False,
    load_factor: Annotated[float, typer.Option(min=0.0, help="The file's own loads, times this.")] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Write the network with its new positions here (.json); --network reads it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move taps and capacitors until their controls are content; they stand still while the market clears."""
    from tellegen.grid import case_to_json, load_case, settle_jointly, settle_taps
    from tellegen.workbench.declared import set_points
    from tellegen.workbench.dispatch_market import market_of

    if out is not None and out.suffix.lower() != ".json":
        raise InputError("command line", "--out", f"is {out}; a network document is called *.json")
    case = load_case(network)
    own = case.loads
    if not math.isfinite(load_factor):
        raise InputError("command line", "--load-factor", "must be a finite number")
    if load_factor != 1:
        case = replace(case, loads=replace(own, p_kw=own.p_kw * load_factor, q_kvar=own.q_kvar * load_factor))
    steps: tuple[Settlement, ...]
    statuses: list[str] = []
    if orders is None:
        if root_price is not None or orders_only:
            raise InputError("command line", "--orders", "is missing, without which nothing is cleared")
        alone = settle_taps(case, set_points(case, dispatchable=True))
        final, steps, settled, cycle = alone.case, (alone,), alone.settled, alone.cycle
    else:
        market = market_of(case, network, orders, root_price, orders_only)
        market.root_limit_kw, market.v_min, market.v_max = root_limit_kw, v_min, v_max
        joint = settle_jointly(case, market)
        final, steps, settled, cycle = joint.case, joint.steps, joint.settled, joint.cycle
        statuses = [cleared.status.name.lower() for cleared in market.cleared]
    document = {
        "settled": settled,
        "cycle": list(cycle),
        "power_flows": sum(step.rounds for step in steps),
        "clearings": statuses,
        "moves": list(_moves(steps)),
        "positions": list(_positions(case, final)),
        "voltages": list(_voltages(final.network, steps[0].before, steps[-1].after)),
        **{
            f"{name}_{when}": getattr(flow, name)
            for name in ("losses_kw", "root_kw", "root_kvar")
            for when, flow in (("before", steps[0].before), ("after", steps[-1].after))
        },
        "warnings": list(case.warnings),
    }
    if out is not None and settled:
        _write(out, case_to_json(replace(final, loads=own)))
    warn(case.warnings)
    if as_json:
        print(json.dumps(document, allow_nan=False))
    else:
        _print(case, document)
        if out is not None:
            print(f"written to {out}" if settled else f"not written: {out}")
    if not settled:
        raise typer.Exit(1)


def _write(path: Path, content: bytes) -> None:
    """All of the file or none of it."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _moves(steps: tuple[Settlement, ...]) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(steps, start=1):
        for move in step.moves:
            yield {
                "dispatch": number,
                "round": move.round,
                "control": move.control,
                "element": move.element,
                "winding": move.winding,
                "steps": move.steps,
                "position": move.position,
            }


def _positions(before: Case, after: Case) -> Iterator[dict[str, Any]]:
    """Taps that a control may move, and how many steps of its capacitors are in (winding 0)."""
    if before.controls is None or after.controls is None:
        return
    old, new = before.controls, after.controls
    for k, winding in sorted({(r.transformer, r.tap_winding) for r in old.regulators}):
        taps = [controls.transformers[k].windings[winding].tap for controls in (old, new)]
        steps = round((taps[1] - taps[0]) / old.transformers[k].step(winding))
        yield _position(old.transformers[k].name, winding + 1, taps[0], taps[1], steps)
    for bank, later in zip(old.capacitors, new.capacitors, strict=True):
        count = int(bank.on.sum()), int(later.on.sum())
        yield _position(bank.name, 0, *count, count[1] - count[0])


def _position(element: str, winding: int, before: float, after: float, steps: int) -> dict[str, Any]:
    return {"element": element, "winding": winding, "before": before, "after": after, "steps": steps}


def _voltages(network: Network, before: PowerFlow, after: PowerFlow) -> Iterator[dict[str, Any]]:
    hidden = set(network.source.tolist()) if network.root_terminals is not None else set()
    for k, (low, high) in enumerate(zip(abs(before.voltage), abs(after.voltage), strict=True)):
        if k not in hidden:
            phase = int(network.phase[k])
            yield {"node": network.nodes[k], "phase": phase, "before": float(low), "after": float(high)}


def _print(case: Case, document: dict[str, Any]) -> None:
    controls, flows = case.controls, document["power_flows"]
    regulators, switches = (0, 0) if controls is None else (len(controls.regulators), len(controls.switches))
    print(f"{case.network.name}: {regulators} regulators, {switches} capacitor controls")
    cleared = f" and {len(document['clearings'])} clearings" if document["clearings"] else ""
    outcome = f"settled after {flows} power flows{cleared}"
    if document["cycle"]:
        outcome = f"not settled: {', '.join(document['cycle'])} go round in circles"
    elif not document["settled"]:
        outcome = f"not settled after {flows} power flows{cleared}"
    print(f"  {outcome}")
    if document["clearings"] and document["clearings"][-1] != "optimal":
        print(f"  the last clearing is {document['clearings'][-1]}")
    for entry in document["positions"]:
        if entry["steps"]:
            where = f"tap of winding {entry['winding']}" if entry["winding"] else "steps in"
            change = f"{entry['before']:.7g} to {entry['after']:.7g}"
            print(f"  {entry['element']}: {where} {change} ({entry['steps']:+d})")
    voltages = [v for v in document["voltages"] if v["phase"] <= _PHASES]
    for when in ("before", "after"):
        low, high = (edge(voltages, key=lambda v: float(v[when])) for edge in (min, max))
        print(
            f"  {when:<8} {low[when]:.5f} pu at {called(low)} to {high[when]:.5f} pu at {called(high)}, "
            f"losses {document[f'losses_kw_{when}']:.3f} kW, root {document[f'root_kw_{when}']:.3f} kW"
        )
