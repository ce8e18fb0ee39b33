"""The frame of an experiment: its run folder, its terminal, and the report it ends with.

Experiments compose; this file opens the folder, tells a finished run from one to begin or resume, and writes
figures and `result.json`. `open_run` is the only place that reads `RunConfig`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from .. import plots
from ..train import Checkpoints, Journal, read_result, run_folder, write_json


@dataclass(frozen=True)
class RunConfig:
    """What every experiment has: a preset and a place. A config of an experiment derives from it."""

    preset: Literal["smoke", "demo", "fashion_mnist", "paper"] = "demo"
    """Sets all other defaults: smoke takes seconds, demo minutes on 2 CPU cores, paper is the published setting. Some
    have fashion_mnist too: its images, in less than an hour on 2 CPU cores."""
    name: str | None = None
    """Name of the run; by default the preset and whatever differs from it."""
    out: Path | None = None
    """Folder of the run; by default runs/<experiment>/<name>."""

    @property
    def many_devices(self) -> bool:
        """Whether work is spread over devices, so that every CPU core should be one."""
        return False


@dataclass(frozen=True)
class Claim:
    """A sentence that a number decides."""

    name: str
    value: float
    target: str
    holds: bool


@dataclass(frozen=True)
class Result:
    """How a run ended. folder: where its files are; figures: their paths, relative to the folder."""

    folder: Path
    metrics: Mapping[str, float]
    claims: Sequence[Claim]
    figures: Sequence[str]


@dataclass(frozen=True)
class Run:
    """An open run. result: that of a finished run, else None; the rest is for the run to use."""

    folder: Path
    console: Console
    result: Result | None
    journal: Journal = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "journal", Journal(self.folder, console=self.console))

    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.folder / "checkpoints", warn=self.journal.say)

    def part(self, name: str) -> Run:
        """One of several trainings of this run, with a folder, a journal and checkpoints of its own."""
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
def open_run(experiment: str, config: RunConfig, default: RunConfig) -> Iterator[Run]:
    """Opens the folder of a run, alone.

    Args:
      experiment: its name.
      config: the run's config.
      default: the preset it was derived from: what differs names the run.
    Raises: ValueError if a number of the config is not finite or no seed can be it, or the folder is taken, of another
      config, or not writable.
    """
    console = Console()
    values = {name: value for name, value in _plain(config).items() if name not in ("name", "out")}
    _check_numbers(values)
    folder = config.out or Path("runs") / experiment / (config.name or _run_name(values, _plain(default)))
    with run_folder(folder, {"experiment": experiment, **values}) as folder:
        done = read_result(folder)
        result = None
        if done is not None:
            claims = tuple(Claim(**claim) for claim in done["claims"])
            result = Result(folder, done["metrics"], claims, tuple(done["figures"]))
            console.print(f"This run is finished; delete {folder} to run it again.", highlight=False, soft_wrap=True)
            _report(result, console)
        yield Run(folder, console, result)


def _check_numbers(values: Mapping[str, Any]) -> None:
    """Raises ValueError for NaN and infinity, which mean nothing and JSON can't hold, and for a seed out of range."""
    if not 0 <= values.get("seed", 0) < 2**32:  # of larger ones jax keeps the last 32 bits
        raise ValueError(f"seed is {values['seed']}; it must be at least 0 and less than 2^32.")
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ValueError(f"{name} is {value}; it must be finite.")


def _plain(config: Any, prefix: str = "") -> dict[str, Any]:
    """A config as JSON can hold it, its nested parts under dotted names, as on the command line."""
    plain = {}
    for each in dataclasses.fields(config):
        value, name = getattr(config, each.name), prefix + each.name
        if dataclasses.is_dataclass(value):
            plain |= _plain(value, f"{name}.")
        else:
            plain[name] = str(value) if isinstance(value, Path) else value
    return plain


def _run_name(values: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """The preset, and what differs from it: one command, one folder."""
    changed = {name: value for name, value in values.items() if value != default[name] and name != "preset"}
    text = ",".join([values["preset"], *(f"{name}={value}" for name, value in changed.items())])
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
