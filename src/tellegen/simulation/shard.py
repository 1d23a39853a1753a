"""A shard made from a seed: customers, meters and senders with their keys, for benchmarks and tests.

What a real shard gets by enrolment, certificate by certificate, is put on record here at once. Nobody signs a
certificate for a synthetic identity: the fingerprint on record is the SHA-256 of its public key. Whoever knows the seed
knows every key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import InputError
from tellegen.journal import Journal, height_for
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Admissions, Connections, Role
from tellegen.registry.registrar import METER_PURPOSE
from tellegen.registry.shard import SIGNING_PURPOSE, found_roles, put_authority, simulated_name
from tellegen.units import MARKET_INTERVAL_S

HEAD_END, GATEWAY = "head-end", "gateway"
METER_FIRST = 1_000_000_000
"""The meter of customer n has the serial number METER_FIRST + n."""
FUSE_W = 25_000
SIMULATED = b"simulation"
"""Who vouches for what simulated connections and devices can do."""
_VALID_S = 20 * 365 * 86_400
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """Every secret outside the shard's own vault: what its meters, customers and senders hold.

    Attributes
    ----------
    path : directory of the shard.
    vkey : the operator's verifier key, with which receipts are checked.
    meter_master : 32-byte key from which the meters' keys derive; the shard's vault holds it too.
    seed : of everything.
    """

    path: Path
    vkey: str
    meter_master: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @property
    def origin(self) -> str:
        """Name of the shard's log."""
        return self.vkey.partition("+")[0]

    def sign_as(self, sender: str, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes, of a sender (`HEAD_END` or a gateway)."""
        _, secret = _keypair(self.seed, sender)
        return bytes(crypto_sign(message, secret)[:_SIGNATURE_BYTES])

    def sender_seed(self, sender: str) -> bytes:
        """Ed25519 seed, 32 bytes, of a sender (`HEAD_END` or a gateway)."""
        return _secret(self.seed, sender)

    def customer_seed(self, customer: int) -> bytes:
        """Ed25519 seed, 32 bytes, with which a customer signs its bids."""
        return _secret(self.seed, f"customer {customer}")

    @staticmethod
    def meters_of(customers: ArrayLike) -> NDArray[np.int64]:
        """Serial numbers of the customers' meters."""
        return np.asarray(np.asarray(customers, dtype=np.int64) + METER_FIRST)


def build_shard(
    path: Path | str,
    feeders: Mapping[str, ArrayLike | Connections],
    seed: bytes,
    *,
    first_interval: int = 0,
    known_at: int | None = None,
    origin: str = "tellegen.example/shard",
    gateways: Sequence[str] = (GATEWAY,),
) -> ShardKeys:
    """Make the directory of a shard: vault, journal, and on record who may speak and who hangs where.

    Parameters
    ----------
    path : an empty or absent folder.
    feeders : who hangs on each feeder, everybody on one. Of customer numbers alone, from 1, the one at position k hangs
        on node k + 1 by a fuse of `FUSE_W` and has the meter ``METER_FIRST + number``.
    seed : of every key.
    first_interval : market interval from which all this holds.
    known_at : when it became known, seconds since the epoch; None: at the start of that interval.
    origin : name of the log; it is marked as that of a simulation.
    gateways : who may bring bids.

    Raises
    ------
    InputError : the folder is not empty.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "directory", "is not empty; a shard is never overwritten, give a new one")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    members = {
        name: who if isinstance(who, Connections) else _connected(name, np.asarray(who, dtype=np.int32), first_interval)
        for name, who in feeders.items()
    }
    everybody = np.unique(Connections.concat(list(members.values())).customer)
    known_at = first_interval * MARKET_INTERVAL_S if known_at is None else known_at
    with Vault.create(folder / "vault", everybody.tolist(), seed) as vault:
        height, name_of_log = height_for(everybody.size), simulated_name(origin)
        authority = found_roles(vault, name_of_log, known_at)
        master, key = vault.role_key(METER_PURPOSE), vault.role_key(SIGNING_PURPOSE)
        with Journal.create(folder, name_of_log, key, stretch_height=height) as journal:
            senders = Recorder(journal, vault, "", live=True)
            senders.put(_admitted_senders(seed, known_at, gateways), Span(known_at, first_interval))
            for name, connected in members.items():
                recorder, span = Recorder(journal, vault, name, live=True), Span(known_at, first_interval)
                recorder.put(_admitted_customers(seed, np.unique(connected.customer), known_at), span)
                recorder.put(connected, span)
                journal.commit(known_at)
            put_authority(journal, vault, authority, known_at)
            journal.commit(known_at)
            vkey = journal.verifier.vkey
    return ShardKeys(folder, vkey, master, seed)


def _secret(seed: bytes, whose: str) -> bytes:
    return hashlib.blake2b(whose.encode(), key=seed[:64], digest_size=32).digest()


def _keypair(seed: bytes, whose: str) -> tuple[bytes, bytes]:
    return crypto_sign_seed_keypair(_secret(seed, whose))


def _admissions(
    role: NDArray[np.uint8], number: NDArray[np.int64], names: list[str], public: list[bytes], known_at: int
) -> Admissions:
    count = len(public)
    prints = b"".join(hashlib.sha256(key).digest() for key in public)
    return Admissions(
        role=role,
        number=number,
        name=np.array([name.encode() for name in names], dtype="S100"),
        public_key=np.frombuffer(b"".join(public), dtype="V32"),
        certificate_sha256=np.frombuffer(prints, dtype="V32"),
        valid_from=np.full(count, known_at),
        valid_until=np.full(count, known_at + _VALID_S),
    )


def _admitted_senders(seed: bytes, known_at: int, gateways: Sequence[str]) -> Admissions:
    names = [HEAD_END, *gateways]
    role = np.array([Role.HEAD_END] + [Role.GATEWAY] * len(gateways), dtype=np.uint8)
    public = [_keypair(seed, sender)[0] for sender in names]
    return _admissions(role, np.zeros(role.size, dtype=np.int64), names, public, known_at)


def _admitted_customers(seed: bytes, customers: NDArray[np.int32], known_at: int) -> Admissions:
    role = np.full(customers.size, Role.PARTICIPANT, dtype=np.uint8)
    public = [_keypair(seed, f"customer {customer}")[0] for customer in customers.tolist()]
    return _admissions(role, customers.astype(np.int64), [""] * customers.size, public, known_at)


def _connected(feeder: str, customers: NDArray[np.int32], first_interval: int) -> Connections:
    count = customers.size
    return Connections(
        customer=customers,
        device=np.zeros(count, dtype=np.uint8),
        asset=ShardKeys.meters_of(customers),
        feeder=np.full(count, feeder.encode(), dtype="S32"),
        node=np.arange(1, count + 1, dtype=np.int32),
        phases=np.zeros(count, dtype=np.uint8),
        from_interval=np.full(count, first_interval),
        capacity_w=np.full(count, FUSE_W),
        import_limit_w=np.full(count, FUSE_W),
        export_limit_w=np.full(count, FUSE_W),
        reads_every=np.zeros(count, dtype=np.uint8),
        attested_by=np.full(count, SIMULATED, dtype="S32"),
        credit=np.zeros(count, dtype=np.int32),
    )
