"""List the networks by their names: what each is for, and how many parameters it has.

`etude models` lists all, `etude models resnet` those with resnet in their names, `etude models 'vit_*_224'` those that
a pattern fits. Networks are counted with the classes they come with; where the number depends on the image, for the
size in the name or color images of 32×32 pixels. Nothing is allocated; a name is listed as soon as it is counted.
"""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass

import tyro

from .. import lab, models, train
from ..errors import unknown_name
from ..models import weights

# The shapes that are tried: generators read vectors, and the U-Net without padding reads large images alone.
IMAGES = ((32, 32, 3), (28, 28, 1), (128,), (572, 572, 1))


@dataclass(frozen=True)
class Config:
    """Which networks."""

    pattern: tyro.conf.Positional[str] = "*"
    """Part of a name, such as resnet, or a pattern with * and ?, such as 'vit_*_224'; by default all."""


def main(config: Config) -> dict[str, int]:
    """Prints a line for each network that the pattern fits; returns the numbers of parameters by name.

    Raises: InputError if it fits none.
    """
    known = models.names()
    pattern = config.pattern if any(sign in config.pattern for sign in "*?[") else f"*{config.pattern}*"
    names = fnmatch.filter(known, pattern) or ([config.pattern] if _is_member(config.pattern) else [])
    if not names:
        raise unknown_name("model that fits", config.pattern, known, "etude models lists them")
    display, width, counts = train.Display(train.open_console()), max(map(len, names)), {}
    for name in names:
        entry, counts[name] = models.entry(name), count(name)
        display.say(f"{name:<{width}}  {counts[name]:>13,}  {entry.role}")
    if len(names) > 1:
        families = ", ".join(models.families())
        display.say(f"\n{len(names)} networks. Members of {families} are networks too.")
    return counts


def count(name: str) -> int:
    """Number of parameters of the network of a name."""
    entry, model, size = models.entry(name), models.create(name), weights.convention(name).size
    for shape in ((size, size, 3), *IMAGES) if "_patch" in name else IMAGES:
        try:
            return models.count_parameters(model, shape, entry.inputs)
        except (TypeError, ValueError):  # the network can't read images of this shape; the next may fit
            continue
    raise AssertionError(f"{name} reads no images of any shape that is tried")


def _is_member(name: str) -> bool:
    try:
        models.entry(name)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
