"""The directory: whose key counts and who hangs where, at one time as known at another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import Admissions, Connections, Header, KeyGenerations, Refusal, Revocations, Role, Table
from tellegen.registry import Directory, NotAdmittedError, NumberIndex


def header(known_at: int, kind: str = "connections") -> Header:
    return Header(kind, "", "F1", "", 0, 1, "operator", known_at, (), 1, "", "")


def admission(
    role: Role, number: int = 0, name: str = "", key: int = 1, valid_from: int = 0, valid_until: int = 1000
) -> Admissions:
    return Admissions(
        role=np.array([role]),
        number=np.array([number]),
        name=np.array([name.encode()]),
        public_key=np.array([bytes([key]) * 32], dtype="V32"),
        certificate_sha256=np.array([bytes([key]) * 32], dtype="V32"),
        valid_from=np.array([valid_from]),
        valid_until=np.array([valid_until]),
    )


def revocation(key: int, at: int) -> Revocations:
    fingerprint = np.array([bytes([key]) * 32], dtype="V32")
    return Revocations(certificate_sha256=fingerprint, revoked_at=np.array([at]), reason=np.array([1]))


def connection(
    customer: int, feeder: str, from_interval: int, node: int = 3, meter: int | None = None, device: int = 0
) -> Connections:
    return Connections(
        customer=np.array([customer]),
        device=np.array([device]),
        asset=np.array([5000 + customer if meter is None else meter]),
        feeder=np.array([feeder.encode()]),
        node=np.array([node]),
        phases=np.array([0]),
        from_interval=np.array([from_interval]),
        capacity_w=np.array([10_000]),
        import_limit_w=np.array([10_000]),
        export_limit_w=np.array([5_000]),
        reads_every=np.zeros(1, dtype=np.uint8),
        attested_by=np.zeros(1, dtype="S32"),
        credit=np.zeros(1, dtype=np.int32),
    )


def test_texts_that_many_share_come_back_from_the_fold_and_from_its_parts() -> None:
    first = replace(connection(1, "F1", 0), reads_every=np.array([12]), attested_by=np.array([b"installer 4711"]))
    batch = Connections.concat([first, connection(2, "F2", 0), connection(3, "F1", 0)])
    directory = directory_of((5, batch))
    for each in (directory, Directory.of_parts(directory.parts())):
        assert each.connections([1, 2, 3])[0].equals(batch)


def directory_of(*facts: tuple[int, Table]) -> Directory:
    """A fold of the facts that was kept and taken up again half-way, which must make no difference."""
    directory, whole = Directory(), Directory()
    for number, (known_at, table) in enumerate(facts):
        if number == len(facts) // 2:
            directory = Directory.of_parts(directory.parts())
        for one in (directory, whole):
            one.apply(header(known_at, table.kind), table)
    kept, expected = directory.parts(), whole.parts()
    assert {n: {c: v.tobytes() for c, v in part.items()} for n, part in kept.items()} == {
        n: {c: v.tobytes() for c, v in part.items()} for n, part in expected.items()
    }
    return directory


def test_only_admitted_sources_may_speak() -> None:
    directory = directory_of(
        (5, admission(Role.HEAD_END, name="head-end 1", key=1, valid_from=10, valid_until=20)),
        (5, admission(Role.WITNESS, name="witness 1", key=2)),
    )
    assert directory.sender("head-end 1", at=10).public_key == bytes([1]) * 32
    for name, at in (("head-end 2", 10), ("witness 1", 10), ("head-end 1", 9)):
        with pytest.raises(NotAdmittedError, match="enrol it first") as refused:
            directory.sender(name, at)
        assert refused.value.refusal == Refusal.UNKNOWN
    with pytest.raises(NotAdmittedError, match="not valid at this time") as refused:
        directory.sender("head-end 1", at=20)
    assert refused.value.refusal == Refusal.REVOKED


def test_a_rotated_key_counts_from_its_day_and_the_old_one_before() -> None:
    directory = directory_of(
        (5, admission(Role.PARTICIPANT, 7, key=1)), (50, admission(Role.PARTICIPANT, 7, key=2, valid_from=100))
    )
    assert directory.customer_keys([7, 7, 8], at=99) == [bytes([1]) * 32, bytes([1]) * 32, None]
    assert directory.customer_keys([7], at=100) == [bytes([2]) * 32]
    assert directory.customer_keys([7], at=100, known_at=49) == [bytes([1]) * 32]


def test_a_revoked_key_does_not_count_and_no_older_one_takes_its_place() -> None:
    directory = directory_of(
        (5, admission(Role.PARTICIPANT, 7, key=1)),
        (6, admission(Role.PARTICIPANT, 7, key=2, valid_from=100)),
        (300, revocation(2, at=200)),
    )
    assert directory.customer_keys([7, 7, 7], at=150) == [bytes([2]) * 32] * 3
    assert directory.customer_keys([7], at=200) == [None]
    assert directory.refusals(Role.PARTICIPANT, [7, 8], at=200).tolist() == [Refusal.REVOKED, Refusal.UNKNOWN]
    assert directory.customer_keys([7], at=200, known_at=299) == [bytes([2]) * 32]


def test_a_revocation_may_come_before_the_admission_it_is_about() -> None:
    directory = directory_of((5, revocation(1, at=0)), (6, admission(Role.METER, 77, key=1)))
    assert directory.keys(Role.METER, [77], at=10) == [None]


def test_roles_do_not_lend_each_other_numbers() -> None:
    directory = directory_of((5, admission(Role.METER, 7, key=1)))
    assert directory.customer_keys([7], at=10) == [None]
    assert directory.keys(Role.METER, [7], at=10) == [bytes([1]) * 32]
    assert directory.certificates(Role.METER, [7, 8], at=10) == [bytes([1]) * 32, None]


def test_a_switched_customer_hangs_on_the_other_feeder_from_its_interval_on() -> None:
    directory = directory_of((5, connection(1, "F1", 0)), (6, connection(2, "F1", 0)), (50, connection(1, "F2", 100)))
    assert directory.feeder_of([1, 2, 3], 99).tolist() == [b"F1", b"F1", b""]
    assert directory.feeder_of([1, 2, 3], 100).tolist() == [b"F2", b"F1", b""]
    assert directory.feeder_of([1], 100, known_at=49).tolist() == [b"F1"]
    assert directory.feeder_of([1, 1], [99, 100]).tolist() == [b"F1", b"F2"]


def test_a_meter_that_is_changed_is_the_customers_from_its_interval_on() -> None:
    directory = directory_of((5, connection(1, "F1", 0, meter=70)), (6, connection(1, "F1", 10, meter=71)))
    assert directory.meters_of([1, 4]).tolist() == [71, -1]
    assert directory.meters_of([1, 1], [9, 10]).tolist() == [70, 71]


def test_who_is_disconnected_has_neither_meter_nor_feeder() -> None:
    directory = directory_of((5, connection(1, "F1", 0)), (6, connection(1, "F1", 10, node=-1)))
    assert directory.meters_of([1, 1], [9, 10]).tolist() == [5001, -1]
    assert directory.feeder_of([1], 10).tolist() == [b""]
    standing, present = directory.connections([1, 9], 10)
    assert (standing.node.tolist(), present.tolist()) == ([-1], [True, False])


def test_the_devices_behind_a_connection_do_not_replace_it() -> None:
    directory = directory_of((5, connection(1, "F1", 0, meter=70)), (6, connection(1, "F1", 5, meter=900, device=1)))
    assert directory.meters_of([1]).tolist() == [70]
    assert [int(row.asset[0]) for _, row in directory.connection_history(1)] == [70, 900]


def test_connections_of_the_erased_are_left_out_of_what_is_kept() -> None:
    directory = directory_of((5, connection(1, "F1", 0)), (6, connection(2, "F1", 0)))
    assert Directory.of_parts(directory.parts(without=[1])).customers().tolist() == [2]


def test_who_joins_is_a_customer_from_the_next_question_on() -> None:
    directory = directory_of((5, connection(7, "F1", 0)))
    assert directory.customers().tolist() == [7]
    directory.apply(header(6), connection(3, "F1", 0))
    assert directory.customers().tolist() == [3, 7]


def test_an_empty_directory_knows_nobody() -> None:
    directory = Directory()
    assert directory.meters_of([1, 2]).tolist() == [-1, -1]
    assert directory.feeder_of([1], 0).tolist() == [b""]
    assert directory.customer_keys([1], 0) == [None]


def test_the_directory_is_a_fold_of_the_journal(tmp_path) -> None:
    """The same from the journal as from the batches as they came; known_at is the header's."""
    facts = [
        (5, connection(1, "F1", 0)),
        (6, admission(Role.PARTICIPANT, 1, key=4)),
        (7, revocation(4, at=50)),
        (8, connection(1, "F2", 100)),
        (9, KeyGenerations(meter=np.array([5001]), generation=np.array([1]), from_counter=np.array([9]))),
    ]
    with (
        Vault.create(tmp_path / "vault", [1]) as vault,
        Journal.create(tmp_path, "a.example/log", bytes(32)) as journal,
    ):
        for known_at, table in facts:
            batch = vault.seal(table, feeder="F1", interval=0, intervals=1, source="operator", known_at=known_at)
            journal.append(batch)
        journal.commit(9)
        folded = Directory.of(journal, vault)
    live = directory_of(*facts)
    for directory in (folded, live):
        assert directory.feeder_of([1, 1], [99, 100]).tolist() == [b"F1", b"F2"]
        assert directory.feeder_of([1], 100, known_at=7).tolist() == [b"F1"]
        assert [key is None for key in directory.customer_keys([1, 1], at=[49, 50])] == [False, True]
        assert directory.key_generations().from_counter.tolist() == [9]


ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 5), st.sampled_from(["F1", "F2", "F3"]), st.booleans()), max_size=12
)


@given(ROWS, st.integers(0, 6), st.integers(0, 6))
def test_what_stands_is_the_row_recorded_last_that_holds_from_then_or_before(rows, interval, known_at) -> None:
    directory = Directory()
    for k, (customer, from_interval, feeder, look) in enumerate(rows):
        directory.apply(header(k // 2), connection(customer, feeder, from_interval))
        if look:  # looking things up meanwhile changes nothing
            directory.meters_of([1])
    expected = []
    for customer in (1, 2, 3):
        standing = [
            feeder
            for k, (who, from_interval, feeder, _) in enumerate(rows)
            if who == customer and from_interval <= interval and k // 2 <= known_at
        ]
        expected.append((standing or [""])[-1].encode())
    assert directory.feeder_of([1, 2, 3], interval, known_at).tolist() == expected


@given(st.lists(st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62)), max_size=6), max_size=6))
def test_numbers_get_places_in_the_order_in_which_they_come(batches) -> None:
    index, naive = NumberIndex(), {}
    for batch in batches:
        for number in batch:
            naive.setdefault(number, len(naive))
        assert index.add(batch).tolist() == [naive[number] for number in batch]
    asked = [*naive, 3, 2**62 + 1]
    assert index.places(asked).tolist() == [naive.get(number, -1) for number in asked]
