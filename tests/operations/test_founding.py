"""A shard from a user's files, or one line that says what is wrong with them and nothing on the disk."""

import csv
import os
import stat
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tellegen.errors import InputError, TellegenError
from tellegen.journal import NoteVerifier
from tellegen.operations.directory import ShardFiles, read_names, read_number, sole_operator
from tellegen.operations.founding import Founding, found_shard
from tellegen.operations.record import ShardRecord
from tellegen.operations.timetable import day_bounds
from tellegen.privacy.recorder import Recorder
from tellegen.records import Device, Histories, Role
from tellegen.registry import open_shard, signing_request
from tellegen.registry.private_key import read_private_key
from tellegen.rules import Rulebook

NOW = int(datetime.fromisoformat("2016-03-25T10:00:00+00:00").timestamp())
CUSTOMERS = """\
customer,node,meter,capacity_kw,trailing_kwh
anna,3,1003,17.25,310.5
bert,5,1005,20,
carla,4,1004,11,120
substation,1,1000,100,
"""
KEYED = CUSTOMERS.replace("trailing_kwh", "request")
PRICES = "time,real_time,day_ahead\n" + "".join(
    f"2016-03-{d}T{h:02}:00Z,0.08,0.09\n" for d in (25, 26, 27) for h in range(24)
)


@pytest.fixture
def give(tmp_path: Path, street_file: Path) -> Callable[..., Founding]:
    """A user's files; a test changes the text of one."""

    def files(customers: str = CUSTOMERS, price_text: str = PRICES, **changes: object) -> Founding:
        (tmp_path / "customers.csv").write_text(customers)
        (tmp_path / "wholesale.csv").write_text(price_text)
        settings: dict[str, object] = {
            "network": str(street_file),
            "customers": tmp_path / "customers.csv",
            "origin": "street.example",
            "prices": tmp_path / "wholesale.csv",
        }
        return Founding(**(settings | changes))  # type: ignore[arg-type]

    return files


def test_everything_that_a_market_needs_is_on_record(give: Callable[..., Founding], tmp_path: Path):
    made = found_shard(tmp_path / "north", give(), NOW)
    assert (made.customers, made.first_day, made.keys_made, made.warnings) == (3, date(2016, 3, 26), 5, ())
    with ShardRecord.open(tmp_path / "north") as shard:
        intake = Recorder(shard.intake, shard.vault, "")
        assert read_names(intake) == {1: "anna", 2: "bert", 3: "carla", 4: "substation"}
        assert read_number(intake, "carla", "table") == 3
        with pytest.raises(InputError, match="table: customer 'dora' is not enrolled in this shard"):
            read_number(intake, "dora", "table")
        assert shard.rulebook.versions == Rulebook.load().versions
        assert shard.first_day == date(2016, 3, 26)
        assert len(shard.journal) == 0
        assert shard.journal.verifier.name == "street.example/market"
        (feeder,) = shard.feeders
        directory = shard.directory
        bounds = day_bounds(shard.rulebook, date(2016, 3, 26))
        connected = shard.topology.connected(bounds.start - 1, NOW)
        assert connected.meter.tolist() == [1003, 1005, 1004, 1000]
        assert connected.capacity_w.tolist() == [17_250, 20_000, 11_000, 100_000]
        assert [feeder.network.nodes[k] for k in connected.node] == ["3", "5", "4", "1"]
        ((_, header, known),) = list(intake.read(Histories))
        assert header.feeder == feeder.name == "street"
        assert known.trailing_wh.tolist() == [310_500, 120_000]
        for name in ("head-end", "gateway"):
            own = read_private_key(ShardFiles(tmp_path / "north").keys / f"{name}.key").public_key().public_bytes_raw()
            assert directory.sender(name, NOW).public_key == own


def test_keys_made_for_others_are_only_the_owners_to_read(give: Callable[..., Founding], tmp_path: Path):
    found_shard(tmp_path / "north", give(), NOW)
    keys = tmp_path / "north" / "keys"
    assert sorted(file.name for file in keys.glob("*.key")) == [
        "customer-1.key", "customer-2.key", "customer-3.key", "gateway.key", "head-end.key", "meters.key",
    ]  # fmt: skip
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.glob("*.key")} == {0o600}
    with (keys / "places.csv").open() as stream:
        assert [row["bus"] for row in csv.DictReader(stream)] == ["3", "5", "4", "1"]


def test_who_brings_a_key_keeps_it(give: Callable[..., Founding], tmp_path: Path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "anna.csr").write_bytes(signing_request(key))
    table = "customer,node,meter,capacity_kw,request\nanna,3,1003,17,anna.csr\nbert,5,1005,20,\nsubstation,1,1,9,\n"
    made = found_shard(tmp_path / "north", give(table), NOW)
    assert made.keys_made == 3
    with open_shard(tmp_path / "north") as shard:
        (known,) = shard.directory.keys(Role.PARTICIPANT, [1], NOW)
        assert known == key.public_key().public_bytes_raw()


def test_numbers_are_taken_as_they_are(give: Callable[..., Founding], tmp_path: Path):
    table = "customer,node,meter,capacity_kw\n70,3,1003,17\n7,5,1005,20\nSubstation,1,1,9\n"
    found_shard(tmp_path / "north", give(table), NOW)
    with ShardRecord.open(tmp_path / "north") as shard:
        assert read_names(Recorder(shard.intake, shard.vault, "")) == {7: "7", 70: "70", 71: "substation"}


def test_the_first_day_is_one_that_can_still_be_opened(give: Callable[..., Founding], tmp_path: Path):
    with pytest.raises(InputError, match="first day 2016-03-25 cannot be opened any more; take 2016-03-26"):
        found_shard(tmp_path / "north", give(first_day=date(2016, 3, 25)), NOW)
    with pytest.raises(InputError, match="governed by no version; the first holds from 2016-01-01"):
        found_shard(tmp_path / "north", give(first_day=date(2015, 3, 25)), NOW)
    made = found_shard(tmp_path / "north", give(first_day=date(2016, 3, 27)), NOW)
    assert made.first_day == date(2016, 3, 27)
    made = found_shard(tmp_path / "south", give(), NOW + 13 * 3600 - 300)  # 23:55 local: the 26th opens now
    assert made.first_day == date(2016, 3, 27)


def test_prices_without_the_proof_of_the_rules_are_a_warning(give: Callable[..., Founding], tmp_path: Path):
    vkey = NoteVerifier("exchange.example/DE-LU", bytes(32)).vkey
    (tmp_path / "rules").mkdir()
    section = f'\n[root_prices]\nproof = "signature"\npublisher_key = "{vkey}"\n'.encode()
    (tmp_path / "rules" / "2016-01-01.toml").write_bytes(Rulebook.load().versions[0].content + section)
    made = found_shard(tmp_path / "north", give(rulebook=tmp_path / "rules"), NOW)
    assert made.price_proof == "none that is proven yet; the rules take only what is signed by exchange.example/DE-LU"
    assert [warning.partition(" is missing")[0] for warning in made.warnings] == [
        f"{tmp_path / 'wholesale.csv'}: line 25, {market}_signature" for market in ("real_time", "day_ahead")
    ]


def test_prices_that_do_not_reach_are_a_warning(give: Callable[..., Founding], tmp_path: Path):
    made = found_shard(tmp_path / "a", give(price_text="2016-03-25T23:00Z,0.08\n2016-03-25T23:05Z,0.08\n"), NOW)
    assert made.warnings == (
        "wholesale prices end at 2016-03-25 23:10 UTC; append to prices.csv",
        "there are no day_ahead prices: every day-ahead gate goes without one",
    )
    made = found_shard(tmp_path / "b", give(price_text="2016-03-27T23:00Z,0.08,0.1\n"), NOW)
    assert made.warnings == ("there is no wholesale price for the first interval, 2016-03-25 23:00 UTC",)
    made = found_shard(tmp_path / "c", give(prices=None), NOW)
    assert made.warnings == ("there are no wholesale prices; append them to prices.csv, or every gate goes without",)
    assert (tmp_path / "c" / "prices.csv").read_text() == "time,real_time,day_ahead\n"


def test_what_reserve_is_asked_for_comes_along(give: Callable[..., Founding], tmp_path: Path):
    found_shard(tmp_path / "a", give(), NOW)
    assert ShardFiles(tmp_path / "a").reserves.read_text() == "time,product,quantity_kw,price,feeder\n"
    asked = tmp_path / "asked.csv"
    asked.write_text("2016-03-26T12:00Z,reserve_up,2,0.04,street")
    found_shard(tmp_path / "b", give(reserves=asked), NOW)
    assert ShardFiles(tmp_path / "b").reserves.read_text() == asked.read_text() + "\n"
    with pytest.raises(InputError, match=r"asked\.csv: line 1, feeder 'street' is none of north"):
        found_shard(tmp_path / "c", give(reserves=asked, feeder="north"), NOW)
    assert not (tmp_path / "c").exists()


def test_what_moves_on_a_network_is_kept(give: Callable[..., Founding], tmp_path: Path):
    script = tmp_path / "village.dss"
    script.write_text(
        "clear\nnew circuit.village basekv=12.47 pu=1.0 bus1=s r1=0.1 x1=0.5 r0=0.2 x0=0.7\n"
        "new transformer.t phases=3 windings=2 buses=(s a) kvs=(12.47 12.47) kvas=(5000 5000) xhl=0.5 %rs=(0.1 0.1)\n"
        "new line.l bus1=a bus2=b r1=1.5 x1=3 r0=3 x0=8 c1=0 c0=0\n"
        "new regcontrol.r transformer=t winding=2 vreg=122 band=1.5 ptratio=60\n"
        "set voltagebases=[12.47]\ncalcvoltagebases\nsolve\n"
    )
    table = "customer,node,phases,meter,capacity_kw\nanna,b,1,1003,17.25\nsubstation,s,1,1000,100\n"
    found_shard(tmp_path / "village", give(table, network=str(script)), NOW)
    with ShardRecord.open(tmp_path / "village") as shard:
        (feeder,) = shard.feeders
        assert feeder.movable == 1
        assert feeder.case is not None
        assert feeder.network is feeder.case.network


def test_a_shard_is_never_overwritten(give: Callable[..., Founding], tmp_path: Path):
    found_shard(tmp_path / "north", give(), NOW)
    with pytest.raises(InputError, match="north: directory is not empty; a shard is never overwritten"):
        found_shard(tmp_path / "north", give(), NOW)
    (tmp_path / ".south.partial").mkdir()
    with pytest.raises(
        InputError, match=r"\.south\.partial: directory was left by a start that was broken off; remove it"
    ):
        found_shard(tmp_path / "south", give(), NOW)


def test_a_shard_has_one_operator(give: Callable[..., Founding], tmp_path: Path):
    found_shard(tmp_path / "north", give(), NOW)
    with (
        sole_operator(tmp_path / "north"),
        pytest.raises(InputError, match=f"north: shard is operated by process {os.getpid()} already; end that one"),
        sole_operator(tmp_path / "north"),
    ):
        pass
    with sole_operator(tmp_path / "north"):
        pass
    with pytest.raises(InputError, match="holds no market; `tellegen init` makes"), sole_operator(tmp_path):
        pass


def row(line: str) -> str:
    return CUSTOMERS + line + "\n"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"customers": ""}, r"customers.csv: line 1 must name the columns customer,node,meter,capacity_kw"),
        ({"customers": "customer,node,meter,capacity_kw\n"}, "customers.csv: the table has no customers; give a row"),
        ({"customers": row("dora,9,1,10,")}, "customers.csv: line 6, node '9' is not in the network"),
        ({"customers": row("anna,4,1,10,")}, "customers.csv: line 6, customer 'anna' stands in line 2 already"),
        ({"customers": row("dora,4,1005,10,")}, "customers.csv: line 6, meter '1005' stands in line 3 already"),
        ({"customers": row("dora,4,-5,10,")}, "customers.csv: line 6, meter '-5' is not a serial number"),
        ({"customers": row("dora,4,5,ten,")}, "customers.csv: line 6, capacity_kw 'ten' is not a decimal"),
        ({"customers": row("dora,4,5,0,")}, "customers.csv: line 6, capacity_kw '0' is nothing; give what the fuse"),
        ({"customers": row("dora,4,5,1.0005,")}, "customers.csv: line 6, capacity_kw '1.0005' has parts of a W"),
        ({"customers": row("dora,4,5,10,nan")}, "customers.csv: line 6, trailing_kwh 'nan' is not a decimal number"),
        ({"customers": row("dora,4,5")}, "customers.csv: line 6 has 3 columns, line 1 has 5"),
        ({"customers": row(",4,5,10,")}, "customers.csv: line 6, customer '' is not a name of at most 40"),
        ({"customers": row('"dora,4')}, "customers.csv: line 6 is not CSV: unexpected end of data"),
        ({"customers": CUSTOMERS.replace("bert,5", "bert,4")}, "street.m: load '.*' at node '5' has no customer in"),
        ({"customers": CUSTOMERS.replace("substation,1,1000,100,\n", "")}, "has 0 rows of the root's meter; give one"),
        ({"customers": CUSTOMERS.replace("station,1", "station,2")}, "line 5, node '2' is not the root of the network"),
        ({"customers": KEYED.replace("310.5", "no.csr")}, "line 2, request 'no.csr' cannot be read"),
        ({"customers": KEYED.replace("310.5", "customers.csv")}, "line 2, request 'customers.csv' will not do"),
        ({"price_text": "time,real_time\n2016-03-25T23:00Z,80\n"}, "wholesale.csv: line 2, real_time '80' is beyond"),
        ({"network": "street.glm"}, "street.glm: format is not known"),
        ({"feeder": "a feeder with a name that is much too long"}, "needs a name of 1 to 32 ASCII characters"),
        ({"origin": "x" * 70}, "name of a shard is printable ASCII, at most"),
        ({"rulebook": Path("no rules")}, "no rules: folder is not there"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(
    give: Callable[..., Founding], tmp_path: Path, changes: dict[str, object], complaint: str
):
    with pytest.raises(TellegenError, match=complaint) as caught:
        found_shard(tmp_path / "north", give(**changes), NOW)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*north*"))


def test_a_load_may_be_left_out(give: Callable[..., Founding], tmp_path: Path):
    table = CUSTOMERS.replace("bert,5", "bert,4")
    assert found_shard(tmp_path / "north", give(table, without_loads=True), NOW).customers == 3


def test_devices_and_credit_come_along_as_the_registry_imports_them(give: Callable[..., Founding], tmp_path: Path):
    """Rows of the file count after those of the table; one that cannot stand is its line, and nothing is made."""
    head = "customer,device,asset,feeder,node,phases,from_interval,capacity_w,import_limit_w,export_limit_w"
    first = day_bounds(Rulebook.load(None), date(2016, 3, 26)).start - 1
    rows = [
        f"{head},attested_by,credit",
        f"1,load,1003,street,2,0,{first},17250,17250,5000,DSO,40",
        f"1,pv,9,street,2,0,{first},6000,0,6000,installer 7,0",
    ]
    file = tmp_path / "devices.csv"
    file.write_text("\n".join(rows))
    found_shard(tmp_path / "north", give(connections=file), NOW)
    with open_shard(tmp_path / "north") as shard:
        load, _ = shard.directory.connections(np.array([1, 2]), first)
        pv, known = shard.directory.connections(np.array([1]), first, device=Device.PV)
    assert (load.credit.tolist(), load.export_limit_w.tolist()) == ([40, 0], [5000, 20000])
    assert (known.all(), pv.attested_by.tolist()) == (True, [b"installer 7"])

    file.write_text("\n".join([*rows, f"3,pv,10,street,3,0,{first},6000,0,9000,,0"]))
    with pytest.raises(InputError, match=r"devices\.csv: line 4: export_limit_w 9000"):
        found_shard(tmp_path / "south", give(connections=file), NOW)
    assert not (tmp_path / "south").exists()
