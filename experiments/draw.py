"""Draw the figures of a finished run again, from its tables: nothing is trained.

`etude draw runs/convergence_rate/demo` writes figures/*.png and *.pdf anew, as the present code draws them.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from .. import lab, train
from ..errors import InputError, unknown_name


@dataclass(frozen=True)
class Config:
    """Which run."""

    folder: tyro.conf.Positional[Path]
    """Folder of the run, such as runs/lr_range_test/demo."""


def main(config: Config) -> None:
    """Draws the figures, and prints the names of their files.

    Raises: InputError if the folder is no finished run, or its experiment can't draw from its tables alone.
    """
    if lab.read_result(config.folder) is None:
        raise InputError(f"{config.folder} is no finished run: it has no result.json.")
    name = lab.read_json(config.folder / "config.json").get("experiment")
    if name is None:
        raise InputError(f"{config.folder / 'config.json'} does not say which experiment it is of.")
    if name not in lab.experiments():
        raise unknown_name("experiment", str(name), lab.experiments(), "etude lists them")
    draw = getattr(importlib.import_module(f"etude.experiments.{name}"), "draw", None)
    if draw is None:
        raise InputError(f"The figures of {name} show more than its tables hold; run it again to draw them.")
    try:
        figures = draw(config.folder)
    except InputError:
        raise
    except Exception as error:
        # All that the drawing reads are tables that this run wrote: if it fails, they are not what they were.
        raise InputError(
            f"The tables of {config.folder} can't be drawn ({type(error).__name__}: {error}): they are damaged, or of "
            "another version. Run it again with another --name."
        ) from error
    display = train.Display(train.open_console())
    for path in lab.save_figures(figures, config.folder):
        display.say(f"wrote {config.folder / path}")


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
