"""Residual networks (He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016) and plain twins.

A network is a stem, stages of blocks and a linear head. Within a stage all blocks but the first are equal, so
they run under `nn.scan`: their parameters are stacked on a leading axis, and the compiler sees one block however
deep the network is. A block is a module class, and the network's field `block` says which one.

`PreActResNet` is the network of "Identity Mappings in Deep Residual Networks" (He et al. 2016b), and `wide` the one of
"Wide Residual Networks" (Zagoruyko and Komodakis 2016). Options are those of ResNet-D (He, T. et al. 2019: "Bag of
Tricks for Image Classification with Convolutional Neural Networks"), stochastic depth and dropout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .layers import HE_FAN_OUT, Conv, Dropout, batch_norm, check_positive
from .torch_names import torch_entry


class Block(nn.Module):
    """What blocks have in common: `features` is the width of the stage.

    stride: of the block's strided convolution.
    shortcut: "none" for the identity (shapes must agree), "pad" for the parameter-free option A, "project" for
      the 1×1 convolution of option B, "pool_project" for ResNet-D's average pooling before it.
    zero_init_residual: the residual branch begins at 0.
    dropout: before the block's last convolution; may be traced.
    """

    features: int
    stride: int = 1
    shortcut: str = "none"
    zero_init_residual: bool = False
    dropout: Any = 0.0
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    expansion = 1

    def conv(self, features: int, kernel_size: int, stride: int = 1, *, name: str, init=HE_FAN_OUT) -> Conv:
        return Conv(
            features, kernel_size, stride, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=init, name=name
        )

    def norm(self, train: bool, *, name: str, last: bool = False) -> nn.BatchNorm:
        scale_init = nn.initializers.zeros if last and self.zero_init_residual else nn.initializers.ones
        return batch_norm(self, train, name=name, scale_init=scale_init)

    def drop(self, x: jax.Array, train: bool) -> jax.Array:
        return Dropout(self.dropout)(x, train)

    def around(self, x: jax.Array, train: bool) -> jax.Array:
        """The shortcut: what is added to the residual branch."""
        if self.shortcut in PROJECTIONS:
            conv, bn = PROJECTIONS[self.shortcut]
            return self.norm(train, name=bn)(self.projected(x, conv))
        return self.padded(x) if self.shortcut == "pad" else x

    def padded(self, x: jax.Array) -> jax.Array:
        """Every stride-th pixel, and zeros for the channels that x does not have."""
        x = x[:, :: self.stride, :: self.stride]
        missing = self.features * self.expansion - x.shape[-1]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))

    def projected(self, x: jax.Array, name: str) -> jax.Array:
        """The 1×1 convolution of a shortcut, strided or after average pooling."""
        features = self.features * self.expansion
        if self.shortcut == "project":
            return self.conv(features, 1, self.stride, name=name)(x)
        return self.conv(features, 1, name=name)(average_pool(x, self.stride))


# Shortcuts with parameters: names of their convolution and normalisation.
PROJECTIONS = {"project": ("downsample_conv", "downsample_bn"), "pool_project": ("pooled_conv", "pooled_bn")}


def average_pool(x: jax.Array, side: int) -> jax.Array:
    """Means of squares of side × side, and at the end of a grid that they do not divide, of what is there.

    Args:
      x: [batch, height, width, channel].
    Returns: [batch, ⌈height / side⌉, ⌈width / side⌉, channel].
    """
    rest: Any = tuple((0, -size % side) for size in x.shape[1:3])  # flax declares a string only
    return nn.avg_pool(x, (side, side), (side, side), rest, count_include_pad=False)


def drop_branch(branch: jax.Array, drop_path: jax.Array | None, train: bool) -> jax.Array:
    """Stochastic depth; None is off, and draws nothing."""
    return branch if drop_path is None else Dropout(drop_path, whole_examples=True)(branch, train)


class BasicBlock(Block):
    """Two 3×3 convolutions (figure 5, left)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, name="conv2")(self.drop(y, train))
        y = self.norm(train, name="bn2", last=True)(y)
        return nn.relu(drop_branch(y, drop_path, train) + self.around(x, train))


class PlainBlock(Block):
    """A basic block without its shortcut, of the same parameters as one with option A."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        """Raises: ValueError for stochastic depth, which would leave nothing."""
        if drop_path is not None:
            raise ValueError("A plain block has no shortcut, so drop_path must be 0.")
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, name="conv2")(self.drop(y, train))
        return nn.relu(self.norm(train, name="bn2")(y))


class BottleneckBlock(Block):
    """1×1, 3×3, 1×1 convolutions (figure 5, right); the stride is in the 3×3, as in torchvision ("v1.5")."""

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        y = self.conv(self.features, 1, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(train, name="bn2")(y))
        y = self.conv(self.features * self.expansion, 1, name="conv3")(self.drop(y, train))
        y = self.norm(train, name="bn3", last=True)(y)
        return nn.relu(drop_branch(y, drop_path, train) + self.around(x, train))


class PreActBlock(Block):
    """What blocks with normalisation and ReLU before their convolutions have in common (He et al. 2016b, figure 4e).

    Nothing but additions lies on the way around them, save where shapes change: there the shortcut begins at the
    activation, without a normalisation of its own, as in the authors' code.

    zero_init_residual: the last convolution begins at 0. (A scale of 0 would put ReLU where its derivative is 0.)
    """

    def last_conv(self, features: int, kernel_size: int, *, name: str) -> Conv:
        init = nn.initializers.zeros if self.zero_init_residual else HE_FAN_OUT
        return self.conv(features, kernel_size, name=name, init=init)

    def past(self, x: jax.Array, activation: jax.Array) -> jax.Array:
        """The shortcut of x, whose normalised activation is `activation`."""
        if self.shortcut in PROJECTIONS:
            return self.projected(activation, PROJECTIONS[self.shortcut][0])
        return self.padded(activation) if self.shortcut == "pad" else x


class PreActBasicBlock(PreActBlock):
    """Two 3×3 convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        activation = nn.relu(self.norm(train, name="norm1")(x))
        y = self.conv(self.features, 3, self.stride, name="conv1")(activation)
        y = nn.relu(self.norm(train, name="norm2")(y))
        y = self.last_conv(self.features, 3, name="conv2")(self.drop(y, train))
        return drop_branch(y, drop_path, train) + self.past(x, activation)


class PreActBottleneckBlock(PreActBlock):
    """1×1, 3×3, 1×1 convolutions; the stride is in the 3×3, as in timm."""

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        activation = nn.relu(self.norm(train, name="norm1")(x))
        y = self.conv(self.features, 1, name="conv1")(activation)
        y = nn.relu(self.norm(train, name="norm2")(y))
        y = self.conv(self.features, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(train, name="norm3")(y))
        y = self.last_conv(self.features * self.expansion, 1, name="conv3")(self.drop(y, train))
        return drop_branch(y, drop_path, train) + self.past(x, activation)


PADDED_BY_ONE: Any = ((1, 1), (1, 1))  # flax declares a string only


class ResNet(nn.Module):
    """Stem, stages, global average pooling, linear head.

    num_classes: width of the logits.
    block: `BasicBlock`, `PlainBlock` or `BottleneckBlock`.
    stage_sizes: blocks of each stage.
    width: channels of the first stage; each further stage has twice as many on half the grid.
    stem_width: channels of the stem; by default `width`.
    imagenet_stem: 7×7/2 convolution and 3×3/2 max pooling; else one 3×3 convolution.
    deep_stem: three 3×3 convolutions in place of the 7×7 (ResNet-D).
    shortcut: where shapes differ: "project" (option B), "pad" (option A) or "pool_project" (ResNet-D).
    zero_init_residual: the residual branch of each block begins at 0, by its last BatchNorm's scale.
    drop_path: stochastic depth: the branch of block l of L falls with probability drop_path·l/L; may be traced.
    dropout: of the pooled features; may be traced.
    block_dropout: before the last convolution of each block (Zagoruyko and Komodakis 2016, section 2.4); may be traced.
    remat: recompute each scanned block in the backward pass instead of keeping its activations.
    axis_name: the pmap axis over which BatchNorm averages; None elsewhere.
    dtype: of the computation; param_dtype: of the parameters. Logits are float32.
    """

    num_classes: int = 1000
    block: type[Block] = BasicBlock
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    stem_width: int | None = None
    imagenet_stem: bool = True
    deep_stem: bool = False
    shortcut: str = "project"
    zero_init_residual: bool = False
    drop_path: Any = 0.0
    dropout: Any = 0.0
    block_dropout: Any = 0.0
    remat: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes], float32.

        Draws from the stream "dropout" where a rate is not 0.

        Raises: ValueError if x is not of rank 4, a size is not positive, for a stem or shortcut that there is not, or a
          drop_path outside [0, 1].
        """
        check_positive(self, "num_classes", "stage_sizes", "width")
        if x.ndim != 4:
            raise ValueError(f"ResNet wants images [batch, height, width, channel]; it was given shape {x.shape}.")
        if self.deep_stem and not self.imagenet_stem:
            raise ValueError("deep_stem is a kind of imagenet_stem, which is off.")
        if self.shortcut not in ("pad", *PROJECTIONS):
            raise ValueError(f"There is no shortcut {self.shortcut!r}. Valid are: pad, {', '.join(PROJECTIONS)}.")
        rates = block_rates(self.drop_path, sum(self.stage_sizes))
        x = self.stem(x.astype(self.dtype), train)
        first = 0
        for stage, blocks in enumerate(self.stage_sizes):
            x = self._stage(x, stage, blocks, None if rates is None else rates[first : first + blocks], train)
            first += blocks
        x = self.end(x, train).mean((1, 2))
        x = Dropout(self.dropout)(x, train)
        x = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype, name="fc")(x)
        return x.astype(jnp.float32)

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(batch_norm(self, train, name="bn1")(self.stem_conv(x, train)))
        return nn.max_pool(x, (3, 3), (2, 2), PADDED_BY_ONE) if self.imagenet_stem else x

    def stem_conv(self, x: jax.Array, train: bool) -> jax.Array:
        """One convolution, or three of which all but the last are normalised here."""
        conv = partial(Conv, dtype=self.dtype, param_dtype=self.param_dtype)
        width = self.stem_width or self.width
        if not self.deep_stem:
            size, stride = (7, 2) if self.imagenet_stem else (3, 1)
            return conv(width, size, stride, name="conv1")(x)
        for i, stride in ((1, 2), (2, 1)):
            x = conv(width // 2, 3, stride, name=f"stem_conv{i}")(x)
            x = nn.relu(batch_norm(self, train, name=f"stem_bn{i}")(x))
        return conv(width, 3, name="stem_conv3")(x)

    def end(self, x: jax.Array, train: bool) -> jax.Array:
        """What follows the last stage."""
        del train
        return x

    def _stage(self, x: jax.Array, stage: int, blocks: int, rates: jax.Array | None, train: bool) -> jax.Array:
        features = self.width * 2**stage
        stride = 1 if stage == 0 else 2
        block = partial(
            self.block,
            features,
            zero_init_residual=self.zero_init_residual,
            dropout=self.block_dropout,
            axis_name=self.axis_name,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        same_shape = stride == 1 and x.shape[-1] == features * self.block.expansion
        first = block(
            stride=stride, shortcut="none" if same_shape else self.shortcut, name=f"layer{stage + 1}_first"
        )  # fmt: skip
        x = first(x, train, None if rates is None else rates[0])
        if blocks == 1:
            return x

        def body(module, x, rate):
            return module(x, train, rate), None

        body = nn.remat(body, prevent_cse=False) if self.remat else body
        rest = nn.scan(
            body,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=blocks - 1,
        )
        return rest(block(name=f"layer{stage + 1}_rest"), x, None if rates is None else rates[1:])[0]


class PreActResNet(ResNet):
    """A `ResNet` of pre-activation blocks: the stem ends at its convolution, and the last stage in BatchNorm and ReLU.

    block: `PreActBasicBlock` or `PreActBottleneckBlock`.
    """

    block: type[Block] = PreActBasicBlock

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.stem_conv(x, train)
        return nn.max_pool(x, (3, 3), (2, 2), PADDED_BY_ONE) if self.imagenet_stem else x

    def end(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.relu(batch_norm(self, train, name="norm")(x))


def block_rates(drop_path: float | jax.Array, blocks: int) -> jax.Array | None:
    """The rates of stochastic depth, which grow linearly with depth (Huang et al. 2016, equation 4).

    Args:
      drop_path: of the last block; may be traced.
      blocks: L. (timm begins at 0 instead of at drop_path/L.)
    Returns: [blocks], or None for the number 0.
    Raises: ValueError for a number outside [0, 1].
    """
    if isinstance(drop_path, int | float):
        if not 0 <= drop_path <= 1:
            raise ValueError(f"drop_path is {drop_path}; it must be in [0, 1].")
        if drop_path == 0:
            return None
    return drop_path * jnp.arange(1, blocks + 1) / blocks


def cifar(depth: int, *, block: type[Block] = BasicBlock, **fields: Any) -> ResNet:
    """The CIFAR family (section 4.2): three stages of n blocks with 16, 32, 64 channels, depth 6n + 2.

    Args:
      depth: 8, 14, 20, …: layers with weights.
      block: `BasicBlock`, or `PlainBlock` for the plain twin.
      fields: of `ResNet`; 10 classes and option A unless said otherwise.
    Raises: ValueError if depth is not 6n + 2 with n ≥ 1.
    """
    return ResNet(block=block, **(_cifar_fields(depth) | fields))


def preact_cifar(depth: int, **fields: Any) -> PreActResNet:
    """The CIFAR family with pre-activation blocks; arguments and errors as of `cifar`."""
    return PreActResNet(**(_cifar_fields(depth) | fields))


def _cifar_fields(depth: int) -> dict[str, Any]:
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth is {depth}; the CIFAR family has depths 6n + 2: 8, 14, 20, 26, 32, …")
    n = (depth - 2) // 6
    return {"stage_sizes": (n, n, n), "num_classes": 10, "width": 16, "imagenet_stem": False, "shortcut": "pad"}


def wide(depth: int, factor: int, **fields: Any) -> PreActResNet:
    """WRN-depth-factor (Zagoruyko and Komodakis 2016, table 1): pre-activation, three stages of 16·factor channels on.

    WRN-28-10 has 36.5 M parameters at 10 classes. The paper counts the projection as a layer: depth 6n + 4.

    Args:
      depth: 10, 16, 22, 28, 34, 40, …
      factor: how many times as wide as the CIFAR family.
      fields: of `ResNet`; 10 classes and projections unless said otherwise. The paper's dropout is `block_dropout`.
    Raises: ValueError if depth is not 6n + 4 with n ≥ 1, or factor < 1.
    """
    if depth < 10 or depth % 6 != 4 or factor < 1:
        raise ValueError(
            f"depth is {depth} and factor {factor}; wide networks have depths 6n + 4: 10, 16, 22, 28, … and factors "
            "of at least 1."
        )
    n = (depth - 4) // 6
    defaults: dict[str, Any] = {
        "num_classes": 10, "stage_sizes": (n, n, n), "width": 16 * factor, "stem_width": 16, "imagenet_stem": False
    }  # fmt: skip
    return PreActResNet(**(defaults | fields))


# Table 1 of the paper.
IMAGENET = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
}
PRE_ACTIVATION = {BasicBlock: PreActBasicBlock, BottleneckBlock: PreActBottleneckBlock}


def imagenet(depth: int, **fields: Any) -> ResNet:
    """The ImageNet family of table 1, with torchvision's strides.

    Args:
      depth: 18, 34, 50, 101 or 152.
      fields: of `ResNet`; 1000 classes unless said otherwise.
    Raises: ValueError for another depth.
    """
    block, stage_sizes = _imagenet_stages(depth)
    return ResNet(block=block, stage_sizes=stage_sizes, **fields)


def preact_imagenet(depth: int, **fields: Any) -> PreActResNet:
    """The ImageNet family with pre-activation blocks, timm's `resnetv2_<depth>`; arguments and errors as `imagenet`."""
    block, stage_sizes = _imagenet_stages(depth)
    return PreActResNet(block=PRE_ACTIVATION[block], stage_sizes=stage_sizes, **fields)


def _imagenet_stages(depth: int) -> tuple[type[Block], tuple[int, ...]]:
    if depth not in IMAGENET:
        raise ValueError(f"depth is {depth}; the ImageNet family has depths {', '.join(map(str, IMAGENET))}.")
    return IMAGENET[depth]


# ResNet-D of He, T. et al. 2019, which is timm's `resnet<depth>d`.
RESNET_D: dict[str, Any] = {"deep_stem": True, "shortcut": "pool_project"}

# torchvision's and timm's names where they are not ours. Their Sequentials count ReLU and pooling too.
TORCH_NAMES = {
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
    "pooled_conv": "downsample.1",
    "pooled_bn": "downsample.2",
    "stem_conv1": "conv1.0",
    "stem_bn1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_bn2": "conv1.4",
    "stem_conv3": "conv1.6",
}
PREACT_INNER_NAMES = {"downsample_conv": "downsample.conv", "pooled_conv": "downsample.conv"}
PREACT_TORCH_NAMES = {
    "conv1": "stem.conv",
    "stem_conv1": "stem.conv1",
    "stem_bn1": "stem.norm1",
    "stem_conv2": "stem.conv2",
    "stem_bn2": "stem.norm2",
    "stem_conv3": "stem.conv3",
    "fc": "head.fc",
}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, array) of torchvision's ResNet, or timm's ResNet-D, for one of our leaves: one for each block of a stack.

    Args:
      path: (collection, module, …, leaf).
      array: of our layout.
    """
    collection, *modules, leaf = path
    named = [TORCH_NAMES.get(module, module) for module in modules]
    if stage := _stage_of(modules):
        return [
            torch_entry([f"layer{stage}", str(block), *named[1:]], collection, leaf, part)
            for block, part in _blocks(modules, array)
        ]
    return [torch_entry(named, collection, leaf, array)]


def preact_torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """`torch_entries` for timm's `resnetv2` networks, whose classifier is a 1×1 convolution."""
    collection, *modules, leaf = path
    if stage := _stage_of(modules):
        inner = [PREACT_INNER_NAMES.get(module, module) for module in modules[1:]]
        return [
            torch_entry([f"stages.{stage - 1}.blocks.{block}", *inner], collection, leaf, part)
            for block, part in _blocks(modules, array)
        ]
    if (modules[0], leaf) == ("fc", "kernel"):
        array = array[None, None]
    return [torch_entry([PREACT_TORCH_NAMES.get(modules[0], modules[0])], collection, leaf, array)]


def _stage_of(modules: Sequence[str]) -> int:
    """The stage that a module is in; 0 outside of them."""
    match = re.fullmatch(r"layer(\d+)_(first|rest)", modules[0])
    return int(match[1]) if match else 0


def _blocks(modules: Sequence[str], array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the block in its stage, its array)."""
    return enumerate(array, 1) if modules[0].endswith("_rest") else iter([(0, array)])
