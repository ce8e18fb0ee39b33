"""The vector-quantized autoencoder (van den Oord et al. 2017): images as grids of numbers of codes.

An encoder gives a grid of vectors, each is replaced by the nearest code of a codebook, and a decoder makes an image of
the codes. The functions that quantize are in `codebooks`; the objective is a task's.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import LECUN, Conv, precision, upscale_nearest
from .codebooks import AveragedCodebook, Quantized, TrainedCodebook, quantize

# Without normalization activations keep their size by He's rule before ReLU, and by LeCun's where none follows.
HE_FAN_IN = nn.initializers.he_normal()


class ResidualBlock(nn.Module):
    """x + ReLU, 3×3 convolution, ReLU, 1×1 convolution (section 4.1).

    Attributes:
      hidden: number of channels between the convolutions.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    hidden: int
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> the same."""
        dtypes = precision(self)
        y = Conv(self.hidden, 3, use_bias=True, kernel_init=HE_FAN_IN, **dtypes, name="conv1")(nn.relu(x))
        return x + Conv(x.shape[-1], 1, use_bias=True, kernel_init=LECUN, **dtypes, name="conv2")(nn.relu(y))


class Encoder(nn.Module):
    """4×4 convolutions of stride 2, residual blocks, and a 1×1 convolution to the codes' width.

    Attributes:
      outputs: width of the codes.
      features: number of channels.
      halvings: number of times that height and width are halved.
      blocks: number of residual blocks.
      block_features: number of channels inside the residual blocks.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    outputs: int
    features: int
    halvings: int
    blocks: int
    block_features: int
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height / 2^halvings, width / 2^halvings, outputs]."""
        dtypes = precision(self)
        fields: Any = {"padding": 1, "use_bias": True, "kernel_init": HE_FAN_IN, **dtypes}
        for i in range(self.halvings):
            x = x if i == 0 else nn.relu(x)  # after the last, the blocks begin with it
            x = Conv(self.features, 4, stride=2, **fields, name=f"conv{i + 1}")(x)
        for i in range(self.blocks):
            x = ResidualBlock(self.block_features, **dtypes, name=f"block{i + 1}")(x)
        x = Conv(self.outputs, 1, use_bias=True, kernel_init=LECUN, **dtypes, name="output")(nn.relu(x))
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Decoder(nn.Module):
    """A 3×3 convolution, residual blocks, and for each doubling repeated pixels, a 3×3 convolution and ReLU.

    (The authors' transposed convolutions do the last in one; see `vae.ConvDecoder`.)

    Attributes:
      channels: number of channels of the image.
      features: number of channels.
      doublings: number of times that height and width are doubled.
      blocks: number of residual blocks.
      block_features: number of channels inside the residual blocks.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    channels: int
    features: int
    doublings: int
    blocks: int
    block_features: int
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """[batch, height, width, code_dim] -> [batch, height · 2^doublings, width · 2^doublings, channels]."""
        dtypes = precision(self)
        x = Conv(self.features, 3, use_bias=True, kernel_init=HE_FAN_IN, **dtypes, name="input")(z)
        for i in range(self.blocks):
            x = ResidualBlock(self.block_features, **dtypes, name=f"block{i + 1}")(x)
        x = nn.relu(x)
        for i in range(self.doublings):
            conv = Conv(self.features, 3, use_bias=True, kernel_init=HE_FAN_IN, **dtypes, name=f"conv{i + 1}")
            x = nn.relu(conv(upscale_nearest(x, 2)))
        x = Conv(self.channels, 3, use_bias=True, kernel_init=LECUN, **dtypes, name="output")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class VQVAE(nn.Module):
    """Encoder, codebook, decoder, for images of any size that can be halved.

    Attributes:
      channels: number of channels of the images.
      features: number of channels of encoder and decoder.
      block_features: number of channels inside their residual blocks.
      halvings: number of times that the encoder halves height and width.
      blocks: number of residual blocks of each network.
      num_codes: number of codes.
      code_dim: width of a code.
      decay: γ of the averages that codes follow; may be traced. None trains the codes by their loss instead.
      revive_below: same as in `AveragedCodebook`; trained codes are never replaced.
      axis_name: name of the pmap axis over which the codebook is averaged in training; None elsewhere.
      dtype: data type of the networks' computation. Codes and outputs are float32 at least.
      param_dtype: data type of the networks' parameters.
    """

    channels: int = 1
    features: int = 128
    block_features: int = 32
    halvings: int = 2
    blocks: int = 2
    num_codes: int = 512
    code_dim: int = 64
    decay: float | jax.Array | None = 0.99
    revive_below: float | jax.Array = 0.01
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self):
        if self.halvings < 1:
            raise InputError(f"halvings is {self.halvings}; it must be at least 1.")
        sizes = self.features, self.halvings, self.blocks, self.block_features
        dtypes = precision(self)
        self.encoder = Encoder(self.code_dim, *sizes, **dtypes)
        self.decoder = Decoder(self.channels, *sizes, **dtypes)
        if self.decay is None:
            self.quantizer = TrainedCodebook(self.num_codes, self.code_dim, self.axis_name, self.param_dtype)
        else:
            self.quantizer = AveragedCodebook(
                self.num_codes, self.code_dim, self.decay, self.revive_below, self.axis_name
            )

    def __call__(self, x: jax.Array, *, train: bool = False) -> tuple[jax.Array, Quantized]:
        """Images [batch, height, width, channel] -> (outputs of the same shape, `Quantized`).

        Raises: same as `encode`.
        """
        quantized = self.quantizer(self.encode(x), train)
        return self.decoder(quantized.latents), quantized

    def encode(self, x: jax.Array) -> jax.Array:
        """Images [batch, height, width, channel] -> vectors before they are quantized [batch, rows, columns, code_dim].

        Raises: InputError if the images have other channels, or a height or width that cannot be halved so often.
        """
        factor = 2**self.halvings
        if x.ndim != 4 or x.shape[3] != self.channels or x.shape[1] % factor or x.shape[2] % factor:
            raise InputError(
                f"Images must be [batch, height, width, {self.channels}], height and width multiples of {factor}; they "
                f"were given as {x.shape}."
            )
        return self.encoder(x)

    def encode_indices(self, x: jax.Array) -> jax.Array:
        """Images [batch, height, width, channel] -> their codes' numbers, int32 [batch, rows, columns].

        Raises: same as `encode`.
        """
        return self.nearest_indices(self.encode(x))

    def nearest_indices(self, z: jax.Array) -> jax.Array:
        """Vectors [batch, rows, columns, code_dim] -> the numbers of their nearest codes, int32 [batch, rows, columns].

        Raises: InputError if the vectors are of another width.
        """
        return quantize(z, self.quantizer.lookup())[0]

    def decode_indices(self, indices: jax.Array) -> jax.Array:
        """Codes' numbers in [0, num_codes), [batch, rows, columns] -> outputs [batch, height, width, channel].

        Raises: InputError if they are not integers of rank 3.
        """
        if indices.ndim != 3 or not jnp.issubdtype(indices.dtype, jnp.integer):
            raise InputError(
                f"Indices must be integers [batch, rows, columns]; they are {indices.shape} {indices.dtype}."
            )
        return self.decoder(self.quantizer.lookup()[indices])
