"""A shard from what a user has: a network file, a customers' table, a rulebook, prices (`tellegen init`).

Everything is read and checked before anything is written. Who brings no key gets one: a file under ``keys/``, to be
handed over and removed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tellegen.errors import InputError
from tellegen.journal.storage import write_private, write_secret
from tellegen.operations.customers import SUBSTATION, Member, read_customers
from tellegen.operations.directory import ShardFiles, ShardPlan, fill_shard, new_directory
from tellegen.operations.prices import COLUMNS, PriceSeries, read_prices
from tellegen.operations.requirements import COLUMNS as RESERVE_COLUMNS
from tellegen.operations.requirements import read_reserves
from tellegen.operations.timetable import day_ahead_at, day_bounds, open_at, periods
from tellegen.operations.topology import Feeder
from tellegen.privacy import Vault
from tellegen.records import Role
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.registry import Identity, Request, signing_request
from tellegen.registry.meter_keys import codes_purpose
from tellegen.rules import PriceProof, RootPriceParameters, Rulebook
from tellegen.units import MARKET_INTERVAL_S, interval_start
from tellegen.workbench import load_network

HEAD_END, GATEWAY = "head-end", "gateway"
"""Names under which the head-end and the gateway of a new shard are admitted."""
_PLACES = "places.csv"


@dataclass(frozen=True, slots=True)
class Founding:
    """What a user gives.

    Attributes
    ----------
    network : as `tellegen.workbench.load_network` takes it. customers : the table.
    origin : name of the shard. feeder : name of the feeder; None: the network's.
    rulebook : folder; None: the default. prices : file; None: they come later.
    reserves : file of what reserve is asked for; None: none yet.
    connections : file of devices, and of all else that the registry holds; None: what the table says.
    first_day : whose market is the first; None: the first whose day-ahead gate can still be met.
    root_limit_kw : largest power through the root.
    without_loads : loads of the network file that have no customer are left out.
    """

    network: str
    customers: Path
    origin: str
    feeder: str | None = None
    rulebook: Path | None = None
    prices: Path | None = None
    reserves: Path | None = None
    connections: Path | None = None
    first_day: date | None = None
    root_limit_kw: float | None = None
    without_loads: bool = False


@dataclass(frozen=True, slots=True)
class Founded:
    """What came of it.

    Attributes
    ----------
    feeder, customers, nodes : name and sizes. first_day, first_gate_at : when its market begins (seconds, UTC).
    keys_made : how many private keys lie under ``keys/``. warnings : one line each.
    price_proof : what stands behind the wholesale prices of that day, in words.
    """

    feeder: str
    customers: int
    nodes: int
    first_day: date
    first_gate_at: int
    keys_made: int
    price_proof: str
    warnings: tuple[str, ...]


def found_shard(path: Path, given: Founding, now: int) -> Founded:
    """Make the directory of a shard that can be operated.

    Parameters
    ----------
    path : an empty or absent folder.
    now : seconds since the epoch.

    Raises
    ------
    InputError : a file, row or value will not do; nothing has been written.
    """
    rulebook = Rulebook.load(given.rulebook)
    first_day = _first_day(rulebook, given.first_day, now)
    loaded = load_network(given.network)
    members = read_customers(given.customers, given.network, loaded.case, without_loads=given.without_loads)
    prices = None if given.prices is None else read_prices(given.prices, rulebook)
    name = loaded.network.name if given.feeder is None else given.feeder
    if given.reserves is not None:
        read_reserves(given.reserves, (name,), rulebook)
    secrets: dict[str, bytes] = {}
    members = tuple(_with_key(member, secrets) for member in members)
    senders = tuple(
        _sender(role, sender, secrets) for role, sender in ((Role.HEAD_END, HEAD_END), (Role.GATEWAY, GATEWAY))
    )
    feeder = Feeder.of(name, loaded.case, members[-1].number, given.root_limit_kw)
    plan = ShardPlan(given.origin, (feeder,), {name: members}, rulebook, first_day, senders, given.connections)
    with new_directory(path) as made:
        files = ShardFiles(made)
        fill_shard(made, plan, now)
        for path, columns, brought in (
            (files.prices, COLUMNS, given.prices),
            (files.reserves, RESERVE_COLUMNS, given.reserves),
        ):
            content = ",".join(columns).encode() if brought is None else brought.read_bytes()
            path.write_bytes(content if content.endswith(b"\n") else content + b"\n")
        files.keys.mkdir(mode=0o700)
        for who, secret in secrets.items():
            write_secret(files.keys / f"{who}.key", secret)
        with Vault.open(files.vault) as vault:
            codes = vault.held_purpose_key(codes_purpose(0))
            assert codes is not None
            write_secret(files.keys / "meters.key", codes.hex().encode() + b"\n")
        write_private(files.keys / _PLACES, _places(members, feeder))
    unproven = _unproven(prices, rulebook, first_day)
    return Founded(
        feeder=name,
        customers=len(members) - 1,
        nodes=len(loaded.network.nodes),
        first_day=first_day,
        first_gate_at=day_ahead_at(rulebook, first_day),
        keys_made=len(secrets),
        price_proof=_proof_words(rulebook.at(first_day).root_prices, prices, unproven),
        warnings=(*loaded.warnings, *_price_warnings(prices, unproven, rulebook, first_day)),
    )


def _first_day(rulebook: Rulebook, wanted: date | None, now: int) -> date:
    """The first day whose opening still lies ahead, or the one that is wanted, where it does."""
    first = max(datetime.fromtimestamp(now, tz=UTC).date() - timedelta(days=1), rulebook.versions[0].effective)
    while not day_bounds(rulebook, first) or open_at(rulebook, first) <= now:
        first += timedelta(days=1)
    if wanted is None:
        return first
    rulebook.at(wanted)  # says from when there are rules
    if wanted < first or not day_bounds(rulebook, wanted):
        raise InputError(
            "command line", f"first day {wanted}", f"cannot be opened any more; take {first} or a later one"
        )
    return wanted


def _with_key(member: Member, secrets: dict[str, bytes]) -> Member:
    """Whoever brings no request gets a key; nobody bids for the substation."""
    if member.request or member.name == SUBSTATION:
        return member
    return replace(member, request=_new_key(f"customer-{member.number}", secrets))


def _sender(role: Role, name: str, secrets: dict[str, bytes]) -> Request:
    return Request(Identity(role, name=name), _new_key(name, secrets))


def _new_key(who: str, secrets: dict[str, bytes]) -> bytes:
    key = Ed25519PrivateKey.generate()
    secrets[who] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signing_request(key)


def _places(members: Iterable[Member], feeder: Feeder) -> str:
    """Who hangs where by number: what a gateway writes into an order, a head-end into a reading."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("customer", "name", "feeder", "node", "bus", "meter"))
    for member in members:
        bus = feeder.network.nodes[member.node]
        writer.writerow((member.number, member.name, feeder.name, member.node, bus, member.meter))
    return out.getvalue()


def _unproven(prices: PriceSeries | None, rulebook: Rulebook, first_day: date) -> list[str]:
    """What is wrong with prices of the first day that lack the proof which its rules ask for, the first of a market."""
    if prices is None:
        return []
    bounds, rules = day_bounds(rulebook, first_day), rulebook.at(first_day).root_prices
    found: list[str] = []
    for market, asked in (
        (REAL_TIME, [range(interval, interval + 1) for interval in bounds]),
        (DAY_AHEAD, periods(bounds)),
    ):
        _, unproven = prices.of(market, asked, rules.source).proven(lambda interval: rules)
        found += list(unproven.values())[:1]
    return found


def _proof_words(rules: RootPriceParameters, prices: PriceSeries | None, unproven: list[str]) -> str:
    if rules.proof is PriceProof.NONE or (prices is not None and not unproven):
        return rules.words
    return f"none that is proven yet; the rules take only what is {rules.words}"


def _price_warnings(prices: PriceSeries | None, unproven: list[str], rulebook: Rulebook, first_day: date) -> list[str]:
    bounds = day_bounds(rulebook, first_day)
    if prices is None:
        return ["there are no wholesale prices; append them to prices.csv, or every gate goes without"]
    warned = []
    if prices.real_time.mean(bounds[:1]) is None:
        begins = datetime.fromtimestamp(bounds.start * MARKET_INTERVAL_S, tz=UTC)
        warned.append(f"there is no wholesale price for the first interval, {begins:%Y-%m-%d %H:%M} UTC")
    end = prices.real_time.end
    if end < bounds.stop:
        warned.append(f"wholesale prices end at {interval_start(end):%Y-%m-%d %H:%M} UTC; append to prices.csv")
    warned += unproven
    if not len(prices.day_ahead.prices):
        warned.append("there are no day_ahead prices: every day-ahead gate goes without one")
    return warned
