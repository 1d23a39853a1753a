"""What an intake takes, and how it says that it does not take something."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum

from tellegen.errors import InputError, TellegenError
from tellegen.intake.sent import RowProblem
from tellegen.intake.submitted import AHEAD_INTERVALS
from tellegen.journal import JournalError
from tellegen.privacy import VaultError


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """A bound on everything that comes from outside.

    Attributes
    ----------
    body_bytes_max, rows_max : of one batch; orders count as rows.
    late_intervals_max : how long after its interval a row may come; None: as long as the rulebook on record says, and
        never longer.
    ahead_intervals_max : how long before its interval a bid may come.
    skew_s_max : by how many seconds a head-end's clock may be ahead: a reading is made when its interval has ended.
    rows_per_s_max : that one source may cost (`rate`), well below what the intake can do; it may save up two seconds.
    pending_bytes_max : of bodies that are being read or wait to be taken; one source has three quarters at most.
    pending_batches_max, source_batches_max : batches that wait, in all and of one source.
    """

    body_bytes_max: int = 4 << 20
    rows_max: int = 10_000
    late_intervals_max: int | None = None
    ahead_intervals_max: int = AHEAD_INTERVALS
    skew_s_max: int = 30
    rows_per_s_max: int = 20_000
    pending_bytes_max: int = 64 << 20
    pending_batches_max: int = 2_000
    source_batches_max: int = 64

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            least = 0 if name in ("late_intervals_max", "ahead_intervals_max", "skew_s_max") else 1
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError("limits", name, f"is {getattr(self, name)}; it must be at least {least}")
        if self.ahead_intervals_max > AHEAD_INTERVALS:
            raise InputError("limits", "ahead_intervals_max", f"is above {AHEAD_INTERVALS}, how far back one looks")


class Reason(StrEnum):
    """Why a whole batch is not taken."""

    MALFORMED = "malformed"
    UNKNOWN_SOURCE = "unknown-source"
    REVOKED_SOURCE = "revoked-source"
    OTHER_ROLE = "other-role"
    BAD_SIGNATURE = "bad-signature"
    CONFLICT = "conflict"
    TOO_LARGE = "too-large"
    TOO_LATE = "too-late"
    TOO_EARLY = "too-early"
    NO_GOOD_ROW = "no-good-row"
    RATE = "rate"
    BUSY = "busy"
    DISK_FULL = "disk-full"
    UNAVAILABLE = "unavailable"


class RefusedBatchError(TellegenError):
    """A batch that is not taken; nothing of it is on record.

    Attributes
    ----------
    reason : which.
    rows : what is wrong with each row, where the rows are the reason.
    retry_after_s : when to try again, where that helps.
    too_much_of : the source that sends too much or too fast, where that is why.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        rows: tuple[RowProblem, ...] = (),
        retry_after_s: int | None = None,
        too_much_of: str = "",
    ) -> None:
        self.reason, self.rows, self.retry_after_s = reason, rows, retry_after_s
        self.too_much_of = too_much_of
        super().__init__(detail)


def unavailable(error: JournalError | VaultError) -> RefusedBatchError:
    """How it is said that the disk has refused."""
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full:
        return RefusedBatchError(Reason.DISK_FULL, "the disk of the record is full; nothing more can be taken")
    return RefusedBatchError(Reason.UNAVAILABLE, f"the record cannot be written: {error}", retry_after_s=5)
