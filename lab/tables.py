"""Tables that a run writes, and from which its figures can be drawn again: plain CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingFile, listed, writing


class Named(dict[str, np.ndarray]):
    """Arrays of a file by name; one that the file lacks raises InputError with the names that it has."""

    def __init__(self, file: Path, arrays: Mapping[str, np.ndarray]):
        super().__init__(arrays)
        self.file = file

    def __missing__(self, name: str) -> np.ndarray:
        raise InputError(f"{self.file} has no {name}, only {listed(self) or 'nothing'}. Is it of another run?")


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, all of it or nothing.

    Args:
      path: the file.
      names: of the columns.
      rows: of as many values each; floats are written in full precision.
    """
    partial = path.with_suffix(".partial")
    with writing(path):
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(row.tolist() if isinstance(row, np.ndarray) else row for row in rows)
        partial.replace(path)


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table by name: float64, or text where a value is no number.

    Raises: MissingFile if there is no such file; InputError, which names the line, if it is no table or a value is no
      number where others of its column are.
    """
    if not path.is_file():
        raise MissingFile(f"There is no file {path}.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}.") from None
    if len(rows) < 2:
        raise InputError(f"{path} is damaged: it has no rows.")
    names = rows[0]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise InputError(f"{path} is damaged: line {number} has {len(row)} values, line 1 has {len(names)} names.")
    return Named(path, {name: _column(path, name, [row[i] for row in rows[1:]]) for i, name in enumerate(names)})


def _column(path: Path, name: str, texts: list[str]) -> np.ndarray:
    numbers = [_number(text) for text in texts]
    wrong = next((i for i, number in enumerate(numbers) if number is None and texts[i]), None)
    if wrong is None and None not in numbers:
        return np.array(numbers, np.float64)
    if wrong is not None and any(number is not None for number in numbers):
        raise InputError(f"{path} is damaged: {name} is {texts[wrong]!r} in line {wrong + 2} and a number in others.")
    return np.array(texts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
