"""Prepared sets of TensorFlow Datasets, read without TensorFlow and without the network.

A set is read from its files on disk alone, in the random-access format array_record, by the metadata beside them.
Pillow decodes the images, not tfds, so that gray and CMYK files among color images come out as the set promises.
`prepare` writes the sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, listed
from .images import image_spec
from .pixels import CHANNELS, decode
from .source import Source
from .splits import assign
from .tfds_annotated import OBJECTS, Annotated, classes_of, has_objects
from .tfds_library import contents_of, library, prepared_set

_CHUNK = 4096  # encoded examples read at once for their labels
_FIRST = 64  # images that show whether a test split has objects


def load(name: str, split: str, *, data_dir: str | Path | None = None, image_size: int | None = None) -> Source:
    """One split of a prepared set of labeled or annotated images.

    The set must have an image called "image" and a class called "label", or "objects" with boxes and labels; its other
    features are left out. `#objects` or `#segmentation_mask` after the name asks for a part that is not the label.
    `splits.assign` says which stored split becomes which: in imagenet2012 the stored validation split is the test
    split, and a tenth of train is the validation split. A stored test split without labels (−1, as tfds marks them)
    counts as missing.

    Args:
      name: <name>[/config][:version][#part]; without a version, the latest one on disk. The part is "objects" or
        "segmentation_mask"; by default "objects" of a set without labels, such as coco and voc.
      split: "train", "validation" or "test".
      data_dir: Folder of prepared sets; by default the one that tfds uses.
      image_size: Resizes and crops all images to this many pixels per side (annotated ones are fitted into a square
        with a gray border); needed where the set fixes no size.
    Returns: The split.
    Raises:
      FileNotFoundError: The set is not prepared; the message has the command that prepares it.
      ValueError: tfds has no such set, it is not one of labeled images, or it needs an image size.
    """
    asked, (name, _, part) = name, name.partition("#")
    builder = prepared_set(name, data_dir)
    info = builder.info
    if not part and "label" not in info.features and has_objects(info.features):
        part = OBJECTS
    named = classes_of(name, info.features, part) if part else None
    shape = _image_shape(name, info.features, image_size, labeled=named is None)
    stored = {each: split_info.num_examples for each, split_info in info.splits.items()}
    if stored.get("test") and _is_secret(_encoded(builder, "test"), part):
        del stored["test"]
    which, indices = assign(stored, split)
    if named is not None:
        records = Annotated(_encoded(builder, which), indices, f"tfds:{asked} {split}", shape, part, len(named))
        things = (True,) * len(named) if part == OBJECTS else ()
        return Source(
            f"tfds:{asked}", split, records, records.element_spec, named, contents_of(builder), is_thing=things
        )
    records = _Examples(_encoded(builder, which), indices, f"tfds:{name} {split}", shape, image_size)
    classes = tuple(info.features["label"].names)
    return Source(f"tfds:{name}", split, records, image_spec(*shape), classes, contents_of(builder))


def _is_secret(test: Any, part: str) -> bool:
    """Whether a stored test split has no labels, or no objects in any of its first images, as its authors keep them."""
    if part == OBJECTS:
        return not any(len(test[index][OBJECTS]["label"]) for index in range(min(_FIRST, len(test))))
    return not part and bool(test[0]["label"] < 0)


def _image_shape(name: str, features: Any, image_size: int | None, *, labeled: bool) -> tuple[int, int, int]:
    """Height, width and channels of a set's images after resizing."""
    tfds = library()

    def is_one(key: str, kind: type) -> bool:
        return key in features and isinstance(features[key], kind)

    if not is_one("image", tfds.features.Image) or (labeled and not is_one("label", tfds.features.ClassLabel)):
        have = listed([f"{key} ({type(feature).__name__})" for key, feature in features.items()])
        raise InputError(
            f"tfds:{name} is not a set of labeled images, which have image (Image) and label (ClassLabel): "
            f"it has {have}."
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if len(shape) != 3 or dtype != np.uint8:
        raise InputError(
            f"Images must be uint8 of rank 3, [height, width, channel]; those of tfds:{name} are {dtype} of "
            f"rank {len(shape)}, {list(shape)}."
        )
    height, width, channels = shape
    if channels not in CHANNELS:
        raise InputError(
            f"Images must have {', '.join(map(str, CHANNELS))} channels; those of tfds:{name} have {channels}."
        )
    if image_size is not None:
        height = width = image_size
    if height is None or width is None:
        raise InputError(f"The images of tfds:{name} differ in size: give an image size (--image-size), such as 224.")
    return height, width, channels


@dataclass(frozen=True)
class _Examples:
    """Records of some examples of a stored split."""

    encoded: Any
    """The stored split: dicts of bytes, by index."""
    indices: np.ndarray
    name: str
    shape: tuple[int, int, int]
    image_size: int | None

    @property
    def labels(self) -> np.ndarray:
        """[len]; the images stay encoded."""
        starts = range(0, len(self.indices), _CHUNK)
        chunks = [self.indices[start : start + _CHUNK].tolist() for start in starts]
        return np.array([e["label"] for chunk in chunks for e in self.encoded.__getitems__(chunk)], np.int32)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return self._decode(index, self.encoded[int(self.indices[index])])

    def __getitems__(self, indices: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        # Reading many at once is some 10 times as fast as one by one.
        stored = [int(self.indices[index]) for index in indices]
        return map(self._decode, indices, self.encoded.__getitems__(stored))

    def _decode(self, index: int, example: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        image = decode(
            BytesIO(example["image"]),
            self.shape,
            name=f"Example {index} of {self.name}",
            image_size=self.image_size,
        )
        return {"image": image, "label": np.asarray(example["label"], np.int32)}


def _encoded(builder: Any, stored_split: str) -> Any:
    """The examples of a stored split, their images still encoded."""
    tfds = library()
    images = [key for key, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    return builder.as_data_source(stored_split, decoders={key: tfds.decode.SkipDecoding() for key in images})
