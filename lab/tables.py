"""Tables that a run writes, and from which its figures can be drawn again: plain CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, all of it or nothing.

    Args:
      path: the file.
      names: of the columns.
      rows: of as many values each; floats are written in full precision.
    """
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(row.tolist() if isinstance(row, np.ndarray) else row for row in rows)
    partial.replace(path)


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table by name: float64, or text where a value is no number."""
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = list(csv.reader(file))
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    return {name: _numbers(column) for name, column in columns.items()}


def _numbers(column: np.ndarray) -> np.ndarray:
    try:
        return column.astype(np.float64)
    except ValueError:
        return column
