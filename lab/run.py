"""The frame of an experiment: its run folder, its terminal, and the report it ends with.

    def main(config: Config) -> Result:
        with open_run(__file__, config, PRESETS) as run:
            if run.result:
                return run.result
            ...
            return run.finish({"test_accuracy": 0.98}, {"learning_curves": figure}, [Claim(...)])

`open_run` is the only place that reads `RunOptions`. It checks every option, opens the folder, and tells a finished run
from one to begin or to go on with.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from .. import plots
from ..errors import unknown_name
from ..train import Checkpoints, Journal
from .config import check, from_json, read_json, to_json
from .folder import read_result, run_folder, write_json


@dataclass(frozen=True)
class RunOptions:
    """Which run it is, and where it is kept."""

    TITLE: ClassVar[str] = ""

    preset: str = "demo"
    """Preset of all other options: smoke takes seconds, demo minutes on 2 CPU cores, paper is the published setting."""
    name: str | None = None
    """Name of the run; by default the preset and all that differs from it."""
    out: Path | None = None
    """Folder of the run; by default runs/<experiment>/<name>."""


class Composed(Protocol):
    """A config of an experiment that has runs."""

    @property
    def run(self) -> RunOptions: ...


C = TypeVar("C", bound=Composed)


@dataclass(frozen=True)
class Claim:
    """A sentence that a number decides."""

    name: str
    """What is claimed."""
    value: float
    """The number that was measured."""
    target: str
    """What the number should be, such as "< 0.9"."""
    holds: bool
    """Whether it is so."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    """Where its files are."""
    metrics: Mapping[str, float]
    """Its numbers, by name."""
    claims: Sequence[Claim]
    """What the numbers decide."""
    figures: Sequence[str]
    """Paths of its figures, relative to the folder."""


@dataclass(frozen=True)
class Run:
    """An open run."""

    folder: Path
    """Where its files go."""
    console: Console
    """Its terminal."""
    result: Result | None
    """The result of a finished run, else None."""
    journal: Journal = field(init=False)
    """Its record of metrics."""

    def __post_init__(self):
        object.__setattr__(self, "journal", Journal(self.folder, console=self.console))

    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.folder / "checkpoints", warn=self.journal.say)

    def part(self, name: str) -> Run:
        """One of several trainings of this run, with its own folder, journal and checkpoints."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Run(folder, self.console, None)

    def finish(
        self, metrics: Mapping[str, float], figures: Mapping[str, Figure], claims: Sequence[Claim] = ()
    ) -> Result:
        """Writes the figures and, last, `result.json`: from then on the run is done."""
        paths = save_figures(figures, self.folder)
        result = Result(self.folder, dict(metrics), tuple(claims), tuple(paths))
        write_json(
            self.folder / "result.json",
            {"metrics": result.metrics, "claims": [dataclasses.asdict(c) for c in claims], "figures": paths},
        )
        _report(result, self.console)
        return result


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[str]:
    """Writes figures/<name>.png and .pdf into a run's folder; returns the paths of the .png, relative to it."""
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        for suffix in ("png", "pdf"):
            plots.save(figure, folder / "figures" / f"{name}.{suffix}")
    return [f"figures/{name}.png" for name in figures]


@contextmanager
def open_run(experiment: str, config: C, presets: Mapping[str, C] | None = None) -> Iterator[Run]:
    """Opens the folder of a run, alone.

    Args:
      experiment: its name, or the file that it is in (`__file__`), whose name without .py is the experiment's.
      config: the run's config.
      presets: those of the experiment, by name; what differs from the config's preset names the run.
    Raises: InputError if an option has a value that is not valid, there is no such preset, or the folder is taken, of
      another config, or not writable.
    """
    console, presets, name = Console(), presets or {}, Path(experiment).stem
    check(config)
    if presets and config.run.preset not in presets:
        raise unknown_name("preset", config.run.preset, presets)
    values = _values(config)
    default = presets.get(config.run.preset) or type(config)()
    chosen = config.run.name or _run_name(config.run.preset, values, _values(default))
    folder = config.run.out or Path("runs") / name / chosen

    def reread(file: Path) -> dict[str, Any]:
        there = read_json(file)
        return {"experiment": there.pop("experiment", None), **_values(from_json(there, type(config), presets, file))}

    with run_folder(folder, {"experiment": name, **values}, reread) as folder:
        done, result = read_result(folder), None
        if done is not None:
            claims = tuple(Claim(**claim) for claim in done["claims"])
            result = Result(folder, done["metrics"], claims, tuple(done["figures"]))
            console.print(f"This run is finished; delete {folder} to run it again.", highlight=False, soft_wrap=True)
            _report(result, console)
        yield Run(folder, console, result)


def _values(config: Composed) -> dict[str, Any]:
    """All that the numbers of a run depend on; its place is no part of that."""
    return {name: value for name, value in to_json(config).items() if name not in ("name", "out")}


def _run_name(preset: str, values: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """The preset, and what differs from it: one command, one folder."""
    changed = {name: value for name, value in values.items() if name != "preset" and value != default.get(name)}
    text = ",".join([preset, *(f"{name}={value}" for name, value in changed.items())])
    safe = "".join(c if c.isalnum() or c in ",=.-_+" else "_" for c in text)
    if safe == text and len(safe) <= 100:
        return safe
    # Shortened or replaced characters could make two configs share a name; the digest keeps them apart.
    return f"{safe[:100]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _report(result: Result, console: Console) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in result.metrics.items():
        table.add_row(name, f"{value:.5g}")
    for claim in result.claims:
        table.add_row(claim.name, f"{claim.value:.5g} (target {claim.target}: {'holds' if claim.holds else 'MISSED'})")
    console.print(table)
    for path in ("result.json", *result.figures):
        console.print(f"wrote {result.folder / path}", highlight=False, soft_wrap=True)
