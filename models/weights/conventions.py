"""How the images of published weights are prepared: size, crop, interpolation and normalization, by a model's name.

The values are those of torchvision's and timm's own configurations. A vision transformer's name ends with the side of
the images that its weights are for.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Triple = tuple[float, float, float]


class Convention(NamedTuple):
    """How an image is prepared for published weights."""

    size: int
    """Side of the square that the network sees, in pixels."""
    crop: float
    """That side as a fraction of the shorter side of the resized image."""
    mean: Triple
    """Means that are subtracted from red, green and blue, of pixels in [0, 1]."""
    std: Triple
    """Standard deviations by which they are divided."""
    interpolation: str
    """Interpolation with which the image is resized: "bilinear" or "bicubic"."""


IMAGENET = Convention(224, 224 / 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")  # torchvision's
HALVES: Triple = (0.5, 0.5, 0.5)
RESNET_D = IMAGENET._replace(interpolation="bicubic")
PREACT = Convention(224, 0.95, HALVES, HALVES, "bicubic")
# By the beginning of a model's name, the longest that fits; as timm has them. ViT's are of the AugReg weights.
CONVENTIONS = {
    "vit": Convention(224, 0.9, HALVES, HALVES, "bicubic"),
    "deit": IMAGENET._replace(crop=0.9, interpolation="bicubic"),
    "preact_resnet": PREACT,
    "preact_resnet18": PREACT._replace(crop=0.9),
    "preact_resnet34": PREACT._replace(crop=0.9),
    **{f"resnet{depth}d": RESNET_D for depth in (18, 34, 50)},
    **{f"resnet{depth}d": RESNET_D._replace(size=256, crop=0.95) for depth in (101, 152)},
}
WHOLE_FROM = 384  # timm's transformers for images of this side, and larger ones, see the whole shorter side


def convention(model: str) -> Convention:
    """How images for a model's published weights are prepared.

    >>> convention("vit_base_patch16_384")[:2], convention("resnet50")[:2]
    ((384, 1.0), (224, 0.875))

    Args:
      model: its name in the catalogue. One that has no published weights gets torchvision's convention.
    """
    known = [prefix for prefix in CONVENTIONS if model.startswith(prefix)]
    found = CONVENTIONS[max(known, key=len)] if known else IMAGENET
    told = re.search(r"_patch\d+_(\d+)$", model)
    size = int(told[1]) if told else found.size
    return found._replace(size=size, crop=1.0 if told and size >= WHOLE_FROM else found.crop)
