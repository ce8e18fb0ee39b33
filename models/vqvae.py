"""The vector-quantised autoencoder (van den Oord et al. 2017): images as grids of numbers of codes.

An encoder gives a grid of vectors, each is replaced by the nearest of a codebook, and a decoder makes an image of
those. The quantiser is pure functions of an explicit codebook; the modules below only keep one between steps, as
parameters or as moving averages. The objective is in `train.quantized`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .layers import Conv
from .resampling import upscale_nearest

PSEUDO_COUNT = 1e-5  # ε of Laplace's smoothing, as in the authors' code
# Without normalisation activations keep their size by He's rule before ReLU, and by LeCun's where none follows.
HE_FAN_IN, LECUN = nn.initializers.he_normal(), nn.initializers.lecun_normal()


def quantize(z: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest code of each vector, and the first of equally near ones.

    ‖z − e‖² = ‖z‖² − 2 zᵀe + ‖e‖², of which the first term does not matter: one matrix product and no differences of
    all pairs. Vectors and codes are moved by the mean code before, so that digits are not spent on what they share.

    Args:
      z: [..., width], any float type; compared in float32.
      codes: [codes, width].
    Returns: (indices int32 [...], codes[indices] float32 [..., width]).
    Raises: ValueError if the widths differ or there are no codes.
    """
    _check_codes(z, codes)
    codes = codes.astype(jnp.float32)
    middle = jax.lax.stop_gradient(codes.mean(0))
    moved = codes - middle
    # Accelerators would multiply in fewer bits by default, and a code that is not the nearest could win.
    products = jnp.matmul(z.astype(jnp.float32) - middle, moved.T, precision="highest")
    indices = jnp.argmin(0.5 * (moved**2).sum(-1) - products, axis=-1).astype(jnp.int32)
    return indices, codes[indices]


def straight_through(z: jax.Array, quantized: jax.Array) -> jax.Array:
    """The value of `quantized` with the gradient of `z`, as if quantisation were the identity (section 3.2).

    Args:
      z, quantized: of one shape.
    Returns: as `quantized`, to the bit where z is finite.
    """
    return jax.lax.stop_gradient(quantized) + (z - jax.lax.stop_gradient(z))


def perplexity(counts: jax.Array) -> jax.Array:
    """e^H of the codes' frequencies: how many codes there would be if all were used equally often.

    Args:
      counts: how often each code is used, [..., codes], any real type, not all 0.
    Returns: [...] float32, between 1 and the number of codes.
    """
    counts = counts.astype(jnp.float32)
    shares = counts / counts.sum(-1, keepdims=True)
    return jnp.exp(jax.scipy.special.entr(shares).sum(-1))


class Codebook(NamedTuple):
    """Codes and the moving averages that they follow.

    codes: e, [codes, width] float32.
    counts: N, [codes] float32: how many vectors of a batch a code is the nearest to.
    sums: m, [codes, width] float32: the sum of those vectors.
    """

    codes: jax.Array
    counts: jax.Array
    sums: jax.Array


def follow(
    codebook: Codebook, z: jax.Array, indices: jax.Array, decay: ArrayLike, *, axis_name: str | None = None
) -> Codebook:
    """One step of k-means with forgetting: each code moves towards the mean of the vectors that chose it.

    N ← γN + (1 − γ)n and m ← γm + (1 − γ)Σz; then e ← (m + εe) / (N + ε). The authors' code smooths the counts alone,
    and so draws a code that nobody chooses to the origin; with ε of a vector at the code's own place it stays.

    Args:
      codebook: before.
      z: vectors of the batch, [..., width].
      indices: which code each chose, [...].
      decay: γ in [0, 1). May be traced.
      axis_name: the pmap axis whose replicas' batches are one; None elsewhere.
    Returns: the codebook after the batch; no gradient passes.
    Source: van den Oord et al. 2017, appendix A.1.
    """
    codes, width = codebook.codes.shape
    z = jax.lax.stop_gradient(z).reshape(-1, width).astype(jnp.float32)
    # A product with zeros and ones in place of a scattered sum, whose order and so whose last bits a GPU does not fix.
    chosen = jax.nn.one_hot(indices.reshape(-1), codes, dtype=jnp.float32)
    now = chosen.sum(0), jnp.matmul(chosen.T, z, precision="highest")
    if axis_name is not None:
        now = jax.lax.psum(now, axis_name)
    decay = jnp.asarray(decay, jnp.float32)
    counts = decay * codebook.counts + (1 - decay) * now[0]
    sums = decay * codebook.sums + (1 - decay) * now[1]
    means = (sums + PSEUDO_COUNT * codebook.codes) / (counts + PSEUDO_COUNT)[:, None]
    return Codebook(means, counts, sums)


def revive(
    key: jax.Array, codebook: Codebook, z: jax.Array, below: ArrayLike, *, axis_name: str | None = None
) -> Codebook:
    """Moves the codes that are hardly used to random vectors of the batch (Dhariwal et al. 2020, "Jukebox", section 3).

    A moved code begins with the mean count of all codes, so that it has time to be found.

    Args:
      key: one key; of the replicas of pmap, each its own.
      codebook: whose counts tell which codes are dead.
      z: vectors of the batch, [..., width].
      below: codes whose count is below this part of the mean count are dead. May be traced.
      axis_name: the pmap axis whose replicas must end with one codebook; None elsewhere.
    Returns: the codebook; no gradient passes.
    """
    codes, width = codebook.codes.shape
    z = jax.lax.stop_gradient(z).reshape(-1, width).astype(jnp.float32)
    fresh = z[jax.random.choice(key, len(z), (codes,), replace=len(z) < codes)]
    if axis_name is not None:
        # Code i takes the vector that replica i mod n drew.
        replicas, me = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
        mine = (jnp.arange(codes) % replicas == me)[:, None]
        fresh = jax.lax.psum(jnp.where(mine, fresh, 0), axis_name)
    count = codebook.counts.mean()
    dead = codebook.counts < below * count
    return Codebook(
        jnp.where(dead[:, None], fresh, codebook.codes),
        jnp.where(dead, count, codebook.counts),
        jnp.where(dead[:, None], count * fresh, codebook.sums),
    )


def _check_codes(z: jax.Array, codes: jax.Array) -> None:
    if codes.ndim != 2 or not len(codes) or z.ndim < 1 or z.shape[-1] != codes.shape[1]:
        raise ValueError(
            f"Vectors [..., width] and codes [codes, width] must be of one width, at least one code; they are "
            f"{z.shape} and {codes.shape}."
        )


class Quantized(NamedTuple):
    """What a quantiser makes of a grid of vectors z.

    latents: the codes e, with the gradient of z: [batch, height, width, code_dim] float32.
    indices: which codes, int32 [batch, height, width].
    commitment: mean of (z − e)², whose gradient goes to z alone, [batch].
    codebook: the same, whose gradient goes to e alone, [batch]; 0 where codes follow averages.
    perplexity: of the codes' use in this batch, [].
    """

    latents: jax.Array
    indices: jax.Array
    commitment: jax.Array
    codebook: jax.Array
    perplexity: jax.Array


class TrainedCodebook(nn.Module):
    """Codes that are parameters and learn by the loss `Quantized.codebook` (equation 3).

    num_codes: how many; code_dim: of which width.
    axis_name: the pmap axis over which the use of codes is counted in training; None elsewhere.
    """

    num_codes: int
    code_dim: int
    axis_name: str | None = None
    param_dtype: Any = jnp.float32

    def setup(self):
        self.codes = self.param("codes", _uniform, (self.num_codes, self.code_dim), self.param_dtype)

    def __call__(self, z: jax.Array, train: bool) -> Quantized:
        """[batch, height, width, code_dim] -> `Quantized`."""
        indices, nearest = quantize(z, self.codes)
        codebook_loss = _mean_square(jax.lax.stop_gradient(z) - nearest)
        return _quantized(z, indices, nearest, codebook_loss, self.num_codes, self.axis_name if train else None)

    def lookup(self) -> jax.Array:
        """[num_codes, code_dim]"""
        return self.codes


class AveragedCodebook(nn.Module):
    """Codes that `follow` the vectors that choose them, in the collection "codebook"; a step in training moves them.

    num_codes: how many; code_dim: of which width.
    decay: of the averages; may be traced.
    revive_below: codes used less than this part of the mean are replaced, at the first step all that the batch does
      not choose, by draws from the stream "revive"; may be traced, and a concrete 0 never replaces and draws nothing.
    axis_name: the pmap axis over which averages are taken; None elsewhere.
    """

    num_codes: int
    code_dim: int
    decay: Any = 0.99
    revive_below: Any = 0.01
    axis_name: str | None = None

    def setup(self):
        shape = self.num_codes, self.code_dim
        self.codes = self.variable("codebook", "codes", lambda: _uniform(self.make_rng("params"), shape, jnp.float32))
        self.counts = self.variable("codebook", "counts", jnp.zeros, (self.num_codes,))
        self.sums = self.variable("codebook", "sums", jnp.zeros, shape)

    def __call__(self, z: jax.Array, train: bool) -> Quantized:
        """[batch, height, width, code_dim] -> `Quantized`, by the codes before this batch moves them."""
        axis_name = self.axis_name if train else None
        codebook = Codebook(self.codes.value, self.counts.value, self.sums.value)
        indices, nearest = quantize(z, codebook.codes)
        if train and self.is_mutable_collection("codebook") and not self.is_initializing():
            codebook = follow(codebook, z, indices, self.decay, axis_name=axis_name)
            if not (isinstance(self.revive_below, int | float) and self.revive_below == 0):
                codebook = revive(self.make_rng("revive"), codebook, z, self.revive_below, axis_name=axis_name)
            self.codes.value, self.counts.value, self.sums.value = codebook
        return _quantized(z, indices, nearest, jnp.zeros(len(z)), self.num_codes, axis_name)

    def lookup(self) -> jax.Array:
        """[num_codes, code_dim]"""
        return self.codes.value


def _uniform(key: jax.Array, shape: tuple[int, int], dtype: Any) -> jax.Array:
    """Uniform in ±1 / codes, as in the authors' code."""
    return jax.random.uniform(key, shape, dtype, -1 / shape[0], 1 / shape[0])


def _quantized(z, indices, nearest, codebook_loss, num_codes, axis_name) -> Quantized:
    z = z.astype(jnp.float32)
    counts = jnp.bincount(indices.reshape(-1), length=num_codes)
    if axis_name is not None:
        counts = jax.lax.psum(counts, axis_name)
    commitment = _mean_square(z - jax.lax.stop_gradient(nearest))
    return Quantized(straight_through(z, nearest), indices, commitment, codebook_loss, perplexity(counts))


def _mean_square(x: jax.Array) -> jax.Array:
    return (x.astype(jnp.float32) ** 2).mean((1, 2, 3))


class ResidualBlock(nn.Module):
    """x + ReLU, 3×3 convolution, ReLU, 1×1 convolution (section 4.1).

    hidden: channels between the convolutions.
    """

    hidden: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> the same."""
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = Conv(self.hidden, 3, use_bias=True, kernel_init=HE_FAN_IN, **dtypes, name="conv1")(nn.relu(x))
        return x + Conv(x.shape[-1], 1, use_bias=True, kernel_init=LECUN, **dtypes, name="conv2")(nn.relu(y))


class Encoder(nn.Module):
    """4×4 convolutions of stride 2, residual blocks, and a 1×1 convolution to the codes' width.

    outputs: that width; others: as of `VQVAE`.
    """

    outputs: int
    features: int
    halvings: int
    blocks: int
    block_features: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height / 2^halvings, width / 2^halvings, outputs]."""
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
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

    channels: of the image; others: as of `VQVAE`.
    """

    channels: int
    features: int
    doublings: int
    blocks: int
    block_features: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """[batch, height, width, code_dim] -> [batch, height · 2^doublings, width · 2^doublings, channels]."""
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
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

    channels: of the images.
    features: channels of the networks; block_features: inside their residual blocks.
    halvings: how often the encoder halves height and width.
    blocks: residual blocks of each network.
    num_codes, code_dim: of the codebook.
    decay: γ of the averages that codes follow, may be traced; None trains them by their loss instead.
    revive_below: as of `AveragedCodebook`; trained codes are never replaced.
    axis_name: the pmap axis over which the codebook is averaged in training; None elsewhere.
    dtype: of the networks' computation; param_dtype: of their parameters. Codes and outputs are float32 at least.
    """

    channels: int = 1
    features: int = 128
    block_features: int = 32
    halvings: int = 2
    blocks: int = 2
    num_codes: int = 512
    code_dim: int = 64
    decay: Any = 0.99
    revive_below: Any = 0.01
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self):
        if self.halvings < 1:
            raise ValueError(f"halvings is {self.halvings}; it must be at least 1.")
        sizes = self.features, self.halvings, self.blocks, self.block_features
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
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

        Raises: as of `encode`.
        """
        quantized = self.quantizer(self.encode(x), train)
        return self.decoder(quantized.latents), quantized

    def encode(self, x: jax.Array) -> jax.Array:
        """Images [batch, height, width, channel] -> vectors before they are quantised [batch, rows, columns, code_dim].

        Raises: ValueError if the images have other channels, or a height or width that can't be halved so often.
        """
        factor = 2**self.halvings
        if x.ndim != 4 or x.shape[3] != self.channels or x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"Images must be [batch, height, width, {self.channels}], height and width multiples of {factor}; they "
                f"were given as {x.shape}."
            )
        return self.encoder(x)

    def encode_indices(self, x: jax.Array) -> jax.Array:
        """Images [batch, height, width, channel] -> their codes' numbers, int32 [batch, rows, columns].

        Raises: as of `encode`.
        """
        return self.nearest_indices(self.encode(x))

    def nearest_indices(self, z: jax.Array) -> jax.Array:
        """Vectors [batch, rows, columns, code_dim] -> the numbers of their nearest codes, int32 [batch, rows, columns].

        Raises: ValueError if the vectors are of another width.
        """
        return quantize(z, self.quantizer.lookup())[0]

    def decode_indices(self, indices: jax.Array) -> jax.Array:
        """Codes' numbers in [0, num_codes), [batch, rows, columns] -> outputs [batch, height, width, channel].

        Raises: ValueError if they are not integers of rank 3.
        """
        if indices.ndim != 3 or not jnp.issubdtype(indices.dtype, jnp.integer):
            raise ValueError(
                f"Indices must be integers [batch, rows, columns]; they are {indices.shape} {indices.dtype}."
            )
        return self.decoder(self.quantizer.lookup()[indices])
