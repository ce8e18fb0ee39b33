"""Get a data set of TensorFlow Datasets ready to be read: offline from archives on disk, or by tfds itself.

`etude prepare tfds:fashion_mnist --archives DIR` needs neither TensorFlow nor the network; so for mnist and
kmnist, too. All others are downloaded and prepared by tfds, with TensorFlow (pip install 'etude[prepare]').
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from .. import lab
from ..data import prepare
from ..errors import InputError


@dataclass(frozen=True)
class Config:
    """What to prepare, from what, to where."""

    name: tyro.conf.Positional[str]
    """Name of the set, tfds:<name>[/config][:version], such as tfds:fashion_mnist."""
    archives: Path | None = None
    """Folder of the set's own archives, as its authors distribute them, for mnist, fashion_mnist and kmnist; by default
    tfds downloads the set."""
    data_dir: Path | None = None
    """Folder of prepared sets; by default the one of tfds (TFDS_DATA_DIR, or ~/tensorflow_datasets)."""


def main(config: Config) -> None:
    """Prepares the set, unless it is there, and prints where it is.

    Raises: InputError for a set of another kind.
    """
    console = Console()
    kind, _, name = config.name.partition(":")
    if kind != "tfds":
        raise InputError(f"Only sets of TensorFlow Datasets are prepared, tfds:<name>; got {config.name!r}.")
    folder = prepare.prepared(name, config.data_dir)
    if folder is not None:
        console.print(f"{config.name} is already prepared in {folder}", highlight=False, soft_wrap=True)
        return
    if config.archives is None:
        folder = prepare.by_tensorflow(name, config.data_dir)
    else:
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as progress:
            tasks = {}

            def report(split: str, done: int, total: int) -> None:
                if split not in tasks:
                    tasks[split] = progress.add_task(split, total=total)
                progress.update(tasks[split], completed=done)

            folder = prepare.from_archives(name, config.archives, config.data_dir, report=report)
    console.print(f"wrote {folder}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
