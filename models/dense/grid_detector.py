"""A detector in a single pass: every cell of several grids says what object has its center there, and where it is.

A small residual trunk, a feature pyramid (Lin et al. 2017: "Feature Pyramid Networks for Object Detection"), and one
head for all levels, as in RetinaNet and FCOS. On request the same network gives each cell the coefficients of its
object's mask, and the image the prototypes that they weigh (Bolya et al. 2019: "YOLACT"), and a class for each pixel,
for panoptic segmentation. `decoding` makes boxes with scores, and masks, of the answer.

The cell in row i and column j of a grid of stride s covers the pixels [s·i, s·(i + 1)) × [s·j, s·(j + 1)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ...errors import InputError
from ..classifiers import BasicBlock
from ..layers import (
    LECUN,
    Conv,
    GroupNorm,
    Precise,
    batch_norm,
    check_images,
    check_positive,
    precision,
    upscale_bilinear,
    upscale_nearest,
)
from .grid import Level, cell_centers, cell_strides, grid_levels


class GridOutputs(NamedTuple):
    """What a `GridDetector` says of a batch, all float32. Cells are in the order of `grid`."""

    class_logits: jax.Array
    """[batch, cells, num_classes]: of a sigmoid for each class, as for the focal loss."""
    boxes: jax.Array
    """[batch, cells, 4]: (x0, y0, x1, y1) in pixels of the image. They may reach out of it."""
    quality_logits: jax.Array
    """[batch, cells]: how good the box is, trained on its centerness or IoU; or objectness."""
    coefficients: jax.Array | None
    """[batch, cells, num_prototypes] in [−1, 1], or None for a network without masks."""
    prototypes: jax.Array | None
    """[batch, height', width', num_prototypes], at least 0, on a grid of half the finest stride; or None."""
    semantic_logits: jax.Array | None
    """[batch, height, width, num_semantic], for every pixel of the image; or None."""


class GridDetector(nn.Module):
    """Images -> `GridOutputs`.

    A box is (center x, center y, height, width), as on the lecture's slide: the center of cell (i, j) is at
    x = s·(j + ½ + reach·tanh(t_x)) and y = s·(i + ½ + reach·tanh(t_y)), and sides are 4·s·exp(t), at most 64 times
    4·s and at least a 64th of it.

    With 20 classes the default has 383,545 parameters, and 495,633 with masks and classes of pixels; an image of 64×64
    costs 98 and 204 million operations.

    Attributes:
      num_classes: number of classes of objects.
      widths: numbers of channels of the trunk's stages; stage n has stride 2ⁿ.
      levels: number of the last stages that have a grid of cells: with four stages, 3 means the strides 4, 8 and 16.
      channels: number of channels of the pyramid and the heads.
      head_depth: number of 3×3 convolutions of each head before its answer.
      reach: how far a center may lie from the middle of its cell, in cells. ½ keeps it inside, as on the slide; with 1½
        the neighbors of a cell can predict its object, too.
      num_prototypes: number of prototype masks; 0 for a network without masks.
      num_semantic: number of classes of pixels; 0 for a network without them.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Outputs are float32.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 20
    widths: Sequence[int] = (16, 32, 64, 96)
    levels: int = 3
    channels: int = 48
    head_depth: int = 2
    reach: float = 0.5
    num_prototypes: int = 0
    num_semantic: int = 0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @property
    def strides(self) -> tuple[int, ...]:
        """Side of the cells of each level in pixels."""
        return tuple(2 ** (n + 1) for n in range(len(self.widths) - self.levels, len(self.widths)))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> GridOutputs:
        """Images [batch, height, width, channel] of any size -> `GridOutputs`.

        Raises: InputError if x is not of rank 4, or a field is not valid.
        """
        self._check(x)
        shape = x.shape[1:3]
        pyramid = self._pyramid(self._trunk(x.astype(self.dtype), train))
        head = Head(
            self.num_classes, self.channels, self.head_depth, self.num_prototypes, **precision(self), name="head"
        )
        answers = [head(grid) for grid in pyramid]  # one head, shared by all levels
        levels = grid_levels(shape[0], shape[1], self.strides)
        logits, places, qualities, coefficients = (jnp.concatenate(parts, 1) for parts in zip(*answers, strict=True))
        prototypes = semantic = None
        if self.num_prototypes:
            prototypes = nn.relu(self._fine(pyramid[0], self.num_prototypes, "prototypes"))
        if self.num_semantic:
            semantic = self._fine(pyramid[0], self.num_semantic, "semantic")
            half = self.strides[0] // 2
            covered = (semantic.shape[1] * half, semantic.shape[2] * half)
            semantic = upscale_bilinear(semantic, covered)[:, : shape[0], : shape[1]]
        return GridOutputs(
            class_logits=logits,
            boxes=cell_boxes(places, levels, self.reach),
            quality_logits=qualities[..., 0],
            coefficients=coefficients if self.num_prototypes else None,
            prototypes=prototypes,
            semantic_logits=semantic,
        )

    def _check(self, x: jax.Array) -> None:
        check_positive(self, "num_classes", "widths", "levels", "channels")
        check_images(self, x)
        if self.levels > len(self.widths):
            raise InputError(f"levels is {self.levels}; the {len(self.widths)} stages of widths allow no more of them.")
        if min(self.head_depth, self.num_prototypes, self.num_semantic) < 0 or self.reach <= 0:
            raise InputError(
                f"head_depth is {self.head_depth}, num_prototypes {self.num_prototypes}, num_semantic "
                f"{self.num_semantic} and reach {self.reach}; no number can be negative, and reach must be above 0."
            )

    def _trunk(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The grids of all stages: ⌈height / 2ⁿ⌉ × ⌈width / 2ⁿ⌉ pixels."""
        x = Conv(self.widths[0], 3, 2, **precision(self), name="stem_conv")(x)
        x = nn.relu(batch_norm(self, train, name="stem_bn")(x))
        grids = [x]
        for i, width in enumerate(self.widths[1:]):
            block = BasicBlock(
                width,
                stride=2,
                shortcut="project",
                axis_name=self.axis_name,
                **precision(self),
                name=f"stage{i + 2}",
            )
            x = block(x, train)
            grids.append(x)
        return grids[-self.levels :]

    def _pyramid(self, grids: list[jax.Array]) -> list[jax.Array]:
        """Every grid with what the coarser ones know: 1×1 convolutions, added from the top down; then a 3×3 each."""
        above, pyramid = None, []
        for stride, grid in reversed(list(zip(self.strides, grids, strict=True))):
            lateral = Conv(self.channels, 1, use_bias=True, **precision(self), name=f"lateral{stride}")(grid)
            if above is not None:
                lateral = lateral + upscale_nearest(above, 2)[:, : grid.shape[1], : grid.shape[2]]
            above = lateral
            smooth = Conv(self.channels, 3, use_bias=True, **precision(self), name=f"smooth{stride}")
            pyramid.insert(0, smooth(lateral))
        return pyramid

    def _fine(self, x: jax.Array, features: int, name: str) -> jax.Array:
        """The finest grid of the pyramid -> features on a grid of twice its size, float32."""
        for i in range(3):
            x = conv_norm(self, x, self.channels // 2 if i == 2 else self.channels, f"{name}{i + 1}")
            x = upscale_bilinear(x, (2 * x.shape[1], 2 * x.shape[2])) if i == 1 else x
        x = Conv(features, 1, use_bias=True, **precision(self), kernel_init=LECUN, name=f"{name}_output")(x)
        return x.astype(jnp.float32)


class Head(nn.Module):
    """The head of all levels: two towers of convolutions, one for classes and one for boxes.

    Attributes:
      num_classes, channels, num_prototypes, dtype, param_dtype: same as in `GridDetector`.
      depth: number of 3×3 convolutions of a tower.
    """

    num_classes: int
    channels: int
    depth: int
    num_prototypes: int
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """[batch, height, width, channels] -> (class logits, places, quality, coefficients), [batch, cells, …] each."""
        towers = {}
        for tower in ("classes", "boxes"):
            towers[tower] = x
            for i in range(self.depth):
                towers[tower] = conv_norm(self, towers[tower], self.channels, f"{tower}{i + 1}")
        # The probability of each class begins at 0.01 (Lin et al. 2017, "Focal Loss", section 4.1).
        rare = nn.initializers.constant(-float(np.log(99.0)))
        logits = self._answer(towers["classes"], self.num_classes, "class_logits", rare)
        places = self._answer(towers["boxes"], 4, "places")
        quality = self._answer(towers["boxes"], 1, "quality")
        coefficients = jnp.zeros((*logits.shape[:2], 0))
        if self.num_prototypes:
            coefficients = jnp.tanh(self._answer(towers["boxes"], self.num_prototypes, "coefficients"))
        return logits, places, quality, coefficients

    def _answer(
        self,
        x: jax.Array,
        features: int,
        name: str,
        bias_init: nn.initializers.Initializer = nn.initializers.zeros,
    ) -> jax.Array:
        small = nn.initializers.normal(0.01)  # ibid.
        y = Conv(features, 3, **precision(self), kernel_init=small, name=name)(x)
        y = y.reshape(len(y), -1, features).astype(jnp.float32)
        return y + self.param(f"{name}_bias", bias_init, (features,), self.param_dtype).astype(jnp.float32)


def conv_norm(module: Precise, x: jax.Array, features: int, name: str) -> jax.Array:
    """A 3×3 convolution with GroupNorm and ReLU: levels of other statistics share it, as BatchNorm's could not."""
    x = Conv(features, 3, **precision(module), name=f"{name}_conv")(x)
    return GroupNorm(8, nn.relu, **precision(module), name=f"{name}_norm")(x)


def cell_boxes(places: jax.Array, levels: Sequence[Level], reach: float) -> jax.Array:
    """The boxes that the answers (t_x, t_y, t_height, t_width) of cells stand for.

    Args:
      places: [batch, cells, 4], any real numbers.
      levels: the grids, of `grid_levels`.
      reach: same as in `GridDetector`.
    Returns: [batch, cells, 4] float32: (x0, y0, x1, y1) in pixels; x0 < x1 and y0 < y1.
    """
    strides = cell_strides(levels)[:, None]
    center = cell_centers(levels) + strides * reach * jnp.tanh(places[..., :2])
    sides = SIDE * strides * jnp.exp(jnp.clip(places[..., 2:], -np.log(LARGEST), np.log(LARGEST)))
    height, width = jnp.split(sides, 2, -1)
    half = jnp.concatenate([width, height], -1) / 2
    return jnp.concatenate([center - half, center + half], -1)


SIDE = 4.0  # of a box at the beginning, in cells, as RetinaNet's anchors have it
LARGEST = 64.0  # factor by which a side can grow or shrink, so that no answer overflows or vanishes
