"""The intake as a child of the operator's process: started, started again where it ends, and ended with it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tellegen.errors import InputError

READY_SECONDS_MAX = 120.0
"""Opening a large shard takes some seconds; nothing takes this long."""
END_SECONDS_MAX = 45.0
RESTART_S = 1.0
_READY = "tellegen serves "


class IntakeProcess:
    """`tellegen serve` in a process of its own.

    Parameters
    ----------
    directory : of the shard.
    options : of `serve`, as on its command line; port 0 takes a free one, and keeps it.
    tell : told one line when it ends unasked, and whatever it complains of.

    Attributes
    ----------
    ready : set while it takes requests, and once it will not any more. address : where. process_id : which.
    """

    def __init__(
        self, directory: Path, host: str, port: int, options: Sequence[str], tell: Callable[[str], None]
    ) -> None:
        self._directory, self._host, self._port, self._options, self._tell = directory, host, port, options, tell
        self._stop, self.ready = threading.Event(), threading.Event()
        self._working, self._starting = threading.Event(), threading.Lock()
        self._working.set()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._last = ""
        self.address, self.process_id = "", 0

    def start(self) -> str:
        """Start it; returns its address once it takes requests.

        Raises
        ------
        InputError : it does not start; says what it said.
        """
        self._thread.start()
        self.ready.wait(READY_SECONDS_MAX)
        if not self.address:
            self.stop()
            raise InputError(self._directory, "intake", f"does not start: {self._last or 'it says nothing'}")
        return self.address

    @contextmanager
    def paused(self) -> Iterator[None]:
        """End it for a while; it answers what is under way before. Senders try again."""
        with self._starting:
            self._working.clear()
            self.ready.clear()
        self._end()
        try:
            yield
        finally:
            self._working.set()
            self.ready.wait(READY_SECONDS_MAX)

    def stop(self) -> None:
        """End it; it answers what is under way before."""
        self._stop.set()
        self._end()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS_MAX)

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._working.wait(RESTART_S):
                continue
            status = self._once()
            begun = bool(self.address)
            if self._stop.is_set() or not begun:
                break
            if not self._working.is_set():
                continue
            self.ready.clear()
            self._tell(f"the intake has ended (status {status}: {self._last}); it is started again")
            self._stop.wait(RESTART_S)
        self.ready.set()

    def _once(self) -> int:
        command = [sys.executable, "-c", "from tellegen.cli import main; main()", "serve", str(self._directory)]
        command += ["--tied", "--host", self._host, "--port", str(self._port), *self._options]
        with self._starting:
            if not self._working.is_set():
                return 0
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,  # its end is ours: `--tied`
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for us, who end it
            )
            self._process, self.process_id = process, process.pid
        with process:
            if self._stop.is_set():
                process.terminate()
            assert process.stdout is not None
            for line in process.stdout:
                self._heard(line.strip())
        return process.returncode

    def _heard(self, line: str) -> None:
        if line.startswith(_READY):
            self.address = line.rpartition(" at ")[2]
            self._port = int(self.address.rpartition(":")[2])
            self.ready.set()
        elif line:
            self._last = line.removeprefix("tellegen: ")
            if self.address:
                self._tell(f"intake: {self._last}")
