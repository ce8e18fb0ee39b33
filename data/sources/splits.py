"""Which examples are for training, for validation and for testing: one policy for every set.

Held-out means held out: the assignment is drawn once and for all, so no seed, flag or machine moves an example from one
split to another.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InputError, listed
from ..order import permutation

SPLITS = ("train", "validation", "test")
SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Name of a split's folder, in any case -> split."""
VALIDATION, TEST = 0.1, 0.1  # fractions carved where a set has no such split

# The key of the fixed permutation. Changing it changes every result ever reported.
_CARVING = 0x5EED_0F_5B117


def assign(stored: Mapping[str, int], split: str) -> tuple[str, np.ndarray]:
    """Where the examples of a split are stored, in a set that may not come with all three splits.

    - A set with train, validation and test is used as it is.
    - Without validation, a tenth of train becomes the validation split.
    - With validation but without test (as in ImageNet, whose test labels are secret), the stored validation split is
      the test split, since papers report on it, and a tenth of train becomes the validation split.
    - With train alone, a tenth of it becomes the validation split and a tenth the test split.

    Args:
      stored: Lengths of the splits that the set comes with; names other than `SPLITS` are ignored.
      split: One of `SPLITS`.
    Returns: (the stored split, indices into it, int64, ascending).
    Raises: InputError if there is no train split, or it is too small to carve.

    >>> which, indices = assign({"train": 100, "validation": 30}, "test")
    >>> which, len(indices)
    ('validation', 30)
    """
    alias = _stored_as(stored)
    missing = {"validation": VALIDATION, "test": TEST}.items()
    carved = carve(stored["train"], {name: fraction for name, fraction in missing if name not in alias})
    if split in carved:
        return "train", carved[split]
    return alias[split], np.arange(stored[alias[split]])


def assign_names(stored: Mapping[str, Sequence[tuple[str, str]]], split: str) -> tuple[str, np.ndarray]:
    """Same as `assign`, for a set whose examples come and go, such as a folder of files.

    An example's split is decided by a hash of its name, so that no other example moves when one is added or removed. A
    tenth of the hashes is of the test split, a tenth of the validation split; the splits have about that part of each
    class. Where a class of at least three examples (two, if only one split is carved) would be missing from a split,
    its example with the lowest hash is moved there (into train: the highest). Smaller classes are for training.

    Args:
      stored: (name, class) of the examples of each split that the set comes with.
      split: one of `SPLITS`.
    Returns: (the stored split, indices into it, int64, ascending).
    Raises: InputError if there is no train split, or all its classes are too small to carve.

    >>> which, indices = assign_names({"train": [(f"{i}.png", "cat") for i in range(1000)]}, "test")
    >>> which, len(indices)
    ('train', 100)
    """
    alias = _stored_as(stored)
    examples = stored["train"]
    missing = [each for each in ("test", "validation") if each not in alias]
    place = np.array([_place(name) for name, _ in examples])
    labels = np.unique([label for _, label in examples], return_inverse=True)[1]
    part = np.full(len(examples), "train", object)
    for each, (low, high) in {"test": (0.0, TEST), "validation": (TEST, TEST + VALIDATION)}.items():
        if each in missing:
            part[(low <= place) & (place < high)] = each
    by_class = np.lexsort((place, labels))
    for of_class in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        if len(of_class) <= len(missing):
            part[of_class] = "train"
            continue
        for each, order in ((missing[0], 1), (missing[-1], 1), ("train", -1)) if missing else ():
            if not (part[of_class] == each).any():
                # Only an example of a split that keeps another one can be moved.
                spare = [i for i in of_class[::order] if (part[of_class] == part[i]).sum() > 1]
                part[spare[0]] = each
    if not all((part == each).any() for each in missing):
        raise InputError(f"{len(examples)} examples are too few to carve {' and '.join(missing)} from.")
    if split in alias and split != "train":
        return alias[split], np.arange(len(stored[alias[split]]))
    return "train", np.flatnonzero(part == split)


def _stored_as(stored: Mapping[str, object]) -> dict[str, str]:
    """Split -> the stored split that it is, for those that are not carved."""
    if "train" not in stored:
        raise InputError(f"The set has no train split: it comes with {listed(stored) or 'none'}.")
    alias = {"train": "train"}
    if "test" in stored:
        alias["test"] = "test"
        if "validation" in stored:
            alias["validation"] = "validation"
    elif "validation" in stored:
        alias["test"] = "validation"
    return alias


def _place(name: str) -> float:
    """A number in [0, 1) that depends on a name alone, also where file systems write its accents in another way."""
    key = os.fsencode(unicodedata.normalize("NFC", name))
    digest = hashlib.blake2b(key, digest_size=8, key=_CARVING.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") / 2**64


def carve(length: int, fractions: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Cuts 0 … length-1 into parts by the fixed permutation.

    Args:
      length: Number of examples.
      fractions: Part -> its share, rounded to whole examples, at least one; "train" gets the rest.
    Returns: Part -> its indices, int64, ascending, with "train" among the parts. No index is in two parts or in none.
    Raises: InputError if a part would be empty.

    >>> {part: len(indices) for part, indices in carve(1000, {"validation": 0.1}).items()}
    {'validation': 100, 'train': 900}
    """
    sizes = {part: max(1, round(fraction * length)) for part, fraction in fractions.items()}
    if sum(sizes.values()) >= length:
        raise InputError(f"{length} examples are too few to carve {' and '.join(sizes) or 'train'} from.")
    order = permutation(_CARVING, length, length).astype(np.int64)
    parts, start = {}, 0
    for part, size in sizes.items():
        parts[part] = np.sort(order[start : start + size])
        start += size
    return parts | {"train": np.sort(order[start:])}
