"""Whatever is done to a file of a finished shard, verification finds and names it, or says that it does not look."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tellegen.assess.faults.changes import Change, Files, Kind, Way, made
from tellegen.assess.faults.finished import Ground, play_finished
from tellegen.assess.faults.verified import Judgement, Outcome, judge, judged, misses
from tellegen.verify import verify_directory

READ = {
    "log", "payloads", "checkpoints", "cosignatures", "public keys", "archive", "manifest", "books",
    "published tables", "published documents",
}  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return play_finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def copy(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ground.path, tmp_path_factory.mktemp("copies") / "copy"))


def kinds(ground: Ground, *, looked_at: bool) -> Iterator[Kind]:
    return (kind for kind in Files.of(ground.path, ground.earlier).names if (not kind.passed_over) == looked_at)


def changed(ground: Ground, kind: Kind, way: Way, seed: int = 0) -> Change | None:
    files, chance = Files.of(ground.path, ground.earlier), random.Random(seed)
    tries = (files.change(kind, chance.choice(files.names[kind]), way, chance) for _ in range(20))
    return next((change for change in tries if change is not None), None)


def test_a_finished_shard_verifies_and_has_every_kind_of_file(ground: Ground) -> None:
    keys = {"key": ground.key, "market_key": ground.market_key, "witnesses": ground.witnesses}
    assert verify_directory(ground.path, **keys).ok  # type: ignore[arg-type]
    assert {kind.name for kind in kinds(ground, looked_at=True)} == READ


@pytest.mark.parametrize("half", [0, 1])
def test_each_kind_of_file_changed_is_found_and_named(ground: Ground, copy: Path, half: int) -> None:
    ways = list(Way)[half::2]
    for number, kind in enumerate(kinds(ground, looked_at=True)):
        change = changed(ground, kind, ways[number % len(ways)])
        if change is not None:
            judgement = judge(ground, copy, change)
            wanted = Outcome.STILL_TRUE if change.still_true else Outcome.NAMED
            assert judgement.outcome is wanted, judgement


@pytest.mark.parametrize(
    "name", ["market/archive/orders/%/stray.parquet", "archive/stray", "market/stray.csv", "stray"]
)
def test_a_file_that_nobody_signed_for_is_found_wherever_it_lies(ground: Ground, copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text("x")
    report = verify_directory(copy)
    (copy / name).unlink()
    assert any(name.removeprefix("market/") in check.detail for check in report.checks if not check.ok)
    assert verify_directory(copy).ok


@pytest.mark.parametrize(
    ("name", "way", "why"),
    [
        ("journal/checkpoints", Way.DROPPED, "each checkpoint that is left is signed and right"),
        ("journal/cosigned", Way.STALE, "a witness signed that, too"),
        ("journal/cosigned", Way.REORDERED, "signatures in another order are the same"),
    ],
)
def test_what_is_no_untruth_is_told_by_its_reason(ground: Ground, copy: Path, name: str, way: Way, why: str) -> None:
    files = Files.of(ground.path, ground.earlier)
    kind = next(kind for kind, names in files.names.items() if name in names)
    tries = (files.change(kind, name, way, random.Random(seed)) for seed in range(100))
    change = next(change for change in tries if change is not None and change.still_true)
    judgement = judge(ground, copy, change)
    assert (judgement.outcome, judgement.why) == (Outcome.STILL_TRUE, why)


def test_where_verification_does_not_look_it_says_so(ground: Ground, copy: Path) -> None:
    told = verify_directory(copy).checks[-1]
    assert told.name == "not looked at"
    for kind in kinds(ground, looked_at=False):
        change = changed(ground, kind, Way.FLIPPED)
        assert change is not None
        judgement = judge(ground, copy, change)
        assert (judgement.outcome, judgement.why) == (Outcome.STILL_TRUE, kind.passed_over)
        # indices are told of in the documents: nothing rests on them
        folders = (f"{folder}/" for folder in Path(change.name).parents)
        assert kind.name == "indices" or any(folder in told.detail for folder in folders)


def test_a_change_is_undone(ground: Ground, copy: Path) -> None:
    files = {each: each.read_bytes() for each in sorted(copy.rglob("*")) if each.is_file()}
    for way in Way:
        for kind in kinds(ground, looked_at=True):
            change = changed(ground, kind, way)
            if change is not None:
                with made(change, copy):
                    assert {each: each.read_bytes() for each in sorted(copy.rglob("*")) if each.is_file()} != files
    assert {each: each.read_bytes() for each in sorted(copy.rglob("*")) if each.is_file()} == files


def of(ground: Ground, folder: Path, flips: int, **how: float) -> list[Judgement]:
    return list(judged(ground, folder, flips, processes=1, **how))  # type: ignore[arg-type]


def test_changes_drawn_from_a_seed_are_judged_in_processes_of_their_own(ground: Ground, tmp_path: Path) -> None:
    judgements = of(ground, tmp_path, 9)
    assert len([each for each in judgements if each.looked_at]) == 9
    assert len(judgements) == 10
    assert misses(judgements) == []


def test_a_verification_that_does_not_end_is_counted_and_the_others_go_on(ground: Ground, tmp_path: Path) -> None:
    judgements = of(replace(ground, earlier=None), tmp_path, 2, seconds_max=0.0)
    assert [each.outcome for each in judgements] == [Outcome.HUNG] * 2
    assert len(misses(judgements)) == 2
