"""Small networks: the multilayer perceptron h(x) = b_L + W_L σ(… σ(b_1 + W_1 x)), and a two-layer convolutional one.

They have no normalization, and no dropout unless asked: a step of them is a function of the batch's mean gradient
alone, which is what the theory of stochastic gradient descent is about.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import Activation, Conv, Dropout, check_images, max_pool, precision


class MLP(nn.Module):
    """Dense layers with an activation between them; an image is read as one long vector.

    Attributes:
      num_classes: width of the output.
      hidden: widths of the hidden layers; an empty tuple makes the network linear (softmax regression).
      activation: σ, a function; `layers.get_activation` finds it by its name.
      dropout: dropout rate of the hidden layers' outputs; may be traced.
      dtype: data type of the computation. The output is float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 10
    hidden: Sequence[int] = (128, 128)
    activation: Activation = nn.relu
    dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[batch, ...] -> [batch, num_classes].

        Raises: InputError if x is of rank 1 or less, a width is not positive, or the activation is no function.
        """
        if x.ndim < 2:
            raise InputError(f"MLP needs a batch of inputs, [batch, ...]; it was given shape {x.shape}.")
        if min((*self.hidden, self.num_classes)) < 1:
            raise InputError(f"MLP needs positive widths; they are {tuple(self.hidden)} and {self.num_classes}.")
        if not callable(self.activation):
            raise InputError(
                f"activation is {self.activation!r}; give the function, layers.get_activation(…) by its name."
            )
        x = x.reshape(len(x), -1).astype(self.dtype)
        for i, width in enumerate(self.hidden):
            x = self.activation(self._dense(width, nn.initializers.he_normal(), f"hidden{i + 1}")(x))
            x = Dropout(self.dropout)(x, train)
        x = self._dense(self.num_classes, nn.initializers.lecun_normal(), "output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _dense(self, width: int, init: nn.initializers.Initializer, name: str) -> nn.Dense:
        return nn.Dense(width, **precision(self), kernel_init=init, name=name)


class ConvNet(nn.Module):
    """3×3 convolutions, each with ReLU and 2×2 max pooling, then a linear head over what is left of the grid.

    Attributes:
      num_classes: number of classes, the width of the logits.
      features: numbers of channels of the convolutions.
      dropout: dropout rate of the head's input; may be traced.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 10
    features: Sequence[int] = (16, 32)
    dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes].

        Raises: InputError if x is not of rank 4.
        """
        check_images(self, x)
        x = x.astype(self.dtype)
        for i, width in enumerate(self.features):
            conv = Conv(width, 3, use_bias=True, **precision(self), name=f"conv{i + 1}")
            x = max_pool(nn.relu(conv(x)), (2, 2), padding="SAME")
        x = Dropout(self.dropout)(x, train)
        head = MLP(self.num_classes, hidden=(), **precision(self), name="head")
        return head(x, train=train)
