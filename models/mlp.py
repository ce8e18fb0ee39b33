"""Small networks: the multilayer perceptron h(x) = b_L + W_L σ(… σ(b_1 + W_1 x)), and a two-layer convolutional one.

They have no normalisation, and no dropout unless asked: a step of them is a function of the batch's mean gradient
alone, which is what the theory of stochastic gradient descent is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .activations import Activation
from .layers import Conv, Dropout
from .resampling import max_pool


class MLP(nn.Module):
    """Dense layers with an activation between them; an image is read as one long vector.

    num_classes: width of the output.
    hidden: widths of the hidden layers; none makes it linear (softmax regression).
    activation: σ, a function; `activations.named` has those with names.
    dropout: of the hidden layers' outputs; may be traced.
    dtype: of the computation; param_dtype: of the parameters. The output is float32 at least.
    """

    num_classes: int = 10
    hidden: Sequence[int] = (128, 128)
    activation: Activation = nn.relu
    dropout: Any = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[batch, ...] -> [batch, num_classes].

        Raises: ValueError if x is of rank 1 or less, a width is not positive, or the activation is no function.
        """
        if x.ndim < 2:
            raise ValueError(f"MLP wants a batch of inputs, [batch, ...]; it was given shape {x.shape}.")
        if min((*self.hidden, self.num_classes)) < 1:
            raise ValueError(f"MLP wants positive widths; they are {tuple(self.hidden)} and {self.num_classes}.")
        if not callable(self.activation):
            raise ValueError(f"activation is {self.activation!r}; give the function, activations.named(…) by its name.")
        x = x.reshape(len(x), -1).astype(self.dtype)
        for i, width in enumerate(self.hidden):
            x = self.activation(self._dense(width, nn.initializers.he_normal(), f"hidden{i + 1}")(x))
            x = Dropout(self.dropout)(x, train)
        x = self._dense(self.num_classes, nn.initializers.lecun_normal(), "output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _dense(self, width: int, init: nn.initializers.Initializer, name: str) -> nn.Dense:
        return nn.Dense(width, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=init, name=name)


class ConvNet(nn.Module):
    """3×3 convolutions, each with ReLU and 2×2 max pooling, then a linear head over what is left of the grid.

    num_classes: width of the logits.
    features: channels of the convolutions.
    dropout: of what the head sees; may be traced.
    dtype: of the computation; param_dtype: of the parameters. Logits are float32 at least.
    """

    num_classes: int = 10
    features: Sequence[int] = (16, 32)
    dropout: Any = 0.0
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
            x = max_pool(nn.relu(conv(x)), (2, 2), padding="SAME")
        x = Dropout(self.dropout)(x, train)
        head = MLP(self.num_classes, hidden=(), dtype=self.dtype, param_dtype=self.param_dtype, name="head")
        return head(x, train=train)
