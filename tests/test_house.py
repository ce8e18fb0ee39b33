"""Imports point one way, and what the README promises stands."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "models": set(),
    "losses": set(),
    "schedules": set(),
    "data": set(),
    "diffusion": set(),
    "metrics": set(),
    "plots": {"metrics"},
    "train": {"metrics", "data", "diffusion", "losses", "schedules", "models"},
    "experiments": {"train", "plots", "metrics", "data", "diffusion", "losses", "schedules", "models"},
}


def imported_rooms(path):
    """Rooms that a file imports by `from ..room import` or `from .. import room`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("etude"):
            yield "etude, absolutely"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    files = list((ROOT / room).glob("*.py"))
    assert files
    for path in files:
        wrong = set(imported_rooms(path)) - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


def test_nothing_below_experiments_knows_the_command_line():
    for room in MAY_IMPORT.keys() - {"experiments"}:
        for path in (ROOT / room).glob("*.py"):
            assert "tyro" not in path.read_text(encoding="utf-8")
            assert "argparse" not in path.read_text(encoding="utf-8")


def test_every_figure_of_the_readme_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    figures = [part.split(")")[0] for part in readme.split("](")[1:] if part.split(")")[0].endswith(".png")]
    assert figures
    assert all((ROOT / figure).exists() for figure in figures)
