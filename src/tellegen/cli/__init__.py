"""How do people reach it? The command line.

Every command prints what a person would want to see; with ``--json`` it prints one JSON document on
stdout. Progress and errors go to stderr. Exit status: 0 done, 1 the answer is no, 2 unreadable or
inconsistent input (one line: file, place, remedy).
"""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from tellegen import __version__
from tellegen.errors import TellegenError

# One BLAS thread: the matrices are small, and the second core has work of its own.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

app = typer.Typer(
    name="tellegen",
    help="Markets on distribution grids: prices that are physics, books that balance.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; turn this package's errors into one line and exit status 2."""
    # Commands register themselves on import; each imports what it needs when it runs.
    from tellegen.cli import bench, day, doctor, grid, record, rules  # noqa: F401

    try:
        app()
    except TellegenError as error:
        errors.print(f"tellegen: {error}")
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("tellegen: interrupted")
        sys.exit(130)
