"""Get a data set ready to be read: offline from the archives of its authors, or by TensorFlow Datasets.

`etude prepare tfds:fashion_mnist --archives DIR` needs neither TensorFlow nor the network; so for mnist and
kmnist, too. All others of tfds are downloaded and prepared by it, with TensorFlow (pip install 'etude[prepare]').
`etude prepare multi30k_en_cs --archives DIR` and `etude prepare sentiment --archives DIR` write tables of texts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from .. import lab, train
from ..data import prepare, text
from ..errors import InputError


@dataclass(frozen=True)
class Config:
    """What to prepare, from what, to where."""

    name: tyro.conf.Positional[str]
    """Name of the set: tfds:<name>[/config][:version], such as tfds:fashion_mnist, multi30k_en_cs or sentiment."""
    archives: Path | None = None
    """Folder of the set's own archives, as its authors distribute them, for tfds:mnist, tfds:fashion_mnist and
    tfds:kmnist, and for multi30k_en_cs and sentiment, which need it; by default tfds downloads the set."""
    data_dir: Path | None = None
    """Folder of prepared sets; by default the one of tfds (TFDS_DATA_DIR, or ~/tensorflow_datasets)."""


def main(config: Config) -> None:
    """Prepares the set, unless it is there, and prints where it is.

    Raises: InputError for a set of another kind.
    """
    kind, _, name = config.name.partition(":")
    display = train.Display(train.open_console())
    if config.name in text.prepare.SETS:
        _texts(config, display)
    elif kind == "tfds":
        _tfds(name, config, display)
    else:
        raise InputError(
            f"Sets that are prepared are {', '.join(text.prepare.SETS)}, tfds:<name>; got {config.name!r}."
        )


def _texts(config: Config, display: train.Display) -> None:
    folder = text.prepare.prepared(config.name, config.data_dir)
    if folder is not None:
        display.say(f"{config.name} is already prepared in {folder}")
    elif config.archives is None:
        text.prepare.require(config.name, config.data_dir)  # says where its files are published
    else:
        display.say(f"wrote {text.prepare.from_archives(config.name, config.archives, config.data_dir)}")


def _tfds(name: str, config: Config, display: train.Display) -> None:
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
