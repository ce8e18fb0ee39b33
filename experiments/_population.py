"""Populations from the command line: which members, how they are laid out, and what is told of them.

`--population.learning-rate 2**-15:2**-1 --population.seeds 8` trains 15 rates × 8 seeds as one program.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import train

NUMBER = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)(?:\*\*([+-]?\d+))?")


@dataclass(frozen=True)
class PopulationConfig:
    """Members trained at once. Values are lists, 0.1,0.01; doublings, 2**-15:2**-1; or n geometric steps, 1e-4:1:9."""

    learning_rate: str | None = None
    """Rates, instead of the one rate of a single run."""
    weight_decay: str | None = None
    """Weight decays."""
    momentum: str | None = None
    """Momenta."""
    seeds: int = 1
    """How many seeds, from the run's own on."""
    chunk: int | None = None
    """With vmap: at most this many members at a time on each device, where memory is short."""
    mode: Literal["auto", "vmap", "map", "devices"] = "auto"
    """All at once, one after another, or one at a time on each device; by default what a short measurement says."""

    @property
    def active(self) -> bool:
        """Whether there is more than one member to train."""
        return self.seeds != 1 or self.has_grid

    @property
    def has_grid(self) -> bool:
        """Whether members differ by more than their seeds."""
        return any(values is not None for values in (self.learning_rate, self.weight_decay, self.momentum))


@dataclass(frozen=True)
class Population:
    """Members, laid out and ready to train: as `train.fit_population` wants them."""

    members: train.Members
    where: train.PopulationLayout
    initial: train.Member
    feed: train.Feed

    def place(self) -> train.Member:
        """The initial stack on the devices, for one run."""
        return self.where.place(self.initial)


def chosen_placement(
    config: PopulationConfig, members: int, probe: Callable[[train.Placement], Callable[[int], Any]], steps: int,
    file: Path,
) -> train.Placement:  # fmt: skip
    """The placement that the config names or a measurement finds; what was measured is kept for later starts.

    Args:
      config: mode and chunk.
      members: how many.
      probe: see `train.fastest_placement`.
      steps: that the run will take.
      file: where the choice is kept.
    """
    if config.mode != "auto":
        return train.placement(config.mode, members, config.chunk)
    if file.exists():
        return train.Placement(**json.loads(file.read_text(encoding="utf-8")))
    chosen = train.fastest_placement(probe, members, steps=steps, chunk=config.chunk)
    train.write_json(file, asdict(chosen))
    return chosen


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table atomically; floats in full precision, so that figures can be drawn again from it."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(row.tolist() if isinstance(row, np.ndarray) else row for row in rows)
    partial.replace(path)


def write_members(path: Path, members: train.Members, fitted: train.PopulationFitted) -> None:
    """A row per member: seed, hyperparameters, best epoch, divergence, and its metrics after the last epoch."""
    columns = {"seed": members.seeds, **members.hyper, "best_epoch": fitted.best_epoch}
    columns |= {"diverged_at": fitted.diverged_at}
    for split in ("train", "validation"):
        columns |= {f"{split}_{name}": values for name, values in fitted.epochs[-1][split].items()}
        columns |= {f"best_{split}_{name}": fitted.at_best(split, name) for name in fitted.epochs[-1][split]}
    write_csv(path, list(columns), zip(*columns.values(), strict=True))


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a run's folder, flat."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table, by name: float64, or text where one is no number."""
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = list(csv.reader(file))
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    return {name: _numbers(column) for name, column in columns.items()}


def _numbers(column: np.ndarray) -> np.ndarray:
    try:
        return column.astype(np.float64)
    except ValueError:
        return column


def values(text: str, what: str) -> list[float]:
    """The numbers that a text names.

    Args:
      text: "0.1,0.01", "2**-15:2**-1" (every doubling, both ends included) or "1e-4:1:9" (9 geometric steps).
      what: what to call it in a message.
    Raises: ValueError for an empty list, text that is no number, or a range that is reversed or not positive.
    """
    if ":" not in text:
        found = [_number(part, text, what) for part in text.split(",") if part.strip()]
        if not found:
            raise ValueError(f"The grid of {what} is empty; give numbers such as 0.1,0.01 or 2**-15:2**-1.")
        return found
    low, high, *count = text.split(":")
    first, last = _number(low, text, what), _number(high, text, what)
    if not 0 < first <= last:
        raise ValueError(f"The grid of {what} is {text}; wanted: 0 < lowest <= highest.")
    if not count:
        return [first * 2.0**i for i in range(int(np.floor(np.log2(last / first) + 1e-9)) + 1)]
    if len(count) > 1 or not count[0].strip().isdigit() or int(count[0]) < 2:
        raise ValueError(f"The grid of {what} is {text}; wanted lowest:highest:n with a whole n of at least 2.")
    return [float(x) for x in np.geomspace(first, last, int(count[0]))]


def _number(part: str, text: str, what: str) -> float:
    match = NUMBER.fullmatch(part.strip())
    if match is None:
        raise ValueError(f"The grid of {what} is {text!r}; {part.strip()!r} is no number. Write 0.1, 1e-3 or 2**-5.")
    return float(match[1]) ** int(match[2] or 1)
