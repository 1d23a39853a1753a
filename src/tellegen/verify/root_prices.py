"""Whose word is the price at the root? The operator pays and charges it, so somebody else must have said it.

What the rules of the day ask for is looked at first (the publisher's signature, or the document's address, time and
digest), then that each gate counted the price that was on record before it. Whoever has what was published compares
with it every price that counted: `compare`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.records import GateOutcome, Gates, Header, PriceSources, PublishedPrices, RootPrices, price_message
from tellegen.units import interval_start
from tellegen.verify.calendar import PROOFS, Calendar, Rules
from tellegen.verify.notes import OperatorKey
from tellegen.verify.price_file import PublishedFile
from tellegen.verify.record import PublicRows
from tellegen.verify.report import Difference, PriceComparison, RefusedError

NONE, HASH, SIGNATURE = PROOFS
_SHOWN = 3
_NO_SIGNATURE = bytes(64)
_SIGNED_ROWS_MAX = 10_000
Place = tuple[str, int]
"""A market, and the first interval of a period."""


@dataclass(slots=True)
class RootPriceChecks:
    """Checks of the wholesale prices in the market's journal.

    Parameters
    ----------
    public : its plain rows, in order. calendar : of the rulebook on record.
    pinned : verifier keys of publishers from elsewhere; empty: those that the rulebook on record names are believed.
    """

    public: Sequence[PublicRows]
    calendar: Calendar
    pinned: Sequence[str] = ()
    _prices: dict[Place, int] = field(default_factory=dict)
    _gated: set[Place] = field(default_factory=set)
    _proofs: dict[Place, tuple[str, str]] = field(default_factory=dict)
    _sources: dict[int, PriceSources] = field(default_factory=dict)
    _published: dict[int, PublishedPrices] = field(default_factory=dict)
    _verified: set[tuple[str, int, int]] = field(default_factory=set)

    def check(self) -> tuple[int, str]:
        """Each price has the proof that its rules ask for, and is the one that its gate counted."""
        wrong: list[str] = []
        for batch in self.public:
            try:
                self._take(batch)
            except RefusedError as error:
                wrong.append(str(error))  # the others are looked at all the same: they may be compared
        if wrong:
            raise RefusedError(wrong[0] + (f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""))
        return len(self._prices), self._words()

    def _take(self, batch: PublicRows) -> None:
        match batch.table:
            case PriceSources() as table:
                self._sources[batch.index] = table
            case PublishedPrices() as table:
                self._published[batch.index] = table
            case RootPrices() as table:
                self._take_prices(batch, table)
            case Gates() as table:
                self._take_gate(batch, table)

    def _take_prices(self, batch: PublicRows, table: RootPrices) -> None:
        market, rows = batch.header.market, (table.interval.tolist(), table.micros.tolist(), table.source.tolist())
        late = {interval: 0 for interval in rows[0] if (market, interval) in self._gated}
        for interval, micros, source in zip(*rows, strict=True):
            if interval not in late:
                rules = self.calendar.rules(self.calendar.day_of(interval))
                told = rules.publisher if rules.proof == SIGNATURE else source.decode("ascii", "replace")
                self._prices[market, interval] = micros
                self._proofs[market, interval] = rules.proof, told.partition("+")[0]
        if late:
            raise RefusedError(f"entry {batch.index}: {market} price at {_time(next(iter(late)))} came after its gate")
        for interval, micros, _ in zip(*rows, strict=True):
            self._check_proof(
                f"entry {batch.index}: {market} price at {_time(interval)}", batch.header, interval, micros
            )

    def _check_proof(self, what: str, header: Header, interval: int, micros: int) -> None:
        rules = self.calendar.rules(self.calendar.day_of(interval))
        if rules.proof != NONE:
            _check_document(
                what, [self._sources[cause] for cause in header.causes if cause in self._sources], header, rules
            )
        if rules.proof == SIGNATURE:
            self._check_signatures(what, header, interval, micros, rules)

    def _check_signatures(self, what: str, header: Header, interval: int, micros: int, rules: Rules) -> None:
        """The price is what its publisher signed, or the mean of it."""
        period = self._period(header.market, interval)
        if self.pinned and rules.publisher not in self.pinned:
            raise RefusedError(f"{what}: the rulebook names {rules.publisher}, which is no pinned key")
        key = OperatorKey.parse(rules.publisher)
        said: dict[int, int] = {}
        for cause in header.causes:
            table = self._published.get(cause)
            if table is None:
                continue
            if len(table) > _SIGNED_ROWS_MAX:
                raise RefusedError(f"{what} is one of {len(table)} signed together; {_SIGNED_ROWS_MAX} are read")
            for row, (begin, length, price) in enumerate(
                zip(table.interval.tolist(), table.intervals.tolist(), table.micros.tolist(), strict=True)
            ):
                held = range(max(begin, period.start), min(begin + length, period.stop))
                if not held:
                    continue
                if (rules.publisher, cause, row) not in self._verified:
                    message = price_message(key.name, header.market, begin, length, price)
                    _check_signature(what, key, message, table.signature[row].tobytes())
                    self._verified.add((rules.publisher, cause, row))
                said |= dict.fromkeys(held, price)
        if set(said) != set(period) or round(sum(said.values()) / len(period)) != micros:
            raise RefusedError(f"{what} is not what {key.name} signed")

    def _take_gate(self, batch: PublicRows, table: Gates) -> None:
        market, first = batch.header.market, batch.header.interval
        if market == "price_run" or (market, first) in self._gated:
            return  # at its gate's price, as `MarketChecks` sees to; or a later row of one gate, which changes none
        intervals, prices = table.interval.tolist(), table.root_price.tolist()
        missing = any((market, interval) not in self._prices for interval in intervals)
        self._gated |= {(market, interval) for interval in intervals}
        for interval, price, outcome in zip(intervals, prices, table.outcome.tolist(), strict=True):
            what = f"entry {batch.index}: {market} gate of {_time(interval)}"
            if price != self._prices.get((market, interval), 0):
                raise RefusedError(f"{what} counts another price than the one on record before it")
            if outcome != GateOutcome.MISSED and (outcome == GateOutcome.NO_PRICE) != missing:
                raise RefusedError(f"{what} says otherwise than the record whether there was a price")

    def _period(self, market: str, interval: int) -> range:
        day = self.calendar.bounds(self.calendar.day_of(interval)).start
        length = self.calendar.periods(market, interval if market != "day_ahead" else day).get(interval, 0)
        return range(interval, interval + length)

    def _words(self) -> str:
        if not self._prices:
            return "none on record"
        kinds = Counter(proof for proof, _ in self._proofs.values())
        told = [f"{len(self._prices)} prices, each the one that its gate counted"]
        if kinds[SIGNATURE]:
            trust = (
                "whose key is pinned" if self.pinned else "not pinned: compare the rulebook's key with the publisher's"
            )
            told.append(f"{kinds[SIGNATURE]} signed by {self._named(SIGNATURE)}, {trust}")
        if kinds[HASH]:
            documents = {bytes(table.sha256[0]) for table in self._sources.values()}
            told.append(
                f"{kinds[HASH]} from {len(documents)} documents with address, time and digest on record: compare with "
                "--root-prices"
            )
        if kinds[NONE]:
            told.append(
                f"{kinds[NONE]} unproven, as the rules ask for no proof: the operator names {self._named(NONE)}"
            )
        return "; ".join(told)

    def _named(self, proof: str) -> str:
        names = sorted({name or "nothing" for kind, name in self._proofs.values() if kind == proof})
        more = f" and {len(names) - _SHOWN} others" if len(names) > _SHOWN else ""
        return ", ".join(names[:_SHOWN]) + more

    # Beside what was published

    def compare(self, file: PublishedFile) -> PriceComparison:
        """Every price that counted, or stands on record, beside a file that somebody else has kept."""
        agree = outside = 0
        differ: list[Difference] = []
        unpublished: list[Difference] = []
        for (market, interval), micros in sorted(self._prices.items()):
            period = self._period(market, interval)
            published = file.price(market, period)
            said = Difference(market, interval, _time(interval), micros, published)
            if published == micros:
                agree += 1
            elif published is not None:
                differ.append(said)
            elif interval in file.spans[market]:
                unpublished.append(said)
            else:
                outside += 1
        unrecorded = [
            Difference(market, interval, _time(interval), None, published)
            for market, interval in sorted(self._gated - self._prices.keys())
            if (published := file.price(market, self._period(market, interval))) is not None
        ]
        documents = [(int(table.size[0]), table.sha256[0].tobytes()) for table in self._sources.values()]
        equal = sum(file.begins_with(*document) for document in documents)
        return PriceComparison(agree, differ, unpublished, unrecorded, outside, len(documents), equal)


def judged(found: PriceComparison) -> tuple[int, str]:
    """What a comparison came to, as a check.

    Raises
    ------
    RefusedError : record and publication disagree, or have no time in common.
    """
    wrong = [*found.differ, *found.not_published, *found.not_recorded]
    counts = (
        (found.agree, "agree"),
        (len(found.differ), "differ"),
        (len(found.not_published), "are on record and were not published"),
        (len(found.not_recorded), "were published and their gates went without"),
        (found.outside, "lie outside the file's times"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count or what == "agree")
    if wrong:
        shown = "; ".join(each.words() for each in wrong[:_SHOWN])
        raise RefusedError(f"{told}: {shown}" + (" ..." if len(wrong) > _SHOWN else ""))
    if not found.agree:
        raise RefusedError(f"{told}: nothing could be compared; give the file of the days on record")
    equal = f"; {found.documents_equal} of {found.documents} documents on record are its beginning, byte for byte"
    return found.agree, told + (equal if found.documents else "")


def _check_document(what: str, documents: list[PriceSources], header: Header, rules: Rules) -> None:
    if len(documents) != 1 or len(documents[0]) != 1:
        raise RefusedError(f"{what} names no document that it was read from, and the rules ask for one")
    address = documents[0].address[0].decode("utf-8", "replace")
    if rules.source and address != rules.source:
        raise RefusedError(f"{what} was read from {address}, the rules name {rules.source}")
    if int(documents[0].retrieved_at[0]) > header.known_at:
        raise RefusedError(f"{what} is on record before its document was read")


def _check_signature(what: str, key: OperatorKey, message: bytes, signature: bytes) -> None:
    if signature == _NO_SIGNATURE:
        raise RefusedError(f"{what} is not signed by {key.name}, and the rules ask for that")
    try:
        VerifyKey(key.public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        raise RefusedError(f"{what}: the signature is not that of {key.name} over it") from None


def _time(interval: int) -> str:
    return f"{interval_start(interval):%Y-%m-%dT%H:%MZ}"
