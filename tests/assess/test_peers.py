"""Peers: the market that they are given is ours, the judge is the same for all, and no code passes between."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from tellegen.assess.peers import PEERS, Instance, Peer, PeerError, Task, Timed, install, interpreter, judge, run_peer
from tellegen.assess.peers.auction import PlainBook
from tellegen.assess.peers.judging import prepare_ours
from tellegen.assess.peers.markets import district
from tellegen.assess.peers.tree import Tree, tree_of
from tellegen.errors import InputError
from tellegen.grid.synthetic import synthetic_feeder

installing = sys.modules[Peer.__module__]
PROGRAMS = sorted((Path(str(installing.__file__)).parent / "programs").glob("*.py"))


@pytest.fixture(scope="module")
def market() -> Instance:
    return district(20, 2, "evening")


def test_a_tree_holds_the_whole_admittance() -> None:
    """Branches and shunts put together again are the matrix, charging and iron losses included."""
    network = synthetic_feeder(30, phases=1, seed=3).network
    free = replace(network, branches=replace(network.branches, rating_pu=np.full(len(network.branches.node), np.inf)))
    tree = tree_of(free)
    assert isinstance(tree, Tree)
    below = np.flatnonzero(tree.parent >= 0)
    lines = sp.coo_matrix(
        (np.repeat([1.0, -1.0], below.size), (np.tile(np.arange(below.size), 2), [*below, *tree.parent[below]])),
        shape=(below.size, tree.parent.size),
    )
    again = lines.T @ sp.diags(1 / tree.impedance[below]) @ lines + sp.diags(tree.shunt)
    assert abs(again - network.admittance).max() < 1e-9 * abs(network.admittance).max()


def test_what_is_no_tree_says_why() -> None:
    assert tree_of(synthetic_feeder(10, phases=3).network) == "it has more than one phase"
    network = synthetic_feeder(10, phases=1).network
    ring = network.admittance.tolil()
    ring[3, 7] = ring[7, 3] = -1.0
    assert tree_of(replace(network, admittance=sp.csr_matrix(ring))) == "it is meshed"


def test_every_program_stands_alone() -> None:
    """A peer's process sees nothing of this package, so that no licence reaches across."""
    assert {peer.program for peer in PEERS} == {path.stem for path in PROGRAMS} - {"__init__"}
    for path in PROGRAMS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "tellegen"], path


def test_our_own_dispatch_lacks_nothing(market: Instance) -> None:
    mine = prepare_ours(market, 1)()
    verdict = judge(market, mine.timed, mine.timed)
    assert (verdict.shortfall, verdict.price_difference, verdict.books) == (0.0, 0.0, 2)
    assert verdict.counts


def test_a_dispatch_that_breaks_a_limit_or_wastes_welfare_does_not_count(market: Instance) -> None:
    mine = prepare_ours(market, 0)().timed
    most = np.stack([book.quantity_kw[market.steps] for book in market.books])
    greedy = judge(market, replace(mine, award_kw=most), mine)
    assert greedy.violation > 1e-3
    assert not greedy.counts
    idle = judge(market, replace(mine, award_kw=0 * most), mine)
    assert idle.shortfall > 1e-3
    assert not idle.counts
    missing = judge(market, replace(mine, award_kw=np.full_like(most, np.nan)), mine)
    assert not missing.counts


def test_a_market_whose_bidders_move_is_no_series(market: Instance) -> None:
    moved = replace(market.books[1], node=np.roll(market.books[1].node, 1))
    with pytest.raises(InputError, match="same node in every book"):
        replace(market, books=(market.books[0], moved))


def test_the_sort_gets_all_of_the_welfare_as_the_auction_does() -> None:
    book = PlainBook.draw(50, 3)
    peer = next(p for p in PEERS if p.name == "sort")
    python = interpreter(peer)
    assert python is not None
    found = run_peer(peer, python, book.arrays(2), 60.0)
    best = book.auction()
    assert (book.side * book.price_micros @ found["award"]) * 1e3 == pytest.approx(best.welfare_nanos_per_h, rel=1e-12)
    assert best.low_micros <= round(float(found["price"]) * 1e6) <= best.high_micros


def test_a_peer_that_fails_is_named_with_its_last_word(tmp_path: Path) -> None:
    peer = Peer("sort", Task.AUCTION, "sort_auction", (), "", "")
    with pytest.raises(PeerError, match="KeyError"):
        run_peer(peer, Path(sys.executable), {"side": np.ones(1)}, 60.0)


def test_absent_peers_are_absent_until_installed_at_the_pinned_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    peer = Peer("other", Task.MARKET, "ipopt", ("other==1.0",), "", "")
    assert interpreter(peer) is None

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if command[2] == "venv":
            python = Path(command[3]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()
        failed = command[-1] == "other==2.0"
        return subprocess.CompletedProcess(command, int(failed), "", "no such version" if failed else "")

    monkeypatch.setattr(installing.subprocess, "run", run)
    monkeypatch.setattr(installing, "_python", lambda folder: folder / "bin" / "python")
    assert install(peer) == tmp_path / "tellegen" / "peers" / "other" / "bin" / "python"
    assert interpreter(peer) == install(peer)
    newer = replace(peer, requirements=("other==2.0",))
    assert interpreter(newer) is None
    with pytest.raises(PeerError, match="no such version"):
        install(newer)
    assert interpreter(newer) is None


def test_the_file_says_what_the_market_is(market: Instance) -> None:
    """Cost and demand computed from the arrays alone are the market's own."""
    arrays = market.arrays()
    award = 0.5 * arrays["width"][1]
    cost = arrays["cost"][1] @ award + 0.5 * (arrays["slope"][1] * award) @ award
    assert cost == pytest.approx(market.cost(1, award))
    demand = arrays["fixed_kva"][1].copy()
    np.add.at(demand, arrays["leg_node"], arrays["step_kva"] * award)
    assert demand == pytest.approx(market.demand_kva(1, award))
    assert isinstance(
        Timed.of({"award": award, "price": award, "status": ["x"], "cold_s": award, "build_s": 0.0}), Timed
    )
