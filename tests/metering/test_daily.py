"""A meter's signed day convinces whoever knows the root certificate, and nobody else can make one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tellegen.metering import (
    DeviceCodes,
    MeteringError,
    check_roots,
    daily_leaves,
    daily_root,
    meter_proof,
    sign_day,
)
from tellegen.records import DailyRoots, Device, Header, Readings, Refusal, Revocations, Role, tree_root
from tellegen.registry import Authority, Directory, Identity, Reason, admissions_of, connection, signing_request
from tellegen.verify import RefusedError, verify_meter_proof

ORIGIN = "city.example/shard-1"
DAY = 19_675
FIRST = DAY * 288
BEFORE = DAY * 86_400 - 10
AFTER = (DAY + 1) * 86_400 + 60
AUTHORITY = Authority(ORIGIN, bytes(32), bytes([1]) * 32, BEFORE)
OTHER = Authority(ORIGIN, bytes([8]) * 32, bytes([9]) * 32, BEFORE)
KEY = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
THIEF = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32)
METER = AUTHORITY.issue(Identity(Role.METER, 77), signing_request(KEY), BEFORE)


def day_of(n: int = 288) -> tuple[Readings, np.ndarray]:
    k = np.arange(n)
    sent = Readings(
        customer=np.full(n, 7),
        meter=np.full(n, 77),
        counter=k + 1,
        import_wh=1000 * k,
        export_wh=k,
        reactive_varh=-k,
        voltage_mv=np.full(n, 230_000),
        tag=np.zeros(n, dtype="V16"),
    )
    return DeviceCodes(bytes(32), [77]).tag(sent, FIRST + k), FIRST + k


READINGS, INTERVALS = day_of()
SIGNED = sign_day(READINGS, INTERVALS, ORIGIN, KEY.sign)
CHAIN = [METER.pem, AUTHORITY.issuing_pem]
PROOF = meter_proof(READINGS, INTERVALS, FIRST + 100, SIGNED, CHAIN)


def directory_of(*, meter: int = 77, customer: int = 7, revoked_at: int | None = None) -> Directory:
    directory = Directory()
    header = Header("", "", "", "", 0, 1, "registrar", BEFORE, (), 1, "", "")
    directory.apply(header, admissions_of([METER]))
    point = {"device": Device.LOAD, "asset": meter, "feeder": "F1", "node": 1, "phases": 0, "from_interval": 0}
    power = {"capacity_w": 1, "import_limit_w": 1, "export_limit_w": 1}
    directory.apply(header, connection(customer=customer, **point, **power))
    if revoked_at is not None:
        fingerprint = np.frombuffer(METER.fingerprint, dtype="V32")
        directory.apply(
            header, Revocations(certificate_sha256=fingerprint, revoked_at=np.array([revoked_at]), reason=np.array([1]))
        )
    return directory


def test_a_third_party_checks_a_reading_with_the_root_certificate_alone() -> None:
    proven = verify_meter_proof(PROOF, AUTHORITY.root_pem)
    assert proven.certified_as == "tellegen://city.example/shard-1/meter/77"
    assert (proven.interval, proven.day) == (FIRST + 100, DAY)
    assert proven.reading.equals(READINGS.take([100]))
    assert "registers stood at 100000 Wh import" in proven.words()


@given(st.sampled_from(sorted(json.loads(PROOF))), st.integers(0, 10**6), st.integers(1, 255))
def test_a_proof_with_anything_changed_proves_nothing(name: str, place: int, change: int) -> None:
    fields = json.loads(PROOF)
    value = fields[name]
    if isinstance(value, int):
        fields[name] = value + change
    elif isinstance(value, str):
        at = place % len(value)
        fields[name] = value[:at] + chr(ord(value[at]) ^ (change & 15 or 1)) + value[at + 1 :]
    else:
        fields[name] = value[: place % len(value)] + value[place % len(value) + 1 :]
    with pytest.raises(RefusedError):
        verify_meter_proof(json.dumps(fields), AUTHORITY.root_pem)


@given(st.one_of(st.text(max_size=60), st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists)))
def test_any_other_text_is_refused(junk: object) -> None:
    with pytest.raises(RefusedError):
        verify_meter_proof(junk if isinstance(junk, str) else json.dumps(junk), AUTHORITY.root_pem)
    fields = json.loads(PROOF)
    for name in fields:
        with pytest.raises(RefusedError):
            verify_meter_proof(json.dumps(fields | {name: junk}), AUTHORITY.root_pem)


def test_certificates_that_do_not_lead_to_the_root_prove_nothing() -> None:
    foreign = OTHER.issue(Identity(Role.METER, 77), signing_request(KEY), BEFORE)
    for chain in ([foreign.pem, OTHER.issuing_pem], [METER.pem, OTHER.issuing_pem], [METER.pem, AUTHORITY.root_pem]):
        with pytest.raises(RefusedError, match="not issued by the one above it"):
            verify_meter_proof(meter_proof(READINGS, INTERVALS, FIRST, SIGNED, chain), AUTHORITY.root_pem)


@pytest.mark.parametrize("identity", [Identity(Role.METER, 78), Identity(Role.PARTICIPANT, 77)])
def test_the_key_of_somebody_else_signs_for_no_meter(identity: Identity) -> None:
    other = AUTHORITY.issue(identity, signing_request(THIEF), BEFORE)
    forged = sign_day(READINGS, INTERVALS, ORIGIN, THIEF.sign)
    proof = meter_proof(READINGS, INTERVALS, FIRST, forged, [other.pem, AUTHORITY.issuing_pem])
    with pytest.raises(RefusedError, match="not that of meter 77"):
        verify_meter_proof(proof, AUTHORITY.root_pem)


def test_a_meter_is_no_authority() -> None:
    """A certificate signed with a meter's own key leads nowhere."""
    made_up = Authority(ORIGIN, bytes([4]) * 32, bytes([2]) * 32, BEFORE)
    below = made_up.issue(Identity(Role.METER, 77), signing_request(THIEF), BEFORE)
    proof = meter_proof(
        READINGS, INTERVALS, FIRST, sign_day(READINGS, INTERVALS, ORIGIN, THIEF.sign), [below.pem, METER.pem]
    )
    with pytest.raises(RefusedError):
        verify_meter_proof(proof, AUTHORITY.root_pem)


def test_a_certificate_counts_in_its_time_and_until_it_is_revoked() -> None:
    short = AUTHORITY.issue(Identity(Role.METER, 77), signing_request(KEY), BEFORE, days=1)
    proof = meter_proof(READINGS, INTERVALS, FIRST, SIGNED, [short.pem, AUTHORITY.issuing_pem])
    with pytest.raises(RefusedError, match="was not valid at"):
        verify_meter_proof(proof, AUTHORITY.root_pem)
    for revoked_at, refused in ((AFTER, False), (BEFORE, True)):
        listed = AUTHORITY.revocation_list([(METER.serial, revoked_at, Reason.KEY_COMPROMISE)], 1, AFTER)
        if refused:
            with pytest.raises(RefusedError, match="was revoked at"):
                verify_meter_proof(PROOF, AUTHORITY.root_pem, listed)
        else:
            verify_meter_proof(PROOF, AUTHORITY.root_pem, listed)
    with pytest.raises(RefusedError, match="not the issuer's"):
        verify_meter_proof(PROOF, AUTHORITY.root_pem, OTHER.revocation_list([], 1, AFTER))


def test_the_order_in_which_readings_came_does_not_matter() -> None:
    shuffled = np.random.default_rng(5).permutation(288)
    assert daily_root(READINGS.take(shuffled), INTERVALS[shuffled]) == SIGNED.root[0].tobytes()
    assert tree_root(daily_leaves(READINGS, INTERVALS)) == SIGNED.root[0].tobytes()


def test_what_the_meter_did_not_sign_cannot_be_proven() -> None:
    with pytest.raises(MeteringError, match="that are not the 287 given"):
        meter_proof(READINGS.take(np.arange(287)), INTERVALS[:287], FIRST, SIGNED, CHAIN)
    with pytest.raises(MeteringError, match="no reading of this meter"):
        meter_proof(READINGS, INTERVALS, FIRST - 1, SIGNED, CHAIN)
    with pytest.raises(MeteringError, match="one meter at one customer on one UTC day"):
        sign_day(READINGS, INTERVALS + 1, ORIGIN, KEY.sign)


@pytest.mark.parametrize(
    ("signed", "directory", "at", "refusal"),
    [
        (SIGNED, directory_of(), AFTER, Refusal.NONE),
        (SIGNED, directory_of(), AFTER - 61, Refusal.OUT_OF_RANGE),
        (SIGNED, directory_of(customer=8), AFTER, Refusal.UNKNOWN),
        (SIGNED, directory_of(meter=78), AFTER, Refusal.UNKNOWN),
        (SIGNED, Directory(), AFTER, Refusal.UNKNOWN),
        (SIGNED, directory_of(revoked_at=AFTER), AFTER, Refusal.REVOKED),
        (replace(SIGNED, readings=np.array([287])), directory_of(), AFTER, Refusal.SIGNATURE),
        (sign_day(READINGS, INTERVALS, ORIGIN, THIEF.sign), directory_of(), AFTER, Refusal.SIGNATURE),
    ],
)
def test_a_signed_day_is_the_meters_own(signed: DailyRoots, directory: Directory, at: int, refusal: Refusal) -> None:
    assert check_roots(signed, directory, at, ORIGIN).tolist() == [refusal]


def test_a_day_counts_once_in_a_batch() -> None:
    twice = DailyRoots.concat([SIGNED, SIGNED])
    assert check_roots(twice, directory_of(), AFTER, ORIGIN).tolist() == [Refusal.NONE, Refusal.DUPLICATE]
    assert check_roots(DailyRoots.empty(), directory_of(), AFTER, ORIGIN).size == 0
