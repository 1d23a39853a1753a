"""When should it have been? Gates, settlements and days from the rulebook on record, derived anew.

Only what these times depend on is read of a rulebook: when it takes effect, its time zone, and a few numbers of its
[timetable]; and what its [root_prices] ask for (see docs/scenarios.md). A day runs from its local midnight to that of
the next, each in the zone of its own rules. Everything is in whole seconds since the epoch, and intervals of five
minutes.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S
from tellegen.verify.report import RefusedError

_NAME = re.compile(r"rulebook/(([0-9]{4}-[0-9]{2}-[0-9]{2})(-[a-z0-9]+)?\.toml)")
_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)
_VERSIONS_MAX = 1_000
_BYTES_MAX = 1 << 16
PROOFS = ("none", "hash", "signature")
"""What the rules may ask for of a wholesale price."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What one version of the rulebook says of times, and of the proof of wholesale prices.

    `proof` is ``none``, ``hash`` or ``signature``, `publisher` a verifier key; both it and `source` may be empty.
    `wait_s`: from the end of an interval until it settles; `day_ahead_min` counts minutes of the day before delivery;
    `order` sorts versions, the last that holds counts; `runs`: real time settles by price runs; `hold_hours`: for so
    long nobody's orders count who did not deliver.
    """

    order: tuple[date, date, str]
    zone: ZoneInfo
    day_ahead_min: int
    lead_s: int
    wait_s: int
    patience_s: int
    window_days: int
    runs: bool
    hold_hours: int
    sha256: bytes
    proof: str
    source: str
    publisher: str

    @classmethod
    def parse(cls, name: str, effective: date, content: bytes) -> Rules:
        """Read a version."""
        if len(content) > _BYTES_MAX:
            raise RefusedError(f"rulebook/{name} on record has {len(content)} bytes; {_BYTES_MAX} are read")
        try:
            form = tomllib.loads(content.decode())
            order, table, prices = form["order"], form.get("timetable", {}), form.get("root_prices", {})
            run = form.get("price_run", {})
            if type(order["adopted"]) is not date:
                raise ValueError("adopted is no day")
            proof = str(prices.get("proof", "none"))
            if proof not in PROOFS:
                raise ValueError(f"proof {proof!r} is none of {', '.join(PROOFS)}")
            hours, _, minutes = str(table.get("day_ahead_local", "12:00")).partition(":")
            return cls(
                order=(effective, order["adopted"], name),
                zone=ZoneInfo(order["time_zone"]),
                day_ahead_min=60 * int(hours) + int(minutes),
                lead_s=int(table.get("gate_lead_s", 0)),
                # the longest interval of a meter ends as much later as it is longer than the market's
                wait_s=int(table.get("reading_wait_s", 60))
                + 60 * int(table.get("longest_meter_minutes", 5))
                - MARKET_INTERVAL_S,
                patience_s=int(table.get("gate_deadline_s", 240)),
                window_days=int(table.get("correction_window_days", 60)),
                runs=run.get("settles") is True,
                hold_hours=int(run.get("hold_hours", 24)) if run.get("settles") is True else 0,
                sha256=hashlib.sha256(content).digest(),
                proof=proof,
                source=str(prices.get("source", "")),
                publisher=str(prices.get("publisher_key", "")),
            )
        except (KeyError, TypeError, AttributeError, ValueError, OSError, OverflowError, RecursionError) as error:
            raise RefusedError(f"rulebook/{name} on record cannot be read: {error}") from None


LAST_INTERVAL = "last interval"
"""Name of the document that says when a market ends."""


class Calendar:
    """Times by the versions of a rulebook.

    Parameters
    ----------
    versions : of the rules. last : last interval of a market that ends; None: it goes on.
    """

    def __init__(self, versions: list[Rules], last: int | None = None) -> None:
        self._versions, self._last = sorted(versions, key=lambda rules: rules.order), last
        self._starts: dict[date, int] = {}
        self._day: tuple[range, date] = range(0), _EPOCH

    @classmethod
    def of(cls, documents: Mapping[str, bytes]) -> Calendar:
        """From documents on record, by name; others than rulebooks are passed over."""
        if sum(_NAME.fullmatch(name) is not None for name in documents) > _VERSIONS_MAX:
            raise RefusedError(f"more than the {_VERSIONS_MAX} rulebooks that are read are on record")
        versions = [
            Rules.parse(found[1], date.fromisoformat(found[2]), content)
            for name, content in documents.items()
            if (found := _NAME.fullmatch(name))
        ]
        if not versions:
            raise RefusedError("no rulebook is on record")
        last = documents.get(LAST_INTERVAL)
        if last is not None and not last.isdigit():
            raise RefusedError(f"document '{LAST_INTERVAL}' holds no number")
        return cls(versions, None if last is None else int(last))

    def __len__(self) -> int:
        return len(self._versions)

    def rules(self, day: date) -> Rules:
        """The version that governs a day."""
        held = [rules for rules in self._versions if rules.order[0] <= day]
        if not held:
            raise RefusedError(f"no rulebook on record governs {day}")
        return held[-1]

    def bounds(self, day: date) -> range:
        """Market intervals of a day."""
        return range(self._start(day), self._start(day + _DAY))

    def day_of(self, interval: int) -> date:
        """The day that an interval belongs to."""
        known, day = self._day
        if interval not in known:
            day = datetime.fromtimestamp(interval * MARKET_INTERVAL_S, tz=UTC).date() + _DAY
            while self._start(day) > interval:
                day -= _DAY
            self._day = self.bounds(day), day
        return day

    def periods(self, market: str, first: int) -> dict[int, int]:
        """First interval and length of each period of a gate."""
        if market != "day_ahead":
            return {first: 1}
        day = self.bounds(self.day_of(first))
        return {start: min(INTERVALS_PER_HOUR, day.stop - start) for start in day[::INTERVALS_PER_HOUR]}

    def gate_at(self, market: str, first: int) -> int:
        """When a gate closes, seconds since the epoch."""
        day = self.day_of(first)
        if market == "day_ahead":
            start = self._start(day)
            if first != start:
                raise RefusedError(f"a day-ahead gate is about interval {first}; {day} begins with {start}")
            noon = self._local(day - _DAY, self.rules(day).day_ahead_min, self.rules(day))
            return min(noon, start * MARKET_INTERVAL_S)
        if market == "price_run":
            return self.settle_at(first)
        at = first * MARKET_INTERVAL_S - self.rules(day).lead_s
        before = self._before(day)
        return at if before is None else max(at, (self._start(day) - 1) * MARKET_INTERVAL_S - before.lead_s)

    def settle_at(self, interval: int) -> int:
        """When an interval settles, seconds since the epoch."""
        day = self.day_of(interval)
        at = (interval + 1) * MARKET_INTERVAL_S + self.rules(day).wait_s
        before = self._before(day)
        return at if before is None else max(at, self._start(day) * MARKET_INTERVAL_S + before.wait_s)

    def settles_by(self, interval: int) -> str:
        """The market whose clearing settles an interval."""
        return "price_run" if self.rules(self.day_of(interval)).runs else "real_time"

    def patience_s(self, interval: int) -> int:
        """For how long the market waits for an intake that is silent."""
        return self.rules(self.day_of(interval)).patience_s

    def close_at(self, day: date) -> int:
        """When a day closes, seconds since the epoch."""
        bounds, last = self.bounds(day), self._last
        return self.settle_at(last if last is not None and last in bounds else bounds.stop - 1)

    def final_at(self, day: date) -> int:
        """When a day is final, seconds since the epoch."""
        return self.close_at(day + timedelta(days=self.rules(day).window_days))

    @staticmethod
    def numbered(day: int) -> date:
        """A day by its number since 1970-01-01."""
        return _EPOCH + timedelta(days=day)

    def _before(self, day: date) -> Rules | None:
        return self.rules(day - _DAY) if self._versions[0].order[0] < day else None

    def _start(self, day: date) -> int:
        if day not in self._starts:
            at, before = self._local(day, 0, self.rules(day)), self._before(day)
            if before is not None and before.zone.key != self.rules(day).zone.key:
                at = max(at, self._local(day - _DAY, 0, before))  # a change of zones never turns time back
            self._starts[day] = at // MARKET_INTERVAL_S
        return self._starts[day]

    @staticmethod
    def _local(day: date, minute: int, rules: Rules) -> int:
        days, minute = divmod(minute, 24 * 60)
        midnight = datetime(day.year, day.month, day.day, tzinfo=rules.zone) + timedelta(days=days)
        return int(midnight.replace(hour=minute // 60, minute=minute % 60).timestamp())
