"""The feeders of a shard, and how they stand on record: one document per network, one that lists the feeders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tellegen.errors import InputError
from tellegen.grid import network_from_json, network_to_json
from tellegen.grid.network import Network
from tellegen.operations.recorder import Recorder, Span
from tellegen.records import Document

_LIST = "feeders"
_NETWORK = "network/"


@dataclass(frozen=True, slots=True, eq=False)
class ShardFeeder:
    """One feeder: what its market clears on.

    Attributes
    ----------
    name : as in the registry of connections.
    network : with the limits under which it is cleared. Feeders of one topology share the object, and its factors.
    substation : number under which the operator's own meter at the root stands in the registry, like a customer's.
    root_limit_kw : largest power through the root; None: no limit.
    """

    name: str
    network: Network
    substation: int
    root_limit_kw: float | None = None


def put_feeders(recorder: Recorder, feeders: Sequence[ShardFeeder], span: Span) -> None:
    """Put feeders and their networks on record, each network once.

    Raises
    ------
    InputError : two networks have one name, or two feeders.
    """
    networks: dict[str, Network] = {}
    for feeder in feeders:
        if networks.setdefault(feeder.network.name, feeder.network) is not feeder.network:
            raise InputError("shard", f"network '{feeder.network.name}'", "is two networks; give each its own name")
    if len({feeder.name for feeder in feeders}) != len(feeders):
        raise InputError("shard", "feeders", "two have one name; give each its own")
    for name, network in sorted(networks.items()):
        recorder.put_document(Document(_NETWORK + name, network_to_json(network), private=True), span)
    listed = [[f.name, f.network.name, f.substation, f.root_limit_kw] for f in feeders]
    recorder.put_document(Document(_LIST, json.dumps(listed).encode(), private=True), span)


def read_feeders(recorder: Recorder) -> list[ShardFeeder]:
    """The feeders on record, in their order.

    Raises
    ------
    InputError : there are none.
    """
    content = recorder.document(_LIST)
    if not content:
        raise InputError("market journal", f"document '{_LIST}'", "is not on record; set the market of the shard up")
    listed = json.loads(content)
    networks = {
        name: network_from_json(recorder.document(_NETWORK + name))
        for name in sorted({network for _, network, _, _ in listed})
    }
    return [ShardFeeder(name, networks[network], substation, limit) for name, network, substation, limit in listed]
