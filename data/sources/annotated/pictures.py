"""Images with objects, as files of any format have them, and the examples of fixed shape that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ....errors import InputError, listed
from ..files import Checked, shown
from ..pixels import read_image
from .letterbox import Frame
from .rle import Rle, mask_of


class Objects(NamedTuple):
    """What is annotated on an image."""

    boxes: np.ndarray
    """float [n, 4]: (x0, y0, x1, y1) in pixels of the file's image, with some area inside of it."""
    labels: np.ndarray
    """int [n]."""
    crowd: np.ndarray
    """bool [n]."""
    rles: tuple[Rle | None, ...]
    """The mask of each in pycocotools' encoding; None of one that has none."""
    stuff: tuple[tuple[int, Rle], ...] = ()
    """(label, mask) of each region of stuff."""


class Picture(NamedTuple):
    """An image file and its objects."""

    path: Path
    height: int
    width: int
    objects: Objects


def clip(box: Sequence[float], height: int, width: int) -> list[float] | None:
    """A box cut at the borders of the image; None if no area is left of it."""
    x0, x1 = (min(max(x, 0.0), float(width)) for x in box[0::2])
    y0, y1 = (min(max(y, 0.0), float(height)) for y in box[1::2])
    return [x0, y0, x1, y1] if x1 > x0 and y1 > y0 else None


def left_out(what: str, ids: Sequence[object]) -> tuple[str, ...]:
    """The note on annotations that are no examples; none if there are none."""
    number = f"{len(ids):,} annotation" + ("s" if len(ids) != 1 else "")
    return (f"Left out, since {what}: {number} ({listed(map(str, ids))}).",) if ids else ()


def shape_of(checked: Iterable[tuple[Path, Checked]], image_size: int | None, title: str) -> tuple[int, int, int]:
    """(height, width, channels) that all images get: gray if all are gray.

    Raises: InputError if images differ in size and no image size is given, or there are none.
    """
    checked = list(checked)
    if not checked:
        raise InputError(f"{title} has no images.")
    channels = max(each.channels for _, each in checked)
    if image_size is not None:
        return image_size, image_size, channels
    first_path, first = checked[0]
    for path, each in checked:
        if (each.height, each.width) != (first.height, first.width):
            raise InputError(
                f"{shown(path)} is {each.width}×{each.height} pixels and {shown(first_path)} "
                f"{first.width}×{first.height}: for images that differ in size give an image size (--image-size), into "
                "whose square each is fitted, with a gray border."
            )
    return first.height, first.width, channels


def read_fitted(path: Path, shape: tuple[int, int, int], box: Frame | None) -> np.ndarray:
    """The image of a file, uint8 of this shape; fitted into the square of `box`, if there is one."""
    image = read_image(path, name=shown(path), channels=shape[2])
    fitted = image if box is None else box.image(image)
    pixels = np.asarray(fitted, np.uint8).reshape(fitted.height, fitted.width, shape[2])
    if pixels.shape != shape:
        raise InputError(f"{shown(path)} has changed its size since it was checked.")
    return pixels


@dataclass(frozen=True)
class Pictures:
    """Records of pictures: "image", "boxes", "labels", "crowd", and "masks" and "semantic" where they are known."""

    pictures: tuple[Picture, ...]
    shape: tuple[int, int, int]
    """Of the images."""
    most: int
    """N, the number of objects that boxes, labels, crowd and masks are padded to."""
    image_size: int | None
    names: tuple[str, ...]
    """Arrays of an example."""

    @property
    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        height, width, _ = self.shape
        every = {
            "image": jax.ShapeDtypeStruct(self.shape, np.uint8),
            "boxes": jax.ShapeDtypeStruct((self.most, 4), np.float32),
            "labels": jax.ShapeDtypeStruct((self.most,), np.int32),
            "crowd": jax.ShapeDtypeStruct((self.most,), np.bool_),
            "masks": jax.ShapeDtypeStruct((self.most, height, width), np.uint8),
            "semantic": jax.ShapeDtypeStruct((height, width), np.int32),
        }
        return {name: every[name] for name in self.names}

    def select(self, names: Sequence[str]) -> Pictures:
        """The same pictures with some arrays alone: no mask is decoded that is not asked for."""
        return replace(self, names=tuple(names))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        path, height, width, objects = self.pictures[index]
        box = None if self.image_size is None else Frame.of(height, width, self.image_size)
        example = {name: np.zeros(spec.shape, spec.dtype) for name, spec in self.element_spec.items()}
        n = len(objects.labels)
        if "image" in example:
            example["image"] = read_fitted(path, self.shape, box)
        if "boxes" in example:
            example["boxes"][:n] = objects.boxes if box is None else box.boxes(objects.boxes)
        if "labels" in example:
            example["labels"][:] = -1
            example["labels"][:n] = objects.labels
        if "crowd" in example:
            example["crowd"][:n] = objects.crowd
        if "masks" in example:
            for place, rle in enumerate(objects.rles):
                mask = mask_of(rle)
                example["masks"][place] = mask if box is None else box.mask(mask, 0)
        if "semantic" in example:
            semantic = _semantic(objects, height, width)
            example["semantic"] = semantic if box is None else box.mask(semantic, -1)
        return example


def _semantic(objects: Objects, height: int, width: int) -> np.ndarray:
    """The label of each pixel, −1 where nothing is annotated. Objects lie over stuff, smaller ones over larger ones."""
    semantic = np.full((height, width), -1, np.int32)
    for label, rle in objects.stuff:
        semantic[mask_of(rle) > 0] = label
    masks = [mask_of(rle) for rle in objects.rles if rle is not None]
    labels = [label for label, rle in zip(objects.labels, objects.rles, strict=True) if rle is not None]
    for i in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
        semantic[masks[i] > 0] = labels[i]
    return semantic
