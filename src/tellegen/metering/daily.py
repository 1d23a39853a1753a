"""A meter's signed day: what convinces a third party of what the meter sent.

The code of a reading tells only the head-end who spoke (`metering.devices`). Once a day a meter signs, with the Ed25519
key of its certificate, the root of a tree over all readings of the day; `records.DailyRoots` states the form. With the
path from one reading to that root, the signature and the certificates anybody can check the reading without trusting
head-end or operator (`verify.verify_meter_proof`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from numpy.typing import ArrayLike, NDArray

from tellegen.journal import MerkleTree
from tellegen.metering.devices import MeteringError
from tellegen.records import DailyRoots, Readings, Refusal, Role
from tellegen.registry import Directory
from tellegen.units import MARKET_INTERVAL_S, IntArray

DAY_MAGIC = "tellegen-day@v2"
PROOF_FORMAT = "tellegen-meter-proof@v1"
DAY_S = 86_400
INTERVALS_PER_DAY = DAY_S // MARKET_INTERVAL_S

Sign = Callable[[bytes], bytes]
"""Ed25519 signature, 64 bytes, of a message."""


def daily_leaves(readings: Readings, intervals: ArrayLike) -> list[bytes]:
    """Leaf hashes of readings, each with its interval, in their order."""
    rows = readings.rows()
    layout = np.dtype([("interval", "<i8"), ("row", f"V{rows.dtype.itemsize}")])
    leaves = np.empty(len(readings), dtype=layout)
    leaves["interval"], leaves["row"] = intervals, rows.view(layout["row"])
    messages: list[bytes] = leaves.view(f"V{layout.itemsize}").tolist()
    return [hashlib.sha256(b"\x00" + message).digest() for message in messages]


def daily_root(readings: Readings, intervals: ArrayLike) -> bytes:
    """Root over a meter's readings of a day, in the order of their counters."""
    return MerkleTree(daily_leaves(*_in_order(readings, intervals))).root()


def daily_message(origin: str, meter: int, day: int, readings: int, root: bytes) -> bytes:
    """What a meter signs; `origin` is the shard's name, as its certificate has it."""
    return f"{DAY_MAGIC}\n{origin}\n{meter}\n{day}\n{readings}\n{root.hex()}\n".encode()


def sign_day(readings: Readings, intervals: ArrayLike, origin: str, sign: Sign) -> DailyRoots:
    """A meter signs its day.

    Parameters
    ----------
    readings, intervals : all that it sent of one UTC day, one meter and customer.
    origin : name of the shard.
    sign : with the meter's key.

    Raises
    ------
    MeteringError : nothing was read, or the readings are not of one meter, customer and day.
    """
    days = np.unique(np.asarray(intervals, dtype=np.int64) // INTERVALS_PER_DAY)
    if days.size != 1 or np.unique(readings.meter).size != 1 or np.unique(readings.customer).size != 1:
        raise MeteringError("a signed day is one or more readings of one meter at one customer on one UTC day")
    meter, day, root = int(readings.meter[0]), int(days[0]), daily_root(readings, intervals)
    return DailyRoots(
        customer=readings.customer[:1],
        meter=np.array([meter]),
        day=np.array([day]),
        readings=np.array([len(readings)]),
        root=np.frombuffer(root, dtype="V32"),
        signature=np.frombuffer(sign(daily_message(origin, meter, day, len(readings), root)), dtype="V64"),
    )


def check_roots(roots: DailyRoots, directory: Directory, at: int, origin: str) -> NDArray[np.uint8]:
    """Why each signed day may not count, uint8[n] of `records.Refusal`.

    OUT_OF_RANGE: the day is not over, or it has no reading. UNKNOWN: the meter has no certificate, or was not this
    customer's at the end of the day. REVOKED: its certificate does not count. SIGNATURE: not the meter's. DUPLICATE:
    the same meter and day again in this batch.

    Parameters
    ----------
    at : when they were handed in, seconds since the epoch; the key that counts then is the one that must have signed.
    origin : name of the shard.
    """
    refusal = directory.refusals(Role.METER, roots.meter, at)
    last = (roots.day + 1) * INTERVALS_PER_DAY - 1
    theirs = directory.meters_of(roots.customer, last) == roots.meter
    refusal[(refusal == Refusal.NONE) & ~theirs] = Refusal.UNKNOWN
    refusal[((roots.day + 1) * DAY_S > at) | (roots.readings < 1)] = Refusal.OUT_OF_RANGE
    keys = directory.keys(Role.METER, roots.meter, at)
    seen = set()
    for row in np.flatnonzero(refusal == Refusal.NONE).tolist():
        meter, day = int(roots.meter[row]), int(roots.day[row])
        message = daily_message(origin, meter, day, int(roots.readings[row]), roots.root[row].tobytes())
        if not _signed(keys[row], message, roots.signature[row].tobytes()):
            refusal[row] = Refusal.SIGNATURE
        elif (meter, day) in seen:
            refusal[row] = Refusal.DUPLICATE
        else:
            seen.add((meter, day))
    return refusal


def meter_proof(
    readings: Readings, intervals: ArrayLike, interval: int, signed: DailyRoots, certificates: Sequence[str]
) -> str:
    """Proof to a third party of what a meter sent for an interval; one JSON document.

    Parameters
    ----------
    readings, intervals : all of the day, as on record.
    interval : the reading to prove; of several about it the one with the highest counter.
    signed : the meter's signed day, one row.
    certificates : PEM texts, the meter's first, then the authority's that issued it.

    Raises
    ------
    MeteringError : no such reading, or what is on record is not what the meter signed.
    """
    ordered, about = _in_order(readings, intervals)
    found = np.flatnonzero(about == interval)
    if not found.size:
        raise MeteringError(f"no reading of this meter is about interval {interval}")
    row = int(found[-1])
    tree = MerkleTree(daily_leaves(ordered, about))
    if tree.root() != signed.root[0].tobytes() or len(tree) != signed.readings[0]:
        raise MeteringError(
            f"meter {signed.meter[0]} signed {signed.readings[0]} readings for day {signed.day[0]} that are not the "
            f"{len(tree)} given"
        )
    document = {
        "format": PROOF_FORMAT,
        "meter": int(signed.meter[0]),
        "day": int(signed.day[0]),
        "readings": len(tree),
        "root": tree.root().hex(),
        "signature": _text(signed.signature[0].tobytes()),
        "interval": interval,
        "reading": _text(ordered.rows()[row].tobytes()),
        "position": row,
        "path": [_text(node) for node in tree.inclusion_proof(row)],
        "certificates": list(certificates),
    }
    return json.dumps(document, indent=2)


def _in_order(readings: Readings, intervals: ArrayLike) -> tuple[Readings, IntArray]:
    order = np.argsort(readings.counter, kind="stable")
    return readings.take(order), np.broadcast_to(np.asarray(intervals, dtype=np.int64), len(readings))[order]


def _signed(key: bytes | None, message: bytes, signature: bytes) -> bool:
    try:
        return key is not None and bool(VerifyKey(key).verify(message, signature))
    except BadSignatureError:
        return False


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
