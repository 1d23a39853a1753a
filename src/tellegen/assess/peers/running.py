"""A peer as a process: an instance file in, a result file out, one thread of linear algebra."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tellegen.assess.peers.install import Peer, PeerError
from tellegen.assess.peers.instance import Arrays
from tellegen.grid.threads import THREAD_VARIABLES


def run_peer(peer: Peer, python: Path, instance: Arrays, timeout_s: float) -> Arrays:
    """Result arrays of a peer's program; see the programs for their names.

    Raises
    ------
    PeerError : it ended without a result, with the last line that it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "instance.npz", Path(folder) / "result.npz"
        np.savez(given, **instance)  # type: ignore[arg-type]
        command = [str(python), "-I", str(peer.path), str(given), str(found)]
        if peer.program == "pandapower_opf":
            command.append(f"{0.8 * timeout_s:g}")
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
        try:
            done = subprocess.run(  # noqa: S603
                # Some peers write a log wherever they stand.
                command,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                env=environment,
                cwd=folder,
            )
        except subprocess.TimeoutExpired:
            raise PeerError(f"no result within {timeout_s:g} s") from None
        except OSError as error:
            raise PeerError(f"{python}: {error}") from None
        if done.returncode != 0 or not found.is_file():
            said = (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
            raise PeerError(said)
        with np.load(found, allow_pickle=False) as file:
            return dict(file)
