"""A network as text for the record: canonical JSON that gives back the same numbers, bit for bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import scipy.sparse as sp

from tellegen.errors import InputError
from tellegen.grid.network import Branches, Network

_FORMAT = "tellegen-network@v1"


def network_to_json(network: Network) -> bytes:
    """Canonical JSON of a balanced network; floats are written in full, infinite ratings as null.

    Raises
    ------
    ValueError : the network is not balanced; the market does not clear such networks yet.
    """
    if not network.balanced:
        raise ValueError(f"{network.name}: a network of single phases has no document yet")
    branches = network.branches
    return json.dumps(
        {
            "format": _FORMAT,
            "name": network.name,
            "nodes": list(network.nodes),
            "phase": network.phase.tolist(),
            "base_kva": network.base_kva,
            "base_kv": network.base_kv.tolist(),
            "admittance": _triplets(network.admittance),
            "source": network.source.tolist(),
            "source_voltage": [[v.real, v.imag] for v in network.source_voltage.tolist()],
            "v_min": network.v_min.tolist(),
            "v_max": network.v_max.tolist(),
            "branches": {
                "element": list(branches.element),
                "node": branches.node.tolist(),
                "current_rows": _triplets(branches.current_rows),
                "rating_pu": [r if np.isfinite(r) else None for r in branches.rating_pu.tolist()],
                "kind": branches.kind.tolist(),
            },
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def network_from_json(content: bytes) -> Network:
    """Inverse of `network_to_json`.

    Raises
    ------
    InputError : not such a document.
    """
    try:
        text = json.loads(content)
        if text["format"] != _FORMAT:
            raise ValueError(f"format {text['format']!r}")
        count, terminals = len(text["nodes"]), text["branches"]
        return Network(
            name=text["name"],
            nodes=tuple(text["nodes"]),
            phase=np.array(text["phase"], dtype=np.int64),
            base_kva=float(text["base_kva"]),
            base_kv=np.array(text["base_kv"], dtype=np.float64),
            admittance=_matrix(text["admittance"], (count, count)),
            source=np.array(text["source"], dtype=np.int64),
            source_voltage=np.array([complex(*pair) for pair in text["source_voltage"]], dtype=np.complex128),
            v_min=np.array(text["v_min"], dtype=np.float64),
            v_max=np.array(text["v_max"], dtype=np.float64),
            branches=Branches(
                element=tuple(terminals["element"]),
                node=np.array(terminals["node"], dtype=np.int64),
                current_rows=_matrix(terminals["current_rows"], (len(terminals["node"]), count)),
                rating_pu=np.array([np.inf if r is None else r for r in terminals["rating_pu"]], dtype=np.float64),
                kind=np.array(terminals["kind"], dtype=np.int64),
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("network document", "content", f"is not a recorded network ({error})") from None


def _triplets(matrix: sp.csr_matrix) -> dict[str, list[Any]]:
    entries = sp.csr_matrix(matrix).sorted_indices().tocoo()
    return {
        "row": entries.row.tolist(),
        "column": entries.col.tolist(),
        "real": entries.data.real.tolist(),
        "imag": entries.data.imag.tolist(),
    }


def _matrix(triplets: dict[str, list[Any]], shape: tuple[int, int]) -> sp.csr_matrix:
    values = np.array(triplets["real"], dtype=np.float64) + 1j * np.array(triplets["imag"], dtype=np.float64)
    rows, columns = np.array(triplets["row"], dtype=np.int64), np.array(triplets["column"], dtype=np.int64)
    return sp.csr_matrix((values, (rows, columns)), shape=shape)
