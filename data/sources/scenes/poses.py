"""Which rotations and sizes an object may have, in each split: no pose of one split occurs in another.

Rotations of ±45° are cut into six bands of 15°, sizes into four bands of equal ratio. Of the 24 combinations, 16 are
for training, 4 for validation and 4 for testing. Every rotation and every size is seen in training, but at each size
there is one band of rotations that only validation has, and one that only the test has. Bands do not touch: poses
within 1/20 of a band's edge do not occur.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DEGREES = 45.0  # largest rotation; more would make a 6 of a 9
SMALLEST, LARGEST = 0.3, 0.6  # longer side of an object, as a fraction of the side of the scene
_ROTATIONS, _SIZES = 6, 4
_EDGE = 0.05  # part of a band, at either end, that does not occur
_SPLIT_OF = {0: "test", 3: "validation"}  # (band of rotations + 2 · band of sizes) mod 6; the others are for training


class Poses(NamedTuple):
    """Combinations of a band of rotations and a band of sizes, of which a pose is drawn."""

    degrees: np.ndarray
    """float32 [combination, 2]: lowest and highest rotation, counterclockwise."""
    size: np.ndarray
    """float32 [combination, 2]: lowest and highest size, as a fraction of the side of the scene."""

    @staticmethod
    def of(split: str) -> Poses:
        """Those of "train", "validation" or "test".

        >>> Poses.of("test").degrees[0].tolist()
        [-44.25, -30.75]
        """
        combinations = [
            (rotation, size)
            for rotation in range(_ROTATIONS)
            for size in range(_SIZES)
            if _SPLIT_OF.get((rotation + 2 * size) % _ROTATIONS, "train") == split
        ]
        edges = np.array([_EDGE, 1 - _EDGE])
        rotation, size = (np.array(each)[:, None] + edges for each in zip(*combinations, strict=True))
        degrees = -DEGREES + 2 * DEGREES / _ROTATIONS * rotation
        sizes = SMALLEST * (LARGEST / SMALLEST) ** (size / _SIZES)
        return Poses(degrees.astype(np.float32), sizes.astype(np.float32))
