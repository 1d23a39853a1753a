"""What a shard's wires are, and who hangs on them when: feeders as documents, connections by date (law 2).

Feeders and their networks are facts of the registry and stand in the intake's journal: one document per network, one
that lists the feeders. Who hangs where is a fact with two times, and the registry's `Directory` is its one fold.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from tellegen.errors import InputError
from tellegen.grid import Case, network_from_json, network_to_json, steps_moved
from tellegen.grid.document import case_from_json, case_to_json, is_case
from tellegen.grid.network import Network
from tellegen.operations.devices import Devices, devices_behind, devices_of
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Document, Orders
from tellegen.registry import Directory
from tellegen.units import IntArray

LATEST_MAX = 2
"""Intervals of which it is kept who is connected."""
_LIST = "feeders"
_NETWORK = "network/"


@dataclass(slots=True, eq=False)
class RecordedWires:
    """A network, or a case, as its document stands on record: decoded for whoever asks first.

    A market that hands clearing to other processes hands on the document as well, and decodes few or none itself.

    Attributes
    ----------
    name : of the network. content : of its document, which its digest on record was checked with; empty once decoded.
    """

    name: str
    content: bytes = field(repr=False)
    _decoded: Network | Case | None = field(default=None, repr=False)

    @property
    def may_move(self) -> bool:
        """Whether taps and capacitors come with it."""
        return isinstance(self._decoded, Case) if self._decoded is not None else is_case(self.content)

    def decoded(self) -> Network | Case:
        """What it says, the same object each time.

        Raises
        ------
        InputError : it is no network's document.
        """
        if self._decoded is None:
            read = case_from_json if is_case(self.content) else network_from_json
            self._decoded, self.content = read(self.content), b""
        return self._decoded


@dataclass(frozen=True, slots=True, eq=False)
class Feeder:
    """One feeder: what its market clears on.

    Attributes
    ----------
    name : as in the registry of connections.
    given : the network with the limits under which it is cleared; a case where taps and capacitors move on it between
        periods; or either as it is on record. Feeders of one topology share the object, and its factors.
    substation : number under which the operator's own meter at the root stands in the registry, like a customer's.
    root_limit_kw : largest power through the root; None: no limit.
    """

    name: str
    given: Network | Case | RecordedWires
    substation: int
    root_limit_kw: float | None = None

    @classmethod
    def of(cls, name: str, case: Case, substation: int, root_limit_kw: float | None = None) -> Feeder:
        """A feeder on a case's network, with what moves on it; who trades stands in books, not in the case."""
        return cls(name, case.network if case.controls is None else case, substation, root_limit_kw)

    @property
    def wires(self) -> Network | Case:
        """What clears: the network, with its controls where it has any."""
        return self.given.decoded() if isinstance(self.given, RecordedWires) else self.given

    @property
    def network(self) -> Network:
        """The network alone."""
        wires = self.wires
        return wires.network if isinstance(wires, Case) else wires

    @property
    def case(self) -> Case | None:
        """The network with the taps and capacitors that move on it; None: nothing moves."""
        wires = self.wires
        return wires if isinstance(wires, Case) else None

    @property
    def network_name(self) -> str:
        """What the network is called on record, whether it is decoded or not."""
        return self.given.name if isinstance(self.given, RecordedWires) else self.network.name

    @property
    def movable(self) -> int:
        """How many taps and capacitors can move."""
        if isinstance(self.given, RecordedWires) and not self.given.may_move:
            return 0
        controls = None if self.case is None else self.case.controls
        return 0 if controls is None else steps_moved(controls, controls).size


def put_feeders(recorder: Recorder, feeders: Sequence[Feeder], span: Span) -> None:
    """Put feeders and their networks on record, each network once.

    Raises
    ------
    InputError : two networks have one name, or two feeders.
    """
    networks: dict[str, Network | Case] = {}
    for feeder in feeders:
        if networks.setdefault(feeder.network_name, feeder.wires) is not feeder.wires:
            raise InputError("shard", f"network '{feeder.network_name}'", "is two networks; give each its own name")
    if len({feeder.name for feeder in feeders}) != len(feeders):
        raise InputError("shard", "feeders", "two have one name; give each its own")
    for name, wires in sorted(networks.items()):
        content = case_to_json(wires) if isinstance(wires, Case) else network_to_json(wires)
        recorder.put_document(Document(_NETWORK + name, content, private=True), span)
    listed = [[f.name, f.network_name, f.substation, f.root_limit_kw] for f in feeders]
    recorder.put_document(Document(_LIST, json.dumps(listed).encode(), private=True), span)


def read_feeders(recorder: Recorder) -> tuple[Feeder, ...]:
    """The feeders on record, in their order.

    Raises
    ------
    InputError : there are none.
    """
    listed = _listed(recorder)
    networks = {
        name: RecordedWires(name, recorder.document(_NETWORK + name))
        for name in sorted({network for _, network, _, _ in listed})
    }
    return tuple(Feeder(name, networks[network], substation, limit) for name, network, substation, limit in listed)


def feeder_names(recorder: Recorder) -> tuple[str, ...]:
    """Names of the feeders on record, in their order.

    Raises
    ------
    InputError : there are none.
    """
    return tuple(name for name, *_ in _listed(recorder))


def _listed(recorder: Recorder) -> list[tuple[str, str, int, float | None]]:
    content = recorder.document(_LIST)
    if not content:
        raise InputError(
            recorder.journal.folder.parent, "feeders", "are not on record: it has no market; `tellegen init` makes one"
        )
    return [tuple(row) for row in json.loads(content)]


@dataclass(frozen=True, slots=True, eq=False)
class Connected:
    """Everybody on the feeders of a shard in one interval: customers by feeder, then the substations.

    Attributes
    ----------
    customer, node, meter, capacity_w : int64[n + feeders].
    import_limit_w, export_limit_w : int64[n + feeders], what the connection agreement allows.
    reads_every : int64[n + feeders], market intervals that one reading of each meter spans, from 1.
    credit : int64[n + feeders], whole currency that each may owe; 0: the rulebook's limit, -1: nothing.
    start : int64[feeders + 1]; rows ``start[k]`` up to ``start[k + 1]`` are the customers on feeder k, in ascending
        order, and row ``start[-1] + k`` is its substation.
    """

    customer: IntArray
    node: IntArray
    meter: IntArray
    capacity_w: IntArray
    import_limit_w: IntArray
    export_limit_w: IntArray
    reads_every: IntArray
    credit: IntArray
    start: IntArray

    @property
    def customers(self) -> int:
        """How many customers there are."""
        return int(self.start[-1])

    @property
    def feeders(self) -> int:
        """How many feeders there are."""
        return self.start.size - 1

    def on(self, feeder: int) -> slice:
        """Rows of a feeder's customers."""
        return slice(int(self.start[feeder]), int(self.start[feeder + 1]))

    def substation(self, feeder: int) -> int:
        """Row of a feeder's substation."""
        return int(self.start[-1]) + feeder

    def same(self, other: Connected) -> bool:
        """Whether the same people hang at the same places."""
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def feeder_of(self) -> IntArray:
        """Feeder of each row, int64[n + feeders]."""
        return np.concatenate([np.repeat(np.arange(self.feeders), np.diff(self.start)), np.arange(self.feeders)])


class Topology:
    """The feeders of a shard, and who hangs on them in an interval as known by a time.

    Parameters
    ----------
    feeders : in their order. directory : the fold of the registry's records; it may grow.
    """

    def __init__(self, feeders: Sequence[Feeder], directory: Directory) -> None:
        self.feeders, self._directory = tuple(feeders), directory
        self.number = {feeder.name: k for k, feeder in enumerate(feeders)}
        self._substations = np.array([feeder.substation for feeder in feeders], dtype=np.int64)
        # of two intervals: one is settled while the gate of the next is closed already
        self._latest: OrderedDict[tuple[int, int], Connected] = OrderedDict()

    def connected(self, interval: int, known_by: int) -> Connected:
        """Who is connected in an interval, as known by a time (seconds since the epoch, inclusive).

        Customers on feeders of other shards are left out.

        Raises
        ------
        InputError : a feeder has no meter at its substation.
        """
        if (interval, known_by) in self._latest:
            return self._latest[interval, known_by]
        everybody = self._directory.customers()
        rows, _ = self._directory.connections(everybody, interval, known_by)
        rows = rows.take(rows.node >= 0)
        names, place = np.unique(rows.feeder, return_inverse=True)
        feeder = np.array([self.number.get(bytes(name).decode("ascii"), -1) for name in names], dtype=np.int64)[place]
        here = np.flatnonzero(feeder >= 0)
        root = np.isin(rows.customer[here], self._substations)
        # substations come after all customers, each in the place of its feeder; customers ascend within a feeder
        group = feeder[here] + np.where(root, len(self.feeders), 0)
        order = np.lexsort((rows.customer[here], group))
        start = np.searchsorted(group[order], np.arange(2 * len(self.feeders) + 1))
        meters = np.diff(start[len(self.feeders) :])
        if (meters != 1).any():
            name = self.feeders[int(np.argmax(meters != 1))].name
            raise InputError("registry", f"feeder {name}", "needs one meter at its substation; connect it")
        chosen = here[order]
        found = Connected(
            customer=rows.customer[chosen].astype(np.int64),
            node=rows.node[chosen].astype(np.int64),
            meter=rows.asset[chosen],
            capacity_w=rows.capacity_w[chosen],
            import_limit_w=rows.import_limit_w[chosen],
            export_limit_w=rows.export_limit_w[chosen],
            reads_every=np.maximum(rows.reads_every[chosen], 1).astype(np.int64),
            credit=rows.credit[chosen].astype(np.int64),
            start=start[: len(self.feeders) + 1],
        )
        self._latest[interval, known_by] = found
        if len(self._latest) > LATEST_MAX:
            self._latest.popitem(last=False)
        return found

    def places(
        self, customer: IntArray, interval: IntArray, known_by: IntArray
    ) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Feeder, node, meter, capacity (W) and span of customers in an interval each, int64[k].

        Feeder -1: not connected. A span is how many market intervals one reading of the meter covers. Substations are
        customers too.
        """
        rows, present = self._directory.connections(customer, interval, known_by)
        feeder, node, meter = (np.full(customer.size, -1, dtype=np.int64) for _ in range(3))
        capacity, every = np.zeros(customer.size, dtype=np.int64), np.ones(customer.size, dtype=np.int64)
        names, place = np.unique(rows.feeder, return_inverse=True)
        number = np.array([self.number.get(bytes(name).decode("ascii"), -1) for name in names], dtype=np.int64)[place]
        here = rows.node >= 0
        at = np.flatnonzero(present)[here]
        feeder[at], node[at] = number[here], rows.node[here]
        meter[at], capacity[at] = rows.asset[here], rows.capacity_w[here]
        every[at] = np.maximum(rows.reads_every[here], 1)
        return feeder, node, np.where(feeder >= 0, meter, -1), capacity, every

    def devices(self, orders: Sequence[Orders], interval: Sequence[int], known_by: int) -> tuple[Devices, ...]:
        """Assets behind the orders of periods, each as it holds in an interval, as known by a time."""
        return devices_behind(self._directory, orders, interval, known_by)

    def sellers(self, customer: Sequence[IntArray], interval: Sequence[int], known_by: int) -> tuple[Devices, ...]:
        """Assets of the customers of periods that may feed in, each as it holds in an interval, as known by a time."""
        return devices_of(self._directory, customer, interval, known_by)

    def since(self, customer: IntArray) -> IntArray:
        """First interval from which each customer was ever connected, int64[k]."""
        return self._directory.connected_since(customer)

    def forget(self) -> None:
        """The registry has changed: nothing that was looked up before stands."""
        self._latest.clear()
