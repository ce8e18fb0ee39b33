"""Letterboxing: an image of any size in a frame of one size, with its aspect ratio kept, and the way back for boxes.

Image and boxes go through one affine map along each axis. The image is resized to a whole number of pixels, so that the
two axes may be scaled by slightly different factors: the map has the exact ones.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError


class Letterbox(NamedTuple):
    """Where an image lies in its frame: x' = scale_x · x + left, and y' = scale_y · y + top, in pixels."""

    scale_x: float
    scale_y: float
    left: float
    top: float

    def to_frame(self, boxes: jax.Array) -> jax.Array:
        """Boxes of the image -> boxes of the frame.

        Args:
          boxes: [..., 4] corners in pixels of the image. Padding becomes a box without area at the image's corner.
        Returns: [..., 4] float32, in pixels of the frame.
        """
        return boxes * self._factors() + self._shifts()

    def to_image(self, boxes: jax.Array) -> jax.Array:
        """Boxes of the frame -> boxes of the image: the inverse of `to_frame`.

        Args:
          boxes: [..., 4] corners in pixels of the frame. What lies in the padding comes out beyond the image's border.
        Returns: [..., 4] float32, in pixels of the image.
        """
        return (boxes - self._shifts()) / self._factors()

    def _factors(self):
        return jnp.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], jnp.float32)

    def _shifts(self):
        return jnp.array([self.left, self.top, self.left, self.top], jnp.float32)


def letterbox_of(height: int, width: int, size: int | tuple[int, int]) -> tuple[Letterbox, tuple[int, int]]:
    """Where an image of this shape lies in a frame, as large as it can be, in the middle.

    Args:
      height: of the image, in pixels.
      width: of the image, in pixels.
      size: (height, width) of the frame in pixels, or the side of a square.
    Returns: the map, and (height, width) of the image in the frame, in pixels. A side is at least 1 pixel.
    Raises: InputError if a number is below 1.

    >>> letterbox_of(50, 101, 64)
    (Letterbox(scale_x=0.6336633663366337, scale_y=0.64, left=0, top=16), (32, 64))
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(height, width, rows, columns) < 1:
        raise InputError(
            f"An image of {height} × {width} in a frame of {rows} × {columns}: each must be at least 1 pixel."
        )
    scale = min(rows / height, columns / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
    return Letterbox(inner[1] / width, inner[0] / height, left, top), inner


def letterbox(images: jax.Array, size: int, *, fill: float | jax.Array = 0.0) -> tuple[jax.Array, Letterbox]:
    """Resizes images bilinearly into squares, without aliasing where they shrink, and fills the rest.

    Args:
      images: [batch, height, width, channel], any float type.
      size: side of the square, in pixels.
      fill: value of the padding; a number, or [channel].
    Returns: [batch, size, size, channel], of the type of the images, and the map of boxes, the same for all of them.
    Raises: InputError for another rank, for integers, or if a number of pixels is below 1.

    >>> squares, place = letterbox(jnp.ones((1, 2, 4, 1)), 4)
    >>> print(squares[0, ..., 0])
    [[0. 0. 0. 0.]
     [1. 1. 1. 1.]
     [1. 1. 1. 1.]
     [0. 0. 0. 0.]]
    >>> print(place.to_frame(jnp.array([0.0, 0, 4, 2])))
    [0. 1. 4. 3.]
    """
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"letterbox expects float images [batch, height, width, channel]; got {images.shape} {images.dtype}."
        )
    place, inner = letterbox_of(images.shape[1], images.shape[2], size)
    resized = jax.image.resize(images, (len(images), *inner, images.shape[-1]), "linear")
    square = jnp.broadcast_to(jnp.asarray(fill, images.dtype), (len(images), size, size, images.shape[-1]))
    return jax.lax.dynamic_update_slice(square, resized, (0, int(place.top), int(place.left), 0)), place
