"""What the registry says of devices behind connections, at the gates of a day."""

from __future__ import annotations

import numpy as np
import pytest

from tellegen.operations.devices import devices_behind, devices_of
from tellegen.records import Connections, Device, Header, Orders
from tellegen.registry import Directory

HOURS = range(100, 124, 6)
WHO = np.arange(1, 6)


def registered(rng: np.random.Generator, latest: int) -> Directory:
    """Batches of devices that come, go and change, known one after the other, from up to some interval on."""
    directory = Directory()
    for known_at in range(1, 8):
        rows = np.zeros(WHO.size, dtype=Connections.row_dtype())
        rows["customer"], rows["asset"], rows["feeder"] = WHO, WHO, b"F1"
        rows["device"] = rng.choice([Device.PV, Device.BATTERY, Device.HEAT_PUMP], WHO.size)
        rows["from_interval"] = rng.integers(0, latest, WHO.size)
        rows["node"], rows["attested_by"] = rng.integers(-1, 2, WHO.size), rng.choice([b"", b"x"], WHO.size)
        rows["capacity_w"] = rows["import_limit_w"] = rows["export_limit_w"] = rng.integers(1, 9_000, WHO.size)
        header = Header("connections", "", "", "", 0, 1, "operator", known_at, (), 1, "", "")
        directory.apply(header, Connections.from_rows(np.sort(rows, order="customer")))
    return directory


@pytest.mark.parametrize("latest", [HOURS[0], HOURS[-1]])
@pytest.mark.parametrize("seed", range(20))
def test_each_hour_has_the_devices_that_it_would_have_by_itself(seed: int, latest: int) -> None:
    """Whether nothing changes within the gate's hours or something does, whoever is there in each."""
    rng = np.random.default_rng(seed)
    directory = registered(rng, latest)
    here = [np.sort(rng.choice(WHO, 3, replace=False)) if seed % 2 else WHO for _ in HOURS]
    orders = []
    for who in here:
        rows = np.zeros(who.size, dtype=Orders.row_dtype())
        rows["customer"], rows["device"] = who, rng.choice([Device.LOAD, Device.PV, Device.BATTERY], who.size)
        orders.append(Orders.from_rows(rows))
    for behind, asked in ((devices_of, here), (devices_behind, orders)):
        together = behind(directory, asked, HOURS, 6)
        for one, each, hour in zip(together, asked, HOURS, strict=True):
            (alone,) = behind(directory, [each], [hour], 6)
            for name in ("key", "import_w", "export_w", "capacity_w", "attested"):
                assert getattr(one, name).tolist() == getattr(alone, name).tolist()
