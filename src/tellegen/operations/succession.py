"""A successor: the record of a shard, copied and taken up under new keys, where its logs cannot be signed on.

It begins with the same entries, so all that follows from them follows as before, and whatever a receipt of the logs
before proves of them stands at the same place. What the old logs had signed for beyond is lost, and said to be.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tellegen.custody import ROLES
from tellegen.errors import InputError
from tellegen.foreign.regular import regular_bytes
from tellegen.journal import Checkpoint, Journal, JournalError, NoteSigner, NoteVerifier, height_for
from tellegen.journal.clock import RecordClock
from tellegen.journal.elsewhere import ELSEWHERE_NAME
from tellegen.journal.note import split_note
from tellegen.journal.storage import replace_file
from tellegen.operations.directory import ShardFiles, new_directory
from tellegen.operations.record import MARKET_KEY
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span, start_clock
from tellegen.records.succession import UNKNOWN_SIZE, Successions, successor_of
from tellegen.registry.renewal import renewed_role
from tellegen.registry.shard import SIGNING_PURPOSE
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import RefusedError
from tellegen.verify.receipts import checkpoint_within, is_receipt

_NEWEST_BYTES_MAX = 1 << 24
SOURCE = "operator"
"""Who declares a succession."""
_OF_THE_LOG = ("checkpoints", "checkpoint", "cosigned", ELSEWHERE_NAME)
"""Files of a journal that belong to its key; the others to its entries."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """What came of one log.

    Attributes
    ----------
    predecessor, successor : verifier keys. size : entries taken over.
    signed_for : entries for which the predecessor was signed, as far as known; -1: unknown.
    """

    predecessor: str
    successor: str
    size: int
    signed_for: int

    @property
    def lost(self) -> str:
        """What is lost, in words."""
        if self.signed_for == UNKNOWN_SIZE:
            return "how many behind them are lost is not known: --newest FILE would say"
        lost = self.signed_for - self.size
        return f"{lost:,} behind them {'is' if lost == 1 else 'are'} lost" if lost else "none is lost"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the operator says.

    Attributes
    ----------
    by, reason : ASCII, up to 64 and 256 characters.
    newest : newer checkpoints of the logs before: what a witness, a counter or a receipt has.
    """

    by: str
    reason: str
    newest: tuple[str, ...] = ()


def succeed(
    path: Path, out: Path, said: Declaration, clock: Callable[[int], RecordClock] | None = None
) -> list[Succeeded]:
    """Make the successor of a shard in a new folder: its intake's log, and its market's where it has one.

    The old directory is left as it is. What is published there is not signed for any more: `tellegen publish`.

    Parameters
    ----------
    path : a shard that no process writes to, such as a restored back-up. out : a new folder.
    clock : makes the time of the record from the time of the newest entry; where that is far away, it goes on record
        that the clock is right.

    Raises
    ------
    InputError : a text will not do, there is no shard, or it cannot be copied. JournalError : the record is
        damaged, or one of the newer checkpoints is of no log of it.
    """
    _check_words(said)
    if not (path / "journal").is_dir() or not ShardFiles(path).vault.is_dir():
        raise InputError(path, "directory", "holds no shard; give the one to take up")
    parts = [(Path(), SIGNING_PURPOSE), (Path("market"), MARKET_KEY)]
    parts = [part for part in parts if (path / part[0] / "journal").is_dir()]
    with new_directory(out) as made:
        try:
            shutil.copytree(path, made, symlinks=True, ignore=_keys_of_others, dirs_exist_ok=True)
        except shutil.Error as error:
            source, _, why = error.args[0][0]
            raise InputError(Path(source), "file", f"cannot be copied: {why}") from None
        except OSError as error:
            raise InputError(path, "directory", f"cannot be copied: {error.strerror}") from None
        with Vault.open(made / "vault") as vault:
            done = [_take_up(made / folder, purpose, vault, said, clock) for folder, purpose in parts]
        used = {checkpoint.origin for checkpoint in map(_parsed, said.newest)}
        others = used.difference(one.predecessor.partition("+")[0] for one in done)
        if others:
            raise JournalError(f"a checkpoint of {', '.join(sorted(others))} says nothing about the logs of {path}")
    return done


def checkpoint_of(path: Path) -> str:
    """The checkpoint in a file: one that a witness, a counter or an export keeps, or that of a receipt.

    Raises
    ------
    InputError : there is none.
    """
    text = regular_bytes(path, _NEWEST_BYTES_MAX).decode("utf-8", "replace")
    if text.startswith("{"):
        try:
            receipt = json.loads(text).get("receipt")
        except ValueError:
            receipt = None
        text = receipt if isinstance(receipt, str) else ""
    try:
        return checkpoint_within(text) if is_receipt(text) else _whole(text)
    except (JournalError, RefusedError):
        raise InputError(path, "file", "holds no checkpoint and no receipt") from None


def _keys_of_others(folder: str, names: list[str]) -> list[str]:
    """Keys of logs that only another user may read: a successor has its own."""
    keys = {ROLES[purpose].path(Path(folder)) for purpose in (SIGNING_PURPOSE, MARKET_KEY)}
    return [name for name in names if Path(folder, name) in keys and not os.access(Path(folder, name), os.R_OK)]


def _whole(note: str) -> str:
    split_note(note)  # raises where it is none
    return note


def _check_words(said: Declaration) -> None:
    for what, text, most in (("--by", said.by, 64), ("--reason", said.reason, 256)):
        if not text.strip() or not text.isascii() or not text.isprintable() or len(text) > most:
            raise InputError("command line", what, f"must be 1 to {most} printable ASCII characters; it goes on record")


def _parsed(note: str) -> Checkpoint:
    lines = note.split("\n")
    return Checkpoint(lines[0], 0, b"", note)


def _take_up(
    folder: Path, purpose: str, vault: Vault, said: Declaration, clock: Callable[[int], RecordClock] | None
) -> Succeeded:
    """Put a log's entries under a new key, and say in the first entry behind them whose they were."""
    with Journal.open(folder) as journal:  # holds what is there against every root that was signed
        before, verifier = journal.checkpoint, journal.verifier
    signed_for = _signed_for(verifier, before, said.newest)
    key = renewed_role(vault, purpose)
    signer = NoteSigner(successor_of(verifier.name), key)
    home = folder / "journal"
    for name in _OF_THE_LOG:
        (home / name).unlink(missing_ok=True)
    shutil.rmtree(home / "index", ignore_errors=True)  # says where checkpoints stand that are gone; it is made again
    replace_file(home / "operator.pub", f"{signer.verifier.vkey}\n".encode())
    first = Checkpoint.signed_by(signer, before.size, before.root)
    for name in ("checkpoints", "checkpoint"):
        replace_file(home / name, first.note.encode())
    _, (line,) = split_note(before.note)
    with Journal.open(folder, key, stretch_height=height_for(len(vault.customers))) as journal:
        now = journal.time(0)
        if not vault.simulated:  # whose time is not that of any clock
            begin = clock or (lambda at: RecordClock(not_before=at))
            now = journal.time(start_clock(journal, vault, begin, SOURCE, said.by).now())
        row = Successions(
            predecessor=np.array([verifier.vkey.encode()]),
            size=np.array([before.size]),
            root=np.array([before.root], dtype="V32"),
            signature=np.array([line.signature], dtype="V64"),
            signed_for=np.array([signed_for]),
            declared_by=np.array([said.by.encode()]),
            reason=np.array([said.reason.encode()]),
        )
        Recorder(journal, vault, "").put(row, Span(now, now // MARKET_INTERVAL_S), source=SOURCE)
        journal.commit(now)
        return Succeeded(verifier.vkey, journal.verifier.vkey, before.size, signed_for)


def _signed_for(verifier: NoteVerifier, before: Checkpoint, notes: tuple[str, ...]) -> int:
    """How far a log was signed, by the newest of its checkpoints that somebody has kept."""
    sizes = [
        Checkpoint.parse(_own(note, verifier), verifier).size for note in notes if _parsed(note).origin == verifier.name
    ]
    return max([before.size, *sizes]) if sizes else UNKNOWN_SIZE


def _own(note: str, verifier: NoteVerifier) -> str:
    """A note without the lines of witnesses."""
    text, lines = split_note(note)
    return f"{text}\n" + "".join(str(line) for line in lines if line.name == verifier.name)
