"""The U-Net (Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015).

Two 3×3 convolutions on each of ever coarser grids, and back up again; every result on the way down is joined to the
input of the level on the way up that works on the same grid. The network of the paper pads nothing, so that its answer
is smaller than the image (572 -> 388); the usual one pads zeros, and answers for every pixel.
"""

from __future__ import annotations

from itertools import count

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import (
    HE_FAN_OUT,
    LECUN,
    Conv,
    ConvTranspose,
    Dropout,
    batch_norm,
    check_images,
    check_positive,
    max_pool,
    precision,
)

PADDINGS = ("SAME", "VALID")


class UNet(nn.Module):
    """Images -> logits of each pixel, or of each pixel that is far enough from the border.

    Attributes:
      num_classes: number of classes, the width of the logits.
      width: number of channels of the finest grid; each coarser one has twice as many.
      depth: number of poolings, so that there are depth + 1 grids.
      padding: "SAME" pads zeros; "VALID" pads nothing, as in the paper.
      skips: join the results on the way down to the way up; False is the ablation, with fewer parameters.
      batch_norm: BatchNorm between each 3×3 convolution and its ReLU. The paper has none.
      dropout: dropout rate at the end of the way down; may be traced.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 2
    width: int = 64
    depth: int = 4
    padding: str = "SAME"
    skips: bool = True
    batch_norm: bool = False
    dropout: float | jax.Array = 0.0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, height', width', num_classes].

        The answer has the size of the image, or, with padding "VALID", that of `output_size` around its center.
        Draws from the stream "dropout".

        Raises: InputError if x is not of rank 4, a size cannot be halved `depth` times without a rest (with the
          nearest sizes that can), or a field is not valid.
        """
        check_positive(self, "num_classes", "width")
        _check_fields(self.depth, self.padding)
        check_images(self, x)
        for name, size in zip(("height", "width"), x.shape[1:3], strict=True):
            output_size(size, self.depth, self.padding, name)
        x, skips = x.astype(self.dtype), []
        for level in range(self.depth):
            x = self._convolutions(x, level, f"down{level + 1}", train)
            skips.append(x)
            x = max_pool(x, (2, 2))
        x = self._convolutions(x, self.depth, "bottom", train)
        x = Dropout(self.dropout)(x, train)
        for level in reversed(range(self.depth)):
            up = ConvTranspose(self.width * 2**level, 2, 2, 0, use_bias=True, **precision(self), name=f"up{level + 1}")
            x = up(x)
            if self.skips:
                x = jnp.concatenate([center_crop(skips[level], (x.shape[1], x.shape[2])), x], -1)
            x = self._convolutions(x, level, f"up{level + 1}", train)
        x = Conv(self.num_classes, 1, use_bias=True, **precision(self), kernel_init=LECUN, name="output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _convolutions(self, x: jax.Array, level: int, name: str, train: bool) -> jax.Array:
        for i in (1, 2):
            conv = Conv(
                self.width * 2**level,
                3,
                padding=1 if self.padding == "SAME" else 0,
                use_bias=True,
                **precision(self),
                kernel_init=HE_FAN_OUT,
                name=f"{name}_conv{i}",
            )
            x = conv(x)
            if self.batch_norm:
                x = batch_norm(self, train, name=f"{name}_bn{i}")(x)
            x = nn.relu(x)
        return x


def output_size(size: int, depth: int = 4, padding: str = "SAME", name: str = "size") -> int:
    """The height (or width) of a U-Net's answer to an image of this height (or width).

    >>> output_size(572, padding="VALID"), output_size(64)
    (388, 64)

    Args:
      size: of the image, in pixels.
      depth: number of poolings.
      padding: same as in `UNet`.
      name: what the message calls the size.
    Raises: InputError for a size that the network does not take, with the nearest ones that it does, and for a depth or
      padding that there is not.
    """
    _check_fields(depth, padding)
    answer = _output_size(size, depth, padding)
    if answer is not None:
        return answer
    below = next((n for n in range(size - 1, 0, -1) if _output_size(n, depth, padding) is not None), None)
    above = next(n for n in count(max(size, 0) + 1) if _output_size(n, depth, padding) is not None)
    near = f"{above}" if below is None else f"{below} and {above}"
    raise InputError(
        f"The {name} of the images is {size}, which a U-Net with {depth} poolings and padding {padding} cannot halve "
        f"without a rest. The nearest that it takes: {near}."
    )


def _check_fields(depth: int, padding: str) -> None:
    if depth < 0:
        raise InputError(f"depth is {depth}; it must be at least 0.")
    if padding not in PADDINGS:
        raise InputError(f"padding is {padding!r}; valid are {', '.join(PADDINGS)}.")


def _output_size(size: int, depth: int, padding: str) -> int | None:
    """The size of the answer, or None for a size that the network does not take."""
    lost = 0 if padding == "SAME" else 4  # two convolutions without padding
    for _ in range(depth):
        size -= lost
        if size < 2 or size % 2:
            return None
        size //= 2
    size -= lost
    for _ in range(depth):
        if size < 1:
            return None
        size = 2 * size - lost
    return size if size >= 1 else None


def mirror_padded(x: jax.Array, depth: int = 4) -> jax.Array:
    """Images, continued by mirroring, for whose whole area a U-Net with padding "VALID" answers.

    `center_crop` of the answer to the height and width of the images is the answer for the images.

    Args:
      x: [batch, height, width, channel].
      depth: number of poolings.
    Returns: [batch, height', width', channel], of the least size whose answer is not smaller than the images.
    Source: Ronneberger et al. 2015, section 2 (the overlap-tile strategy), with one tile.

    >>> mirror_padded(jnp.zeros((1, 388, 388, 1))).shape
    (1, 572, 572, 1)
    """
    pads = []
    for size in x.shape[1:3]:
        padded = next(n for n in count(size) if (_output_size(n, depth, "VALID") or 0) >= size)
        answer = output_size(padded, depth, "VALID")
        before = (padded - answer) // 2 + (answer - size) // 2
        pads.append((before, padded - size - before))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="reflect")


def center_crop(x: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The middle of images or maps, such as the truth that belongs to the answer of a U-Net without padding.

    Args:
      x: [batch, height, width, …].
      shape: (height', width'), each at most that of x. Of an odd rest the larger part is cut off at the end.
    Returns: [batch, height', width', …].
    Raises: InputError if the shape is larger than x.
    """
    top, left = (size - wanted for size, wanted in zip(x.shape[1:3], shape, strict=True))
    if min(top, left) < 0:
        raise InputError(f"Nothing of {tuple(shape)} can be cut from {x.shape[1:3]}.")
    top, left = top // 2, left // 2
    return x[:, top : top + shape[0], left : left + shape[1]]
