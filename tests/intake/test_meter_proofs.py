"""Meters' signed days: from the head-end on to the record, and from there to somebody who trusts nobody's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tellegen.intake.intake import Intake, Taken
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.intake.meter_proofs import prove_reading
from tellegen.intake.sent import SentReadings, SentRoots
from tellegen.journal.clock import RecordClock
from tellegen.metering import DeviceCodes, MeteringError, sign_day
from tellegen.operations.compaction import compact
from tellegen.privacy import Vault
from tellegen.records import Connections, DailyRoots, Device, Readings, Refusal, Role, Route, Statement
from tellegen.registry import METER_PURPOSE, Identity, Request, connection, create_shard, open_shard, signing_request
from tellegen.verify import RefusedError, verify_meter_proof

DAY = 20_500
FIRST = DAY * 288
LAST = FIRST + 287
CREATED, AFTER = DAY * 86_400 - 600, (DAY + 1) * 86_400 + 60
ORIGIN = "simulated/city.example/north"
METERS, CUSTOMERS = np.array([77, 78]), np.array([7, 8], dtype=np.int32)
SEEDS = {"NORTH": 1, 77: 2, 78: 3}


def key(whose: object) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([SEEDS[whose]]) * 32)


def sent_at(interval: int) -> Readings:
    return Readings(
        customer=CUSTOMERS,
        meter=METERS,
        counter=np.full(2, interval - FIRST + 1),
        import_wh=METERS * 1000 + interval,
        export_wh=METERS * 0,
        reactive_varh=-METERS,
        voltage_mv=np.full(2, 230_000),
        tag=np.zeros(2, dtype="V16"),
    )


@dataclass
class Head:
    """A shard whose head-end is admitted, two certified meters, and a day of their readings on record."""

    path: Path
    root: str
    days: DailyRoots
    sequence: int = 0

    def send(self, intake: Intake, route: Route, interval: int, rows: Readings | DailyRoots) -> Taken:
        self.sequence += 1
        body = rows.rows().tobytes()
        statement = Statement.of(ORIGIN, route, "NORTH", "F1", "", interval, self.sequence, body)
        decode = SentReadings.from_bytes if route is Route.READINGS else SentRoots.from_bytes
        return intake.take(statement, key("NORTH").sign(statement.to_bytes()), lambda: decode(body))

    def intake(self) -> Intake:
        return Intake.open(
            self.path, None, lambda newest: RecordClock(wall=lambda: AFTER, elapsed=lambda: AFTER, not_before=newest)
        )


@pytest.fixture
def head(tmp_path: Path) -> Head:
    path = tmp_path / "north"
    create_shard(path, ORIGIN, CREATED, b"meters")
    asked = [Request(Identity(Role.HEAD_END, name="NORTH"), signing_request(key("NORTH")))]
    asked += [Request(Identity(Role.METER, n), signing_request(key(n))) for n in METERS.tolist()]
    where: dict[str, Any] = {"device": Device.LOAD, "feeder": "F1", "phases": 0, "from_interval": 0}
    power = {"capacity_w": 9000, "import_limit_w": 9000, "export_limit_w": 0}
    points = [connection(customer=c, asset=c + 70, node=c, **where, **power) for c in CUSTOMERS.tolist()]
    with open_shard(path, write=True) as shard:
        shard.registrar.admit(asked, CREATED, vouched=True)
        shard.registrar.connect(Connections.concat(points), CREATED)
        shard.journal.commit(CREATED)
        codes = DeviceCodes(shard.registrar.vault.purpose_key(METER_PURPOSE), METERS)
    intervals = np.arange(FIRST, LAST + 1)
    day = {interval: codes.tag(sent_at(interval), interval) for interval in intervals.tolist()}
    whole = Readings.concat(list(day.values()))
    days = [sign_day(whole.take(whole.meter == n), intervals, ORIGIN, key(n).sign) for n in METERS.tolist()]
    head = Head(path, (path / "registry" / "root.pem").read_text(), DailyRoots.concat(days))
    intake = head.intake()
    for interval, rows in day.items():
        head.send(intake, Route.READINGS, interval, rows)
    intake.commit()
    intake.close()
    return head


def test_what_a_meter_sent_is_proved_to_a_third_party(head: Head, tellegen: Callable[..., Any], tmp_path: Path) -> None:
    intake = head.intake()
    taken = head.send(intake, Route.DAILY_ROOTS, LAST, head.days)
    assert (taken.accepted, taken.refused) == (2, ())
    intake.commit()
    assert intake.journal.entry(taken.entries[0]).name == f"daily-roots/{head.sequence}"
    intake.close()
    answer = tellegen(
        "registry",
        "meter-proof",
        head.path,
        "--simulation",
        "--meter",
        77,
        "--interval",
        FIRST + 99,
        "--out",
        tmp_path / "proof",
    )
    assert answer.status == 0, answer.err
    checked = tellegen("registry", "verify-proof", tmp_path / "proof", "--root", head.path / "registry" / "root.pem")
    assert checked.status == 0, checked.out
    assert f"registers stood at {77_000 + FIRST + 99} Wh import" in checked.out
    proof = (tmp_path / "proof").read_text().strip()
    with Vault.open(head.path / "vault") as vault:
        assert compact(head.path, vault, known_at=AFTER, until_day=DAY + 1).rows == 288 * 2 + 2
    with open_shard(head.path) as shard:
        assert prove_reading(shard, 77, FIRST + 99) == proof
    forged = proof.replace('"interval": ' + str(FIRST + 99), '"interval": ' + str(FIRST + 98))
    with pytest.raises(RefusedError, match="does not lead"):
        verify_meter_proof(forged, head.root)


def test_a_day_that_the_meter_did_not_sign_is_refused_and_the_others_count(head: Head) -> None:
    rows = head.days.rows()
    strange = np.concatenate([rows, rows[1:], rows[1:], rows[1:]])
    strange["readings"][0] += 1
    strange["day"][2] += 1
    strange["meter"][3] = 79
    intake = head.intake()
    taken = head.send(intake, Route.DAILY_ROOTS, LAST, DailyRoots.from_rows(strange))
    assert {p.row: p.refusal for p in taken.refused} == {
        0: Refusal.SIGNATURE,
        2: Refusal.OUT_OF_RANGE,
        3: Refusal.UNKNOWN,
        4: Refusal.DUPLICATE,
    }
    intake.commit()
    intake.close()
    with open_shard(head.path) as shard:
        verify_meter_proof(prove_reading(shard, 78, LAST), head.root)
        with pytest.raises(MeteringError, match="77 has not signed day"):
            prove_reading(shard, 77, LAST)


def test_a_signed_day_is_about_the_last_interval_of_a_day(head: Head) -> None:
    intake = head.intake()
    with pytest.raises(RefusedBatchError, match="does not end a UTC day") as refused:
        head.send(intake, Route.DAILY_ROOTS, LAST - 1, head.days)
    assert refused.value.reason is Reason.MALFORMED
    intake.close()


def test_a_record_that_is_not_what_the_meter_signed_proves_nothing(head: Head) -> None:
    other = sign_day(replace(sent_at(LAST), counter=np.array([9, 9])).take(METERS == 77), LAST, ORIGIN, key(77).sign)
    intake = head.intake()
    head.send(intake, Route.DAILY_ROOTS, LAST, other)
    intake.commit()
    intake.close()
    with open_shard(head.path) as shard, pytest.raises(MeteringError, match="that are not the 288 given"):
        prove_reading(shard, 77, LAST)
