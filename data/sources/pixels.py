"""Encoded images to uint8 arrays of the shape that a source promised, with Pillow."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import InputError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
CHANNELS = tuple(_MODES)


def decode(file: Path | BytesIO, shape: tuple[int, int, int], *, name: str, image_size: int | None) -> np.ndarray:
    """Reads one image.

    Args:
      file: Path or bytes of an encoded image in any format that Pillow knows.
      shape: (height, width, channels) that it must have, with 1, 3 or 4 channels; other modes are converted.
      name: What messages call the image.
      image_size: Resize and crop to this many pixels per side; None to take the image as it is.
    Returns: uint8, of that shape.
    Raises: InputError, which names the image, if it can't be read or has another height or width.
    """
    try:
        with Image.open(file) as opened:
            image = opened.convert(_MODES[shape[2]])
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow's error for a broken PNG is a SyntaxError
        raise InputError(f"{name} can't be read as an image: {error}.") from error
    if image_size is not None:
        image = resize(image, image_size)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, shape[2])
    if pixels.shape != shape:
        raise InputError(
            f"{name} is {image.width}×{image.height} pixels where {shape[1]}×{shape[0]} were expected; for "
            "images that differ in size give an image size (--image-size) to resize and crop all of them to."
        )
    return pixels


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resizes the shorter side to `size` pixels and crops the center: a square image."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # Crops and resizes in one call, with antialiasing, so that nothing is resized only to be cut off.
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
