"""Small networks: the multilayer perceptron h(x) = b_L + W_L σ(… σ(b_1 + W_1 x)), and a two-layer convolutional one.

They have neither normalisation nor dropout: a step of them is a function of the batch's mean gradient alone, which is
what the theory of stochastic gradient descent is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import Conv

Activation = Callable[[jax.Array], jax.Array]


class MLP(nn.Module):
    """Dense layers with an activation between them; an image is read as one long vector.

    num_classes: width of the output.
    hidden: widths of the hidden layers; none makes it linear (softmax regression).
    activation: σ.
    dtype: of the computation; param_dtype: of the parameters. The output is float32 at least.
    """

    num_classes: int = 10
    hidden: Sequence[int] = (128, 128)
    activation: Activation = nn.relu
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[batch, ...] -> [batch, num_classes].

        Raises: ValueError if x is of rank 1 or less.
        """
        del train
        if x.ndim < 2:
            raise ValueError(f"MLP wants a batch of inputs, [batch, ...]; it was given shape {x.shape}.")
        x = x.reshape(len(x), -1).astype(self.dtype)
        for i, width in enumerate(self.hidden):
            x = self.activation(self._dense(width, nn.initializers.he_normal(), f"hidden{i + 1}")(x))
        x = self._dense(self.num_classes, nn.initializers.lecun_normal(), "output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _dense(self, width: int, init: nn.initializers.Initializer, name: str) -> nn.Dense:
        return nn.Dense(width, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=init, name=name)


class ConvNet(nn.Module):
    """3×3 convolutions, each with ReLU and 2×2 max pooling, then a linear head over what is left of the grid.

    num_classes: width of the logits.
    features: channels of the convolutions.
    dtype: of the computation; param_dtype: of the parameters. Logits are float32 at least.
    """

    num_classes: int = 10
    features: Sequence[int] = (16, 32)
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes].

        Raises: ValueError if x is not of rank 4.
        """
        if x.ndim != 4:
            raise ValueError(f"ConvNet wants images [batch, height, width, channel]; it was given shape {x.shape}.")
        x = x.astype(self.dtype)
        for i, width in enumerate(self.features):
            conv = Conv(
                width, 3, use_bias=True, dtype=self.dtype, param_dtype=self.param_dtype, name=f"conv{i + 1}"
            )  # fmt: skip
            x = nn.max_pool(nn.relu(conv(x)), (2, 2), (2, 2), "SAME")
        head = MLP(self.num_classes, hidden=(), dtype=self.dtype, param_dtype=self.param_dtype, name="head")
        return head(x, train=train)
