"""Peers by name, what each needs, and virtual environments of their own for them.

Nothing here is needed to run a market. A peer lives in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``,
then ``tellegen/peers/NAME``), is installed by pip only when asked, at pinned versions, from the package index that the
user has configured, and runs as a process of its own that is given a file: nothing of this package is imported by a
peer or the other way round, so licences stay apart.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tellegen.errors import TellegenError

INSTALL_S_MAX = 1800.0
MARK = "requirements.txt"
"""Written last: a folder without it is half an installation."""


class PeerError(TellegenError):
    """A peer could not be installed, or ended without a result."""


class Task(StrEnum):
    """What a peer solves."""

    MARKET = "market"
    AUCTION = "auction"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another engine.

    Attributes
    ----------
    name : how figures call it.
    task : what it solves.
    program : module of `programs` that runs in its environment.
    requirements : pinned; none: it runs on this product's own Python.
    licence : of the peer.
    about : what it is, in words.
    """

    name: str
    task: Task
    program: str
    requirements: tuple[str, ...]
    licence: str
    about: str

    @property
    def path(self) -> Path:
        """File of the program."""
        return Path(__file__).parent / "programs" / f"{self.program}.py"


PEERS = (
    Peer(
        "ipopt",
        Task.MARKET,
        "ipopt",
        ("casadi==3.8.2", "numpy==2.4.6", "scipy==1.17.1"),
        "EPL-2.0 (CasADi: LGPL-3.0)",
        "exact AC in rectangular voltages, interior point",
    ),
    Peer(
        "socp",
        Task.MARKET,
        "socp",
        ("clarabel==0.11.1", "numpy==2.4.6", "scipy==1.17.1"),
        "Apache-2.0",
        "branch flow relaxed to second-order cones, by Clarabel",
    ),
    Peer(
        "branch-flow-sqp",
        Task.MARKET,
        "branch_flow_sqp",
        ("piqp==0.7.0", "numpy==2.4.6", "scipy==1.17.1"),
        "BSD-2-Clause",
        "branch flow, sequential quadratic programs by PIQP",
    ),
    Peer(
        "pandapower",
        Task.MARKET,
        "pandapower_opf",
        ("pandapower==3.5.6", "pandas==2.3.3"),
        "BSD-3-Clause",
        "runopp, the interior point of PYPOWER",
    ),
    Peer("sort", Task.AUCTION, "sort_auction", (), "Apache-2.0", "two sorts and two running sums in NumPy"),
    Peer("highs", Task.AUCTION, "highs_auction", (), "MIT", "linear program by HiGHS, which SciPy ships"),
    Peer(
        "assume",
        Task.AUCTION,
        "assume_auction",
        ("assume-framework==0.6.0", "pandas<3"),
        "AGPL-3.0",
        "pay-as-clear market of the simulation framework ASSUME",
    ),
)


def peer_home() -> Path:
    """Folder that holds the environments."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "tellegen" / "peers"


def interpreter(peer: Peer) -> Path | None:
    """Python that runs a peer; None where it is not installed (or in another version than is pinned)."""
    if not peer.requirements:
        return Path(sys.executable)
    folder = peer_home() / peer.name
    mark = folder / MARK
    if not mark.is_file() or mark.read_text(encoding="utf-8") != _wanted(peer):
        return None
    python = _python(folder)
    return python if python.exists() else None


def install(peer: Peer) -> Path:
    """Make the environment of a peer anew, unless it is there; returns its Python.

    Raises
    ------
    PeerError : the environment cannot be made, or pip does not find what is pinned.
    """
    known = interpreter(peer)
    if known is not None:
        return known
    folder = peer_home() / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(peer, [sys.executable, "-m", "venv", str(folder)])
    python = _python(folder)
    _run(peer, [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements])
    (folder / MARK).write_text(_wanted(peer), encoding="utf-8")
    return python


def _wanted(peer: Peer) -> str:
    return "".join(f"{line}\n" for line in peer.requirements)


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(peer: Peer, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"peer {peer.name}: {' '.join(command[:4])}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise PeerError(f"peer {peer.name}: installation failed: {said}")
