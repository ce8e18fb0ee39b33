"""Fits an image of any size into a square without changing its proportions, and moves boxes and masks along."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

GRAY = 114  # of the border; the usual choice of single-stage detectors


class Letterbox(NamedTuple):
    """Where an image of some size goes."""

    side: int
    """Pixels per side of the square."""
    height: int
    """Pixels of the scaled image; the longer side is that of the square."""
    width: int
    top: int
    """Pixels of the border above the image; the one below is as wide, or a pixel wider."""
    left: int

    @staticmethod
    def of(height: int, width: int, side: int) -> Letterbox:
        """For an image of this size.

        >>> Letterbox.of(480, 640, 256)
        Letterbox(side=256, height=192, width=256, top=32, left=0)
        """
        longest = max(height, width)
        scaled_height, scaled_width = (max(1, round(length * side / longest)) for length in (height, width))
        return Letterbox(side, scaled_height, scaled_width, (side - scaled_height) // 2, (side - scaled_width) // 2)

    def image(self, image: Image.Image) -> Image.Image:
        """The image, scaled with antialiasing, on gray."""
        scaled = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        square = Image.new(image.mode, (self.side, self.side), GRAY if image.mode == "L" else (GRAY,) * 3)
        square.paste(scaled, (self.left, self.top))
        return square

    def mask(self, mask: np.ndarray, fill: int) -> np.ndarray:
        """A mask or map of classes [height, width], by the nearest pixel; the border is `fill`."""
        rows = ((np.arange(self.height) + 0.5) * mask.shape[0] / self.height).astype(int)
        columns = ((np.arange(self.width) + 0.5) * mask.shape[1] / self.width).astype(int)
        square = np.full((self.side, self.side), fill, mask.dtype)
        square[self.top : self.top + self.height, self.left : self.left + self.width] = mask[rows[:, None], columns]
        return square

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes [n, 4] of an image of this size, in pixels of the square."""
        x, y = self.width / width, self.height / height
        return boxes * np.array([x, y, x, y]) + np.array([self.left, self.top, self.left, self.top])
