"""Masks in COCO's encodings (polygons, run lengths as numbers or text), checked before pycocotools reads them, in C."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from ....errors import InputError

Rle: TypeAlias = Any
"""A mask in pycocotools' encoding, a dict whose type is private there."""


def to_rle(segmentation: Any, height: int, width: int, where: str) -> Rle:
    """The mask of an annotation in pycocotools' encoding.

    Args:
      segmentation: polygons [[x0, y0, x1, y1, …], …], or {"size": [height, width], "counts": numbers or text}.
      height: of the image in pixels.
      width: likewise.
      where: what messages call the annotation.
    Raises: InputError for a polygon of fewer than three points, half a point or infinite numbers, and for run lengths
      of another size than the image's, or that do not add up to it.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not isinstance(polygon, list) or not all(_is_number(each) for each in polygon):
                raise InputError(f"{where}: a polygon must be a list of finite numbers, x0, y0, x1, y1, …")
            if len(polygon) < 6 or len(polygon) % 2:
                raise InputError(
                    f"{where}: a polygon must have at least three points, an even number of at least 6 numbers, "
                    f"got {len(polygon)}."
                )
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise InputError(
            f'{where}: "segmentation" must be a list of polygons, or run lengths with "size" and "counts".'
        )
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [height, width]:
        raise InputError(
            f"{where}: its run lengths have the size {size}; [height, width] of its image are {[height, width]}."
        )
    numbers = _numbers(counts, where) if isinstance(counts, str) else counts
    if not isinstance(numbers, list) or not all(isinstance(each, int) and each >= 0 for each in numbers):
        raise InputError(f"{where}: run lengths must be text or whole numbers of at least 0.")
    if sum(numbers) != height * width:
        raise InputError(f"{where}: its run lengths add up to {sum(numbers)} pixels; its image has {height * width}.")
    uncompressed: Any = {"size": size, "counts": numbers}
    return coco_mask.frPyObjects(uncompressed, height, width)


def _numbers(text: str, where: str) -> list[int]:
    """Run lengths from COCO's text: six bits a character, of which one says that the number goes on; from the third
    number on, differences to the last but one (rleFrString in pycocotools' maskApi.c)."""
    numbers, value, shift = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise InputError(f"{where}: its run lengths have the character {character!r}, which none can have.")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise InputError(f"{where}: its run lengths end in the middle of a number.")
    return numbers


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask [height, width] as COCO writes it in JSON: {"size": [height, width], "counts": compressed run lengths}."""
    from pycocotools import mask as coco_mask

    rle: Any = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def mask_of(rle: Rle) -> np.ndarray:
    """The mask of run lengths, uint8 [height, width]."""
    from pycocotools import mask as coco_mask

    return coco_mask.decode(rle)
