"""The embedded default: 1,797 real handwritten digits of 8×8 pixels, which scikit-learn carries.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its test part.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from ..order import permutation
from .images import image_spec
from .source import Arrays, Source

FILE = "datasets/data/digits.csv.gz"  # in scikit-learn's folder; the oldest version allowed has it too
_DARKEST = 16  # pixels count the ink of a 4×4 block of the scan
_FRACTIONS = {"validation": 0.1, "test": 0.2}
_CARVING = 0xD161_75


def load(split: str, *, image_size: int | None = None) -> Source:
    """One split: 1,259 digits for training, 179 for validation, 359 for testing, each with every class in proportion.

    Args:
      split: "train", "validation" or "test".
      image_size: Enlarges the images to this many pixels per side.
    Returns: The split, with images uint8 [8, 8, 1], where ink is 255, and labels 0 … 9.
    """
    pixels, labels = _read()
    content = hashlib.blake2b(pixels.tobytes() + labels.tobytes(), digest_size=8).hexdigest()
    images = np.round(pixels * 255 / _DARKEST).astype(np.uint8).reshape(-1, 8, 8, 1)
    chosen = _stratified(labels)[split]
    images, labels = images[chosen], labels[chosen].astype(np.int32)
    if image_size is not None:
        from PIL import Image

        from .pixels import resize

        images = np.stack([np.asarray(resize(Image.fromarray(image[..., 0]), image_size)) for image in images])
        images = images[..., None]
    spec, classes = image_spec(*images.shape[1:]), tuple("0123456789")
    records = Arrays({"image": images, "label": labels})
    return Source("digits", split, records, spec, classes, {"digits": content})


@cache  # a start reads three splits
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [1797, 64] and labels [1797], as `sklearn.datasets.load_digits` returns them.

    The file is found without importing scikit-learn, which would take two seconds of every start.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None  # it is a dependency
    assert package.submodule_search_locations is not None
    table = np.loadtxt(Path(package.submodule_search_locations[0], FILE), delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


def _stratified(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Split -> indices, ascending. Cuts every class by the fractions, in an order that is fixed for ever."""
    parts = {"train": [], "validation": [], "test": []}
    for label in range(10):
        members = np.flatnonzero(labels == label)
        members = members[permutation(_CARVING, label, len(members))]
        validation = round(_FRACTIONS["validation"] * len(members))
        test = validation + round(_FRACTIONS["test"] * len(members))
        parts["validation"].append(members[:validation])
        parts["test"].append(members[validation:test])
        parts["train"].append(members[test:])
    return {split: np.sort(np.concatenate(indices)) for split, indices in parts.items()}
