"""A child process that works on bytes from strangers and can do nothing else.

It is a process of its own, not one of `tellegen.spawned`: it inherits no environment, no open file and no main module,
and nothing that comes from it is unpickled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tellegen.errors import InputError
from tellegen.foreign.barriers import Barriers
from tellegen.foreign.child import ANSWER, REFUSAL, read_frame, write_frame

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a confined process may use.

    Attributes
    ----------
    memory_bytes : address space, the interpreter's included. cpu_s : processor time of the whole process.
    wall_s : from a question to its answer, and for getting ready. request_bytes, answer_bytes : of one frame.
    threads : it works with threads of its own; until it is ready it is kept from writing, TCP and signals only, and for
        good where `raise_filter_around_threads` does nothing.
    """

    memory_bytes: int = 3072 * MIB
    cpu_s: int = 300
    wall_s: float = 600.0
    request_bytes: int = 256 * MIB
    answer_bytes: int = 512 * MIB
    threads: bool = False


class Confined:
    """A confined process; a context manager that ends it. It ends with this object at the latest.

    Parameters
    ----------
    work : ``module:function`` to be run inside, see `child.main`.
    source : what errors name: the file that is being read. does : the program inside, for errors.
    """

    def __init__(self, work: str, source: str, does: str, limits: Limits = Limits()) -> None:
        self._source, self._does, self._limits = source, does, limits
        self._late = False
        paths = [path for path in sys.path if os.path.isabs(path)]
        start = (
            f"import sys; sys.path[:0] = {paths!r}; from tellegen.foreign.child import main; "
            f"main({work!r}, {limits.request_bytes}, {limits.memory_bytes}, {limits.cpu_s}, {limits.threads})"
        )
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own words
            [sys.executable, "-I", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
            | {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},
            cwd=os.path.abspath(os.sep),
            close_fds=True,
        )
        self._barriers: Barriers | None = None
        self.close = weakref.finalize(self, _end, self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def barriers(self) -> Barriers:
        """What stands around the process; waits until it is ready.

        Raises
        ------
        InputError : it ended instead.
        """
        if self._barriers is None:
            status = json.loads(self._within(None, 4096))
            if "failed" in status:
                raise self._error(f"cannot be started ({printable(str(status['failed']))}); see `tellegen doctor`")
            self._barriers = Barriers(int(status["landlock"]), bool(status["seccomp"]))
        return self._barriers

    def ask(self, request: bytes) -> bytes:
        """Let it work on a request.

        Raises
        ------
        InputError : it refuses the request, crashes, or comes to a limit; one line.
        """
        if len(request) > self._limits.request_bytes:
            raise self._error(f"is handed {len(request)} bytes, {self._limits.request_bytes} is the limit")
        _ = self.barriers
        answer = self._within(request, self._limits.answer_bytes)
        kind, body = answer[:1], answer[1:]
        if kind == ANSWER:
            return body
        if kind == REFUSAL:
            place, problem = json.loads(body)
            raise InputError(self._source, printable(str(place)), printable(str(problem)))
        raise self._error(f"cannot work on it: {printable(body.decode(errors='replace'))}")

    def _within(self, request: bytes | None, bytes_max: int) -> bytes:
        """Send, if there is anything to send, and wait for a frame; the process is killed when the time is over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        clock = threading.Timer(self._limits.wall_s, self._expire)
        clock.daemon = True
        clock.start()
        try:
            if request is not None:
                write_frame(self._process.stdin, request)  # type: ignore[arg-type]
            frame = read_frame(self._process.stdout, bytes_max)  # type: ignore[arg-type]
        except BrokenPipeError:
            frame = None
        except ValueError as failure:
            raise self._error(f"answers with more than it may: {failure}") from None
        finally:
            clock.cancel()
        if frame is None:
            raise self._error(self._ended())
        return frame

    def _expire(self) -> None:
        self._late = True
        self._process.kill()

    def _ended(self) -> str:
        """Why the process ended, in words."""
        status = self._process.wait()
        if self._late:
            return f"took more than {self._limits.wall_s:g} s and was stopped; the file is too large or never ends"
        if hasattr(signal, "SIGXCPU") and status == -signal.SIGXCPU:
            return f"took more than {self._limits.cpu_s} s of processor time; the file is too large or never ends"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        memory = self._limits.memory_bytes // MIB
        return f"crashed on it ({how}), or needed more than {memory} MiB of memory; the file is broken or hostile"

    def _error(self, problem: str) -> InputError:
        return InputError(self._source, self._does, problem)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process; nothing that it was doing matters any more."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue


def printable(text: str, characters_max: int = 300) -> str:
    """Foreign words as one line that no terminal acts upon: control characters are written out, length is bounded."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= characters_max else line[: characters_max - 3] + "..."
