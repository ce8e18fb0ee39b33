"""Fits images of any size into a frame of one size on the host, with boxes and masks, as `models.dense.letterbox` does.

The image is resized by Pillow, so that an example has its final shape before it is put on a device.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ....models import dense
from ..pixels import read_image

GRAY = 114  # of the border; the usual choice of single-stage detectors


class Frame(NamedTuple):
    """Where an image of some size goes."""

    shape: tuple[int, int]
    """Height and width of the frame in pixels."""
    place: dense.Letterbox
    """From pixels of the image to those of the frame."""
    inner: tuple[int, int]
    """Height and width of the image in the frame, in pixels."""
    size: tuple[int, int]
    """Height and width of the image itself, in pixels."""

    @staticmethod
    def of(height: int, width: int, shape: int | tuple[int, int]) -> Frame:
        """For an image of this size in a frame, or in a square of so many pixels per side.

        >>> Frame.of(480, 640, 256).inner
        (192, 256)
        """
        shape = (shape, shape) if isinstance(shape, int) else shape
        return Frame(shape, *dense.letterbox_of(height, width, shape), (height, width))

    def image(self, image: Image.Image) -> Image.Image:
        """The image, scaled with antialiasing, on gray."""
        height, width = self.inner
        scaled = image.resize((width, height), Image.Resampling.BILINEAR)
        gray = GRAY if image.mode == "L" else (GRAY,) * 3
        frame = Image.new(image.mode, (self.shape[1], self.shape[0]), gray)
        frame.paste(scaled, (int(self.place.left), int(self.place.top)))
        return frame

    def mask(self, mask: np.ndarray, fill: int) -> np.ndarray:
        """A mask or map of classes [height, width], by the nearest pixel; the border is `fill`."""
        frame = np.full(self.shape, fill, mask.dtype)
        frame[self._inside()] = _nearest(mask, self.inner)
        return frame

    def original_mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask or map of classes of the frame [height, width], in the image's own size, by the nearest pixel."""
        return _nearest(mask[self._inside()], self.size)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] of the image, in pixels of the frame."""
        return boxes * self._factors() + self._shifts()

    def original_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] of the frame, in pixels of the image, cut at its borders."""
        height, width = self.size
        return np.clip((boxes - self._shifts()) / self._factors(), 0, [width, height, width, height])

    def _inside(self) -> tuple[slice, slice]:
        top, left = int(self.place.top), int(self.place.left)
        return slice(top, top + self.inner[0]), slice(left, left + self.inner[1])

    def _factors(self) -> np.ndarray:
        return np.array([self.place.scale_x, self.place.scale_y] * 2)

    def _shifts(self) -> np.ndarray:
        return np.array([self.place.left, self.place.top] * 2)


def read_framed(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, Frame]:
    """The image of a file in a frame of a shape (height, width, channel), and where it lies there.

    Args:
      path: of the file.
      shape: of the images that a network was trained on.
    Returns: (uint8 of this shape, what maps boxes and masks back). An image of the shape's size stays as it is.
    Raises: same as `data.read_image`.
    """
    image = read_image(path, channels=shape[2])
    frame = Frame.of(image.height, image.width, shape[:2])
    fitted = image if frame.size == frame.shape else frame.image(image)
    return np.asarray(fitted, np.uint8).reshape(shape), frame


def _nearest(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        ((np.arange(length) + 0.5) * of_mask / length).astype(int)
        for length, of_mask in zip(shape, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]
