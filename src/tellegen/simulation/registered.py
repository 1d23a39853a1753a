"""What simulated customers have registered behind their connections, as an installer would have: rated powers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.agents.homes import Homes
from tellegen.records import Connections, Device
from tellegen.simulation.shard import SIMULATED
from tellegen.units import IntArray

ASSET_FIRST = 10**10
"""The asset of kind d of customer n has the serial number ASSET_FIRST + 10 n + d."""
_W_PER_KW = 1_000.0


def homes_assets(points: Connections, homes: Homes, charging_w: NDArray[np.float64]) -> Connections:
    """Devices of homes, all of a kind together, behind their connections.

    Parameters
    ----------
    points : the homes' connections. charging_w : float64[n], of the charging points of each home.
    """
    battery, pump, tank, sun = homes.batteries, homes.heat_pumps, homes.water_heaters, homes.inverters
    drivers = np.flatnonzero(charging_w)
    tables = [
        assets(points, Device.PV, sun.customer, 0, sun.rated_kva * _W_PER_KW),
        assets(points, Device.BATTERY, battery.customer, battery.power_w, battery.power_w),
        assets(points, Device.VEHICLE, drivers + 1, charging_w[drivers], 0),
        assets(points, Device.HEAT_PUMP, pump.customer, pump.power_w, 0),
        assets(points, Device.WATER_HEATER, tank.customer, tank.power_w, 0),
    ]
    return Connections.concat(tables)


def assets(
    points: Connections, device: Device, customer: IntArray, import_w: ArrayLike, export_w: ArrayLike
) -> Connections:
    """Devices of a kind, those of a customer together, where its connection is.

    Parameters
    ----------
    points : connections, customers ascending. customer : int64[k]; import_w, export_w : of each device, rounded up.
    """
    who, place = np.unique(customer, return_inverse=True)
    most = np.zeros((2, who.size), dtype=np.int64)
    for row, watts in zip(most, (import_w, export_w), strict=True):
        whole = np.ceil(np.asarray(watts, dtype=np.float64)).astype(np.int64)
        np.add.at(row, place, np.broadcast_to(whole, place.shape))
    return replace(
        points.take(np.searchsorted(points.customer, who)),
        device=np.full(who.size, device, dtype=np.uint8),
        asset=ASSET_FIRST + 10 * who.astype(np.int64) + device,
        capacity_w=most.max(axis=0),
        import_limit_w=most[0],
        export_limit_w=most[1],
        attested_by=np.full(who.size, SIMULATED, dtype="S32"),
    )
