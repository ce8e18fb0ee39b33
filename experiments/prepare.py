"""Get a data set of TensorFlow Datasets ready to be read: offline from archives on disk, or by tfds itself.

`etude prepare tfds:fashion_mnist --archives DIR` needs neither TensorFlow nor the network; so for mnist and
kmnist, too. All others are downloaded and prepared by tfds, with TensorFlow (pip install 'etude[prepare]').
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from .. import lab, train
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
    kind, _, name = config.name.partition(":")
    if kind != "tfds":
        raise InputError(f"Only sets of TensorFlow Datasets are prepared, tfds:<name>; got {config.name!r}.")
    display = train.Display(train.open_console())
    folder = prepare.prepared(name, config.data_dir)
    if folder is not None:
        display.say(f"{config.name} is already prepared in {folder}")
        return
    if config.archives is None:
        folder = prepare.by_tensorflow(name, config.data_dir)
    else:

        def report(split: str, done: int, total: int) -> None:
            display.note(f"writing {split} … {done:,}/{total:,} images")

        with display:
            folder = prepare.from_archives(name, config.archives, config.data_dir, report=report)
    display.say(f"wrote {folder}")


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
