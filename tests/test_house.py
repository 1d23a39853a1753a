"""The house of docs/architecture.md: imports only ever point down it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tellegen"
HOUSE = [
    "cli",
    "service",
    "pictures",
    "workbench",
    "assess",
    "operations",
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
    "journal",
    "records",
    "units",
    "errors",
]
BESIDE = {"verify": {"units", "records", "errors"}}


def rooms_imported(path: Path) -> set[str]:
    """Rooms of tellegen that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import; name the room")
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "tellegen":
            names = [f"tellegen.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("tellegen.")}
    return found - {"__version__"}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


MODULES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down_the_house(path: Path) -> None:
    """A room imports only itself and rooms below it; `verify` only units, records and errors."""
    room = room_of(path)
    allowed = BESIDE[room] if room in BESIDE else set(HOUSE[HOUSE.index(room) + 1 :])
    if room in {"cli", "service", "assess", "operations", "registry"}:
        allowed |= {"verify"}
    assert rooms_imported(path) <= allowed | {room}


def test_every_room_stands_in_the_architecture() -> None:
    """docs/architecture.md names every room there is."""
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text()
    for room in {room_of(p) for p in MODULES}:
        assert f"`{room}" in text, room
