"""Whether a batch is looked at at all: signed by who may hand it in, about what may come now, of not too many rows."""

from __future__ import annotations

from collections.abc import Callable

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from tellegen.intake.calendar import Calendar
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.registry_changes import REGISTRAR, SentChanges
from tellegen.intake.sent import Sent
from tellegen.journal import NoteVerifier
from tellegen.journal.clock import RecordClock
from tellegen.metering.daily import INTERVALS_PER_DAY
from tellegen.records import RecordError, Refusal, Route, Statement, shard_of
from tellegen.records.market import DAY_AHEAD, MARKETS
from tellegen.records.submission import may_hand_in, not_its_role
from tellegen.registry import NotAdmittedError, RegistryError
from tellegen.registry.authority_record import Authorities
from tellegen.registry.directory import Directory
from tellegen.units import MARKET_INTERVAL_S

_SIGNATURE_BYTES = 64


class Entrance:
    """Where batches are let in or refused whole; each check raises `RefusedBatchError`.

    Parameters
    ----------
    verifier : the shard's: its name is part of whatever is signed for it.
    limits, clock, calendar, directory : of the intake.
    authorities : who certifies, and who is the registrar, by the record.
    """

    def __init__(
        self,
        verifier: NoteVerifier,
        limits: IntakeLimits,
        clock: RecordClock,
        calendar: Calendar,
        directory: Directory,
        authorities: Authorities,
    ) -> None:
        self.authorities = authorities
        self._verifier, self._limits, self._clock = verifier, limits, clock
        self._calendar, self._directory = calendar, directory

    def check_sender(self, statement: Statement, signature: bytes, now: int, checked: bytes = b"") -> bytes:
        """Whether a batch is for this shard, and signed by its source, which may hand in now; the source's key.

        Parameters
        ----------
        checked : the key under which the signature was found good before; not looked at again where it still holds.
        """
        shard = shard_of(self._verifier.name)
        if statement.origin != shard:
            raise RefusedBatchError(
                Reason.BAD_SIGNATURE, f"the batch is signed for '{statement.origin}', this is '{shard}'"
            )
        key = self.sender_key(statement.route, statement.source, now)
        if key != checked:
            check_signature(statement.to_bytes(), signature, key, statement.source)
        return key

    def sender_key(self, route: Route, source: str, now: int) -> bytes:
        """The key of a source that may hand in now."""
        if route is Route.ADMISSIONS and source == REGISTRAR:
            return self._registrar_key()
        if route is Route.ADMISSIONS:
            raise RefusedBatchError(Reason.UNKNOWN_SOURCE, f"source {source!r} of admissions is not admitted")
        return self._source_key(source, route, now)

    def _registrar_key(self) -> bytes:
        try:
            return self.authorities.newest.registrar_key
        except RegistryError as error:
            raise RefusedBatchError(Reason.UNKNOWN_SOURCE, str(error)) from None

    def check_request(self, source: str, message: bytes, signature: bytes) -> None:
        """Whether a source that may hand in bids has signed a request of its own.

        Raises
        ------
        RefusedBatchError : it is not admitted now, brings no bids, or has not signed this.
        """
        check_signature(message, signature, self._source_key(source, Route.BIDS, self._clock.now()), source)

    def _source_key(self, source: str, route: Route, now: int) -> bytes:
        try:
            sender = self._directory.sender(source, now, now)
        except NotAdmittedError as error:
            unknown = error.refusal == Refusal.UNKNOWN
            raise RefusedBatchError(Reason.UNKNOWN_SOURCE if unknown else Reason.REVOKED_SOURCE, str(error)) from None
        if not may_hand_in(sender.role, route):
            raise RefusedBatchError(Reason.OTHER_ROLE, f"source {source!r} {not_its_role(sender.role, route)}")
        return sender.public_key

    def check_time(self, statement: Statement, now: int) -> None:
        """Whether a batch is about what may be handed in now."""
        if statement.route is Route.ADMISSIONS:
            wrong, newest = bool(statement.market), (now + self._limits.skew_s_max) // MARKET_INTERVAL_S
        elif statement.route in (Route.READINGS, Route.DAILY_ROOTS):
            wrong, newest = bool(statement.market), (now + self._limits.skew_s_max) // MARKET_INTERVAL_S - 1
        else:
            wrong = statement.market not in MARKETS
            newest = now // MARKET_INTERVAL_S + self._limits.ahead_intervals_max
        if wrong:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"market '{statement.market}' is none for {statement.route}; bids name one of {', '.join(MARKETS)}, "
                "others none",
            )
        begins = self._calendar.day_start(statement.interval) if statement.market == DAY_AHEAD else statement.interval
        if statement.interval != begins:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"interval {statement.interval} does not begin a delivery day; of that day the first is {begins}",
            )
        if statement.route is Route.DAILY_ROOTS and (statement.interval + 1) % INTERVALS_PER_DAY:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"interval {statement.interval} does not end a UTC day; signed days name the last of their day",
            )
        oldest = self.oldest(now)
        if statement.interval < oldest:
            raise RefusedBatchError(
                Reason.TOO_LATE, f"interval {statement.interval} is past; {oldest} is the oldest that is still taken"
            )
        if statement.interval > newest:
            raise RefusedBatchError(
                Reason.TOO_EARLY,
                f"interval {statement.interval} is too far ahead; {newest} is the newest that is taken now. Is the "
                "clock right?",
            )

    def oldest(self, now: int) -> int:
        """The oldest interval that is still taken."""
        window, limit = self._calendar.window_intervals(now), self._limits.late_intervals_max
        return now // MARKET_INTERVAL_S - (window if limit is None else min(window, limit))

    def decoded(self, decode: Callable[[], Sent | SentChanges]) -> Sent | SentChanges:
        """The rows of a body, as many as one may have."""
        try:
            sent = decode()
        except RecordError as error:
            raise RefusedBatchError(Reason.MALFORMED, f"the body cannot be read: {error}") from None
        rows = sent.rows + (0 if isinstance(sent, SentChanges) else len(sent.problems))
        if rows > self._limits.rows_max:
            raise RefusedBatchError(
                Reason.TOO_LARGE, f"{rows} rows in one batch; at most {self._limits.rows_max}, send several"
            )
        return sent


def check_signature(message: bytes, signature: bytes, key: bytes, source: str) -> None:
    """Refuse what a source has not signed.

    Raises
    ------
    RefusedBatchError : the Ed25519 signature over the message is not that of the key.
    """
    try:
        if len(signature) != _SIGNATURE_BYTES:
            raise BadSignatureError
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        raise RefusedBatchError(
            Reason.BAD_SIGNATURE,
            f"the signature is not that of source '{source}' over this for this shard; sign it with the key that is "
            "admitted",
        ) from None
