"""The intake process of a shard: `tellegen serve`, at the time that the city is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

from tellegen.errors import WorkerError
from tellegen.grid.threads import THREAD_VARIABLES
from tellegen.journal.clock import Told
from tellegen.simulation.city.actors import Usage

ROWS_PER_S_MAX = 2_000_000_000
"""The intakes' limit per source; time stands while a concentrator of a whole shard sends."""
ROWS_MAX = 200_000
"""Of one batch: a thousand customers' orders of a day."""
BODY_BYTES_MAX, PENDING_BYTES_MAX = 1 << 25, 1 << 28
STOP_S_MAX = 60
_STAGE = re.compile(r'^tellegen_stage_cpu_seconds_total\{stage="([a-z ]+)"\} (\S+)$', re.MULTILINE)


class IntakeServer:
    """`tellegen serve` on a shard's directory, in a process of its own."""

    def __init__(self, folder: Path, told: Told) -> None:
        limits = {"rate": ROWS_PER_S_MAX, "rows": ROWS_MAX, "body-bytes": BODY_BYTES_MAX}
        limits["pending-bytes"] = PENDING_BYTES_MAX
        command = [sys.executable, "-c", "from tellegen.cli import main; main()", "serve", str(folder)]
        command += [
            "--simulation",
            "--tied",
            "--port",
            "0",
            "--pace",
            str(told),
            *(word for k, v in limits.items() for word in (f"--{k}", str(v))),
        ]
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
        self._folder = folder
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,  # its end is ours: `--tied`
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.address = ("", 0)

    def wait(self) -> None:
        """Wait until it takes requests; then `address` is known.

        Raises
        ------
        WorkerError : it did not start.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        place = line.strip().rpartition("//")[2].rstrip("/")
        host, colon, port = place.rpartition(":")
        if not colon or not port.isdigit():
            raise WorkerError(f"the intake of {self._folder} did not start: {line.strip() or 'it said nothing'}")
        self.address = (host, int(port))

    def usage(self) -> Usage:
        """What the process has used so far."""
        return Usage.of(self._process.pid)

    def stages(self) -> dict[str, float]:
        """CPU seconds of its stages since it began, as it says itself."""
        connection = HTTPConnection(*self.address)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {stage: float(seconds) for stage, seconds in _STAGE.findall(text)}

    def stop(self) -> None:
        """Let it drain and end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
