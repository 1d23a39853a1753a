"""Who gets in, who goes, and whose turn it is: strangers compete with strangers, and pay with what is their own."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.service.door import Door, GoneError, Stage, Visitor, address_of
from tellegen.service.held import Bodies, HeldBody
from tellegen.service.problems import ProblemError
from tellegen.service.turns import Turns

ATTACKER, OTHER = ("192.0.2.1", 1), ("192.0.2.2", 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def door(connections_max: int = 16) -> tuple[Door, Clock]:
    clock = Clock()
    return Door(connections_max, clock), clock


def enter(where: Door, clock: Clock, peer: tuple[str, int] = ATTACKER, stage: Stage = Stage.WAITING) -> Visitor:
    clock.now += 1
    visitor = where.enter(peer)
    where.move(visitor, stage)
    return visitor


def test_an_ipv6_customer_is_one_address() -> None:
    assert address_of(("2001:db8:1:2:3::4", 1, 0, 0)) == address_of(("2001:db8:1:2:ffff::5%eth0", 1, 0, 0))
    assert address_of(("2001:db8:1:3::1", 1, 0, 0)) != address_of(("2001:db8:1:2::1", 1, 0, 0))


@pytest.mark.parametrize("stage", [Stage.HANDSHAKE, Stage.WAITING, Stage.HEADERS, Stage.BODY, Stage.IDLE])
def test_however_many_wait_the_next_one_gets_in_and_the_oldest_goes(stage: Stage) -> None:
    """Also from the attacker's own address: whoever has something to say is younger than who waits."""
    where, clock = door()
    hostile = [enter(where, clock, stage=stage) for _ in range(16)]
    good = enter(where, clock)
    assert (len(where), hostile[0].gone, good.gone) == (16, True, False)
    for _ in range(15):
        enter(where, clock, stage=stage)
    assert not good.gone


def test_who_has_a_whole_request_goes_last() -> None:
    where, clock = door()
    good = enter(where, clock, stage=Stage.ANSWER)
    for _ in range(100):
        enter(where, clock)
    assert not good.gone


def test_an_address_pays_for_its_own() -> None:
    where, clock = door()
    good = [enter(where, clock, OTHER) for _ in range(3)]
    for _ in range(100):
        enter(where, clock)
    assert not any(each.gone for each in good)


def test_many_addresses_do_not_reach_a_source_that_has_proved_itself() -> None:
    where, clock = door()
    good = enter(where, clock)
    where.prove(good, "head-end")
    for number in range(100):
        enter(where, clock, (f"192.0.3.{number}", 1), Stage.ANSWER)
    assert (good.gone, len(where), where.proven) == (False, 16, 1)


def test_a_source_has_a_share_and_strangers_have_theirs() -> None:
    where, clock = door(64)
    for source in range(20):
        for _ in range(20):
            where.prove(enter(where, clock), f"source {source}")
        assert where.proven <= 8 * (source + 1)
    strangers = [enter(where, clock, OTHER) for _ in range(16)]
    assert not any(each.gone for each in strangers)
    assert len(where) == 64


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(Stage)), st.integers(-1, 3)), max_size=200))
def test_there_are_never_more_than_the_bound(moves: list[tuple[int, Stage, int]]) -> None:
    where, clock = door(12)
    ended: list[Visitor] = []
    for address, stage, source in moves:
        visitor = enter(where, clock, (f"192.0.2.{address}", 1), stage)
        visitor.end = lambda visitor=visitor: ended.append(visitor)  # type: ignore[misc]
        assert len(where) <= 12
        assert not visitor.gone
        if source >= 0:
            where.prove(visitor, f"source {source}")
            assert not visitor.gone
    assert len(ended) == where.put_out.total() == len(moves) - len(where)


def test_each_stage_has_its_time() -> None:
    where, clock = door()
    late, quick = where.enter(ATTACKER), where.enter(OTHER)
    where.move(late, Stage.HEADERS, 10)
    where.move(quick, Stage.ANSWER)
    clock.now = 10.0
    where.sweep()
    assert (late.gone, quick.gone) == (True, False)


def test_a_connection_that_is_closed_has_to_end() -> None:
    where, clock = door()
    visitor = enter(where, clock)
    visitor.is_closing = lambda: True
    where.sweep()
    assert not visitor.gone
    clock.now += 2.0
    where.sweep()
    assert visitor.gone


def test_answers_that_nobody_reads_are_not_kept() -> None:
    where, clock = door()
    slow, worse = enter(where, clock), enter(where, clock)
    slow.unread_bytes, worse.unread_bytes = lambda: 1 << 20, lambda: 64 << 20
    where.unread(slow)
    where.unread(worse)
    assert (slow.gone, worse.gone) == (False, True)
    clock.now += 10 + 64 + 1  # at 16 KiB a second
    where.sweep()
    assert slow.gone


# Turns


def test_addresses_have_their_turn_one_after_the_other() -> None:
    """However many wait from one address, who comes from another is next; and a name beside many of another name."""

    async def go() -> list[str]:
        turns, order = Turns(1, door()[0]), []

        async def ask(address: str, name: str) -> None:
            async with turns.turn(Visitor(address), name):
                order.append(f"{address} {name}")

        tasks = [asyncio.create_task(ask("attacker", "forged")) for _ in range(50)]
        tasks += [asyncio.create_task(ask("attacker", "good")), asyncio.create_task(ask("other", "good"))]
        await asyncio.gather(*tasks)
        return order

    order = asyncio.run(go())
    assert order[:4] == ["attacker forged", "attacker forged", "other good", "attacker good"]
    assert len(order) == 52


def test_an_address_of_a_source_comes_before_those_of_strangers() -> None:
    """However many addresses there are, and strangers have their turns still."""

    async def go() -> list[str]:
        where = Door(1000, lambda: 0.0)
        turns, order = Turns(1, where), []

        async def ask(visitor: Visitor) -> None:
            async with turns.turn(visitor):
                order.append(visitor.address)

        where.prove(where.enter(OTHER), "head-end")
        visitors = [where.enter((f"192.0.3.{number}", 1)) for number in range(100)]
        tasks = [asyncio.create_task(ask(visitor)) for visitor in (*visitors, where.enter(OTHER), where.enter(OTHER))]
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(go())[:5] == ["192.0.3.0", "192.0.2.2", "192.0.3.1", "192.0.2.2", "192.0.3.2"]


def test_who_goes_away_waits_no_more_and_costs_nobody_a_turn() -> None:
    async def go() -> tuple[int, int]:
        where = Door(100, lambda: 0.0)
        turns = Turns(1, where)
        done = 0

        async def ask(visitor: Visitor) -> None:
            nonlocal done
            async with turns.turn(visitor):
                done += 1

        visitors = [where.enter((f"192.0.2.{k % 3}", k)) for k in range(30)]
        tasks = [asyncio.create_task(ask(visitor)) for visitor in visitors]
        await asyncio.sleep(0)
        for visitor in visitors[10:]:
            where.leave(visitor)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert turns.waiting == 0
        async with asyncio.timeout(10), turns.turn(Visitor("")):
            pass
        return done, sum(isinstance(result, GoneError) for result in results)

    assert asyncio.run(go()) == (10, 20)


def test_a_turn_that_is_cancelled_is_passed_on() -> None:
    async def go() -> None:
        turns = Turns(1, door()[0])

        async def ask() -> None:
            async with turns.turn(Visitor("")):
                pass

        first, second, third = (asyncio.create_task(ask()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([first, second, third], timeout=10)
        assert third.done()

    asyncio.run(go())


# Bodies


def test_who_announces_and_sends_nothing_holds_nothing() -> None:
    bodies = Bodies(64, 16)
    with bodies.holding("attacker", False), bodies.holding("attacker", False) as good:
        good.grow(16)
        assert bodies.size == 16
    assert bodies.size == 0


def test_of_strangers_the_slowest_body_of_the_heaviest_address_goes() -> None:
    clock, ended = Clock(), []
    bodies = Bodies(64, 16, clock)
    with ExitStack() as stack:

        def begun(owner: str, size: int) -> HeldBody:
            clock.now += 1
            body = stack.enter_context(bodies.holding(owner, False, lambda: ended.append(owner)))
            body.grow(size)
            return body

        old, _, other = begun("attacker", 6), begun("attacker", 5), begun("other", 5)
        begun("attacker", 5)
        assert (ended, bodies.put_out, bodies.size) == (["attacker"], 1, 15)
        with pytest.raises(ProblemError, match="too long"):
            old.grow(1)
        other.grow(1)
        assert bodies.size == 16
    assert bodies.size == 0


def test_strangers_leave_sources_their_room_and_a_source_leaves_others_theirs() -> None:
    bodies = Bodies(128, 8)
    with ExitStack() as stack:

        def fill(owner: str, proven: bool) -> int:
            for count in range(100):
                try:
                    stack.enter_context(bodies.holding(owner, proven)).grow(8)
                except ProblemError:
                    return 8 * count
            return 800

        assert fill("attacker", False) == 800  # each put out by the next
        assert bodies.size == 32
        assert fill("one", True) == 72
        assert fill("another", True) > 0
        assert bodies.size <= 128


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 8)), max_size=80))
def test_bodies_never_pass_their_bound(steps: list[tuple[int, bool, int]]) -> None:
    bodies = Bodies(48, 8)
    held: dict[tuple[int, bool], HeldBody] = {}
    with ExitStack() as stack:
        for owner, proven, size in steps:
            if (owner, proven) not in held:
                held[owner, proven] = stack.enter_context(bodies.holding(str(owner), proven))
            with suppress(ProblemError):
                held[owner, proven].grow(size)
            assert bodies.size <= 48
    assert bodies.size == 0
