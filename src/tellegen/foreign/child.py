"""The inside of a confined process: prepare, give everything up, answer.

Frames go over the two pipes that the parent holds: eight bytes of length, then as many bytes. The first frame is the
status of the barriers; every answer begins with one byte that says what follows.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import BinaryIO

from tellegen.errors import InputError
from tellegen.foreign.barriers import raise_barriers, raise_filter_around_threads

LENGTH = 8
ANSWER, REFUSAL, FAILURE = b"\x00", b"\x01", b"\x02"


def read_frame(stream: BinaryIO, bytes_max: int) -> bytes | None:
    """The next frame, or None where the other side has gone; `ValueError` where it announces more than the limit."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    length = int.from_bytes(head)
    if length > bytes_max:
        raise ValueError(f"{length} bytes are announced, {bytes_max} is the limit")
    body = stream.read(length)
    return body if len(body) == length else None


def write_frame(stream: BinaryIO, *parts: bytes) -> None:
    """Write one frame of these parts."""
    stream.write(sum(map(len, parts)).to_bytes(LENGTH))
    for part in parts:
        stream.write(part)
    stream.flush()


def limit_resources(memory_bytes: int, cpu_s: int, *, threads: bool) -> None:
    """Bound memory and processor time; files cannot grow, processes cannot be added, no core is dumped."""
    try:
        import resource
    except ImportError:
        return  # not on Windows; the parent's clock remains
    bounds = {
        "RLIMIT_AS": (memory_bytes, memory_bytes),
        # The soft limit ends the process by a signal that says why.
        "RLIMIT_CPU": (cpu_s, cpu_s + 1),
        "RLIMIT_FSIZE": (0, 0),
        "RLIMIT_CORE": (0, 0),
    }
    if not threads:
        bounds |= {"RLIMIT_NPROC": (0, 0), "RLIMIT_NOFILE": (16, 16)}
    for name, bound in bounds.items():
        try:
            resource.setrlimit(getattr(resource, name), bound)
        except (AttributeError, ValueError, OSError):
            continue  # a system without this limit, or one that holds it lower already


def main(work: str, request_max: int, memory_bytes: int, cpu_s: int, threads: bool) -> None:
    """Serve requests until the parent closes the line.

    Parameters
    ----------
    work : ``module:function``; the function prepares (imports, warms up) and returns what answers a request.
    request_max : bytes of a request. memory_bytes, cpu_s : limits of this process.
    threads : the work has threads of its own, see `raise_barriers`.
    """
    module, _, name = work.partition(":")
    # What native code prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    requests = sys.stdin.buffer
    try:
        barriers = raise_barriers(threads=True) if threads else None
        answer: Callable[[bytes], bytes] = getattr(import_module(module), name)()
        limit_resources(memory_bytes, cpu_s, threads=threads)
        status: dict[str, object] = asdict(raise_filter_around_threads(barriers) if barriers else raise_barriers())
    except Exception as failure:
        write_frame(answers, json.dumps({"failed": f"{type(failure).__name__}: {failure}"[:400]}).encode())
        return
    write_frame(answers, json.dumps(status).encode())
    while (request := read_frame(requests, request_max)) is not None:
        try:
            write_frame(answers, ANSWER, answer(request))
        except InputError as refusal:
            write_frame(answers, REFUSAL, json.dumps([refusal.place, refusal.problem]).encode())
        except MemoryError:
            write_frame(answers, FAILURE, b"it needs more memory than it may have")
        except Exception as failure:
            write_frame(answers, FAILURE, f"{type(failure).__name__}: {failure}".encode(errors="replace")[:400])
