"""Vector quantization (van den Oord et al. 2017): the nearest code of each vector, and two ways to learn the codes.

The functions are pure and take an explicit codebook. The modules keep one between steps: `TrainedCodebook` as
parameters, `AveragedCodebook` as moving averages.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ...errors import InputError

PSEUDO_COUNT = 1e-5  # ε of Laplace's smoothing, as in the authors' code


def quantize(z: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest code of each vector, and the first of equally near ones.

    ‖z − e‖² = ‖z‖² − 2 zᵀe + ‖e‖², of which the first term does not matter: one matrix product and no differences of
    all pairs. Vectors and codes are centered at the mean code first, which saves digits of float32.

    Args:
      z: [..., width], any float type; compared in float32.
      codes: [codes, width].
    Returns: (indices int32 [...], codes[indices] float32 [..., width]).
    Raises: InputError if the widths differ or there are no codes.
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
    """The value of `quantized` with the gradient of `z`, as if quantization were the identity (section 3.2).

    Args:
      z: vectors, any shape.
      quantized: their codes, of the same shape.
    Returns: same shape as `quantized`, to the bit where z is finite.
    """
    return jax.lax.stop_gradient(quantized) + (z - jax.lax.stop_gradient(z))


def perplexity(counts: jax.Array) -> jax.Array:
    """e^H of the codes' frequencies: the effective number of codes.

    Args:
      counts: number of uses of each code, [..., codes], any real type, not all 0.
    Returns: [...] float32, between 1 and the number of codes.
    """
    counts = counts.astype(jnp.float32)
    shares = counts / counts.sum(-1, keepdims=True)
    return jnp.exp(jax.scipy.special.entr(shares).sum(-1))


class Codebook(NamedTuple):
    """Codes and the moving averages that they follow.

    Attributes:
      codes: e, [codes, width] float32.
      counts: N, [codes] float32: moving average of the number of vectors of a batch that choose a code.
      sums: m, [codes, width] float32: moving average of the sum of those vectors.
    """

    codes: jax.Array
    counts: jax.Array
    sums: jax.Array


def follow(
    codebook: Codebook, z: jax.Array, indices: jax.Array, decay: ArrayLike, *, axis_name: str | None = None
) -> Codebook:
    """One step of k-means with moving averages: each code moves towards the mean of the vectors that chose it.

    N ← γN + (1 − γ)n and m ← γm + (1 − γ)Σz; then e ← (m + εe) / (N + ε). The authors' code smooths the counts alone,
    which draws an unused code to the origin; here it stays in place.

    Args:
      codebook: codes and averages before the batch.
      z: vectors of the batch, [..., width].
      indices: which code each chose, [...].
      decay: γ in [0, 1). May be traced.
      axis_name: name of the pmap axis over which batches are added; None elsewhere.
    Returns: the codebook after the batch, without gradients.
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
    """Moves codes that are hardly used to random vectors of the batch (Dhariwal et al. 2020, "Jukebox", section 3).

    A moved code begins with the mean count of all codes, so that vectors have time to choose it.

    Args:
      key: one random key; under pmap a different one for each replica.
      codebook: codes and averages; its counts tell which codes are dead.
      z: vectors of the batch, [..., width].
      below: codes with a count below this fraction of the mean count are dead. May be traced.
      axis_name: name of the pmap axis whose replicas share one codebook; None elsewhere.
    Returns: the codebook, without gradients.
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
        raise InputError(
            f"Vectors [..., width] and codes [codes, width] must be of one width, at least one code; they are "
            f"{z.shape} and {codes.shape}."
        )


class Quantized(NamedTuple):
    """The result of quantizing a grid of vectors z.

    Attributes:
      latents: codes e with the gradient of z, [batch, height, width, code_dim] float32.
      indices: numbers of the codes, int32 [batch, height, width].
      commitment: mean of (z − e)², whose gradient goes to z alone, [batch].
      codebook: the same mean, whose gradient goes to e alone, [batch]; 0 where codes follow averages.
      perplexity: perplexity of the codes' use in this batch, [].
    """

    latents: jax.Array
    indices: jax.Array
    commitment: jax.Array
    codebook: jax.Array
    perplexity: jax.Array


class TrainedCodebook(nn.Module):
    """Codes that are parameters and learn by the loss `Quantized.codebook` (equation 3).

    Attributes:
      num_codes: number of codes.
      code_dim: width of a code.
      axis_name: name of the pmap axis over which the use of codes is counted in training; None elsewhere.
      param_dtype: data type of the parameters.
    """

    num_codes: int
    code_dim: int
    axis_name: str | None = None
    param_dtype: DTypeLike = jnp.float32

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

    Attributes:
      num_codes: number of codes.
      code_dim: width of a code.
      decay: γ, decay of the averages; may be traced.
      revive_below: codes used less than this fraction of the mean are replaced, at the first step all that the batch
        does not choose, by draws from the stream "revive". May be traced; a concrete 0 never replaces and draws
        nothing.
      axis_name: name of the pmap axis over which averages are taken; None elsewhere.
    """

    num_codes: int
    code_dim: int
    decay: float | jax.Array = 0.99
    revive_below: float | jax.Array = 0.01
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
