"""Pictures from the command line: ``tellegen network show`` and ``tellegen clear --pictures``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import errors
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.workbench import ClearingResult

SUFFIXES = (".png", ".svg", ".pdf")


def network_show(
    network: Annotated[
        str,
        typer.Option(
            "--network", help="OpenDSS .dss, MATPOWER .m, pandapower .json, simbench:CODE or pandapower:NAME."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")],
    show: Annotated[str, typer.Option(help="connections, or voltages or loadings of its power flow.")] = "connections",
) -> None:
    """Draw a network: its map where the file has coordinates, else a one-line diagram."""
    from tellegen.pictures import feeder as draw
    from tellegen.workbench import load_network, powerflow

    if out.suffix.lower() not in SUFFIXES:
        raise InputError("command line", f"--out {out}", f"must end in {', '.join(SUFFIXES)}")
    feeder = load_network(network)
    figure = draw(feeder) if show == "connections" else draw(powerflow(feeder), show=show)
    figure.savefig(out)
    for warning in feeder.warnings:
        errors.print(f"tellegen: warning: {warning}")
    print(out)


def write_pictures(result: ClearingResult, folder: Path) -> None:
    """Write every picture of a clearing as PNG into `folder`, which is made where it is missing."""
    from tellegen import pictures

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "feeder": pictures.feeder(result),
        "prices": pictures.prices(result),
        "voltages": pictures.voltages(result),
        "loadings": pictures.loadings(result),
        "orders": pictures.orders(result),
        "price_parts": pictures.price_parts(result),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")
    errors.print(f"tellegen: {len(drawn)} pictures in {folder}")
