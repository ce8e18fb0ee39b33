"""Draw the figures of a finished run again, from its tables: nothing is trained.

`etude draw runs/convergence_rate/demo` writes figures/*.png and *.pdf anew, as the present code draws them.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from ._population import read_config
from ._run import save_figures


@dataclass(frozen=True)
class Config:
    """Which run."""

    folder: tyro.conf.Positional[Path]
    """The run's folder."""


def main(config: Config) -> None:
    """Draws and names the files."""
    if not (config.folder / "result.json").exists():
        raise FileNotFoundError(f"{config.folder} is no finished run: it has no result.json.")
    name = read_config(config.folder)["experiment"]
    draw = getattr(importlib.import_module(f"etude.experiments.{name}"), "draw", None)
    if draw is None:
        raise ValueError(f"The figures of {name} show more than its tables hold; run it again to draw them.")
    for path in save_figures(draw(config.folder), config.folder):
        print(f"wrote {config.folder / path}")


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("draw"))
