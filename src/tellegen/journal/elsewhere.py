"""What is kept elsewhere: who knows how far a log has been signed, though its disk is restored from a back-up.

A journal that is set back and goes on signs a second history of the log, and convicts an honest operator. So before
its writer cuts or signs anything, it asks those that the file ``journal/elsewhere`` names, and does not sign below what
they know. Where the file is missing nobody is asked.

==========  ============================================================================================================
counter     a folder on another machine or disk, which keeps the newest checkpoint; or ``command:PROGRAM``, which prints
            SIZE and ROOT (base64) for ``PROGRAM newest ORIGIN``, nothing where it has none, and never goes back after
            ``PROGRAM keep ORIGIN SIZE ROOT``. It has every checkpoint before anybody is shown it
witness     of C2SP tlog-witness; it has those that it is brought: when a journal is opened, and every so many seconds
==========  ============================================================================================================
"""

from __future__ import annotations

import base64
import json
import logging
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tellegen.errors import InputError
from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.cosignature import ContradictedError, CosignatureVerifier, NotCosignedError, ask
from tellegen.journal.extension import Grown
from tellegen.journal.note import JournalError, NoteVerifier, SignatureLine
from tellegen.journal.storage import FILES, Storage, read_file, replace_file

ELSEWHERE_NAME = "elsewhere"
EVERY_S = 60
"""Seconds after which a witness is brought the newest checkpoint again."""
SECONDS_MAX = 10.0
"""Within which whoever is asked must have answered."""
_ANSWER_BYTES_MAX = 1 << 20
_COMMAND = "command:"
_REMEDY = (
    "nothing is signed. Bring the newer record, or open a successor: `tellegen journal succeed` (docs/recovery.md)"
)
_log = logging.getLogger(__name__)
Post = Callable[[str, bytes], tuple[int, str]]
"""Sends a request to a witness's address; returns HTTP status and text. Raises `InputError` where nobody answers."""


class Counter(Protocol):
    """Something beyond the reach of a restored back-up; it never forgets, and never goes back."""

    @property
    def place(self) -> str:
        """Where it is."""

    def newest(self, log: NoteVerifier) -> tuple[int, bytes | None] | None:
        """Size and root (None where it keeps none) of the newest checkpoint that it was told; None: it was told none.

        Raises
        ------
        JournalError : it cannot be asked, or what it keeps is not of this log.
        """

    def keep(self, checkpoint: Checkpoint) -> None:
        """Remember a checkpoint, durably.

        Raises
        ------
        JournalError : it cannot be told.
        """


@dataclass(frozen=True, slots=True)
class CounterFolder:
    """A folder on another disk."""

    folder: Path

    @property
    def place(self) -> str:
        """Where it is."""
        return str(self.folder)

    def newest(self, log: NoteVerifier) -> tuple[int, bytes | None] | None:
        """What it keeps of a log."""
        path = self._file(log.name)
        try:
            if not path.exists():
                return None
            known = Checkpoint.parse(path.read_bytes().decode(), log)
        except (OSError, UnicodeDecodeError, JournalError) as error:
            raise JournalError(f"{path}: {error}") from None
        return known.size, known.root

    def keep(self, checkpoint: Checkpoint) -> None:
        """Remember it."""
        try:
            replace_file(self._file(checkpoint.origin), checkpoint.note.encode())
        except OSError as error:
            raise JournalError(f"{self.folder}: {error.strerror}; is it mounted?") from error

    def _file(self, origin: str) -> Path:
        return self.folder / f"{quote(origin, safe='')}.checkpoint"


@dataclass(frozen=True, slots=True)
class CounterCommand:
    """A program that keeps the count: in a token, at a service, wherever."""

    command: str

    @property
    def place(self) -> str:
        """How it is called."""
        return _COMMAND + self.command

    def newest(self, log: NoteVerifier) -> tuple[int, bytes | None] | None:
        """What it keeps of a log."""
        words = self._run("newest", log.name).split()
        try:
            if not words:
                return None
            size, root = int(words[0]), base64.b64decode(words[1], validate=True) if len(words) > 1 else None
        except ValueError:
            raise JournalError(f"{self.command}: answers {' '.join(words)[:100]!r}, not SIZE and ROOT") from None
        return size, root

    def keep(self, checkpoint: Checkpoint) -> None:
        """Tell it."""
        self._run("keep", checkpoint.origin, str(checkpoint.size), base64.b64encode(checkpoint.root).decode())

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own program
                [*shlex.split(self.command), *arguments], capture_output=True, timeout=SECONDS_MAX, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise JournalError(f"{self.command}: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise JournalError(f"{self.command} {arguments[0]}: ends with {done.returncode}: {said[:200]}")
        return done.stdout[:_ANSWER_BYTES_MAX].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """Where a witness is, and its verifier key."""

    url: str
    key: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is asked, as ``journal/elsewhere`` has it.

    Attributes
    ----------
    counters : folders, or ``command:PROGRAM``; each has every checkpoint.
    witnesses : of whom `needed` must have answered before a journal is opened for writing.
    every_s : seconds after which they are brought a newer checkpoint; 0: every one, before anybody is shown it, and
        `needed` of them must have signed it.
    """

    counters: tuple[str, ...] = ()
    witnesses: tuple[WitnessAddress, ...] = ()
    needed: int = 0
    every_s: int = EVERY_S

    @classmethod
    def of(cls, folder: Path, storage: Storage = FILES) -> Plan | None:
        """The plan of a journal; None where there is none.

        Raises
        ------
        JournalError : the file is damaged.
        """
        path = folder / ELSEWHERE_NAME
        if not storage.exists(path):
            return None
        try:
            said = json.loads(read_file(storage, path))
            witnesses = tuple(WitnessAddress(str(each["url"]), str(each["key"])) for each in said["witnesses"])
            return cls(tuple(map(str, said["counters"])), witnesses, int(said["needed"]), int(said["every_s"]))
        except (ValueError, KeyError, TypeError):
            raise JournalError(
                f"corruption: {path}: is not what `tellegen journal guard` writes; set it up anew"
            ) from None

    def write(self, folder: Path) -> None:
        """Let it count from now on."""
        replace_file(folder / ELSEWHERE_NAME, f"{json.dumps(asdict(self), indent=2)}\n".encode())


class Elsewhere:
    """Those who are asked about one log.

    Parameters
    ----------
    log : its verifier.
    post : how a witness is reached.
    """

    def __init__(self, plan: Plan, log: NoteVerifier, post: Post) -> None:
        self._plan, self._log, self._post = plan, log, post
        self._counters = [counter_at(place) for place in plan.counters]
        self._witnesses = [(each.url, CosignatureVerifier.parse(each.key)) for each in plan.witnesses]
        self._known: dict[str, int] = {}  # by witness: entries for which it has signed
        self._asked_at = -float(plan.every_s)

    def check(self, log: Grown, newest: Checkpoint) -> list[SignatureLine]:
        """Before anything is cut or signed: nobody knows more than there is; cosignatures of the newest checkpoint.

        Raises
        ------
        ContradictedError : somebody does, or knows another history.
        JournalError : a counter or too many witnesses do not answer.
        """
        for counter in self._counters:
            known = counter.newest(self._log)
            if known is None:
                raise JournalError(
                    f"{counter.place} knows nothing of {self._log.name}; is it mounted? else `tellegen journal guard`"
                )
            size, root = known
            if size > newest.size:
                raise ContradictedError(
                    f"{counter.place} knows of {size} entries of {self._log.name}, there are {newest.size}: {_REMEDY}"
                )
            if root is not None and log.tree.root(size) != root:
                raise ContradictedError(
                    f"{counter.place} knows another root of {size} entries of {self._log.name}: {_REMEDY}"
                )
        lines, problems = self._cosigned(log, newest)
        if len(lines) < self._plan.needed:
            raise JournalError(
                f"{len(lines)} of {self._plan.needed} witnesses know {self._log.name} by now, so it is not signed on: "
                f"{'; '.join(problems)}; `tellegen journal guard` says who is asked"
            )
        for counter in self._counters:
            counter.keep(newest)
        return lines

    def keep(self, log: Grown, checkpoint: Checkpoint) -> list[SignatureLine]:
        """Before anybody is shown a new checkpoint: have it known elsewhere; cosignatures of it.

        Raises
        ------
        JournalError : a counter does not take it, a witness knows another history, or, where each is to be cosigned,
            too few have.
        """
        for counter in self._counters:
            counter.keep(checkpoint)
        if time.monotonic() - self._asked_at < self._plan.every_s:
            return []
        lines, problems = self._cosigned(log, checkpoint)
        if not self._plan.every_s and len(lines) < self._plan.needed:
            raise JournalError(f"{len(lines)} of {self._plan.needed} witnesses have cosigned: {'; '.join(problems)}")
        for problem in problems:
            _log.warning("not cosigned: %s", problem)
        return lines

    def _cosigned(self, log: Grown, checkpoint: Checkpoint) -> tuple[list[SignatureLine], list[str]]:
        lines, problems = list[SignatureLine](), list[str]()
        for url, witness in self._witnesses:
            try:
                known = self._known.get(witness.vkey, 0)
                lines.append(ask(log, checkpoint, witness, lambda body, url=url: self._post(url, body), known))  # type: ignore[misc]
            except ContradictedError as error:
                raise ContradictedError(f"{self._log.name}: {error}: {_REMEDY}") from None
            except (NotCosignedError, InputError) as error:
                problems.append(str(error))
            else:
                self._known[witness.vkey] = checkpoint.size
        self._asked_at = time.monotonic()
        return lines, problems


def set_up(plan: Plan, log: Grown, newest: Checkpoint, verifier: NoteVerifier, folder: Path) -> None:
    """Have a journal's log known elsewhere, and ask there from now on.

    Parameters
    ----------
    folder : of the journal.

    Raises
    ------
    ContradictedError : somebody there knows more of it, or another history; nothing is changed.
    JournalError : a counter or too many witnesses do not answer.
    """
    for place in plan.counters:
        counter = counter_at(place)
        if counter.newest(verifier) is None:
            counter.keep(newest)
    Elsewhere(plan, verifier, post_to_witness).check(log, newest)
    plan.write(folder)


def counter_at(place: str) -> Counter:
    """The counter of a place: a folder, or ``command:PROGRAM``."""
    if place.startswith(_COMMAND):
        return CounterCommand(place.removeprefix(_COMMAND))
    return CounterFolder(Path(place))


def post_to_witness(url: str, body: bytes) -> tuple[int, str]:
    """Send a request to a witness's ``add-checkpoint``; its HTTP status and text.

    Raises
    ------
    InputError : it is no address, nobody answers there, or not within `SECONDS_MAX`.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError("command line", f"--witness {url!r}", "is not an http:// or https:// address")
    request = Request(f"{url.rstrip('/')}/add-checkpoint", data=body, method="POST")  # noqa: S310 - see above
    until = time.monotonic() + SECONDS_MAX
    try:
        with urlopen(request, timeout=SECONDS_MAX) as reply:  # noqa: S310
            answer = bytearray()
            while len(answer) < _ANSWER_BYTES_MAX and (part := reply.read1(1 << 16)):
                answer += part
                if time.monotonic() > until:
                    raise TimeoutError(f"no whole answer in {SECONDS_MAX:g} s")
            return int(reply.status), answer.decode(errors="replace")
    except HTTPError as error:
        return error.code, error.read(_ANSWER_BYTES_MAX).decode(errors="replace") if error.fp else HTTPStatus(
            error.code
        ).phrase
    except (URLError, OSError) as error:
        raise InputError(url, "witness", f"cannot be reached ({getattr(error, 'reason', error)})") from None
