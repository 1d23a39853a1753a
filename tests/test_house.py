"""The house of docs/architecture.md: imports only ever point down it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tellegen"
HOUSE = [
    "cli",
    "assess",
    "simulation",
    "service",
    "report",
    "pictures",
    "operations",
    "intake",
    "workbench",
    "agents",
    "replay",
    "settlement",
    "rules",
    "market",
    "grid",
    "metering",
    "registry",
    "books",
    "privacy",
    "custody",
    "journal",
    "records",
    "units",
    "foreign",
    "spawned",
    "errors",
]
BESIDE = {"verify": {"units", "records", "errors"}}
OUTSIDE = {"agents", "simulation", "assess"}
INSIDERS = {
    "shard.py": "makes one",
    "community_shard.py": "makes one",
    "city/population.py": "says which feeders one has",
    "city/setup.py": "makes one",
    "apart.py": "keeps its time",
    "course.py": "runs one",
    "operated.py": "runs one",
    "market_alone.py": "runs one",
    "referee.py": "reads its record",
}
"""Modules of `simulation` that may touch a shard itself, and what for."""


def modules_imported(path: Path) -> set[str]:
    """Modules of tellegen that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import; name the room")
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "tellegen":
            names = [f"tellegen.{alias.name}" for alias in node.names]
        found |= {name.removeprefix("tellegen.") for name in names if name.startswith("tellegen.")}
    return found - {"__version__"}


def rooms_imported(path: Path) -> set[str]:
    """Rooms of tellegen that a module imports."""
    return {name.split(".")[0] for name in modules_imported(path)}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


MODULES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down_the_house(path: Path) -> None:
    """A room imports only itself and rooms below it; `verify` only units, records and errors."""
    room = room_of(path)
    allowed = BESIDE[room] if room in BESIDE else set(HOUSE[HOUSE.index(room) + 1 :])
    if room in {"cli", "assess", "simulation", "service", "report", "operations", "intake", "registry"}:
        allowed |= {"verify"}
    assert rooms_imported(path) <= allowed | {room}


def test_the_operator_knows_nothing_of_who_trades_or_of_what_is_simulated() -> None:
    """Prosumers and their world are outside: the operator and all that it rests on import none of it."""
    within = {*HOUSE[HOUSE.index("operations") :], *BESIDE} - OUTSIDE
    for path in MODULES:
        if room_of(path) in within:
            assert not rooms_imported(path) & OUTSIDE, path


def test_what_is_simulated_speaks_to_the_operator_as_reality_would() -> None:
    """Through `operations.exchange` and `records`; only who makes a shard or runs one may touch it."""
    simulation = SOURCE / "simulation"
    assert all((simulation / name).is_file() for name in INSIDERS)
    for path in sorted(simulation.rglob("*.py")):
        inner = {name for name in modules_imported(path) if name.split(".")[0] in {"operations", "privacy"}}
        is_insider = path.relative_to(simulation).as_posix() in INSIDERS
        assert is_insider or inner <= {"operations.exchange"}, path


def test_every_room_stands_in_the_architecture() -> None:
    """docs/architecture.md names every room there is."""
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text()
    for room in {room_of(p) for p in MODULES}:
        assert f"`{room}" in text, room
