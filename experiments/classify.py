"""Classify images with a network that a run trained, or with published weights: the likeliest classes, and how likely.

`etude classify photo.jpg --run runs/resnet/demo` uses a finished run, `--weights exported.safetensors` what
`etude export` wrote of one: both know their classes and how their images are prepared. `--model vit_base_patch16_224
--weights vit.safetensors --labels imagenet.txt` uses weights of torchvision, timm or Google for that network. Nothing
is trained, and nothing is downloaded.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image
from rich.markup import escape
from rich.table import Table

from .. import data, lab, models, tasks, train
from ..data import augment
from ..errors import InputError, MissingFile
from ..models import pretrained, weights

Triple = tuple[float, float, float]
CROP = lab.Valid("in (0, 1]", lambda crop: 0 < crop <= 1)
STD = lab.Valid("positive and finite, every one", lambda std: 0 < std < math.inf)


@dataclass(frozen=True)
class Config:
    """Which images, which network, and how the ones are made ready for the other."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Files of the images, one or more, such as cat.jpg."""
    run: Path | None = None
    """Folder of a finished run that trained a classifier, such as runs/resnet/demo; of a population, its best member
    is used. By default none: then --weights is needed."""
    weights: Path | None = None
    """File of weights: a .safetensors that etude export wrote, or one with torchvision's or timm's names, or an .npz
    of Google's vision transformers. By default none: then --run is needed."""
    model: str | None = None
    """Name of the network of the weights, such as vgg16_bn or vit_base_patch16_224; by default what the file says, and
    resnet50 for others."""
    labels: Path | None = None
    """File of text with the name of a class in each line; by default those of the run, or numbers."""
    top: Annotated[int, lab.COUNT] = 5
    """Number of classes to print."""
    size: Annotated[int | None, lab.COUNT] = None
    """Side of the square that published weights see, in pixels; by default as the model was trained."""
    crop: Annotated[float | None, CROP] = None
    """That side as a fraction of the shorter side of the resized image; by default as the model was trained."""
    mean: Triple | None = None
    """Means that are subtracted from red, green and blue, of pixels in [0, 1]; by default as the model was trained."""
    std: Annotated[Triple | None, STD] = None
    """Standard deviations by which they are divided; by default as the model was trained."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation with which the image is resized; by default as the model was trained."""


OF_PUBLISHED = ("size", "crop", "mean", "std", "interpolation")  # a run knows its own


@dataclass(frozen=True)
class Network:
    """A network that is ready to classify."""

    name: str
    """What it is, for the heading."""
    model: nn.Module
    """images -> logits."""
    variables: tasks.Variables
    """Its weights."""
    prepare: Callable[[Path], np.ndarray]
    """A file -> the image [height, width, channel] that the network reads, float32."""
    classes: tuple[str, ...] | None
    """Names of the classes, if they are known."""
    notes: tuple[str, ...] = ()
    """What should be said of the network."""


def main(config: Config) -> list[list[tuple[str, float]]]:
    """Prints the most likely classes of each image; returns them with their probabilities, the likeliest first.

    Raises: InputError that names the file or number that is wrong.
    """
    lab.check(config)
    if not config.images:
        raise InputError("There is no image to classify; name one or more files.")
    if (config.run is None) == (config.weights is None):
        raise InputError("Give either --run, the folder of a finished run, or --weights, a file.")
    network = of_run(config) if config.run is not None else of_weights(config)
    images = [network.prepare(path) for path in config.images]
    probabilities = classify(network.model, network.variables, images)
    labels = read_labels(config.labels, probabilities.shape[1], network.classes)
    display, told = train.Display(train.open_console()), []
    for path, row in zip(config.images, probabilities, strict=True):
        told.append(likeliest(row, labels, config.top))
        display.say(f"{path.name} by {network.name}")
        display.show(table_of(told[-1]))
    for note in network.notes:
        display.say(note)
    return told


def likeliest(probabilities: np.ndarray, labels: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The most likely classes with their probabilities, the likeliest first."""
    order = map(int, np.argsort(-probabilities, kind="stable")[:top])
    return [(labels[i], float(probabilities[i])) for i in order]


def table_of(classes: Sequence[tuple[str, float]]) -> Table:
    """Classes and their probabilities as a terminal shows them."""
    table = Table("class", "probability")
    for label, probability in classes:
        table.add_row(escape(label), f"{probability:.4f}")
    return table


def of_run(config: Config) -> Network:
    """The classifier of a finished run."""
    assert config.run is not None
    if config.model is not None:
        raise InputError(f"--run {config.run} knows its network; leave --model out.")
    found = lab.load_network(config.run)
    network = _trained(config, str(config.run), found.model, found.variables, found.saved)
    notes = (f"Of the population this is {found.member}.",) if found.member else ()
    return Network(network.name, found.model, found.variables, network.prepare, found.saved.classes, notes)


def of_weights(config: Config) -> Network:
    """The network of a file of weights, exported by `etude export` or published."""
    assert config.weights is not None
    stored, saved = pretrained.read(config.weights), lab.saved_in(config.weights)
    name = config.model or (saved.model if saved else "resnet50")
    if saved is not None:
        model = lab.model_in(config.weights, saved, config.model)
        variables = pretrained.from_torch(model, stored, pretrained.template(model, saved.shape))
        return _trained(config, str(config.weights), model, variables, saved)
    model, usual = models.create(name), weights.convention(name)
    size = config.size or usual.size
    crop, interpolation = config.crop or usual.crop, config.interpolation or usual.interpolation
    mean, std = config.mean or usual.mean, config.std or usual.std
    shape = (size, size, 3)
    model = model.clone(num_classes=pretrained.num_classes(model, stored, shape))
    moved = pretrained.at_resolution(model, stored, shape)
    variables = pretrained.from_torch(model, moved, pretrained.template(model, shape))
    notes = ()
    if any(moved[name].shape != stored[name].shape for name in stored):
        notes = (f"The positions of {config.weights} were interpolated for images of {size}×{size} pixels.",)

    def read(path: Path) -> np.ndarray:
        return prepare(data.read_image(path, channels=3), size, crop, mean, std, interpolation)

    return Network(name, model, variables, read, None, notes)


def _trained(
    config: Config, name: str, model: nn.Module, variables: tasks.Variables, saved: lab.SavedNetwork
) -> Network:
    given = [option for option in OF_PUBLISHED if getattr(config, option) is not None]
    if given:
        raise InputError(f"{name} knows how its images are prepared; leave --{' and --'.join(given)} out.")
    height, width, _ = saved.shape

    def read(path: Path) -> np.ndarray:
        # Images of one side are resized and cropped as those of a data set with --image-size are.
        pixels = data.decode(path, saved.image_shape, name=str(path), image_size=height if height == width else None)
        return np.asarray(augment.normalize(jnp.asarray(pixels), np.asarray(saved.mean), np.asarray(saved.std)))

    return Network(f"{name} ({saved.model}, trained on {saved.data})", model, variables, read, saved.classes)


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


def classify(model: nn.Module, variables: tasks.Variables, images: Sequence[np.ndarray]) -> np.ndarray:
    """[image, class], the probabilities of images [height, width, channel].

    Raises: InputError if the weights overflow on an image.
    """
    predict = jax.jit(lambda variables, image: model.apply(variables, image[None], train=False)[0])
    logits = np.stack([predict(variables, jnp.asarray(image)) for image in images])
    if not np.isfinite(logits).all():
        raise InputError("The weights give an image logits that are not finite: they are too large for the network.")
    return np.asarray(jax.nn.softmax(logits))


def read_labels(path: Path | None, count: int, known: Sequence[str] | None = None) -> list[str]:
    """Names of classes: the lines of a file, those that are known, or their numbers.

    Raises: MissingFile; InputError if the file is not text or has another number of lines than there are classes.
    """
    if path is None:
        return list(known) if known is not None else [str(i) for i in range(count)]
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
