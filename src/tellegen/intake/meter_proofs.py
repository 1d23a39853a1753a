"""Proofs to a third party of what one meter sent, made from the record of a shard."""

from __future__ import annotations

import numpy as np

from tellegen.intake.submitted import Submitted
from tellegen.metering import MeteringError, meter_proof
from tellegen.metering.daily import INTERVALS_PER_DAY
from tellegen.records import DailyRoots, Readings, Role
from tellegen.registry import Shard


def prove_reading(shard: Shard, meter: int, interval: int) -> str:
    """Proof of what a meter sent for an interval; `verify.verify_meter_proof` checks it without the operator.

    Parameters
    ----------
    shard : open, for reading at least.
    meter : serial number.
    interval : market interval of a day that the meter has signed.

    Returns
    -------
    One JSON document: the reading, its path to the root that the meter signed, the signature, the certificates.

    Raises
    ------
    MeteringError : the day is not signed, or what is on record of it is not what the meter signed.
    VaultError : rows on record cannot be read.
    """
    journal, registrar = shard.journal, shard.registrar
    record = Submitted(journal, registrar.vault)
    entry, signed = _signed_day(shard, record, meter, interval // INTERVALS_PER_DAY)
    customer = int(signed.customer[0])
    feeders = {row.feeder[0].decode() for _, row in shard.directory.connection_history(customer)}
    first = interval - interval % INTERVALS_PER_DAY
    batches = [
        batch
        for about in range(first, first + INTERVALS_PER_DAY)
        for batch in journal.find(kind=Readings.kind, interval=about)
        if journal.entry(batch).feeder in feeders
    ]
    parts, intervals = [], []
    for batch, table in record.counted(batches):
        assert isinstance(table, Readings)
        parts.append(table.take((table.meter == meter) & (table.customer == customer)))
        intervals.append(np.full(len(parts[-1]), journal.entry(batch).interval))
    if not parts:
        raise MeteringError(f"no reading of meter {meter} on the day of interval {interval} is on record")
    handed_in = journal.entry(entry).known_at
    (fingerprint,) = shard.directory.certificates(Role.METER, [meter], handed_in, handed_in)
    certificate = None if fingerprint is None else registrar.certificates.by_fingerprint(fingerprint)
    if certificate is None:
        raise MeteringError(f"the certificate of meter {meter} is not kept here; without it nobody can check a proof")
    chain = [certificate.pem, registrar.authorities.issuer_pem(certificate.der)]
    return meter_proof(Readings.concat(parts), np.concatenate(intervals), interval, signed, chain)


def _signed_day(shard: Shard, record: Submitted, meter: int, day: int) -> tuple[int, DailyRoots]:
    """The meter's signed day that was recorded last, and its entry."""
    last = (day + 1) * INTERVALS_PER_DAY - 1
    found = dict(record.counted(shard.journal.find(kind=DailyRoots.kind, interval=last)))
    for entry in sorted(found, reverse=True):
        table = found[entry]
        assert isinstance(table, DailyRoots)
        mine = table.take(table.meter == meter)
        if len(mine):
            return entry, mine
    raise MeteringError(f"meter {meter} has not signed day {day}; a day is signed when it is over")
