"""Which examples are for training, for choosing and for the final word: one policy for every set.

Held-out means held out: the assignment is drawn once and for all, so no seed, no flag and no machine moves an
example from one split to another.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .order import permutation

SPLITS = ("train", "validation", "test")
VALIDATION, TEST = 0.1, 0.1  # fractions carved where a set has no such split

# The word that the fixed permutation is drawn from. Changing it changes every result ever reported.
_CARVING = 0x5EED_0F_5B117


def assign(stored: Mapping[str, int], split: str) -> tuple[str, np.ndarray]:
    """Where the examples of a split are, in a set that may not come with all three.

    - train, validation and test: each is itself.
    - no validation: a tenth of train is.
    - validation but no test (as in ImageNet, whose test labels are secret): validation is the test split,
      since that is what papers report on, and a tenth of train is the validation split.
    - train alone: a tenth of it is validation, a tenth test.

    Args:
      stored: lengths of the splits that the set comes with; other names than `SPLITS` are not looked at.
      split: one of `SPLITS`.
    Returns: (the stored split, indices into it, int64, ascending).
    Raises: ValueError if there is no train split, or it is too small to carve.
    """
    if "train" not in stored:
        raise ValueError(f"The set has no train split: it comes with {', '.join(stored) or 'none'}.")
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
      length: how many.
      fractions: part -> its share, rounded to whole examples, at least one; "train" gets the rest.
    Returns: part -> its indices, int64, ascending; "train" too. The parts are disjoint and cover.
    Raises: ValueError if a part would be empty.
    """
    sizes = {part: max(1, round(fraction * length)) for part, fraction in fractions.items()}
    if sum(sizes.values()) >= length:
        raise ValueError(f"{length} examples are too few to carve {' and '.join(sizes) or 'train'} from.")
    order = permutation(_CARVING, length, length).astype(np.int64)
    parts, start = {}, 0
    for part, size in sizes.items():
        parts[part] = np.sort(order[start : start + size])
        start += size
    return parts | {"train": np.sort(order[start:])}
