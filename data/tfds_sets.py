"""Prepared sets of TensorFlow Datasets, read without TensorFlow and without the network.

A set is read from what lies on disk alone, in the random-access format array_record, by the metadata that
lies beside it. Pillow decodes, not tfds: that way grey and CMYK files among colour images come out as the set
promises. `prepare` puts sets there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .pixels import CHANNELS, decode
from .source import Source, image_spec
from .splits import assign

_NAME = re.compile(r"(?P<set>\w+)(/(?P<config>[\w\-.]+))?(:(?P<version>\d+\.\d+\.\d+))?")

# Sets that `prepare` makes from their authors' archives, without TensorFlow.
ARCHIVED = ("mnist", "fashion_mnist", "kmnist")


def load(name: str, split: str, *, data_dir: str | Path | None = None, image_size: int | None = None) -> Source:
    """One split of a prepared set of labelled images.

    The set must have an image called "image" and a class called "label"; whatever else its examples have is
    left out. Which stored split becomes which is told by `splits.assign`; so in imagenet2012 the validation
    split is the test split and a tenth of train is for validation. A stored test split without labels (-1, as
    tfds marks them) counts as none.

    Args:
      name: <name>[/config][:version]; without a version the latest one on disk.
      split: "train", "validation" or "test".
      data_dir: where prepared sets are; by default where tfds has them.
      image_size: resizes and crops all images to this many pixels a side; needed where the set fixes no size.
    Returns: the split.
    Raises:
      FileNotFoundError: the set is not prepared; says the command that prepares it.
      ValueError: tfds has no such set, it is not one of labelled images, or it needs an image size.
    """
    builder = _find(name, data_dir)
    info = builder.info
    shape = _image_shape(name, info.features, image_size)
    stored = {each: split_info.num_examples for each, split_info in info.splits.items()}
    for each in stored:
        missing = [path for path in info.splits[each].filepaths if not path.exists()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]} is missing: delete {builder.data_dir} and prepare tfds:{name} again."
            )
    if stored.get("test") and _encoded(builder, "test")[0]["label"] < 0:
        del stored["test"]
    which, indices = assign(stored, split)
    records = _Examples(_encoded(builder, which), indices, f"tfds:{name} {split}", shape, image_size)
    return Source(f"tfds:{name}", split, records, image_spec(*shape), tuple(info.features["label"].names))


def library() -> Any:
    """tensorflow_datasets, imported when first needed. It fills itself lazily, which types can't follow."""
    import tensorflow_datasets

    return tensorflow_datasets


def parse(name: str) -> Mapping[str, str | None]:
    """The set, config and version of <name>[/config][:version].

    Raises: ValueError if it has another form.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is no name of a tfds set: these are <name>[/config][:version], such as mnist:3.0.1."
        )
    return match.groupdict()


def check_known(name: str) -> None:
    """Raises ValueError, which lists near names, if tfds knows no set of this name."""
    tfds = library()
    known = tfds.list_builders(with_community_datasets=False)  # by the files of the package: no network
    wanted = parse(name)["set"] or ""
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=3)
        hint = f"Near names are {', '.join(near)}." if near else "https://www.tensorflow.org/datasets lists them."
        raise ValueError(f"TensorFlow Datasets has no set {wanted!r}. {hint}")


def find(name: str, data_dir: str | Path | None) -> Any | None:
    """The tfds builder of a set that lies on disk; None if it does not. Never touches the network."""
    tfds = library()
    parse(name)
    where = None if data_dir is None else str(Path(data_dir).expanduser())
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=where)
    except tfds.core.DatasetNotFoundError:
        return None


def command(name: str, data_dir: str | Path | None) -> str:
    """The command that prepares a set."""
    only_set = parse(name)["set"]
    if only_set in ARCHIVED:
        name = only_set  # archives have one version
    archives = " --archives DIR" if name in ARCHIVED else ""
    where = "" if data_dir is None else f" --data-dir {data_dir}"
    extra = "" if archives else " (after pip install 'etude[prepare]')"
    return f"etude prepare tfds:{name}{archives}{where}{extra}"


def _find(name: str, data_dir: str | Path | None) -> Any:
    """The builder of a prepared set, or the message that says what to do."""
    tfds = library()
    builder = find(name, data_dir)
    if builder is None:
        check_known(name)  # sets of the user's own need not be known, if they are there
        where = tfds.core.constants.DATA_DIR if data_dir is None else data_dir
        raise FileNotFoundError(f"tfds:{name} is not prepared in {where}. To get it: {command(name, data_dir)}")
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"tfds:{name} lies in {builder.data_dir} as {builder.info.file_format.value}, which can't be "
            f"read by index; prepare it as array_record in another folder: {command(name, 'DIR')}"
        )
    return builder


def _image_shape(name: str, features: Any, image_size: int | None) -> tuple[int, int, int]:
    """Height, width and channels of a set's images, as they will be."""
    tfds = library()

    def is_one(key: str, kind: type) -> bool:
        return key in features and isinstance(features[key], kind)

    if not (is_one("image", tfds.features.Image) and is_one("label", tfds.features.ClassLabel)):
        have = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
        raise ValueError(
            f"tfds:{name} is no set of labelled images, which have image (Image) and label (ClassLabel): it has {have}."
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if len(shape) != 3 or dtype != np.uint8:
        raise ValueError(
            f"Images must be uint8 of rank 3, [height, width, channel]; those of tfds:{name} are {dtype} of "
            f"rank {len(shape)}, {list(shape)}."
        )
    height, width, channels = shape
    if channels not in CHANNELS:
        raise ValueError(
            f"Images must have {', '.join(map(str, CHANNELS))} channels; those of tfds:{name} have {channels}."
        )
    if image_size is not None:
        height = width = image_size
    if height is None or width is None:
        raise ValueError(f"The images of tfds:{name} differ in size: give an image size (--image-size), such as 224.")
    return height, width, channels


@dataclass(frozen=True)
class _Examples:
    """Records of some examples of a stored split. encoded: dicts of bytes, by index."""

    encoded: Any
    indices: np.ndarray
    name: str
    shape: tuple[int, int, int]
    image_size: int | None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return self._decode(index, self.encoded[int(self.indices[index])])

    def __getitems__(self, indices: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
        # One read of many is some 10 times as fast as many of one.
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
