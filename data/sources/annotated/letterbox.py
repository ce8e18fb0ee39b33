"""Fits images of any size into a square on the host, and moves boxes and masks along, as `models.dense.letterbox` does.

The image is resized by Pillow, so that an example has its final shape before it is put on a device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from ....models import dense

GRAY = 114  # of the border; the usual choice of single-stage detectors


class Square(NamedTuple):
    """Where an image of some size goes."""

    side: int
    """Pixels per side of the square."""
    place: dense.Letterbox
    """From pixels of the image to those of the square."""
    inner: tuple[int, int]
    """Height and width of the image in the square, in pixels."""

    @staticmethod
    def of(height: int, width: int, side: int) -> Square:
        """For an image of this size.

        >>> Square.of(480, 640, 256).inner
        (192, 256)
        """
        return Square(side, *dense.letterbox_of(height, width, side))

    def image(self, image: Image.Image) -> Image.Image:
        """The image, scaled with antialiasing, on gray."""
        height, width = self.inner
        scaled = image.resize((width, height), Image.Resampling.BILINEAR)
        square = Image.new(image.mode, (self.side, self.side), GRAY if image.mode == "L" else (GRAY,) * 3)
        square.paste(scaled, (int(self.place.left), int(self.place.top)))
        return square

    def mask(self, mask: np.ndarray, fill: int) -> np.ndarray:
        """A mask or map of classes [height, width], by the nearest pixel; the border is `fill`."""
        rows, columns = (
            ((np.arange(length) + 0.5) * of_mask / length).astype(int)
            for length, of_mask in zip(self.inner, mask.shape, strict=True)
        )
        square = np.full((self.side, self.side), fill, mask.dtype)
        top, left = int(self.place.top), int(self.place.left)
        square[top : top + len(rows), left : left + len(columns)] = mask[rows[:, None], columns]
        return square

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] of the image, in pixels of the square."""
        scale_x, scale_y, left, top = self.place
        return boxes * np.array([scale_x, scale_y, scale_x, scale_y]) + np.array([left, top, left, top])
