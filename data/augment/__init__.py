"""Augmentation on device: pure functions of a key and one image, or of a key and a batch where examples mix.

`color` and `geometry` change an image by a given amount, and masks and boxes follow `geometry`; the functions below
draw the amounts. `annotated` changes an image together with its masks and boxes. `mixing` makes one example of two.
"""

from . import annotated, color, geometry, mixing
from .images import (
    Augmentation,
    chain,
    color_jitter,
    normalize,
    per_example,
    random_affine,
    random_cutout,
    random_erase,
    random_flip,
    random_noise,
    random_shift,
)
from .policies import OPERATIONS, draw_operations, rand_augment

__all__ = [
    "OPERATIONS",
    "Augmentation",
    "annotated",
    "chain",
    "color",
    "color_jitter",
    "draw_operations",
    "geometry",
    "mixing",
    "normalize",
    "per_example",
    "rand_augment",
    "random_affine",
    "random_cutout",
    "random_erase",
    "random_flip",
    "random_noise",
    "random_shift",
]
