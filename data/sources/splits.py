"""Which examples are for training, for validation and for testing: one policy for every set.

Held-out means held out: the assignment is drawn once and for all, so no seed, flag or machine moves an example from one
split to another.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import InputError
from ..order import permutation

SPLITS = ("train", "validation", "test")
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
    if "train" not in stored:
        raise InputError(f"The set has no train split: it comes with {', '.join(stored) or 'none'}.")
    alias = {"train": "train"}
    if "test" in stored:
        alias["test"] = "test"
        if "validation" in stored:
            alias["validation"] = "validation"
    elif "validation" in stored:
        alias["test"] = "validation"
    missing = {"validation": VALIDATION, "test": TEST}.items()
    carved = carve(stored["train"], {name: fraction for name, fraction in missing if name not in alias})
    if split in carved:
        return "train", carved[split]
    return alias[split], np.arange(stored[alias[split]])


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
