"""Fully convolutional networks (Long, Shelhamer, Darrell: "Fully Convolutional Networks for …", CVPR 2015).

A classifier whose dense layers are read as convolutions scores every window of a larger image. `FCN` upscales such
scores to the image by transposed convolutions that begin as bilinear interpolation: from stride 32 alone (FCN-32s), or
joined on the way by scores from the grids of strides 16 and 8 (FCN-16s, FCN-8s). `FCNResNet` is torchvision's network:
a dilated ResNet, one 3×3 convolution, and bilinear upscaling by 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError, listed
from ..classifiers import BottleneckBlock
from ..layers import (
    Conv,
    ConvTranspose,
    Dropout,
    batch_norm,
    bilinear_kernel,
    check_images,
    check_positive,
    precision,
    upscale_bilinear,
)
from .convolutional import convolutional_kernels
from .trunks import ResNetTrunk, trunk_named

STRIDES = (32, 16, 8)


class FCN(nn.Module):
    """FCN-32s, 16s or 8s: a trunk, the classifier's hidden layers as convolutions, scores, and the way back up.

    Images are filled up with zeros at the end to multiples of 32 pixels, and the answer is cut off there. The first
    hidden convolution sees zeros around its grid where the paper's network has zeros around the image. Residual
    networks center the pixels of a grid at the first pixel of each square and not in its middle; the kernels that
    upscale learn that shift.

    Attributes:
      num_classes: number of classes, the width of the logits. Pascal VOC has 21 with the background.
      trunk: name of the trunk, a key of `TRUNKS`.
      stride: of the finest grid that is scored: 32, 16 or 8.
      hidden: widths of the hidden convolutions; by default those of the trunk's classifier.
      window: side of the first hidden convolution; by default that of the trunk's classifier.
      dropout: dropout rate of the hidden convolutions' outputs; may be traced.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 21
    trunk: str = "vgg16"
    stride: int = 8
    hidden: Sequence[int] | None = None
    window: int | None = None
    dropout: float | jax.Array = 0.5
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, height, width, num_classes], of any size.

        Draws from the stream "dropout".

        Raises: InputError if x is not of rank 4, there is no such trunk or stride, or the trunk's grids do not allow
          it.
        """
        check_positive(self, "num_classes")
        row = trunk_named(self.trunk)
        if self.stride not in STRIDES or (self.stride < 32 and not row.skips):
            valid = ", ".join(map(str, STRIDES)) if row.skips else "32 alone, as its grids do not lie on each other"
            raise InputError(f"stride is {self.stride}; valid for the trunk {self.trunk} are: {valid}.")
        check_images(self, x)
        _, height, width, _ = x.shape
        m = row.margin
        x = jnp.pad(x, ((0, 0), (m, m + -height % 32), (m, m + -width % 32), (0, 0)))
        norm = {"axis_name": self.axis_name} if row.norm else {}
        grids = row.make(**norm, **precision(self), name="features")(x, train=train)
        hidden = row.hidden if self.hidden is None else self.hidden
        y = self._hidden(grids[-1], hidden, row.window if self.window is None else self.window, train)
        scores = self._scores(y, 32)
        for level, stride in enumerate(s for s in STRIDES[1:] if s >= self.stride):
            scores = self._upscaled(scores, 2, f"upscale{stride}") + self._scores(grids[-2 - level], stride)
        y = self._upscaled(scores, self.stride, "upscale")[:, :height, :width]
        return y.astype(jnp.promote_types(y.dtype, jnp.float32))

    def _hidden(self, x: jax.Array, hidden: Sequence[int], window: int, train: bool) -> jax.Array:
        height, width = x.shape[1:3]
        for i, features in enumerate(hidden):
            size = window if i == 0 else 1
            conv = Conv(features, size, use_bias=True, **precision(self), name=f"dense{i + 1}")
            # A kernel of even side has one output too many with as many zeros on each side.
            x = Dropout(self.dropout)(nn.relu(conv(x)[:, :height, :width]), train)
        return x

    def _scores(self, x: jax.Array, stride: int) -> jax.Array:
        """Scores begin at 0, as in section 3.3 of the paper."""
        zeros = nn.initializers.zeros
        return Conv(self.num_classes, 1, use_bias=True, **precision(self), kernel_init=zeros, name=f"scores{stride}")(x)

    def _upscaled(self, x: jax.Array, factor: int, name: str) -> jax.Array:
        up = ConvTranspose(
            self.num_classes,
            2 * factor,
            factor,
            factor // 2,
            **precision(self),
            kernel_init=bilinear_kernel,
            name=name,
        )
        return up(x)


def with_classifier(variables: Mapping[str, Any], classifier: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of an `FCN` with the weights of a classifier that has its trunk, as the paper begins training.

    The trunk takes the classifier's layers, and the hidden convolutions its hidden dense layers; scores and
    upscaling stay as they are.

    Args:
      variables: of the network, {"params", …}.
      classifier: variables of the classifier, trained on any number of classes.
    Returns: variables with the structure of `variables`.
    Raises: InputError if a layer has another shape or is missing.
    """
    params = dict(variables["params"])
    given = {name: leaves for name, leaves in classifier["params"].items() if name not in ("head", "fc")}
    hidden = convolutional_kernels(classifier["params"].get("head", {}))
    taken = {"features": given} | {name: hidden[name] for name in params if name.startswith("dense") and name in hidden}
    missing = {name for name in params if name.startswith("dense")} - taken.keys()
    result = {**variables, "params": params | taken}
    if "batch_stats" in variables:
        result["batch_stats"] = {**variables["batch_stats"], "features": dict(classifier.get("batch_stats", {}))}
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (dict(variables), result)]
    if missing or shapes[0] != shapes[1]:
        wrong = sorted(missing) or [name for name in taken if shapes[0]["params"][name] != shapes[1]["params"][name]]
        raise InputError(f"The classifier does not have the layers of this FCN: {listed(wrong)} differs.")
    return result


class FCNResNet(nn.Module):
    """torchvision's `fcn_resnet50`: grids of stride 8 from two dilated stages, and a head for each of the last two.

    The auxiliary head reads the stage before the last. Its logits, in the shape of the answer, are for training alone:
    they are sown as "aux" into the collection "intermediates".

    Attributes:
      num_classes: number of classes, the width of the logits.
      stage_sizes: number of bottleneck blocks of each stage.
      width: number of channels of the first stage.
      auxiliary: have the auxiliary head. The published weights do.
      dropout: dropout rate of the heads; may be traced.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 21
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    auxiliary: bool = True
    dropout: float | jax.Array = 0.1
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, height, width, num_classes], of any size.

        Draws from the stream "dropout".

        Raises: InputError if x is not of rank 4, or a size is not positive.
        """
        check_positive(self, "num_classes", "stage_sizes", "width")
        check_images(self, x)
        shape = x.shape[1], x.shape[2]
        trunk = ResNetTrunk(
            block=BottleneckBlock,
            stage_sizes=self.stage_sizes,
            width=self.width,
            dilated_stages=2,
            axis_name=self.axis_name,
            **precision(self),
            name="backbone",
        )
        *_, before, last = trunk(x, train=train)
        if self.auxiliary:
            self.sow("intermediates", "aux", self._logits(before, shape, "aux_classifier", train))
        return self._logits(last, shape, "classifier", train)

    def _logits(self, x: jax.Array, shape: tuple[int, int], name: str, train: bool) -> jax.Array:
        x = Conv(x.shape[-1] // 4, 3, **precision(self), name=f"{name}_conv")(x)
        x = nn.relu(batch_norm(self, train, name=f"{name}_bn")(x))
        x = Dropout(self.dropout)(x, train)
        x = Conv(self.num_classes, 1, use_bias=True, **precision(self), name=f"{name}_output")(x)
        return upscale_bilinear(x.astype(jnp.promote_types(x.dtype, jnp.float32)), shape)
