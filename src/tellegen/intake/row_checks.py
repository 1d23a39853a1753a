"""Which rows of a submission count: who sent each of them, for where, and whether they were sent before.

A reading stands under its meter's code, a signed day under its meter's signature, a bid under its customer's; what the
batch's own signature says is who brought them. Every check works on whole columns, but for the codes and the
signatures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from numpy.typing import NDArray

from tellegen.intake.sent import Sent, SentBids, SentReadings, SentRoots
from tellegen.metering import DeviceCodes, ReplayWindow, check_roots
from tellegen.metering.daily import INTERVALS_PER_DAY
from tellegen.records import DailyRoots, Device, Orders, Product, Readings, Refusal, Role, Statement, Submissions
from tellegen.records.submission import PERIODS_MAX, bid_messages
from tellegen.registry import Directory
from tellegen.units import ROW_LIMIT, IntArray

REGISTER_LIMIT = 2**48
"""Registers and counters count to less than this: 280 TWh, so that no sum of differences overflows."""
VOLTAGE_MV_LIMIT = 10**9
VAR_PER_KW_LIMIT = 10**6
SHARED_MIN = 32
"""Signatures of which another thread verifies half: one takes 40 us, the thread some 100 us."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the customer of each row is connected in the interval, as known by a time.

    Rows of those who are not connected are nobody's, so no key could seal them: they never stand on record.

    Attributes
    ----------
    connected : bool per row.
    meter : serial number of the customer's meter.
    elsewhere : bool per row, on another feeder than the submission is about.
    """

    connected: NDArray[np.bool_]
    meter: IntArray
    elsewhere: NDArray[np.bool_]

    @classmethod
    def of(cls, sent: Sent, statement: Statement, known_at: int, directory: Directory) -> Places:
        """Look them up."""
        meter, feeder = directory.places_of(sent.customers(), statement.interval, known_at)
        return cls(np.asarray(meter >= 0), meter, np.asarray(feeder != statement.feeder.encode("ascii")))

    def among_connected(self) -> Places:
        """Of connected rows only."""
        return Places(self.connected[self.connected], self.meter[self.connected], self.elsewhere[self.connected])


def refusals(
    sent: Sent,
    places: Places,
    statement: Statement,
    known_at: int,
    directory: Directory,
    codes: DeviceCodes,
    replay: ReplayWindow,
) -> NDArray[np.uint8]:
    """Why each row does not count, uint8[n] of `records.Refusal`; `sent` holds connected customers only."""
    match sent:
        case SentReadings():
            return _of_readings(sent.readings, places, statement, known_at, directory, codes, replay)
        case SentRoots():
            return _of_roots(sent.roots, places, statement, known_at, directory)
        case SentBids():
            return _of_bids(sent.submissions, sent.orders, places, statement, known_at, directory)


def _of_readings(
    readings: Readings,
    places: Places,
    statement: Statement,
    known_at: int,
    directory: Directory,
    codes: DeviceCodes,
    replay: ReplayWindow,
) -> NDArray[np.uint8]:
    interval = statement.interval
    refusal = np.zeros(len(readings), dtype=np.uint8)
    refusal[places.meter != readings.meter] = Refusal.UNKNOWN
    _refuse(refusal, places.elsewhere, Refusal.OTHER_FEEDER)
    revoked = directory.refusals(Role.METER, readings.meter, known_at, known_at) == Refusal.REVOKED
    _refuse(refusal, revoked, Refusal.REVOKED)
    codes.enrol(readings.meter[refusal != Refusal.UNKNOWN])  # a meter exchanged or connected since
    _refuse(refusal, ~codes.check(readings, interval), Refusal.CODE)
    _refuse(refusal, _readings_out_of_range(readings), Refusal.OUT_OF_RANGE)
    # a forged row must not take the place of the genuine one with the same counter
    genuine = np.flatnonzero(refusal == Refusal.NONE)
    refusal[genuine] = replay.check(readings.meter[genuine], readings.counter[genuine])
    return refusal


def _of_roots(
    roots: DailyRoots, places: Places, statement: Statement, known_at: int, directory: Directory
) -> NDArray[np.uint8]:
    refusal = np.full(len(roots), Refusal.OUT_OF_RANGE, dtype=np.uint8)
    of_day = roots.day == statement.interval // INTERVALS_PER_DAY
    refusal[of_day] = check_roots(roots.take(of_day), directory, known_at, statement.origin)
    _refuse(refusal, places.elsewhere, Refusal.OTHER_FEEDER)
    return refusal


def _of_bids(
    submissions: Submissions,
    orders: Orders,
    places: Places,
    statement: Statement,
    known_at: int,
    directory: Directory,
) -> NDArray[np.uint8]:
    customer = submissions.customer
    refusal = np.zeros(len(submissions), dtype=np.uint8)
    _refuse(refusal, places.elsewhere, Refusal.OTHER_FEEDER)
    keys = directory.customer_keys(customer, known_at, known_at)
    without = np.array([key is None for key in keys], dtype=np.bool_)
    if without.any():
        standing = directory.refusals(Role.PARTICIPANT, customer, known_at, known_at)
        refusal[without] = np.where(refusal[without] == Refusal.NONE, standing[without], refusal[without])
    whose = np.repeat(np.arange(len(submissions)), submissions.order_rows)
    strange = np.bincount(whose[orders.customer != customer[whose]], minlength=len(submissions)) > 0
    _refuse(refusal, strange, Refusal.SIGNATURE)
    beyond = _orders_out_of_range(orders) | (orders.period >= PERIODS_MAX[statement.market])
    wide = np.bincount(whose[beyond], minlength=len(submissions)) > 0
    _refuse(refusal, wide | (submissions.sequence < 0), Refusal.OUT_OF_RANGE)
    asked = [key if fine else None for key, fine in zip(keys, (refusal == Refusal.NONE).tolist(), strict=True)]
    about = (statement.origin, statement.feeder, statement.market, statement.interval)
    _refuse(refusal, unsigned(bid_messages(submissions, orders, *about), submissions, asked), Refusal.SIGNATURE)
    taken = np.flatnonzero(refusal == Refusal.NONE)
    _, first = np.unique(customer[taken], return_index=True)
    repeated = np.ones(taken.size, dtype=np.bool_)
    repeated[first] = False
    refusal[taken[repeated]] = Refusal.DUPLICATE
    return refusal


def unsigned(messages: list[bytes], submissions: Submissions, keys: Sequence[bytes | None]) -> NDArray[np.bool_]:
    """Which submissions are not signed, bool[n]; each verification leaves the interpreter to other threads.

    Parameters
    ----------
    messages : what each customer must have signed (`records.submission.bid_messages`).
    keys : each customer's Ed25519 public key; without one nothing is verified, nor signed.
    """
    said = list(zip(messages, submissions.signature.tolist(), keys, strict=True))
    if len(said) < SHARED_MIN:
        return np.array(_unsigned(said), dtype=np.bool_)
    half = len(said) // 2
    with ThreadPoolExecutor(1, "signatures") as beside:
        others, mine = beside.submit(_unsigned, said[:half]), _unsigned(said[half:])
        return np.array([*others.result(), *mine], dtype=np.bool_)


def _unsigned(said: Sequence[tuple[bytes, bytes, bytes | None]]) -> list[bool]:
    """Of each message, whether its signature is not that of its key."""
    bad = []
    for message, signature, key in said:
        try:
            bad.append(key is None or crypto_sign_open(signature + message, key) != message)
        except BadSignatureError:
            bad.append(True)
    return bad


def _refuse(refusal: NDArray[np.uint8], bad: NDArray[np.bool_], reason: Refusal) -> None:
    """The first reason found stands."""
    refusal[bad & (refusal == Refusal.NONE)] = reason


def _readings_out_of_range(readings: Readings) -> NDArray[np.bool_]:
    bad = _beyond(readings.reactive_varh, REGISTER_LIMIT)
    for register in (readings.import_wh, readings.export_wh, readings.counter):
        bad |= (register < 0) | (register >= REGISTER_LIMIT)
    return np.asarray(bad | (readings.voltage_mv < 0) | (readings.voltage_mv >= VOLTAGE_MV_LIMIT))


def _orders_out_of_range(orders: Orders) -> NDArray[np.bool_]:
    bad = (orders.device > max(Device)) | (orders.product > max(Product)) | (np.abs(orders.side) != 1)
    bad |= (orders.price_taker > 1) | (orders.node < 0)
    bad |= _beyond(orders.price_micros, ROW_LIMIT)
    bad |= (orders.quantity_w < 0) | (orders.quantity_w >= ROW_LIMIT)
    bad |= np.abs(orders.var_per_kw.astype(np.int64)) > VAR_PER_KW_LIMIT
    return np.asarray(bad | ((orders.product != Product.ENERGY) & (orders.var_per_kw != 0)))


def _beyond(values: IntArray, limit: int) -> NDArray[np.bool_]:
    """Magnitudes of `limit` and more; the least int64 has none of its own."""
    return (values <= -limit) | (values >= limit)
