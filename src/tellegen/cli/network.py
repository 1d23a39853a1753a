"""``tellegen network``: look at a network, and convert it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import app
from tellegen.cli.pictures import network_show
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.grid import Network

NetworkOption = Annotated[
    str,
    typer.Option("--network", help="OpenDSS .dss, MATPOWER .m, pandapower .json, simbench:CODE or pandapower:NAME."),
]

network_app = typer.Typer(no_args_is_help=True, help="Look at a network file before a market runs on it.")
app.add_typer(network_app, name="network")
network_app.command("show")(network_show)


@network_app.command()
def check(
    network: NetworkOption,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Health report: what looks wrong in a network; exit status 1 where it has errors."""
    from tellegen.grid import load_case
    from tellegen.grid.health import Severity, examine

    case = load_case(network)
    findings = examine(case)
    nodes = _nodes(case.network)
    counts = Counter(finding.severity for finding in findings)
    ok = not counts[Severity.ERROR]
    if as_json:
        print(
            json.dumps(
                {
                    "ok": ok,
                    "nodes": nodes,
                    "counts": {severity.value: counts[severity] for severity in Severity},
                    "findings": [asdict(finding) for finding in findings],
                }
            )
        )
    else:
        summary = ", ".join(f"{counts[s]} {s.value}{'s' * (counts[s] != 1)}" for s in Severity)
        print(f"{case.network.name}: {nodes} nodes, {summary}")
        for finding in findings:
            print(f"  {finding.severity.value:<8} {finding.check:<10} {finding.place}: {finding.problem}")
    if not ok:
        raise typer.Exit(1)


@network_app.command()
def convert(
    network: NetworkOption,
    out: Annotated[Path, typer.Option(help="File to write, *.json.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a network, with its loads and generators, as tellegen's own JSON document."""
    from tellegen.grid import case_to_json, load_case

    if out.exists() and not force:
        raise InputError(out, "file", "exists already; choose another name or give --force")
    if out.suffix.lower() != ".json":
        raise InputError(out, "name", "must end in .json")
    case = load_case(network)
    content = case_to_json(case)
    part = out.with_name(out.name + ".part")
    part.write_bytes(content)
    part.replace(out)
    print(f"{out}: {_nodes(case.network)} nodes, {len(content)} bytes")


def _nodes(network: Network) -> int:
    """Nodes of the file itself: not the ideal ones behind a source's impedance."""
    return len(network.nodes) - (0 if network.root_terminals is None else network.source.size)
