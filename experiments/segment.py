"""Name the class of every pixel of images with a network that a run trained.

`etude segment street.jpg --run runs/segmentation/demo` prints which part of each image every class has and writes, into
segmentations/, street.png, whose pixels are numbers of classes, with their colors as its palette, and
street_overlay.png, the image under these colors. A panoptic network writes street_ids.png too, a number for each
object. Images of any size are fitted into the frame that the network was trained on, and the classes are mapped back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image
from rich.markup import escape
from rich.table import Table

from .. import data, lab, plots, train
from ..errors import InputError, writing
from ..models import dense
from .detect import output_names, pixels_of


@dataclass(frozen=True)
class Config:
    """Which images, and which network."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Files of the images, one or more, such as street.jpg."""
    run: Path
    """Folder of a finished run of segmentation or panoptic, such as runs/segmentation/demo; of a population, its best
    member is used."""
    out: Path = Path("segmentations")
    """Folder that the maps are written into; older files of the same names are replaced."""


def main(config: Config) -> list[dict[str, float]]:
    """Prints which part of each image every class has, and writes the maps; returns {class: part} of each image.

    Raises: InputError that names the file that is wrong.
    """
    lab.check(config)
    names = output_names(config.images)
    network = lab.load_network(config.run, role=None)
    predict, saved = predictor(network, config.run), network.saved
    images = [data.read_framed(path, saved.image_shape) for path in config.images]
    display, told = train.Display(train.open_console()), []
    if network.member:
        display.say(f"Of the population this is {network.member}.")
    with writing(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    for path, name, (image, frame) in zip(config.images, names, images, strict=True):
        maps = {what: frame.original_mask(each) for what, each in predict(image).items()}
        classes = maps["classes"]
        numbers, counts = np.unique(classes, return_counts=True)
        told.append({saved.classes[i]: n / classes.size for i, n in zip(numbers, counts.tolist(), strict=True)})
        table = Table("class", "part of the image")
        for label, part in sorted(told[-1].items(), key=lambda row: -row[1]):
            table.add_row(escape(label), f"{part:.1%}")
        display.say(f"{path.name} by {config.run} ({saved.model}, trained on {saved.data})")
        display.show(table)
        with writing(config.out):
            paths = [config.out / f"{name}.png", config.out / f"{name}_overlay.png"]
            class_map(classes, len(saved.classes)).save(paths[0])
            plots.save(plots.segments_in(pixels_of(path), classes, saved.classes), paths[1])
            if "ids" in maps:
                paths.append(config.out / f"{name}_ids.png")
                Image.fromarray(maps["ids"].astype(np.uint16)).save(paths[2])
        for each in paths:
            display.say(f"wrote {each}")
    return told


def predictor(network: lab.TrainedNetwork, run: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Image [height, width, channel] uint8 -> "classes" and perhaps "ids", [height, width]."""
    saved = network.saved
    mean, std = np.asarray(saved.mean), np.asarray(saved.std)
    names_stuff = saved.role == "detector" and getattr(network.model, "num_semantic", 0)
    if saved.role != "segmenter" and not names_stuff:
        raise InputError(f"The network of the run in {run} is a {saved.role}, which names no classes of pixels.")

    @jax.jit
    def predict(variables, image):
        pixels = lab.prepare_for(network.model, image[None], mean=mean, std=std)
        if saved.role == "detector":
            finding = lab.FindingOptions(most_objects=100)
            found: Any = lab.find_objects(network.model, variables, pixels, finding, lab.FusionOptions())
            return {"classes": found.classes[0], "ids": found.ids[0]}
        logits: Any = network.model.apply(variables, pixels, train=False)
        return {"classes": dense.center_crop(logits, image.shape[:2])[0].argmax(-1)}

    return lambda image: {
        what: np.asarray(each) for what, each in predict(network.variables, jnp.asarray(image)).items()
    }


def class_map(classes: np.ndarray, number: int) -> Image.Image:
    """A mask whose pixels are numbers of classes: with a palette up to 256 classes, else of 16 bits."""
    if number > 256:
        return Image.fromarray(classes.astype(np.uint16))
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette(np.round(255 * plots.class_colors(number)).astype(np.uint8).tobytes())
    return image


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
