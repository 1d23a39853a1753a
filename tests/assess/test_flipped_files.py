"""One flipped bit in any file of a shard: whoever reads the file names it, or nothing that it says has changed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tellegen.books import Ledger
from tellegen.errors import TellegenError
from tellegen.journal import CosignatureVerifier, Journal, Witness, ask_witness, check, cosigned, keep_cosignatures
from tellegen.operations.compaction import compact, compactions_on_record
from tellegen.privacy import Archive, Vault
from tellegen.records import AllocationKeys, Postings, Role
from tellegen.registry import Identity, signing_request
from tellegen.registry.authority import Authority
from tellegen.registry.certificates import CertificateStore

KEYS, MARKET = bytes(range(32)), "market"
FLIPS = 60
DAY = 20_000
WHO = Identity(Role.PARTICIPANT, 7)
BOOK = Postings(
    unit=[0] * 4, account=[1, -10, 2, -10], interval=[0] * 4, line=[1, 20, 1, 20], quantity=[5, -5, 7, -7],
    price=[3] * 4, amount=[15, -15, 21, -21], cause=[0] * 4,
)  # fmt: skip


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard with one of each kind of file."""
    path = tmp_path_factory.mktemp("flips") / "s"
    with Vault.create(path / "vault", range(1, 9), b"flips") as vault:
        for folder in (path, path / MARKET):
            with Journal.create(folder, "flips.example", vault.purpose_key(folder.name)) as journal:
                weights = AllocationKeys(customer=np.arange(1, 9), weight_wh=np.arange(8) + 500)
                span = {"interval": DAY * 288, "intervals": 1, "source": "s", "known_at": DAY * 86_400}
                for table in (weights, BOOK):
                    journal.append(vault.seal_live(table, feeder="F", **span))
                journal.commit(DAY * 86_400)
        compact(path, vault, known_at=(DAY + 1) * 86_400, until_day=DAY)
        with Journal.open(path) as journal:
            archive = Archive(path, vault)
            for place in archive.files():
                if 8 in archive.customers(place):
                    archive.keep_leaves(place, 8, journal.entry)
        vault.erase(8)
        vault.seal_live(weights.take(np.arange(7)), feeder="F", **span)  # a new epoch
    with Journal.open(path) as journal:
        Witness.create(path.parent / "w", "w.example", KEYS)
        witness = Witness(path.parent / "w", [journal.verifier], lambda: 1)

        def post(body: bytes) -> tuple[int, str]:
            reply = witness.add_checkpoint(body)
            return int(reply.status), reply.text

        line = ask_witness(journal, journal.checkpoint, CosignatureVerifier.parse(witness.vkey), post)
        keep_cosignatures(journal, journal.checkpoint, [line])
        witness.close()
    Ledger.rebuild(path / "books.sqlite", [(1, BOOK)]).close()
    authority = Authority("flips.example", KEYS, KEYS[::-1], 1_700_000_000)
    with CertificateStore(path / "certificates.sqlite") as store:
        store.add([authority.issue(WHO, signing_request(Ed25519PrivateKey.from_private_bytes(KEYS)), 1_700_000_001)])
    return path


def of_journal(path: Path) -> object:
    """`tellegen journal check`."""
    problems = [f"{p}" for p in check(path)]
    if problems:
        return problems
    with Journal.open(path) as journal:
        return [] if (found := cosigned(journal)) is None else found.note


def of_vault(path: Path) -> object:
    """Opening the vault."""
    with Vault.open(path / "vault") as vault:
        names = vault.customers, vault.erased, vault.purposes, [(e.number, e.day, e.closed) for e in vault.epochs]
        return names, [vault.purpose_key(name) for name in vault.purposes], vault.archive_keys(3, b"").cipher is None


def of_archive(path: Path) -> object:
    """What is done before an archive file is believed: its digest is on record."""
    with Vault.open(path / "vault") as vault, Journal.open(path) as journal:
        for place, digest in compactions_on_record(journal, vault).items():
            Archive(path, vault).check_digest(place, digest)
    return None


def of_blocks(path: Path) -> object:
    """Reading archived rows."""
    with Vault.open(path / "vault") as vault, Journal.open(path) as journal:
        return [Archive(path, vault).unseal(journal, index).table.rows().tobytes() for index in (0, 1)]


def of_books(path: Path) -> object:
    """The fold of the journal against the file (`tellegen replay`)."""
    with Ledger.open(path / "books.sqlite", read_only=True) as ledger:
        return ledger.check([(1, BOOK)])


def of_certificates(path: Path) -> object:
    """Reading certificates."""
    with CertificateStore(path / "certificates.sqlite") as store:
        return [(c.der, c.serial, c.public_key, c.valid_until) for c in store.of(WHO)]


@dataclass(frozen=True)
class Kind:
    """Files, who reads them, and whether every flip must be named (else: or change nothing that is read)."""

    files: str
    read: Callable[[Path], object]
    every: bool = True


KINDS = [
    Kind("journal/log/*.seg", of_journal),
    Kind("journal/payloads/*.seg", of_journal),  # those of archived rows are stubs
    Kind("journal/checkpoints", of_journal),
    Kind("journal/checkpoint", of_journal),
    Kind("journal/operator.pub", of_journal),
    Kind("journal/cosigned", of_journal, every=False),  # a witness's signature is checked by who trusts the witness
    Kind("market/journal/log/*.seg", lambda path: of_journal(path / MARKET)),
    Kind("market/journal/payloads/*.seg", lambda path: of_journal(path / MARKET)),
    Kind("archive/*/*/*.parquet", of_archive),
    Kind("archive/*/*/*.parquet", of_blocks, every=False),
    Kind("vault/keys.sqlite", of_vault, every=False),
    Kind("books.sqlite", of_books, every=False),
    Kind("certificates.sqlite", of_certificates, every=False),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.files} {kind.read.__name__}")
def test_a_flipped_bit_is_named_or_changes_nothing(kind: Kind, shard: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(shard, tmp_path / "s"))
    truth = kind.read(path)
    file = max(path.glob(kind.files), key=lambda found: found.stat().st_size)
    content = file.read_bytes()
    chance = random.Random(1)
    unnoticed, changed = [], []
    for bit in sorted(chance.sample(range(8 * len(content)), min(FLIPS, 8 * len(content)))):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            found = kind.read(path)
        except TellegenError:
            continue
        finally:
            for left in path.rglob("*.sqlite-wal"):
                left.unlink()
        if found == truth:
            unnoticed.append(bit)
        elif kind.read not in (of_journal, of_books) and "<lambda>" not in kind.read.__name__:
            changed.append(bit)
    file.write_bytes(content)
    assert kind.read(path) == truth
    assert not changed
    assert not (kind.every and unnoticed)
