"""A shard with every kind of file there is: the hamlet's days, played to their end, compacted, published, cosigned."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tellegen.assess.faults.hamlet import found
from tellegen.assess.faults.hamlet_play import DAY, END, FIRST, SHORT_DAY, Play, give_prices, short_day
from tellegen.journal import CosignatureVerifier, Journal, Witness, ask_witness, keep_cosignatures
from tellegen.operations.market import Market
from tellegen.operations.reading import read_day
from tellegen.operations.record import MARKET, ShardRecord
from tellegen.operations.rerun import rebuild_books
from tellegen.operations.upkeep import keep_up
from tellegen.report.days import all_closed, publish_days
from tellegen.report.publication import published_of, sign_and_verify, write_tables
from tellegen.units import MARKET_INTERVAL_S

_SEED = bytes(range(32))
_EARLIER_S = 1_900
"""Seconds from the first interval on after which the earlier state is kept: before the first close."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A directory that verifies, what is known of it from elsewhere, and how it was before.

    Attributes
    ----------
    path : the directory. earlier : the same at an earlier time; None: not known.
    key, market_key : the verifier keys of its journals. witnesses : of those that have cosigned it.
    """

    path: Path
    earlier: Path | None
    key: str
    market_key: str | None
    witnesses: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path) -> Ground:
        """A directory that somebody gives: its keys are those beside it, and nothing is known of before."""
        keys = [
            (folder / "journal" / "operator.pub").read_text().strip() if (folder / "journal").is_dir() else None
            for folder in (path, path / MARKET)
        ]
        assert keys[0] is not None
        return cls(path, None, keys[0], keys[1])


def play_finished(folder: Path) -> Ground:
    """Play it into ``folder``: some seconds."""
    path, earlier = folder / "shard", folder / "earlier"
    play = Play(found(path, SHORT_DAY))
    short_day(play)
    with Market.open(path) as market:
        give_prices(market, play.clock.now())
    _operate(play, FIRST * MARKET_INTERVAL_S + _EARLIER_S)
    _publish(path)
    _cosign(path, folder / "witness")
    shutil.copytree(path, earlier)
    _operate(play, END)
    keep_up(path, END)
    _publish(path)
    witness = _cosign(path, folder / "witness")
    known = Ground.of(path)
    return Ground(path, earlier, known.key, known.market_key, (witness,))


def _operate(play: Play, until: int) -> None:
    play.open_intake()
    try:
        with Market.open(play.path) as market:
            play.operate(market, until)
    finally:
        play.close()


def _publish(path: Path) -> None:
    """Its closed days, tables and books of all of them, and a manifest that signs for everything."""
    closed = all_closed(path)
    publish_days(path, closed)
    with ShardRecord.open(path) as record:
        run = published_of(record)
        rebuild_books(record)
        write_tables(run, read_day(record, DAY, through=max(closed, default=DAY)))
        sign_and_verify(run)


def _cosign(path: Path, home: Path) -> str:
    """Have the intake's newest checkpoint cosigned; the witness's key."""
    if not home.is_dir():
        Witness.create(home, "witness.example", _SEED)
    with Journal.open(path) as journal:
        witness = Witness(home, [journal.verifier], lambda: END)

        def post(body: bytes) -> tuple[int, str]:
            reply = witness.add_checkpoint(body)
            return int(reply.status), reply.text

        try:
            line = ask_witness(journal, journal.checkpoint, CosignatureVerifier.parse(witness.vkey), post)
            keep_cosignatures(journal, journal.checkpoint, [line])
            return witness.vkey
        finally:
            witness.close()
