"""Affine maps of images, masks and boxes, all three by the same matrix.

A map is drawn first, as a matrix, and applied afterwards, so that the masks and boxes of an image can follow it:
`draw_affine` draws the matrix, and `affine_image`, `affine_mask` and `affine_boxes` apply it. Maps compose as matrices
do, and however many there are, the pixels are resampled once.

A matrix [3, 3] takes a point (x, y, 1) of the image to its place in the result. x points right and y down, both in
pixels from the center of the image, so that a matrix means the same whatever the size. Pixel (row, column) is the
square [column, column + 1] × [row, row + 1]; boxes and pixels agree on that.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ...errors import InputError
from ._check import Scalar, require_between, require_image

# Steeper shears would leave nothing of an image.
_STEEPEST = 89.0


def draw_affine(
    key: jax.Array,
    shape: Sequence[int],
    *,
    degrees: Scalar = 0.0,
    scale: Scalar = 0.0,
    translate: Scalar = 0.0,
    shear: Scalar = 0.0,
) -> jax.Array:
    """Draws a shear, then a zoom, a rotation and a translation, as one matrix. With all strengths 0 it is the identity.

    Args:
      key: One key.
      shape: (height, width, …) of the image.
      degrees: Largest rotation in degrees, in [0, 180]: uniform in ±degrees. All strengths may be traced.
      scale: Strength of the zoom, at least 0: the logarithm of the factor is uniform between those of 1 / (1 + scale)
        and 1 + scale.
      translate: Largest shift as a fraction of the width and of the height, in [0, 1]: uniform in ±translate.
      shear: Largest angle in degrees by which upright lines lean, in [0, 89]: uniform in ±shear.
    Returns: Matrix, float32 [3, 3].
    Raises: InputError for a concrete strength out of range.

    >>> draw_affine(jax.random.key(0), (28, 28)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    require_between("draw_affine", 0, 180, degrees=degrees)
    require_between("draw_affine", 0, float(jnp.finfo(jnp.float32).max), scale=scale)
    require_between("draw_affine", 0, 1, translate=translate)
    require_between("draw_affine", 0, _STEEPEST, shear=shear)
    height, width = shape[:2]
    turn, size, right, down, lean = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
    return compose(
        shearing(lean * shear),
        zoom(jnp.exp(size * jnp.log1p(scale))),
        rotation(turn * degrees),
        translation(right * translate * width, down * translate * height),
    )


def draw_flip(key: jax.Array, probability: Scalar = 0.5) -> jax.Array:
    """Draws whether to mirror, for `flip` or, as a matrix, for `mirror`.

    Args:
      key: One key.
      probability: Probability of mirroring, in [0, 1]. May be traced.
    Returns: bool [].
    Raises: InputError for a concrete probability out of range.
    """
    require_between("draw_flip", 0, 1, probability=probability)
    return jax.random.bernoulli(key, probability)


def rotation(degrees: Scalar) -> jax.Array:
    """The matrix of a counterclockwise rotation about the center. The angle may be traced, like the arguments below."""
    angle = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix(cos, sin, 0, -sin, cos, 0)


def zoom(factor: Scalar) -> jax.Array:
    """The matrix that enlarges about the center by a factor > 0."""
    return _matrix(factor, 0, 0, 0, factor, 0)


def translation(x: Scalar, y: Scalar) -> jax.Array:
    """The matrix that moves by x pixels to the right and y down."""
    return _matrix(1, 0, x, 0, 1, y)


def shearing(x_degrees: Scalar, y_degrees: Scalar = 0.0) -> jax.Array:
    """The matrix that leans upright lines by `x_degrees`, or level ones by `y_degrees`, with the center fixed.

    One of them must be 0, or the product of their tangents must differ from 1: otherwise no area would be left.
    """
    x, y = (jnp.tan(jnp.deg2rad(jnp.asarray(degrees, jnp.float32))) for degrees in (x_degrees, y_degrees))
    return _matrix(1, x, 0, y, 1, 0)


def mirror(flipped: Scalar) -> jax.Array:
    """The matrix that mirrors left to right where `flipped`, bool [], is true, else the identity."""
    return _matrix(jnp.where(flipped, -1, 1), 0, 0, 0, 1, 0)


def compose(*matrices: jax.Array) -> jax.Array:
    """The matrix that applies these one after another, the first one first.

    >>> compose(zoom(2.0), translation(3, 0)).tolist()
    [[2.0, 0.0, 3.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    """
    composed = jnp.eye(3)
    for matrix in matrices:
        # By default, accelerators multiply with fewer bits, which would misplace pixels.
        composed = jnp.matmul(matrix, composed, precision=jax.lax.Precision.HIGHEST)
    return composed


def affine_image(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Moves the pixels of an image, with bilinear interpolation; outside the image is 0.

    Shrinking does not blur first, so details finer than a pixel of the result alias.

    Args:
      image: Image [height, width, channel], any real dtype.
      matrix: Matrix [3, 3], invertible, from the image to the result.
    Returns: Same shape and dtype as `image`; integers are rounded. The identity returns `image` exactly.
    Raises: InputError for an image of another rank.

    >>> image = jnp.arange(4, dtype=jnp.uint8).reshape(1, 4, 1)
    >>> affine_image(image, translation(1, 0)).ravel()
    Array([0, 0, 1, 2], dtype=uint8)
    """
    require_image("affine_image", image)
    return look_up_image(image, *_sources(matrix, *image.shape[:2]))


def look_up_image(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """An image at any places, with bilinear interpolation; outside the image is 0.

    Args:
      image: Image [height, width, channel], any real dtype.
      row, column: Place in the image of what comes to each pixel of the result, float [rows, columns]; whole numbers
        are the middles of pixels.
    Returns: [rows, columns, channel], same dtype as `image`; integers are rounded.
    """
    top, left = jnp.floor(row), jnp.floor(column)
    down, right = row - top, column - left
    values = jnp.zeros((*row.shape, image.shape[-1]), jnp.float32)
    # Four gathers of single pixels: on CPU they are five times as fast as one gather of 2×2 windows, and forty times as
    # fast as products with matrices of weights (measured on 128 images of 28×28; by more at 32×32×3).
    for i, vertical in ((top, 1 - down), (top + 1, down)):
        for j, horizontal in ((left, 1 - right), (left + 1, right)):
            pixels, inside = _look_up(image, i, j)
            weight = jnp.where(inside, vertical * horizontal, 0)
            values += weight[..., None] * pixels
    return (jnp.round(values) if jnp.issubdtype(image.dtype, jnp.integer) else values).astype(image.dtype)


def affine_mask(mask: jax.Array, matrix: jax.Array, *, fill: int) -> jax.Array:
    """Moves the pixels of a mask: each takes the class of the nearest source.

    Args:
      mask: Mask [height, width, …], integers or bool.
      matrix: Matrix [3, 3], invertible, from the mask to the result.
      fill: Class of what comes into view: the one that losses ignore, or the background.
    Returns: Same shape and dtype as `mask`.
    Raises: InputError for a mask of another rank or dtype, or a `fill` that the dtype does not hold.
    """
    if mask.ndim < 2 or not (jnp.issubdtype(mask.dtype, jnp.integer) or mask.dtype == jnp.bool_):
        raise InputError(
            "affine_mask wants a mask [height, width, …] of integers or bool, got "
            f"{mask.dtype} of shape {list(mask.shape)}."
        )
    low, high = (0, 1) if mask.dtype == jnp.bool_ else (jnp.iinfo(mask.dtype).min, jnp.iinfo(mask.dtype).max)
    if not low <= fill <= high:
        raise InputError(f"affine_mask wants a fill that {mask.dtype} holds, {low} to {high}, got {fill}.")
    return look_up_mask(mask, *_sources(matrix, *mask.shape[:2]), fill=fill)


def look_up_mask(mask: jax.Array, row: jax.Array, column: jax.Array, *, fill: int) -> jax.Array:
    """A mask at any places: the class of the nearest pixel.

    Args:
      mask: Mask [height, width, …], integers or bool.
      row, column: Same as for `look_up_image`.
      fill: Class outside the mask.
    Returns: [rows, columns, …], same dtype as `mask`.
    """
    classes, inside = _look_up(mask, jnp.floor(row + 0.5), jnp.floor(column + 0.5))
    return jnp.where(inside.reshape(inside.shape + (1,) * (mask.ndim - 2)), classes, jnp.asarray(fill, mask.dtype))


def affine_boxes(boxes: jax.Array, matrix: jax.Array, shape: Sequence[int], *, cut: bool = True) -> jax.Array:
    """The smallest upright boxes around the moved ones, cut at the borders of the image.

    A rotated box may be larger than its object needs. A box that leaves the image ends with no area; the caller drops
    it, as only the caller knows how much of an object must remain.

    Args:
      boxes: Boxes [..., 4], float: (left, top, right, bottom) in pixels from the image's upper left corner.
      matrix: Matrix [3, 3], from the image to the result.
      shape: (height, width, …) of the image.
      cut: Whether to cut at the borders.
    Returns: float32, same shape as `boxes`.
    Raises: InputError if the last dimension is not 4.

    >>> affine_boxes(jnp.array([4.0, 1, 8, 3]), translation(4, 0), (6, 9)).tolist()
    [8.0, 1.0, 9.0, 3.0]
    """
    if boxes.shape[-1:] != (4,):
        raise InputError(f"affine_boxes wants boxes [..., 4], got {list(boxes.shape)}.")
    height, width = shape[:2]
    left, top, right, bottom = jnp.moveaxis(boxes.astype(jnp.float32), -1, 0)
    x = jnp.stack([left, right, left, right]) - width / 2  # [corner, ...]
    y = jnp.stack([top, top, bottom, bottom]) - height / 2
    moved_x = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + width / 2
    moved_y = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + height / 2
    if cut:
        moved_x, moved_y = jnp.clip(moved_x, 0, width), jnp.clip(moved_y, 0, height)
    return jnp.stack([moved_x.min(0), moved_y.min(0), moved_x.max(0), moved_y.max(0)], -1)


def flip(image: jax.Array, flipped: jax.Array) -> jax.Array:
    """Mirrors an image or a mask left to right where `flipped`; boxes follow by `affine_boxes` and `mirror`.

    Args:
      image: Image or mask [height, width, …], any dtype.
      flipped: Whether to mirror, bool [].
    Returns: Same shape and dtype as `image`.
    """
    return jnp.where(flipped, image[:, ::-1], image)


def rectangle(shape: Sequence[int], top: Scalar, left: Scalar, height: Scalar, width: Scalar) -> jax.Array:
    """A mask that is true in an upright rectangle, cut at the borders.

    Args:
      shape: (height, width, …) of the mask.
      top: First row, a whole number, perhaps outside the mask. All four may be traced.
      left: First column, likewise.
      height: Number of rows, a whole number.
      width: Number of columns, likewise.
    Returns: bool [height, width].
    """
    rows, columns = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])
    return (top <= rows) & (rows < top + height) & (left <= columns) & (columns < left + width)


def _matrix(a: Scalar, b: Scalar, x: Scalar, c: Scalar, d: Scalar, y: Scalar) -> jax.Array:
    entries = [jnp.asarray(entry, jnp.float32) for entry in (a, b, x, c, d, y, 0, 0, 1)]
    return jnp.stack(entries).reshape(3, 3)


def _sources(matrix: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Row and column in the image of what comes to each pixel of the result: each float32 [height, width]."""
    (a, b, move_x), (c, d, move_y) = matrix[0], matrix[1]
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = jnp.arange(width) - middle_x - move_x
    y = (jnp.arange(height) - middle_y - move_y)[:, None]
    # Inverted by hand, since vmap would call a solver for each image.
    determinant = a * d - b * c
    return (a * y - c * x) / determinant + middle_y, (d * x - b * y) / determinant + middle_x


def _look_up(array: jax.Array, row: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(array[row, column], whether that is inside the array); outside, the nearest element inside is read."""
    height, width = array.shape[:2]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    rows = jnp.clip(row, 0, height - 1).astype(jnp.int32)
    columns = jnp.clip(column, 0, width - 1).astype(jnp.int32)
    return array[rows, columns], inside
