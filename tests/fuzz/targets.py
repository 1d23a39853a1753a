"""Everything that reads what strangers send: how it is called, what it may answer, and what a good message looks like.

A target reads bytes. It answers with whatever it makes of them or with a `TellegenError`; anything else that is raised
is a fault, and so is an answer that takes long or much memory. Seeds are messages that it takes, so that a change of
one leads deep into it; what reached further when it was looked for (`make fuzz`) is kept in `corpus/NAME.txt`, a
message a line.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from tellegen.errors import TellegenError
from tellegen.foreign.opendss_reader import read_script
from tellegen.grid.document import case_from_json, case_to_json, network_from_json, network_to_json
from tellegen.grid.importers.matpower import case_of_text
from tellegen.grid.importers.tables import read_tables
from tellegen.grid.network import Case
from tellegen.journal.cosignature import CosignatureVerifier, Cosigner
from tellegen.journal.extension import Extension
from tellegen.journal.note import NoteSigner, split_note
from tellegen.journal.tiles import Tile
from tellegen.metering.coded_readings import read_coded
from tellegen.metering.dlms import decode as decode_push
from tellegen.metering.files import read_csv as read_meters
from tellegen.operations.correction_file import read_correction
from tellegen.operations.prices import read_prices
from tellegen.records import DailyRoots, Device, Orders, Product, Readings, Submissions
from tellegen.records.batch import Header
from tellegen.records.submission import Route, Statement, bids_body
from tellegen.registry.assets import connection
from tellegen.registry.assets import read_csv as read_connections
from tellegen.registry.assets import write_csv as write_connections
from tellegen.registry.requests import parse_requests
from tellegen.rules.rulebook import Rulebook
from tellegen.service.bodies import MSGPACK, NDJSON, ROWS, decode
from tellegen.service.mqtt import statement_of
from tellegen.simulation.scenario import read_scenario
from tellegen.verify.balances import read_balances
from tellegen.verify.calendar import Rules
from tellegen.verify.folder import Folder, Limits
from tellegen.verify.meters import FORMAT, verify_meter_proof
from tellegen.verify.notes import OperatorKey, SignedHead
from tellegen.verify.price_file import PublishedFile
from tellegen.verify.receipts import check_receipt, check_row_receipt
from tellegen.verify.report import RefusedError
from tellegen.verify.unpacked import unpacked
from tellegen.workbench.orders import read_orders

CORPUS = Path(__file__).parent / "corpus"
HERE = Path(__file__).parents[1]
ROWS_MAX = 1000
KEY = NoteSigner("fuzz.example/1", bytes(32))


@dataclass(frozen=True, slots=True)
class Target:
    """What reads a kind of message.

    Attributes
    ----------
    read : takes the message. seeds : messages like those that it is for.
    """

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]

    def takes(self, message: bytes) -> bool:
        """Whether a message is taken; raises what is a fault."""
        try:
            self.read(message)
        except TellegenError:
            return False
        return True

    @property
    def corpus(self) -> Path:
        """Where messages are kept, in base64."""
        return CORPUS / f"{self.name}.txt"

    def messages(self) -> list[bytes]:
        """Seeds, and what is kept."""
        lines = self.corpus.read_text(encoding="ascii").split() if self.corpus.exists() else []
        return [*self.seeds, *map(base64.b64decode, lines)]


def from_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """For a reader of files: the message is the file's content."""

    def written(message: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(message)
            return read(path)

    return written


def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """For a reader of text: bytes that are none never reach it."""
    return lambda message: read(message.decode(errors="replace"))


def _readings() -> Readings:
    columns = {"customer": [7, 8], "meter": [70, 80], "counter": [1, 2], "import_wh": [1, 2], "export_wh": [0, 3]}
    return Readings(**columns, reactive_varh=[0, -1], voltage_mv=[230_000] * 2, tag=np.zeros(2, dtype="V16"))


def _bids() -> bytes:
    one = {
        "customer": [7],
        "period": [0],
        "device": [Device.LOAD],
        "node": [3],
        "product": [Product.ENERGY],
        "side": [1],
    }
    orders = Orders(**one, price_taker=[0], price_micros=[100_000], quantity_w=[1000], var_per_kw=[0])
    fields = {name: [0] for name in Submissions.row_dtype().names or ()}
    fields |= {"customer": [7], "order_rows": [1], "signature": np.zeros(1, dtype="V64")}
    return bids_body(Submissions(**fields), orders)


@cache
def certificate_request() -> bytes:
    """A certificate request in DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "7")])
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, None)
        .public_bytes(serialization.Encoding.DER)
    )


def _parquet() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}).write_parquet(path)
        return path.read_bytes()


def _header() -> Header:
    about = {
        "kind": "readings",
        "name": "readings/1",
        "feeder": "F1",
        "market": "",
        "interval": 420_000,
        "intervals": 1,
    }
    digests = {"row_root": "0" * 64, "payload_sha256": "1" * 64, "evidence": f"{'2' * 64} {'A' * 86}=="}
    return Header(**about, source="NORTH", known_at=126_000_000, causes=(), rows=2, **digests)


def _signed_head() -> str:
    root = base64.b64encode(bytes(range(32))).decode()
    note = KEY.sign(f"{KEY.name}\n5\n{root}\n")
    line = Cosigner("witness.example/w1", bytes(32)).cosign(f"{KEY.name}\n5\n{root}\n", 1_700_000_000)
    return note + str(line)


def _receipt() -> str:
    entry = base64.b64encode(_header().to_bytes()).decode()
    hashes = "".join(f"{base64.b64encode(bytes([k]) * 32).decode()}\n" for k in range(3))
    return f"c2sp.org/tlog-proof@v1\nextra {entry}\nindex 2\n{hashes}\n{_signed_head()}"


def _checks_receipt(message: str) -> object:
    entry = _header().to_bytes()
    try:
        return check_receipt(message, entry, KEY.verifier.vkey)
    except TellegenError:
        return check_row_receipt(message, b"row", bytes(16), KEY.verifier.vkey)


def _cosigned(message: bytes) -> list[int]:
    body, lines = split_note(message.decode(errors="replace"))
    witness = Cosigner("witness.example/w1", bytes(32)).verifier
    return [witness.time_of(body, line) for line in lines if witness.owns(line)]


MATPOWER = b"""function mpc = two
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
 1 3 0 0 0 0 1 1 0 0.4 1 1.1 0.9;
 2 1 0.01 0.002 0 0 1 1 0 0.4 1 1.1 0.9;
];
mpc.gen = [1 0 0 1 -1 1 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0];
mpc.branch = [1 2 0.01 0.02 0 0.1 0.1 0.1 0 0 1 -360 360];
mpc.gencost = [2 0 0 2 30 0];
"""
OPENDSS = b"""Clear
New Circuit.two basekv=0.4 bus1=source pu=1.0 angle=0 phases=3
New Linecode.c nphases=3 rmatrix=(0.1 | 0.0 0.1 | 0.0 0.0 0.1) xmatrix=[0.05|0 0.05|0 0 0.05] units=km
New Line.l bus1=source.1.2.3 bus2=b linecode=c length=(0.1 2 *) units=km // a line
! a comment
New Loadshape.s npts=2 interval=1 mult=(0.5, 1)
New Load.x bus1=b.1 phases=1 kv=0.23 kw=2 pf=0.95 daily=s
~ vminpu=0.8
/* a block
*/
Set voltagebases=[0.4]
CalcVoltageBases
Solve mode=snap
"""
PANDAPOWER = json.dumps(
    {
        "_module": "pandapower.auxiliary",
        "_class": "pandapowerNet",
        "_object": {
            "bus": {
                "_module": "pandas.core.frame",
                "_class": "DataFrame",
                "_object": '{"columns":["name","vn_kv","in_service"],"index":[0,1],'
                '"data":[["a",0.4,true],["b",0.4,true]]}',
                "orient": "split",
            },
            "f_hz": 50.0,
        },
    }
).encode()
TIMES = [f"2026-01-01T{hour:02d}:{minute:02d}:00Z" for hour in (0, 1) for minute in range(0, 60, 15)]


def _lines(header: str, rows: list[str]) -> bytes:
    return "".join(f"{row}\n" for row in [header, *rows]).encode()


def _pushes() -> tuple[bytes, ...]:
    frames = json.loads((HERE / "metering" / "pushes.json").read_text())
    return tuple(bytes.fromhex(frame["frame"]) for frame in frames)


def _coded() -> bytes:
    names = "interval,customer,meter,counter,import_wh,export_wh,reactive_varh,voltage_mv,tag"
    return _lines(names, [f"420000,7,70,{k},{k},0,0,230000,{k:032x}" for k in range(1, 3)])


def _scenario() -> bytes:
    return (Path(read_scenario.__code__.co_filename).parent / "scenarios" / "demo.toml").read_bytes()


def _rulebook() -> bytes:
    folder = Path(Rulebook.load.__func__.__code__.co_filename).parent / "rulebooks" / "default"  # type: ignore[attr-defined]
    return (folder / "2016-01-01.toml").read_bytes()


def _balances() -> bytes:
    """The books of two accounts."""
    with closing(sqlite3.connect(":memory:")) as database:
        columns = "unit INTEGER, account INTEGER, nanos INTEGER, PRIMARY KEY (unit, account)"
        database.execute(f"CREATE TABLE balances ({columns}) WITHOUT ROWID")
        database.execute("INSERT INTO balances VALUES (0, 1, 5), (0, 2, -5)")
        return database.serialize()


def _read_balances(path: Path) -> object:
    try:
        return read_balances(Folder(path.parent, Limits(2**30)), path.name)
    except (sqlite3.Error, ValueError) as error:  # what `verify` takes for an answer too
        raise RefusedError(str(error)) from None


def _meter_proof() -> bytes:
    texts = {
        "reading": base64.b64encode(_readings().take(np.array([0])).rows().tobytes()).decode(),
        "signature": "AA==",
    }
    numbers = {"meter": 70, "day": 1458, "interval": 420_000, "position": 0, "readings": 1}
    return json.dumps({"format": FORMAT, **numbers, **texts, "root": "0" * 64, "path": [], "certificates": []}).encode()


@cache
def two_buses() -> Case:
    """A source, a line and a load."""
    return case_of_text("two.m", "two", MATPOWER.decode())


def _connections() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.csv"
        write_connections(
            path,
            [
                connection(
                    customer=7,
                    device=Device.LOAD,
                    asset=77,
                    feeder="F1",
                    node=3,
                    phases=0,
                    from_interval=9,
                    capacity_w=10_000,
                    import_limit_w=10_000,
                    export_limit_w=5_000,
                )
            ],
        )
        return path.read_bytes()


PRICES = _lines("time,real_time,day_ahead", [f"{time},0.1,0.25" for time in TIMES])
ORDERS = _lines("participant,node,product,side,price,quantity_kw", ["a,2,energy,buy,0.3,1.5", "b,2,energy,sell,,2"])
CORRECTION = b"""customer = "home-7"
reason = "meter replaced"
known_at = 2016-05-08T07:00:00Z
first_interval = 2016-05-01T00:00:00Z
import_wh = [0, 10, 20]
export_wh = [0, 0, 0]
reactive_varh = [0, 1, 2]
"""


_READING = {"customer": 7, "meter": 70, "counter": 1, "import_wh": 1, "export_wh": 0, "reactive_varh": 0}
_READING |= {"voltage_mv": 230_000, "tag": bytes(16)}
_ORDER = {"period": 0, "device": 0, "node": 3, "product": 0, "side": 1, "price_taker": 0, "price_micros": 100_000}
_BID = {
    "customer": 7,
    "sequence": 1,
    "signature": bytes(64),
    "orders": [_ORDER | {"quantity_w": 1000, "var_per_kw": 0}],
}


def _body(row: dict[str, object], media_type: str) -> bytes:
    return msgspec.json.encode(row) + b"\n" if media_type == NDJSON else msgspec.msgpack.encode([row])


def _body_target(name: str, route: Route, media_type: str, seed: bytes) -> Target:
    return Target(name, lambda message: decode(route, media_type, message, ROWS_MAX), (seed,))


def _csr_lines() -> bytes:
    encoded = base64.b64encode(certificate_request()).decode()
    return json.dumps({"role": "meter", "number": 7, "name": "", "request": encoded}).encode() + b"\n"


def _csr_of_line(message: bytes) -> object:
    line = {"role": "meter", "number": 7, "request": base64.b64encode(message).decode()}
    return parse_requests(json.dumps(line).encode() + b"\n")


TARGETS = {
    target.name: target
    for target in (
        # what a sender posts or publishes
        _body_target("rows-of-readings", Route.READINGS, ROWS, _readings().rows().tobytes()),
        _body_target("rows-of-bids", Route.BIDS, ROWS, _bids()),
        _body_target("rows-of-days", Route.DAILY_ROOTS, ROWS, bytes(DailyRoots.row_dtype().itemsize)),
        _body_target("lines-of-readings", Route.READINGS, NDJSON, _body(_READING, NDJSON)),
        _body_target("lines-of-bids", Route.BIDS, NDJSON, _body(_BID, NDJSON)),
        _body_target("packed-readings", Route.READINGS, MSGPACK, _body(_READING, MSGPACK)),
        _body_target("packed-bids", Route.BIDS, MSGPACK, _body(_BID, MSGPACK)),
        Target(
            "mqtt-topic",
            text(lambda m: statement_of("fuzz.example/1", m, bytes(80))),
            (b"tellegen/readings/head-end 1/grid%2FF1/7/1",),
        ),
        Target("requests", parse_requests, (_csr_lines(),)),
        Target("certificate-request", _csr_of_line, (certificate_request(),)),
        Target("push", lambda m: decode_push(m), _pushes()),
        # what lies on record, and what proves it
        Target("header", Header.from_bytes, (_header().to_bytes(),)),
        Target(
            "evidence",
            text(lambda m: Statement.on_record("o", "s", "f", "", 7, *(m.partition("\n")[::2]))),
            (f"readings/1\n{'2' * 64} {'A' * 86}==".encode(),),
        ),
        Target("note", text(split_note), (_signed_head().encode(),)),
        Target("cosignature", _cosigned, (_signed_head().encode(),)),
        Target(
            "head",
            text(lambda m: SignedHead.parse(m, OperatorKey.parse(KEY.verifier.vkey))),
            (_signed_head().encode(),),
        ),
        Target("extension", text(Extension.parse), (f"old 3\n{'A' * 43}=\n\n{_signed_head()}".encode(),)),
        Target("vkey", text(CosignatureVerifier.parse), (Cosigner("w.example/1", bytes(32)).verifier.vkey.encode(),)),
        Target("receipt", text(_checks_receipt), (_receipt().encode(),)),
        Target("tile", text(Tile.parse), (b"tile/0/x001/067.p/8", b"tile/entries/000")),
        Target("parquet-in-a-directory", lambda m: unpacked(m, ["a", "b"]), (_parquet(),)),
        Target("balances", from_file(_read_balances, "b.sqlite"), (_balances(),)),
        Target("proof-of-a-reading", text(lambda m: verify_meter_proof(m, "")), (_meter_proof(),)),
        Target("price-file-to-verify", from_file(PublishedFile.read, "p.csv"), (PRICES,)),
        # files
        Target(
            "meters",
            read_meters,
            (
                _lines("meter,end,import,unit", [f"7,{time},1.5,kWh" for time in TIMES]),
                _lines("meter;end;import;export", [f"DE{7:031d};{time};1,5;0" for time in TIMES]),
            ),
        ),
        Target("coded", from_file(read_coded, "c.csv"), (_coded(),)),
        Target("connections", from_file(read_connections, "c.csv"), (_connections(),)),
        Target("prices", from_file(lambda p: read_prices(p, None), "p.csv"), (PRICES,)),
        Target("correction", from_file(read_correction, "c.toml"), (CORRECTION,)),
        Target("orders", from_file(lambda p: read_orders(p, two_buses().network), "o.csv"), (ORDERS,)),
        Target("rulebook", lambda m: Rulebook.parse({"2016-01-01.toml": m}, "fuzz"), (_rulebook(),)),
        Target("rulebook-to-verify", lambda m: Rules.parse("2016-01-01.toml", date(2016, 1, 1), m), (_rulebook(),)),
        Target("scenario", from_file(read_scenario, "s.toml"), (_scenario(),)),
        Target("matpower", text(lambda m: case_of_text("two.m", "two", m)), (MATPOWER,)),
        Target("opendss", from_file(read_script, "two.dss"), (OPENDSS,)),
        Target("pandapower", from_file(read_tables, "two.json"), (PANDAPOWER,)),
        Target("network", network_from_json, (network_to_json(two_buses().network),)),
        Target("case", case_from_json, (case_to_json(two_buses()),)),
    )
}
