"""What tests of commands share: how a command is called, what a refusal looks like, a network of two buses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tellegen = Callable[..., Any]
RESISTANCE_PU = 0.5
ROOT_PRICE = 0.2


def matpower(
    *,
    r: float = RESISTANCE_PU,
    x: float = 0.0,
    rating_mva: float = 0.0,
    load_mw: float = 0.0,
    v_min: float = 0.8,
    generator: str = "",
    generator_cost: str = "",
    root_cost: str = f"2 0 0 2 {1000 * ROOT_PRICE} 0;",
) -> str:
    """Two buses of 1 MVA base with one line between them; the root holds 1 pu."""
    costs = f"mpc.gencost = [\n{root_cost}\n{generator_cost}\n];" if root_cost else ""
    return f"""function mpc = two
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0 0 0 0 1 1.0 0 0.4 1 1.1 {v_min};
  2 1 {load_mw} 0 0 0 1 1.0 0 0.4 1 1.1 {v_min};
];
mpc.gen = [
  1 0 0 10 -10 1 1 1 10 -10;
  {generator}
];
mpc.branch = [
  1 2 {r} {x} 0 {rating_mva} 0 0 0 0 1 -360 360;
];
{costs}
"""


def refused(answer: Any, *words: str) -> None:
    """Exit 2, nothing on stdout, one line on stderr that says where."""
    assert answer.status == 2, answer
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1, answer.err
    assert answer.err.startswith("tellegen: ")
    for word in words:
        assert word in answer.err, answer.err
