"""Variational autoencoders (Kingma & Welling 2013): an encoder to a Gaussian over latents and a decoder back to images.

What the decoder's outputs mean (logits or means), and the objective, are the task's choice. Here are the two networks
of a model, and the draw between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..classifiers import MLP
from ..layers import Activation, Conv, precision, upscale_nearest

# There is no normalization here, so activations must keep their size from layer to layer, whatever their channels.
HE_FAN_IN = nn.initializers.he_normal()


def reparameterize(mean: jax.Array, log_variance: jax.Array, noise: jax.Array) -> jax.Array:
    """μ + σ ε: a draw of N(μ, σ²) as a differentiable function of its moments (section 2.4).

    Args:
      mean, log_variance: [..., latent].
      noise: ε, drawn from the standard normal distribution; broadcasts with the moments.
    Returns: [..., latent].
    """
    return mean + jnp.exp(0.5 * log_variance) * noise


class VAE(nn.Module):
    """The common part of the autoencoders, which add the modules `encoder` and `decoder`.

    Attributes:
      image_shape: (height, width, channel) of one image.
      latent: number of latents that describe an image.
      dtype: data type of the computation. Outputs are float32 at least.
      param_dtype: data type of the parameters.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    latent: int = 16
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def check(self, name: str, widths: Sequence[int]) -> None:
        """Raises: InputError if `latent`, or one of the widths in the field of this name, is not positive."""
        if self.latent < 1:
            raise InputError(f"latent is {self.latent}; it must be at least 1.")
        if min(widths, default=1) < 1:
            raise InputError(f"{name} is {tuple(widths)}; each must be at least 1.")

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Images [batch, height, width, channel] -> (decoded posterior mean, mean, log variance).

        Nothing is drawn here, and training and prediction are the same.

        Raises: same as `encode`.
        """
        mean, log_variance = self.encode(x)
        return self.decode(mean), mean, log_variance

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images [batch, height, width, channel] -> mean and log variance of q(z | x), [batch, latent] each.

        Raises: InputError if the images are not of `image_shape`.
        """
        if x.ndim != 4 or x.shape[1:] != tuple(self.image_shape):
            height, width, channels = self.image_shape
            raise InputError(f"Images must be [batch, {height}, {width}, {channels}]; they were given as {x.shape}.")
        mean, log_variance = jnp.split(self.encoder(x), 2, axis=-1)
        return mean, log_variance

    def decode(self, z: jax.Array) -> jax.Array:
        """Latents [batch, latent] -> outputs [batch, height, width, channel], any real numbers.

        Raises: InputError if the latents are not of this shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise InputError(f"Latents must be [batch, {self.latent}]; they were given as {z.shape}.")
        return self.decoder(z).reshape(len(z), *self.image_shape)


class DenseVAE(VAE):
    """Two perceptrons, the decoder's hidden layers being those of the encoder in reverse order (appendix C.2).

    Attributes:
      hidden: widths of the encoder's hidden layers; an empty tuple makes the model linear.
      activation: activation function between layers.
    """

    hidden: Sequence[int] = (500,)
    activation: Activation = nn.relu

    def setup(self):
        self.check("hidden", self.hidden)
        height, width, channels = self.image_shape
        self.encoder = self._perceptron(2 * self.latent, self.hidden)
        self.decoder = self._perceptron(height * width * channels, tuple(reversed(self.hidden)))

    def _perceptron(self, outputs: int, hidden: Sequence[int]) -> MLP:
        return MLP(outputs, hidden, self.activation, **precision(self))


class ConvVAE(VAE):
    """Strided convolutions to a grid, a dense layer each way, and convolutions after upscaling back.

    Attributes:
      features: numbers of channels of the encoder's convolutions, each of which halves height and width.
    """

    features: Sequence[int] = (32, 64)

    def setup(self):
        self.check("features", self.features)
        height, width, channels = self.image_shape
        factor = 2 ** len(self.features)
        if not self.features or height % factor or width % factor:
            raise InputError(
                f"ConvVAE halves height and width {len(self.features)} times (features is {tuple(self.features)}; at "
                f"least once), so both must be multiples of {factor}; image_shape is {tuple(self.image_shape)}."
            )
        grid = height // factor, width // factor
        dtypes = precision(self)
        self.encoder = ConvEncoder(2 * self.latent, self.features, **dtypes)
        self.decoder = ConvDecoder(channels, self.features, grid, **dtypes)


class ConvEncoder(nn.Module):
    """A 3×3 convolution of stride 2 and ReLU for each of `features`, and a dense layer.

    Attributes:
      outputs: width of the dense layer.
      features: numbers of channels of the convolutions.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    outputs: int
    features: Sequence[int]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, outputs], float32 at least."""
        dtypes = precision(self)
        for i, width in enumerate(self.features):
            conv = Conv(width, 3, stride=2, use_bias=True, kernel_init=HE_FAN_IN, **dtypes, name=f"conv{i + 1}")
            x = nn.relu(conv(x))
        return MLP(self.outputs, hidden=(), **dtypes, name="head")(x)


class ConvDecoder(nn.Module):
    """A dense layer to the grid; for each doubling repeated pixels, a 3×3 convolution and ReLU; and a last convolution.

    (A transposed convolution would do both at once, but its overlaps leave checkerboards: Odena et al. 2016.)

    Attributes:
      channels: number of channels of the image.
      features: numbers of channels of the encoder's convolutions; here they come in reverse order, the first of them
        twice.
      grid: height and width before upscaling.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    channels: int
    features: Sequence[int]
    grid: tuple[int, int]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """[batch, latent] -> [batch, height, width, channels], float32 at least."""
        dtypes = precision(self)
        height, width = self.grid
        first, *others = reversed((self.features[0], *self.features))
        grid = MLP(height * width * first, hidden=(), **dtypes, name="grid")(z)
        x = nn.relu(grid).reshape(len(z), height, width, first)
        for i, features in enumerate(others):
            conv = Conv(features, 3, use_bias=True, kernel_init=HE_FAN_IN, **dtypes, name=f"conv{i + 1}")
            x = nn.relu(conv(upscale_nearest(x, 2)))
        init = nn.initializers.lecun_normal()
        x = Conv(self.channels, 3, use_bias=True, kernel_init=init, **dtypes, name="output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))
