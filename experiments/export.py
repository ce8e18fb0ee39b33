"""Write the network of a finished run as a .safetensors file, under the names of torchvision or timm.

`etude export runs/resnet/demo digits.safetensors`. The file also holds the names of the classes, the normalization and
the name of the network: `etude classify --weights` and every experiment's `--weights` read it, and so does PyTorch.
Networks without published names keep their own.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from .. import lab, train
from ..errors import InputError, writing
from ..models import pretrained


@dataclass(frozen=True)
class Config:
    """What is written, and to where."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run that trained a classifier, such as runs/resnet/demo; of a population, its best member
    is written."""
    file: tyro.conf.Positional[Path]
    """File to write, such as digits.safetensors; an older one is replaced."""


def main(config: Config) -> None:
    """Writes the file, and prints where it is.

    Raises: InputError if the folder is no finished run of one network, or the file can't be written.
    """
    if config.file.suffix != ".safetensors":
        raise InputError(f"{config.file} must end with .safetensors, by which other programs know the format.")
    found = lab.load_network(config.run, role=None)
    with writing(config.file):
        pretrained.save(found.model, found.variables, config.file, lab.to_metadata(found.saved))
    display = train.Display(train.open_console())
    if found.member:
        display.say(f"Of the population this is {found.member}.")
    display.say(f"wrote {config.file}")


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
