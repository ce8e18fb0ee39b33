"""Sets of TensorFlow Datasets with boxes (coco, voc) or masks (oxford_iiit_pet), as examples like those of `annotated`.

- Boxes: the feature "objects", a sequence of "bbox" and "label". "is_crowd" or "is_difficult", where there is one of
  them, is `crowd`. A box without area is left out. There is room for `MOST` objects in an image.
- Masks: the feature "segmentation_mask". Its pixels are 1, 2, … for the classes in `_CLASSES_OF_MASKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import jax
import numpy as np

from ...errors import InputError
from .annotated.letterbox import Frame
from .pixels import read_image, read_mask
from .tfds_library import library

OBJECTS, MASK = "objects", "segmentation_mask"
MOST = 100  # COCO's images have at most 93
_CROWD = ("is_crowd", "is_difficult")
_CLASSES_OF_MASKS = {"oxford_iiit_pet": ("pet", "background", "border")}


def has_objects(features: Any) -> bool:
    """Whether a set's examples have a sequence of boxes with labels."""
    tfds = library()
    if "image" not in features or OBJECTS not in features:
        return False
    inside = getattr(features[OBJECTS], "feature", {})
    labels = "label" in inside and isinstance(inside["label"], tfds.features.ClassLabel)
    return isinstance(features["image"], tfds.features.Image) and "bbox" in inside and labels


def classes_of(name: str, features: Any, part: str) -> tuple[str, ...]:
    """Names of the classes of a set's objects or masks.

    Raises: InputError if it has no such part, or the classes of its masks are not known.
    """
    if part == OBJECTS and has_objects(features):
        return tuple(features[OBJECTS].feature["label"].names)
    known = name.partition("/")[0].partition(":")[0]
    if part == MASK and MASK in features and known in _CLASSES_OF_MASKS:
        return _CLASSES_OF_MASKS[known]
    raise InputError(
        f"tfds:{name} has no part {part!r} that is known; parts are {OBJECTS} (boxes with labels) and {MASK} (of "
        f"{', '.join(_CLASSES_OF_MASKS)})."
    )


@dataclass(frozen=True)
class Annotated:
    """Records of some examples of a stored split, with boxes or masks."""

    encoded: Any
    """The stored split: dicts of bytes, by index."""
    indices: np.ndarray
    name: str
    shape: tuple[int, int, int]
    part: str
    """`OBJECTS` or `MASK`."""
    num_classes: int

    @property
    def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        image = {"image": jax.ShapeDtypeStruct(self.shape, np.uint8)}
        if self.part == MASK:
            return image | {"semantic": jax.ShapeDtypeStruct(self.shape[:2], np.int32)}
        return image | {
            "boxes": jax.ShapeDtypeStruct((MOST, 4), np.float32),
            "labels": jax.ShapeDtypeStruct((MOST,), np.int32),
            "crowd": jax.ShapeDtypeStruct((MOST,), np.bool_),
        }

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        stored, where = self.encoded[int(self.indices[index])], f"Example {index} of {self.name}"
        image = read_image(BytesIO(stored["image"]), name=where, channels=self.shape[2])
        frame = Frame.of(image.height, image.width, self.shape[:2])
        fitted = image if frame.size == frame.shape else frame.image(image)
        example = {"image": np.asarray(fitted, np.uint8).reshape(self.shape)}
        if self.part == MASK:
            values = read_mask(BytesIO(stored[MASK]), name=f"The mask of {where[0].lower()}{where[1:]}")
            if values.shape != frame.size or values.max() > self.num_classes:
                raise InputError(
                    f"{where} has a mask of {values.shape} with values up to {values.max()}; its image is "
                    f"{frame.size}, and there are {self.num_classes} classes."
                )
            return example | {"semantic": frame.mask(values - 1, -1)}
        return example | self._objects(stored[OBJECTS], frame, where)

    def _objects(self, stored: Mapping[str, Any], frame: Frame, where: str) -> dict[str, np.ndarray]:
        height, width = frame.size
        top, left, bottom, right = np.asarray(stored["bbox"], np.float64).reshape(-1, 4).T
        boxes = np.stack([left * width, top * height, right * width, bottom * height], -1).clip(
            0, [width, height, width, height]
        )
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        count = int(kept.sum())
        if count > MOST:
            raise InputError(f"{where} has {count} objects; there is room for {MOST}.")
        objects = {name: np.zeros(spec.shape, spec.dtype) for name, spec in self.element_spec.items()}
        del objects["image"]
        objects["labels"][:] = -1
        objects["boxes"][:count] = frame.boxes(boxes[kept])
        objects["labels"][:count] = np.asarray(stored["label"])[kept]
        crowd = next((stored[name] for name in _CROWD if name in stored), None)
        if crowd is not None:
            objects["crowd"][:count] = np.asarray(crowd, bool)[kept]
        return objects
