"""A verification in a process of its own, of bounded memory and time: whatever a directory holds, there is an answer.

`verify_directory` bounds each file before it reads it. What breaks a reader all the same, or takes more than all of it
may, ends the child and not whoever asks: then the answer is no, and says during which check. The child can make no file
longer, and what it says is data. Where a system has no such limits (Windows), only the time is bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from tellegen.errors import InputError
from tellegen.verify.directory import verify_directory
from tellegen.verify.folder import GIB, Limits
from tellegen.verify.report import Check, Difference, PriceComparison, RefusedError, Report

SECONDS = 3600
_LINE_BYTES_MAX = 1 << 26
_CHILD = "from tellegen.verify.confined import answer; answer()"
# one thread each: where threads are many, their stacks alone would take the address space
_ENVIRONMENT = {
    "POLARS_MAX_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "RUST_BACKTRACE": "0",
}


def verify_confined(
    path: Path | str,
    *,
    key: str | None = None,
    market_key: str | None = None,
    witnesses: Sequence[str] = (),
    publishers: Sequence[str] = (),
    receipts: Sequence[str] = (),
    root_prices: Path | None = None,
    limits: Limits | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Check a directory from anybody, as `verify_directory` does.

    Parameters
    ----------
    limits : its `memory_bytes` are what the whole process may take.
    seconds : after which it is ended.

    Returns
    -------
    The report; where the process did not come to an end, its last check, ``verification``, says why.

    Raises
    ------
    InputError, RefusedError : as `verify_directory`.
    """
    bounds = limits if limits is not None else Limits()
    prices = None if root_prices is None else str(root_prices)
    about: dict[str, Any] = {"path": str(path), "key": key, "market_key": market_key, "root_prices": prices}
    about |= {"witnesses": list(witnesses), "publishers": list(publishers), "receipts": list(receipts)}
    about |= {"memory_bytes": bounds.memory_bytes, "seconds": seconds}
    folders = [folder for folder in sys.path if os.path.isabs(folder)]
    with subprocess.Popen(  # noqa: S603 - this program; -P: nothing is imported from where it runs
        [sys.executable, "-P", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(folders)},
    ) as child:
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        clock = threading.Timer(seconds, end)
        clock.daemon = True
        clock.start()
        try:
            return _listened(child, about, late, bounds)
        finally:
            clock.cancel()
            child.kill()


def _listened(child: subprocess.Popen[bytes], about: dict[str, Any], late: threading.Event, bounds: Limits) -> Report:
    checks: list[Check] = []
    with contextlib.suppress(BrokenPipeError):  # it ended early; what it said, or how it ended, says why
        _pipe(child.stdin).write(json.dumps(about).encode())
        _pipe(child.stdin).close()
    for said in _answers(child.stdout):
        if "check" in said:
            checks.append(Check(**said["check"]))
        elif "refused" in said:
            raise RefusedError(said["refused"])
        elif "input" in said:
            raise InputError(*said["input"])
        else:
            return Report(all(check.ok for check in checks), checks, _comparison(said["prices"]))
    child.wait()
    where = f"after check '{checks[-1].name}'" if checks else "at the beginning"
    return Report(False, [*checks, Check("verification", False, 0, f"{_end(child, late, bounds)}, {where}")])


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("a pipe was asked for")
    return stream


def _answers(stream: IO[bytes] | None) -> Iterator[dict[str, Any]]:
    while line := _pipe(stream).readline(_LINE_BYTES_MAX):
        if line.endswith(b"\n"):
            yield json.loads(line)


def _end(child: subprocess.Popen[bytes], late: threading.Event, bounds: Limits) -> str:
    status = child.returncode
    if late.is_set() or status == -getattr(signal, "SIGXCPU", 0):
        return "ended, because it took longer than it may"
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    memory = bounds.memory_bytes / GIB
    return f"ended with {how}: the directory takes more than the {memory:g} GiB it may, or breaks what reads it"


def _comparison(said: dict[str, Any] | None) -> PriceComparison | None:
    if said is None:
        return None
    lists = ("differ", "not_published", "not_recorded")
    return PriceComparison(**said | {name: [Difference(**each) for each in said[name]] for name in lists})


# In the child


def answer() -> None:
    """Verify what the first line of input says, and print each check as a line of JSON."""
    about = json.loads(_standard_input().read())
    out = os.fdopen(os.dup(1), "wb")
    sys.stdout = sys.stderr  # whatever else prints does not speak for the verification
    _bound(about["memory_bytes"], about["seconds"])

    def say(**words: object) -> None:
        out.write(json.dumps(words).encode() + b"\n")
        out.flush()

    def each(check: Check) -> None:
        say(check=asdict(check))

    try:
        report = verify_directory(
            about["path"],
            key=about["key"],
            market_key=about["market_key"],
            witnesses=about["witnesses"],
            publishers=about["publishers"],
            receipts=about["receipts"],
            root_prices=None if about["root_prices"] is None else Path(about["root_prices"]),
            limits=Limits(about["memory_bytes"]),
            each=each,
        )
    except InputError as error:
        say(input=[error.source, error.place, error.problem])
    except RefusedError as error:
        say(refused=str(error))
    else:
        say(prices=None if report.root_prices is None else asdict(report.root_prices))


def _standard_input() -> BufferedReader:
    return sys.stdin.buffer  # type: ignore[return-value]


def _bound(memory_bytes: int, seconds: float) -> None:
    """Give up memory, time, new files and cores beyond what is needed."""
    try:
        import resource
    except ImportError:
        return
    wanted = {"RLIMIT_AS": memory_bytes, "RLIMIT_CPU": int(seconds) + 1, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, most in wanted.items():
        which = getattr(resource, name, None)
        if which is None:
            continue
        soft, hard = resource.getrlimit(which)
        bounds = [most, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
        with contextlib.suppress(ValueError, OSError):  # a system that does not bound this one
            resource.setrlimit(which, (min(bounds), min(bounds)))
