"""Find objects in images with a detector that a run trained: boxes, names and scores, and masks where it has them.

`etude detect street.jpg --run runs/detection/demo` prints what is in each image and writes detections/street.png, the
image with the boxes over it, and detections/detections.json, all numbers in pixels of the image. Images of any size are
fitted into the frame that the network was trained on, and boxes and masks are mapped back. Nothing is trained.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table

from .. import data, lab, plots, train
from ..data import augment
from ..errors import InputError, writing


@dataclass(frozen=True)
class Config:
    """Which images, which detector, and what counts as found."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Files of the images, one or more, such as street.jpg."""
    run: Path
    """Folder of a finished run that trained a detector, such as runs/detection/demo; of a population, its best member
    is used."""
    score: Annotated[float, lab.FRACTION] = 0.3
    """Least score of an object."""
    overlap: Annotated[float, lab.FRACTION] = 0.5
    """Overlap (IoU) above which the worse of two boxes of one class is dropped."""
    most: Annotated[int, lab.COUNT] = 100
    """Largest number of objects in an image."""
    out: Path = Path("detections")
    """Folder that pictures and detections.json are written into; older files of the same names are replaced."""


def main(config: Config) -> list[dict[str, Any]]:
    """Prints what is in each image, and writes it; returns what detections.json holds, an object for each image.

    Raises: InputError that names the file or number that is wrong.
    """
    lab.check(config)
    names = output_names(config.images)
    network = lab.load_network(config.run, "detector")
    saved = network.saved
    images = [data.read_framed(path, saved.image_shape) for path in config.images]
    finding = lab.FindingOptions(config.most, config.score, config.overlap)

    @jax.jit
    def find(variables, image):
        pixels = augment.normalize(image[None], mean=np.asarray(saved.mean), std=np.asarray(saved.std))
        return lab.find_objects(network.model, variables, pixels, finding, lab.FusionOptions())

    display, told = train.Display(train.open_console()), []
    if network.member:
        display.say(f"Of the population this is {network.member}.")
    with writing(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    for path, name, (image, frame) in zip(config.images, names, images, strict=True):
        found = in_image(find(network.variables, image), frame)
        told.append(described(path, found, frame, saved.classes))
        table = Table("class", "score", "left", "top", "right", "bottom")
        for each in told[-1]["objects"]:
            table.add_row(escape(each["class"]), f"{each['score']:.3f}", *(f"{x:.1f}" for x in each["box"]))
        display.say(f"{path.name} by {config.run} ({saved.model}, trained on {saved.data})")
        display.show(table)
        drawn = plots.objects_in(pixels_of(path), found, saved.classes)
        with writing(config.out):
            plots.save(drawn, config.out / f"{name}.png")
        display.say(f"wrote {config.out / name}.png")
    with writing(config.out):
        lab.write_json(config.out / "detections.json", {"images": told})
    display.say(f"wrote {config.out / 'detections.json'}")
    return told


def in_image(found: Any, frame: data.Frame) -> dict[str, np.ndarray]:
    """The objects of the one image of `tasks.Found`, in pixels of its file."""
    there = np.asarray(found.labels[0]) >= 0
    objects = {
        "boxes": frame.original_boxes(np.asarray(found.boxes[0])[there]),
        "labels": np.asarray(found.labels[0])[there],
        "scores": np.asarray(found.scores[0])[there],
    }
    if found.masks is not None:
        masks = [frame.original_mask(each) for each in np.asarray(found.masks[0])[there]]
        objects["masks"] = np.stack(masks) if masks else np.zeros((0, *frame.size), np.uint8)
    return objects


def described(
    path: Path, objects: dict[str, np.ndarray], frame: data.Frame, classes: tuple[str, ...]
) -> dict[str, Any]:
    """What detections.json says of an image."""
    height, width = frame.size
    rows = []
    for i, label in enumerate(objects["labels"]):
        row = {
            "class": classes[label],
            "score": round(float(objects["scores"][i]), 4),
            "box": [round(float(x), 2) for x in objects["boxes"][i]],
        }
        if "masks" in objects:
            row["segmentation"] = data.run_lengths(objects["masks"][i])
        rows.append(row)
    return {"file": str(path), "height": height, "width": width, "objects": rows}


def output_names(images: tuple[Path, ...]) -> list[str]:
    """A name for the results of each image: its own without suffix, numbered where several have the same.

    >>> output_names((Path("a/x.jpg"), Path("b/x.png"), Path("y.jpg")))
    ['x_1', 'x_2', 'y']

    Raises: InputError if there is no image.
    """
    if not images:
        raise InputError("There is no image; name one or more files.")
    stems, names = [path.stem for path in images], []
    for stem in stems:
        numbered = (f"{stem}_{n}" for n in range(1, len(stems) + 1))
        taken = {*stems, *names}
        names.append(stem if stems.count(stem) == 1 else next(name for name in numbered if name not in taken))
    return names


def pixels_of(path: Path) -> np.ndarray:
    """The image of a file as [height, width, channel], upright, in gray or RGB."""
    pixels = np.asarray(data.read_image(path))
    return pixels.reshape(*pixels.shape[:2], -1)


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
