"""Encoded images to uint8 arrays of the shape that a source promised, with Pillow."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name of it
CHANNELS = tuple(_MODES)


def decode(file: Path | BytesIO, shape: tuple[int, int, int], *, name: str, image_size: int | None) -> np.ndarray:
    """Reads one image.

    Args:
      file: path or bytes of an encoded image of any format that Pillow knows.
      shape: [height, width, channel] that it must have; with 1, 3 or 4 channels, to which others are
        converted.
      name: what to call it in a message.
      image_size: resize and crop to this many pixels a side; None to take the image as it is.
    Returns: uint8, of that shape.
    Raises: ValueError naming the image if it can't be read or has another height or width.
    """
    try:
        with Image.open(file) as opened:
            image = opened.convert(_MODES[shape[2]])
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # SyntaxError: a broken PNG, to Pillow
        raise ValueError(f"{name} can't be read as an image: {error}.") from error
    if image_size is not None:
        image = resize(image, image_size)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, shape[2])
    if pixels.shape != shape:
        raise ValueError(
            f"{name} is {image.width}×{image.height} pixels where {shape[1]}×{shape[0]} were expected; for "
            "images that differ in size give an image size (--image-size) to resize and crop all of them to."
        )
    return pixels


def resize(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to `size` pixels, then a crop of the centre: a square image."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    # Cropped and resized in one go, with antialiasing: what is cut off need not be resized.
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
