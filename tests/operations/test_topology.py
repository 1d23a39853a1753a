"""Feeders as they stand on record: what is known of one before its network is decoded."""

import pickle

import pytest

from tellegen.errors import InputError
from tellegen.grid import Case
from tellegen.grid.document import case_to_json, network_to_json
from tellegen.operations.topology import Feeder, RecordedWires


def test_a_feeder_is_named_and_counted_without_its_network(regulated: Case) -> None:
    network = regulated.network
    given = RecordedWires(network.name, network_to_json(network))
    still = Feeder("F1", given, 9)
    assert (still.network_name, still.movable) == (network.name, 0)
    assert given.content  # nobody has decoded it
    assert still.network is still.network
    assert not given.content
    assert network_to_json(still.network) == network_to_json(network)
    assert still.case is None


def test_what_moves_comes_with_the_document_decoded_or_not(regulated: Case) -> None:
    given = RecordedWires(regulated.network.name, case_to_json(regulated))
    sent = pickle.loads(pickle.dumps(given))
    kept = Feeder.of("F1", regulated, 9)
    for each in (given, sent, pickle.loads(pickle.dumps(given))):
        feeder = Feeder("F1", each, 9)
        assert feeder.movable == kept.movable > 0
        assert case_to_json(feeder.wires) == case_to_json(regulated)  # type: ignore[arg-type]


def test_a_document_that_is_none_is_refused_when_it_is_decoded() -> None:
    with pytest.raises(InputError, match="recorded network"):
        RecordedWires("street", b"{}").decoded()
