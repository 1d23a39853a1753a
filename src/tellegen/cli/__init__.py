"""How do people reach it? The command line.

Every command prints what a person would want to see; with ``--json`` it prints one JSON document on
stdout. Progress and errors go to stderr. Exit status: 0 done, 1 the answer is no, 2 unreadable or
inconsistent input (one line: file, place, remedy).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import typer

from tellegen import __version__
from tellegen.cli.terminal import ErrorConsole, guarded_output
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
errors = ErrorConsole(stderr=True, soft_wrap=True, highlight=False, markup=False)


_INTERRUPTED = 130
"""Exit status after Ctrl-C; newer versions of Typer return it, older ones abort."""
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises for a command line it cannot read; Typer exports only this child of it."""

COMMANDS = (
    "day",
    "record",
    "holds",
    "journal",
    "evidence",
    "archive",
    "witness",
    "operate",
    "vault",
    "serve",
    "prices",
    "market_power",
    "registry",
    "connections",
    "registry_keys",
    "meters",
    "grid",
    "network",
    "taps",
    "rules",
    "bench",
    "doctor",
)
"""Modules of commands, in the order of the help: they register on import, and import what they need when they run."""


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; turn errors of input into one line and exit status 2."""
    for module in COMMANDS:
        import_module(f"tellegen.cli.{module}")
    try:
        with guarded_output():
            status = app(standalone_mode=False)
            sys.stdout.flush()
    except TellegenError as error:
        _refuse(str(error))
    except _UsageError as error:
        _refuse_usage(error)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _refuse(f"{error.filename or 'file'}: cannot be read or written ({error.strerror or error})")
    except typer.Abort as stop:
        status = _INTERRUPTED if isinstance(stop.__cause__, KeyboardInterrupt) else 1
        if status == 1:
            errors.print("tellegen: nothing was done")
    if status == _INTERRUPTED:
        errors.print("tellegen: interrupted")
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(problem: str) -> NoReturn:
    errors.print(f"tellegen: {' '.join(problem.split())}")
    sys.exit(2)


def _refuse_usage(error: Exception) -> NoReturn:
    """One line for a command line that cannot be read; without a command Typer has shown the help already."""
    message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if not message:
        sys.exit(2)
    command = context.command_path if context is not None else "tellegen"
    _refuse(f"command line: {message.rstrip('.')}; `{command} --help` says what is possible")
