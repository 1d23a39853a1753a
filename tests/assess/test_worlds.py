"""Worlds are spread over processes: each seed is played once, and one that breaks stops no other."""

from tellegen.assess.faults.promises import ContradictionError
from tellegen.assess.faults.worlds import played


def test_every_seed_is_played_once() -> None:
    assert sorted(played(lambda seed: seed, range(7))) == list(range(7))
    assert list(played(lambda seed: seed, range(0))) == []


def test_a_world_that_breaks_is_told_and_the_others_are_played() -> None:
    def play(seed: int) -> int:
        if seed == 1:
            raise ContradictionError("seed 1: a receipt was forgotten")
        if seed == 2:
            raise ValueError("of the program")
        return seed

    came = list(played(play, range(5)))
    assert {each for each in came if isinstance(each, int)} == {0, 3, 4}
    broken = sorted(each for each in came if isinstance(each, str))
    assert broken[0] == "seed 1: a receipt was forgotten"
    assert broken[1].startswith("seed 2: ValueError at play:")
