"""Whatever strangers send is read or refused: nothing else is raised, nothing hangs, nothing grows.

Each reader gets the messages that it is for, all that once reached further into it, and changed ones. `make fuzz` looks
for more.
"""

from __future__ import annotations

import base64
import random
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from fuzz.targets import TARGETS, Target

CHANGED = 2000
MEASURED = 20
SECONDS = 20
"""Processor time of one message beyond which its reader hangs."""
GROWTH = 64 * 2**20
PIECES = [
    b"",
    b"\0",
    b"\xff" * 4,
    b"9" * 400,
    b"-1",
    b"1e999",
    b"nan",
    b"[" * 99,
    b"{" * 99,
    b'"',
    b"\n",
    b"\r\n\r\n",
    b";,|",
]
PIECES += [
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"../../etc/passwd",
    b"%00",
    b"=" * 99,
    b"0" * 99,
    "٣".encode(),
]


def changed(messages: list[bytes], chance: random.Random) -> bytes:
    """One of some messages with a few changes: bytes, cuts, repeats, pieces of others, what often breaks a reader."""
    message = bytearray(chance.choice(messages))
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(message))
        to = min(len(message), at + chance.choice([1, 1, 2, 8, 64]))
        other = chance.choice(messages)
        part = chance.randint(0, len(other))
        message[at:to] = chance.choice(
            [
                bytes([chance.randrange(256)]),
                b"",
                bytes(message[at:to]) * 2,
                chance.choice(PIECES),
                other[part : part + chance.choice([1, 8, 64])],
                bytes(byte ^ 1 << chance.randrange(8) for byte in message[at:to]),
            ]
        )
    return bytes(message)


@contextmanager
def bounded(message: bytes) -> Iterator[None]:
    """Ends with a failure that names the message where its reader does not come to an end."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no answer in {SECONDS} s to {base64.b64encode(message).decode()}")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def ask(target: Target, message: bytes) -> bool:
    """Whether a reader takes a message."""
    try:
        with bounded(message):
            return target.takes(message)
    except Exception as fault:
        pytest.fail(f"{type(fault).__name__}: {fault} at {base64.b64encode(message).decode()}", pytrace=False)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_it_is_read_or_refused(target: Target) -> None:
    messages, chance = target.messages(), random.Random(target.name)
    for message in messages:
        ask(target, message)
    for _ in range(CHANGED):
        ask(target, changed(messages, chance))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_it_takes_little_memory(target: Target) -> None:
    messages, chance = target.messages(), random.Random(target.name)
    some = [*target.seeds[:3], *(changed(messages, chance) for _ in range(MEASURED))]
    ask(target, some[0])  # what is imported and kept for good
    tracemalloc.start()
    try:
        for message in some:
            tracemalloc.reset_peak()
            ask(target, message)
            assert tracemalloc.get_traced_memory()[1] < GROWTH, base64.b64encode(message)
    finally:
        tracemalloc.stop()


def test_every_reader_takes_a_message_that_it_is_for() -> None:
    """Else all of the above would be refused at its door."""
    proven = {"cosignature", "receipt", "proof-of-a-reading"}  # these want a signature over what nobody made
    assert [t.name for t in TARGETS.values() if not any(map(t.takes, t.seeds)) and t.name not in proven] == []
