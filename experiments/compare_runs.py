"""Compare runs: the options in which they differ, their numbers side by side, and their curves in one figure.

`etude compare_runs runs/resnet/a runs/resnet/b` reads config.json, result.json and metrics.jsonl of each, of any
experiments, finished or not, and trains nothing. It prints two tables and writes comparison.png and .pdf beside the
first run, or where --out says.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table

from .. import lab, plots, train
from ..errors import InputError, MissingFile, listed, writing

CURVES = ("loss", "accuracy")  # of the validation split; those of a population are medians
MOST_RUNS = 6  # that one figure tells apart


@dataclass(frozen=True)
class Config:
    """Which runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of the runs, two to six, such as runs/resnet/a runs/resnet/b."""
    out: Path | None = None
    """Folder for the figure, which is made if it is missing; by default the one that holds the first run."""


@dataclass(frozen=True)
class Read:
    """What a run's folder says."""

    name: str
    """Its name in the tables."""
    options: Mapping[str, Any]
    """config.json."""
    metrics: Mapping[str, float]
    """The numbers of result.json; empty while the run is not finished."""
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Measure -> (epochs, values) of the validation split."""
    notes: Sequence[str]
    """What is not as usual, in sentences."""


def main(config: Config) -> None:
    """Prints the tables, and writes the figure where there are curves.

    Raises: InputError if there are not two to six runs, or a folder holds none.
    """
    if not 2 <= len(config.runs) <= MOST_RUNS:
        raise InputError(f"Two to {MOST_RUNS} runs are compared; given: {listed([str(path) for path in config.runs])}.")
    places = [path.resolve() for path in config.runs]
    for path, place in zip(config.runs, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{path} was given twice.")
    runs = [read(path, name) for path, name in zip(config.runs, names(config.runs), strict=True)]
    display = train.Display(train.open_console())
    for run in runs:
        for note in run.notes:
            display.say(f"note: {note}")
    options = differing([run.options for run in runs])
    if options:
        display.show(table("option", runs, {name: [_shown(x) for x in values] for name, values in options.items()}))
    else:
        display.say("Their options are the same.")
    metrics = {name: [run.metrics.get(name) for run in runs] for run in runs for name in run.metrics}
    if metrics:
        shown = {name: ["" if x is None else lab.number_text(x) for x in values] for name, values in metrics.items()}
        display.show(table("result", runs, shown))
    curves = {name: {run.name: run.curves[name] for run in runs if name in run.curves} for name in CURVES}
    curves = {name: lines for name, lines in curves.items() if lines}
    if not curves:
        display.say("No run has curves of a validation, so there is no figure.")
        return
    folder = config.runs[0].resolve().parent if config.out is None else config.out
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        figure = plots.compared_curves(curves)
        for suffix in ("png", "pdf"):
            plots.save(figure, folder / f"comparison.{suffix}")
    display.say(f"wrote {folder / 'comparison.png'}")


def read(folder: Path, name: str) -> Read:
    """What a run's folder says; what can't be read of it is a note.

    Raises: MissingFile if there is no such folder; InputError if it is no run's, or its config is damaged.
    """
    if not folder.is_dir():
        raise MissingFile(f"There is no run {folder}.")
    if not (folder / "config.json").is_file():
        inner = sorted(str(path.parent) for path in folder.glob("*/config.json"))
        hint = f" It holds runs; name them: {listed(inner)}." if inner else ""
        raise InputError(f"{folder} is no run: it has no config.json.{hint}")
    options, notes, metrics = lab.read_json(folder / "config.json"), [], {}
    try:
        result = lab.read_result(folder)
        if result is None:
            notes.append(f"{folder} is not finished: it has no result.json yet.")
        else:
            numbers = {key: value for key, value in result["metrics"].items() if _is_number(value)}
            metrics = {key: float(value) for key, value in numbers.items()}
            notes += [f"{folder}: {note}" for note in result.get("notes", ())]
    except InputError as error:
        notes.append(str(error))
    try:
        curves = curves_of(train.read_journal(folder / "metrics.jsonl"))
    except (InputError, OSError) as error:
        curves = {}
        notes.append(str(error))
    return Read(name, options, metrics, curves, notes)


def curves_of(records: Sequence[Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Measure -> (epochs, values) of the validation split in the records of a journal."""
    rows = [row for row in records if isinstance(row, dict) and row.get("split") == "validation"]
    found = {}
    for name in CURVES:
        points = [(row.get("epoch"), row.get(name, row.get(f"{name}_median"))) for row in rows]
        points = [point for point in points if all(map(_is_number, point))]
        if points:
            epochs, values = np.array(points, np.float64).T
            found[name] = epochs, values
    return found


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Option -> its values, of the options that are not the same in all configs; absent ones are ABSENT."""
    known = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name, ABSENT) for config in configs] for name in known}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


ABSENT = "–"


def names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(each[-length:]) for each in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [str(path) for path in paths]


def table(title: str, runs: Sequence[Read], rows: Mapping[str, Sequence[str]]) -> Table:
    """A table with a column for each run."""
    shown = Table(title, box=None, pad_edge=False)
    for run in runs:
        shown.add_column(escape(run.name), justify="right", overflow="fold")
    for name, values in rows.items():
        shown.add_row(escape(name), *map(escape, values))
    return shown


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
