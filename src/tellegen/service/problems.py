"""Problem details (RFC 9457): one type per problem, each with its status, its title and what would be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.intake.sent import RowProblem
from tellegen.records import Refusal

_NAMES = {refusal: refusal.name.lower() for refusal in Refusal}
MEDIA_TYPE = b"application/problem+json"
TYPE_PREFIX = "/problems/"


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of problem. `name` is the end of its type URI."""

    name: str
    status: HTTPStatus
    title: str


_REASONS = {
    Reason.MALFORMED: (HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    Reason.BAD_SIGNATURE: (HTTPStatus.UNAUTHORIZED, "The sender's signature does not cover this batch"),
    Reason.UNKNOWN_SOURCE: (HTTPStatus.FORBIDDEN, "The sender is not admitted"),
    Reason.REVOKED_SOURCE: (HTTPStatus.FORBIDDEN, "The sender's certificate does not count"),
    Reason.OTHER_ROLE: (HTTPStatus.FORBIDDEN, "The sender's role hands in something else"),
    Reason.CONFLICT: (HTTPStatus.CONFLICT, "This number stands for another batch"),
    Reason.TOO_LARGE: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The batch is too large"),
    Reason.TOO_LATE: (HTTPStatus.UNPROCESSABLE_ENTITY, "The interval is too far back"),
    Reason.TOO_EARLY: (HTTPStatus.UNPROCESSABLE_ENTITY, "The interval is too far ahead"),
    Reason.NO_GOOD_ROW: (HTTPStatus.UNPROCESSABLE_ENTITY, "No row can be taken"),
    Reason.RATE: (HTTPStatus.TOO_MANY_REQUESTS, "The sender is too fast"),
    Reason.BUSY: (HTTPStatus.SERVICE_UNAVAILABLE, "Too much is waiting"),
    Reason.DISK_FULL: (HTTPStatus.INSUFFICIENT_STORAGE, "The disk of the record is full"),
    Reason.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "The record cannot be written now"),
}
_OF_REASON = {reason: Kind(reason, status, title) for reason, (status, title) in _REASONS.items()}

NOT_FOUND = Kind("not-found", HTTPStatus.NOT_FOUND, "There is no such resource")
METHOD = Kind("method", HTTPStatus.METHOD_NOT_ALLOWED, "The resource has no such method")
MEDIA = Kind("media-type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is in no format that is read here")
SLOW = Kind("slow", HTTPStatus.REQUEST_TIMEOUT, "The body did not come in time")
BROKEN = Kind("broken", HTTPStatus.INTERNAL_SERVER_ERROR, "The service has failed")
MALFORMED = _OF_REASON[Reason.MALFORMED]
TOO_LARGE = _OF_REASON[Reason.TOO_LARGE]
BUSY = _OF_REASON[Reason.BUSY]
RATE = _OF_REASON[Reason.RATE]
KINDS = (*_OF_REASON.values(), NOT_FOUND, METHOD, MEDIA, SLOW, BROKEN)
"""Every type of problem there is."""


class ProblemError(Exception):
    """A request that is answered with a problem.

    Attributes
    ----------
    detail : what is wrong with this very request, and what would be right.
    rows : what is wrong with single rows.
    retry_after_s : when to try again.
    held_for : the source whose doing it is that it is answered so: it waits for the answer as long as it should wait
        before it tries again, lest it asks all the faster.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        rows: tuple[RowProblem, ...] = (),
        retry_after_s: int | None = None,
        held_for: str = "",
    ) -> None:
        self.kind, self.detail, self.rows, self.retry_after_s = kind, detail, rows, retry_after_s
        self.held_for = held_for
        super().__init__(detail)

    @classmethod
    def of(cls, error: RefusedBatchError) -> ProblemError:
        """The problem that a refused batch is."""
        kind, after = _OF_REASON[error.reason], error.retry_after_s
        return cls(kind, str(error), rows=error.rows, retry_after_s=after, held_for=error.too_much_of)

    def document(self, instance: str) -> dict[str, Any]:
        """The problem's JSON document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind.name,
            "title": self.kind.title,
            "status": int(self.kind.status),
            "detail": self.detail,
            "instance": instance,
        }
        if self.rows:
            document["refused"] = refused_rows(self.rows)
        return document


def refused_by_reason(rows: Iterable[RowProblem]) -> Counter[str]:
    """How many rows are refused, by reason."""
    found = Counter(row.refusal for row in rows)
    return Counter({_NAMES[refusal]: count for refusal, count in found.items()})


def refused_rows(rows: Iterable[RowProblem]) -> list[dict[str, Any]]:
    """Refused rows as a reply lists them."""
    return [{"row": row.row, "reason": _NAMES[row.refusal], "detail": row.detail} for row in rows]
