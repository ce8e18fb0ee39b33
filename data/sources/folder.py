"""A folder of images as a data set: one folder per class, named like the class; classes are in alphabetical order.

Images are either in <path>/<class>/, from which the splits are carved, or in <path>/train/<class>/, perhaps with
folders validation and test beside train. `splits.assign` says how a missing split is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import InputError, MissingFile
from .images import image_spec
from .pixels import decode
from .source import Source
from .splits import SPLITS, assign

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def load(path: Path, split: str, *, image_size: int | None = None) -> Source:
    """One split of a folder of images.

    All images get the shape of the first training image: gray if it is gray, else RGB, and its size, unless an image
    size is given. Hidden files and files whose suffix is not one of `SUFFIXES` are ignored.

    Args:
      path: The folder.
      split: "train", "validation" or "test".
      image_size: Resizes and crops all images to this many pixels per side.
    Returns: The split. Reading an image that is broken or of another size raises ValueError, which names the file.
    Raises:
      FileNotFoundError: There is no such folder.
      ValueError: It has no class folders, an empty one, splits that differ in their classes, or too few images.
    """
    if not path.is_dir():
        raise MissingFile(f"There is no folder {path}.")
    stored = _list(path)
    classes = tuple(sorted({label for label, _ in stored["train"]}))
    which, indices = assign({name: len(files) for name, files in stored.items()}, split)
    files = [stored[which][i] for i in indices]
    shape = _shape(stored["train"][0][1], image_size)
    labels = {label: np.asarray(number, np.int32) for number, label in enumerate(classes)}
    records = _Files(tuple((file, labels[label]) for label, file in files), shape, image_size)
    return Source(f"folder:{path}", split, records, image_spec(*shape), classes)


@dataclass(frozen=True)
class _Files:
    """Records read from (file, label) pairs."""

    files: tuple[tuple[Path, np.ndarray], ...]
    shape: tuple[int, int, int]
    image_size: int | None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        file, label = self.files[index]
        return {"image": decode(file, self.shape, name=str(file), image_size=self.image_size), "label": label}


def _list(path: Path) -> dict[str, list[tuple[str, Path]]]:
    """Stored split -> its (class, file) pairs, sorted."""
    folders = {name: path / name for name in SPLITS if (path / name).is_dir()}
    if not folders:
        return {"train": _list_classes(path)}
    if "train" not in folders:
        raise InputError(f"{path} has a folder {', '.join(folders)} but no folder train beside it.")
    stored = {name: _list_classes(folder) for name, folder in folders.items()}
    wanted = {label for label, _ in stored["train"]}
    for name, files in stored.items():
        differing = sorted(wanted ^ {label for label, _ in files})
        if differing:
            raise InputError(
                f"{folders[name]} and {folders['train']} differ in their class folders: {', '.join(differing)}."
            )
    return stored


def _list_classes(path: Path) -> list[tuple[str, Path]]:
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise InputError(f"{path} has no class folders: images must be in {path}/<class>/.")
    found = []
    for folder in folders:
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
        if not files:
            raise InputError(f"{folder} has no images; their suffixes may be {', '.join(sorted(SUFFIXES))}.")
        found += [(folder.name, file) for file in files]
    return found


def _shape(first: Path, image_size: int | None) -> tuple[int, int, int]:
    try:
        with Image.open(first) as image:
            channels = 1 if image.mode in ("1", "L") else 3
            height, width = (image.height, image.width) if image_size is None else (image_size, image_size)
    except OSError as error:
        raise InputError(f"{first} can't be read as an image: {error}.") from error
    return height, width, channels
