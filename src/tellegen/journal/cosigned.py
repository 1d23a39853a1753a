"""The newest checkpoint that witnesses have cosigned, as it is kept: ``journal/cosigned``.

It is the operator's note, followed by their lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.cosignature import COSIGNED_NAME, CosignatureVerifier, ask, store_cosignatures
from tellegen.journal.journal import Journal
from tellegen.journal.note import JournalError, SignatureLine, split_note

_REMEDY = "remove it, and have the log cosigned again"


def cosigned(journal: Journal) -> Checkpoint | None:
    """The newest cosigned checkpoint of a journal, its note with the witnesses' lines; None where there is none yet.

    Raises
    ------
    JournalError : the file is damaged, or no state of this log.
    """
    path = journal.folder / COSIGNED_NAME
    if not path.exists():
        return None
    try:
        checkpoint = Checkpoint.parse(path.read_bytes().decode(), journal.verifier)
    except (UnicodeDecodeError, JournalError) as error:
        raise JournalError(f"corruption: {path}: {error}; {_REMEDY}") from None
    if checkpoint.size > journal.checkpoint.size:
        journal.refresh()  # a reader may be behind the writer, which has had a newer one cosigned
    if checkpoint.size > journal.checkpoint.size or journal.tree.root(checkpoint.size) != checkpoint.root:
        raise JournalError(f"corruption: {path}: is no state of this log; {_REMEDY}")
    return checkpoint


def strongest(journal: Journal, index: int) -> Checkpoint:
    """The checkpoint to prove an entry under: the cosigned one where it covers the entry, else the newest."""
    witnessed = cosigned(journal)
    return witnessed if witnessed is not None and index < witnessed.size else journal.checkpoint


def newest(journal: Journal) -> Checkpoint:
    """The newest checkpoint, with its cosignatures where it has any."""
    witnessed = cosigned(journal)
    return witnessed if witnessed is not None and witnessed.size == journal.checkpoint.size else journal.checkpoint


def keep_cosignatures(journal: Journal, checkpoint: Checkpoint, lines: Iterable[SignatureLine]) -> Checkpoint:
    """Store cosignatures of a checkpoint of this journal, durably; those it has already are kept.

    Cosignatures of an older checkpoint give way to those of a newer one, never the other way round.

    Raises
    ------
    JournalError : the file holds those of a newer checkpoint, or is damaged.
    """
    before = cosigned(journal)
    if before is not None and before.size > checkpoint.size:
        raise JournalError(f"{journal.folder / COSIGNED_NAME} is about {before.size} entries, not {checkpoint.size}")
    return store_cosignatures(journal.folder, checkpoint, lines)


def ask_witness(
    journal: Journal,
    checkpoint: Checkpoint,
    witness: CosignatureVerifier,
    post: Callable[[bytes], tuple[int, str]],
) -> SignatureLine:
    """Have a witness cosign a checkpoint of this journal (`cosignature.ask`).

    Raises
    ------
    NotCosignedError : it does not.
    """
    before = cosigned(journal)
    signed = before is not None and any(witness.owns(line) for line in split_note(before.note)[1])
    known = before.size if before is not None and signed and before.size <= checkpoint.size else 0
    return ask(journal, checkpoint, witness, post, known)
