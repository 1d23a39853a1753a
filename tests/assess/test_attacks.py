"""While hostile connections of each kind are held open, a sender without a history gets its receipt at once."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")

from tellegen.assess.attacks import benchmark, servers
from tellegen.assess.attacks.benchmark import ATTACKER, SENDER, Attacked
from tellegen.assess.attacks.connections import KINDS
from tellegen.assess.attacks.kinds import At, Kind, trusting
from tellegen.assess.attacks.siege import Tally, besiege
from tellegen.assess.load import Connection, LoadError

CONNECTIONS = 12
HOSTILE = 20
"""More than the intake takes at all."""
TRIES = 10
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="attackers have addresses of their own")


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[At, Attacked]]:
    """Intakes that take few connections, and a witness."""
    start = servers.running

    @contextmanager
    def narrow(command: str, *arguments: str, said: list[str] | None = None) -> Iterator[str]:
        few = ("--connections", str(CONNECTIONS)) if command == "serve" else ()
        with start(command, *arguments, *few, said=said) as address:
            yield address

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "running", narrow)
        with benchmark.attacked(tmp_path_factory.mktemp("attacked"), set(At)) as found:
            yield found


async def _statuses(kind: Kind, ground: Attacked, own: list[str]) -> tuple[list[int], Tally]:
    """Three requests under attack, each over a connection of its own, which is made anew where it is put out."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    ready, stop = asyncio.Event(), asyncio.Event()
    siege = asyncio.create_task(besiege(kind, ground.target, own, ready, stop))
    await ready.wait()
    statuses = []
    for _ in range(3):
        request, _ = ground.requests.next()
        for _ in range(TRIES):
            with contextlib.suppress(LoadError, OSError):
                statuses.append(await _status(ground.requests.address, request))
                break
    stop.set()
    return statuses, await siege


async def _status(address: str, request: bytes) -> int:
    tls = trusting() if address.startswith("https") else None
    async with await Connection.open(address, own=SENDER, tls=tls) as connection:
        return (await connection.send(request)).status


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_sender_at_the_attackers_address_gets_its_receipts(kind: Kind, grounds: Mapping[At, Attacked]) -> None:
    statuses, tally = asyncio.run(_statuses(kind, grounds[kind.at], [SENDER] * HOSTILE))
    assert statuses == [200, 200, 200]
    assert tally.struck > CONNECTIONS


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: kind.name)
def test_a_sender_beside_attackers_from_many_addresses_gets_its_receipts(
    kind: Kind, grounds: Mapping[At, Attacked]
) -> None:
    many = [f"127.0.1.{number}" for number in range(1, HOSTILE)] + [ATTACKER]
    statuses, _ = asyncio.run(_statuses(kind, grounds[kind.at], many))
    assert statuses == [200, 200, 200]


def test_clients_that_reset_leave_no_line_in_the_log(tmp_path: Path) -> None:
    """A closed connection is no error."""
    resets = next(kind for kind in KINDS if kind.name.startswith("resets"))
    said: list[str] = []
    with benchmark.attacked(tmp_path, {At.INTAKE}, said) as found:
        statuses, tally = asyncio.run(_statuses(resets, found[At.INTAKE], [ATTACKER] * HOSTILE))
    assert statuses == [200, 200, 200]
    assert tally.struck == HOSTILE
    assert said == []
