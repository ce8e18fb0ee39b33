"""Classify one image with published weights: the five most likely classes, with their probabilities.

`etude classify cat.jpg --model vit_base_patch16_224 --weights vit.safetensors --labels imagenet.txt`. The weights are
a file of torchvision's or timm's for that network. Nothing is trained, and nothing is downloaded.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image, ImageOps
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .. import lab, models
from ..errors import InputError, MissingFile
from ..models import pretrained

Triple = tuple[float, float, float]
CROP = lab.Valid("in (0, 1]", lambda crop: 0 < crop <= 1)
STD = lab.Valid("positive and finite, every one", lambda std: 0 < std < math.inf)


@dataclass(frozen=True)
class Config:
    """Which image, which network, and how the one is made ready for the other."""

    image: tyro.conf.Positional[Path]
    """File of the image, such as cat.jpg."""
    weights: Path
    """File of the weights, .safetensors, with torchvision's or timm's names."""
    model: str = "resnet50"
    """Name of the network, such as alexnet, vgg16_bn, resnet50 or vit_base_patch16_224."""
    labels: Path | None = None
    """File of text with the name of a class in each line; by default classes are numbers."""
    top: Annotated[int, lab.COUNT] = 5
    """Number of classes to print."""
    size: Annotated[int | None, lab.COUNT] = None
    """Side of the square that the network sees, in pixels; by default the last number of a vision transformer's name,
    and 224 for others."""
    crop: Annotated[float | None, CROP] = None
    """That side as a fraction of the shorter side of the resized image; by default as the model was trained."""
    mean: Triple | None = None
    """Means that are subtracted from red, green and blue, of pixels in [0, 1]; by default as the model was trained."""
    std: Annotated[Triple | None, STD] = None
    """Standard deviations by which they are divided; by default as the model was trained."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation with which the image is resized; by default as the model was trained."""


class Convention(NamedTuple):
    """How the images of published weights are prepared: fields of `Config`."""

    crop: float
    mean: Triple
    std: Triple
    interpolation: str


IMAGENET = Convention(224 / 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")  # torchvision's
# By the beginning of a model's name, the longest that fits; as timm has them. ViT's are of the AugReg weights.
CONVENTIONS = {
    "vit": Convention(0.9, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
    "deit": IMAGENET._replace(crop=0.9, interpolation="bicubic"),
    "preact_resnet": Convention(0.95, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic"),
    **{f"resnet{depth}d": IMAGENET._replace(interpolation="bicubic") for depth in (18, 34, 50, 101, 152)},
}


def main(config: Config) -> list[tuple[str, float]]:
    """Prints the most likely classes; returns them with their probabilities, the likeliest first.

    Raises: InputError that names the file or number that is wrong.
    """
    lab.check(config)
    size = usual_size(config.model) if config.size is None else config.size
    model = models.create(config.model)
    usual = convention(config.model)
    image = prepare(
        open_image(config.image),
        size,
        usual.crop if config.crop is None else config.crop,
        config.mean or usual.mean,
        config.std or usual.std,
        config.interpolation or usual.interpolation,
    )
    stored = pretrained.read(config.weights)
    model = model.clone(num_classes=pretrained.num_classes(model, stored, image.shape))
    weights = pretrained.at_resolution(model, stored, image.shape)
    probabilities = classify(model, weights, image)
    labels = read_labels(config.labels, len(probabilities))
    likeliest = np.argsort(-probabilities, kind="stable")[: config.top]
    told = [(labels[i], float(probabilities[i])) for i in likeliest]

    table = Table("class", "probability")
    for label, probability in told:
        table.add_row(escape(label), f"{probability:.4f}")
    console = Console()
    console.print(f"{config.image.name} by {config.model}", markup=False, highlight=False)
    console.print(table)
    if any(weights[name].shape != stored[name].shape for name in stored):
        console.print(f"The positions of {config.weights} were interpolated for images of {size}×{size} pixels.")
    return told


def convention(model: str) -> Convention:
    """How images for a model's published weights are prepared."""
    known = [prefix for prefix in CONVENTIONS if model.startswith(prefix)]
    return CONVENTIONS[max(known, key=len)] if known else IMAGENET


def usual_size(model: str) -> int:
    """Side of the images, in pixels, that a model's published weights are for."""
    told = re.search(r"_patch\d+_(\d+)$", model)
    return int(told[1]) if told else 224


def open_image(path: Path) -> Image.Image:
    """An image in red, green and blue, upright.

    Raises: MissingFile if there is no such file; InputError if it is no image that can be read.
    """
    if not path.is_file():
        raise MissingFile(f"There is no image {path}.")
    try:
        with Image.open(path) as image:
            mode, upright = image.mode, ImageOps.exif_transpose(image)
            upright.load()
    except Exception as error:  # whatever Pillow's many decoders raise at a broken file
        raise InputError(f"{path} is not an image that can be read: {error}") from error
    if mode.startswith(("I", "F")):  # which Pillow would clip, not scale, to 8 bits
        raise InputError(f"{path} has the pixel format {mode}; convert it to one of 8 bits a channel.")
    return upright.convert("RGB")


def prepare(image: Image.Image, size: int, crop: float, mean: Triple, std: Triple, interpolation: str) -> np.ndarray:
    """Resizes, cuts out the center and normalizes, as torchvision and timm do for evaluation.

    Args:
      image: in red, green and blue.
      size: of the result, in pixels.
      crop: size / the shorter side of the resized image, in (0, 1].
      mean, std: of each channel, of pixels in [0, 1].
      interpolation: "bilinear" or "bicubic", both with antialiasing.
    Returns: [size, size, 3], float32.
    Raises: InputError if crop is not in (0, 1], a mean is not finite, a std is not positive and finite, or the whole
      resized image would be too large.
    """
    if not 0 < crop <= 1:
        raise InputError(f"crop is {crop}; it must be in (0, 1].")
    if not np.isfinite(mean).all():
        raise InputError(f"mean is {mean}; every one must be finite.")
    if not all(0 < each < math.inf for each in std):
        raise InputError(f"std is {std}; every one must be positive and finite.")
    shorter = int(size / crop)
    width, height = (shorter * side // min(image.size) for side in image.size)
    if width * height > MOST_PIXELS:
        raise InputError(
            f"An image of {image.width}×{image.height} pixels would be resized to {width}×{height}; crop it to what "
            f"is to be seen, or choose another size or crop: at most {MOST_PIXELS:,} pixels are wanted."
        )
    resized = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)), np.float32) / 255
    return (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)


MOST_PIXELS = 2**26  # of a resized image: 256 MB as Pillow holds them


def classify(model: nn.Module, weights: Mapping[str, np.ndarray], image: np.ndarray) -> np.ndarray:
    """[class], the probabilities of one image [height, width, 3].

    Raises: InputError if the weights do not fit, or overflow on this image.
    """
    variables = pretrained.from_torch(model, weights, pretrained.template(model, image.shape))
    logits = jax.jit(model.apply)(variables, jnp.asarray(image)[None])
    if not np.isfinite(logits).all():
        raise InputError("The weights give this image logits that are not finite: they are too large for the network.")
    return np.asarray(jax.nn.softmax(logits[0]))


def read_labels(path: Path | None, count: int) -> list[str]:
    """Names of classes: the lines of a file, or their numbers.

    Raises: MissingFile; InputError if the file is not text or has another number of lines than there are classes.
    """
    if path is None:
        return [str(i) for i in range(count)]
    if not path.is_file():
        raise MissingFile(f"There is no file of labels {path}.")
    try:
        # Lines as editors count them: a name may have other characters that Unicode takes for ends of lines.
        labels = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8: {error}.") from error
    if len(labels) != count:
        raise InputError(f"{path} has {len(labels)} lines; the weights tell {count} classes apart.")
    return labels


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
