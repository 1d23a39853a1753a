"""The directory of a run: journal, vault, books, and the keys that open them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.operations.recorder import Recorder
from tellegen.privacy import Vault
from tellegen.records import OPERATOR, Header
from tellegen.rules import Rulebook

ORIGIN = "tellegen.example/feeder"
"""Name of the log of a simulated run, and of the operator's key."""
_SIGNATURE = "operator signature"


@dataclass(frozen=True, slots=True)
class Run:
    """An open run.

    path : its directory. recorder : journal and vault. signing_key : the operator's Ed25519 seed.
    """

    path: Path
    recorder: Recorder
    signing_key: bytes

    @property
    def books(self) -> Path:
        """File of the ledger."""
        return self.path / "books.sqlite"

    def close(self) -> None:
        """Close journal and vault."""
        self.recorder.journal.close()
        self.recorder.vault.close()

    def names(self) -> dict[int, str]:
        """Public name of each customer number."""
        return {int(number): name for number, name in json.loads(self.recorder.document("names") or b"{}").items()}

    def number(self, name: str, source: object) -> int:
        """Customer number of a name.

        Raises
        ------
        InputError : nobody is called that.
        """
        for number, known in self.names().items():
            if known == name:
                return number
        raise InputError(source, f"customer '{name}'", "is not enrolled in this run; names look like home-001")

    def rulebook(self) -> Rulebook:
        """The rulebook as it stands on record."""
        names = {header.name for header in _documents(self.recorder) if header.name.startswith("rulebook/")}
        return Rulebook.from_documents({name: self.recorder.document(name) for name in sorted(names)})


def _documents(recorder: Recorder) -> list[Header]:
    entries = recorder.journal.entries()
    return [entries[index] for index in recorder.journal.find(kind="document")]


def create_run(path: Path, feeder: str, customers: Iterable[int], seed: bytes | None) -> Run:
    """Start the directory of a run: vault with a key per customer, and an empty journal.

    Raises
    ------
    InputError : the directory holds something already.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(path, "directory", "is not empty; a run is never overwritten, give a new --out")
    path.mkdir(parents=True, exist_ok=True)
    vault = Vault.create(path / "vault", [OPERATOR, *customers], seed)
    signing_key = vault.purpose_key(_SIGNATURE)
    return Run(path, Recorder(Journal.create(path, ORIGIN, signing_key), vault, feeder), signing_key)


def signing_key(vault: Path) -> bytes:
    """The operator's Ed25519 seed, which signs checkpoints and manifests.

    Raises
    ------
    InputError : there is no vault.
    """
    with Vault.open(vault) as keys:
        return keys.purpose_key(_SIGNATURE)


@contextmanager
def open_run(path: Path, *, write: bool = False) -> Iterator[Run]:
    """Open an existing run, for reading unless `write`.

    Raises
    ------
    InputError : there is no run at `path`.
    """
    if not (path / "journal").is_dir():
        raise InputError(path, "directory", "holds no journal; give the directory of a run")
    vault = Vault.open(path / "vault")
    try:
        signing_key = vault.purpose_key(_SIGNATURE)
        journal = Journal.open(path, signing_key if write else None)
    except BaseException:
        vault.close()
        raise
    entries = journal.entries()
    feeder = entries[0].feeder if entries else ""
    run = Run(path, Recorder(journal, vault, feeder), signing_key)
    try:
        yield run
    finally:
        run.close()
