"""Classifiers without their heads: images -> grids of the strides 8, 16 and 32, for networks of this chapter.

A trunk is a classifier's class whose call ends before the head, so that its weights have the same names and layout. A
row of `TRUNKS` says, besides, how the head was built that `fcn` turns into convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from ...errors import InputError, listed
from ..classifiers import VGG, AlexNet, BottleneckBlock, ResNet, resnet, vgg


class AlexNetTrunk(AlexNet):
    """`AlexNet` up to its head."""

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # the same layers, another answer
        self, x: jax.Array, *, train: bool = False
    ) -> list[jax.Array]:
        """Images [batch, height, width, channel] -> grids [batch, height', width', channel'], the finest first."""
        del train
        return self.pyramid(x)


class VGGTrunk(VGG):
    """`VGG` up to its head."""

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # the same layers, another answer
        self, x: jax.Array, *, train: bool = False
    ) -> list[jax.Array]:
        """Images [batch, height, width, channel] -> grids [batch, height', width', channel'], the finest first."""
        return self.pyramid(x, train)


class ResNetTrunk(ResNet):
    """`ResNet` up to its head.

    Attributes:
      dilated_stages: number of last stages, at most all but the first, whose blocks dilate their convolutions instead
        of taking strides: each keeps the grid of the stage before. Blocks must be `BottleneckBlock`s then.
    """

    dilated_stages: int = 0

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # the same layers, another answer
        self, x: jax.Array, *, train: bool = False
    ) -> list[jax.Array]:
        """Images [batch, height, width, channel] -> grids [batch, height', width', channel'], the finest first.

        Raises: InputError for dilated stages that there are not, or whose blocks cannot dilate.
        """
        if not 0 <= self.dilated_stages < len(self.stage_sizes):
            raise InputError(
                f"dilated_stages is {self.dilated_stages}; of {len(self.stage_sizes)} stages at most "
                f"{len(self.stage_sizes) - 1} can dilate."
            )
        if self.dilated_stages and self.block is not BottleneckBlock:
            raise InputError(f"{self.block.__name__} cannot dilate its convolutions; BottleneckBlock can.")
        return self.pyramid(x, train)

    def steps(self, stage: int) -> tuple[int, int, int]:
        # As torchvision has it (replace_stride_with_dilation): the first block still has the dilation of the stage
        # before.
        dilated = stage - (len(self.stage_sizes) - self.dilated_stages)
        return super().steps(stage) if dilated < 0 else (1, 2**dilated, 2 ** (dilated + 1))


class Trunk(NamedTuple):
    """A row of `TRUNKS`."""

    make: Callable[..., Any]
    """Makes the trunk; takes the fields dtype and param_dtype, and axis_name where there is BatchNorm."""
    hidden: tuple[int, ...]
    """Widths of the hidden dense layers of the classifier's head."""
    window: int
    """Side of the grid that the first of them reads, in pixels of the coarsest grid."""
    margin: int = 0
    """Zeros on each side of the image with which pixel i of the coarsest grid is centered at 32·i + 15½."""
    norm: bool = True
    """Whether the trunk has BatchNorm."""
    skips: bool = True
    """Whether the grids of the strides 8 and 16 lie on those of 16 and 32, so that their scores can be added."""


def _resnet(depth: int) -> Trunk:
    block, stage_sizes = resnet.IMAGENET[depth]
    return Trunk(partial(ResNetTrunk, block=block, stage_sizes=stage_sizes), (), 1)


def _vgg(depth: int, batch_norm: bool) -> Trunk:
    stages = vgg.vgg(depth).stages
    return Trunk(partial(VGGTrunk, stages=stages, batch_norm=batch_norm), (4096, 4096), 7, norm=batch_norm)


TRUNKS: dict[str, Trunk] = {
    # Its poolings of 3×3 pixels without padding cut the borders off: the margin of 16 makes up for it in the coarsest
    # grid, and in no other.
    "alexnet": Trunk(AlexNetTrunk, (4096, 4096), 6, margin=16, norm=False, skips=False),
    **{f"vgg{depth}": _vgg(depth, False) for depth in vgg.STAGE_SIZES},
    **{f"vgg{depth}_bn": _vgg(depth, True) for depth in vgg.STAGE_SIZES},
    **{f"resnet{depth}": _resnet(depth) for depth in resnet.IMAGENET},
    # VGG-11 with a quarter of its channels, for small images.
    "small": Trunk(
        partial(VGGTrunk, stages=((16,), (32,), (64,) * 2, (128,) * 2, (128,) * 2), batch_norm=True), (256,), 3
    ),
}


def trunk_named(name: str) -> Trunk:
    """The row of a trunk.

    Raises: InputError for a name that there is not.
    """
    if name not in TRUNKS:
        raise InputError(f"There is no trunk {name!r}. Valid are: {listed(TRUNKS)}.")
    return TRUNKS[name]
