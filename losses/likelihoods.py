"""Negative log-likelihoods −log p(target | outputs) in nats, one number per example.

The decoder of a generative model gives the parameters of a distribution for every entry of an image. Given these, the
entries are independent; the functions here compute the probability of the whole image. Some results are densities, some
are probabilities. Only probabilities of discrete values, such as the 256 levels of a pixel, can be compared between
models as bits per dimension. Divergences between distributions are in `divergences`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ..errors import InputError

LEVELS = 256  # values of an 8-bit pixel
HALF_BIN = 1 / (LEVELS - 1)  # half the distance between two levels, scaled so that they range from −1 to 1
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
NARROW = 0.005  # in standard deviations: in a bin of less than twice this width the density is nearly exponential


def bernoulli_nll(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ [t log σ(l) + (1 − t) log(1 − σ(l))]: the cross-entropy of binary pixels.

    For targets 0 and 1 this is −log of a probability. For gray targets between them it is in common use, but it is not
    a likelihood: σ(l)^t (1 − σ(l))^(1−t) does not integrate to 1 over t in [0, 1]. The normalizer of the continuous
    Bernoulli (Loaiza-Ganem & Cunningham 2019) is missing.

    Args:
      logits: l, [batch, ...], any float type; computed in float32.
      targets: t, same shape, in [0, 1].
    Returns: [batch] float32, nats; stable at extreme logits.
    Raises: InputError if the shapes differ.

    >>> logits, targets = jnp.zeros((1, 4)), jnp.array([[0.0, 1.0, 1.0, 0.0]])
    >>> print(bits_per_dim(bernoulli_nll(logits, targets), 4))  # each pixel is a fair coin
    [1.]
    """
    _check("bernoulli_nll", logits, targets)
    return _sum(optax.losses.sigmoid_binary_cross_entropy(*_float32(logits, targets)))


def gaussian_nll(mean: jax.Array, log_variance: ArrayLike, targets: jax.Array) -> jax.Array:
    """½ Σ [(t − μ)² / σ² + log σ² + log 2π]: a density, so it may be negative.

    With σ² = ½ it is ‖t − μ‖² plus a constant.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_variance: log σ², of a shape that broadcasts to that of `mean`.
      targets: t, of the same shape as `mean`.
    Returns: [batch] float32, nats.
    Raises: InputError if the shapes do not fit.

    >>> print(gaussian_nll(jnp.zeros((1, 2)), 0.0, jnp.zeros((1, 2))).round(3))  # log 2π
    [1.838]
    """
    _check("gaussian_nll", mean, targets, log_variance)
    mean, log_variance, targets = _float32(mean, log_variance, targets)
    return _sum(0.5 * ((targets - mean) ** 2 * jnp.exp(-log_variance) + log_variance) + HALF_LOG_2PI)


def discretized_gaussian_nll(mean: jax.Array, log_variance: ArrayLike, targets: jax.Array) -> jax.Array:
    """−Σ log ∫ N(x; μ, σ²) dx over the bin of the target: a probability of 8-bit images.

    A bin reaches 1/255 to either side of its level. The first bin extends to −∞ and the last to ∞.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_variance: log σ², of a shape that broadcasts to that of `mean`.
      targets: levels 0 … 255 scaled to −1 … 1, of the same shape as `mean`.
    Returns: [batch] float32, nats; stable where the probability is far too small for a float.
    Raises: InputError if the shapes do not fit.
    Source: Ho et al. 2020, "Denoising diffusion probabilistic models", equation 13.

    >>> levels = jnp.linspace(-1, 1, 256)[:, None]
    >>> nats = jax.jit(discretized_gaussian_nll)(jnp.zeros((256, 1)), 0.0, levels)
    >>> print(jnp.exp(-nats).sum().round(3))  # the probabilities of all levels of a pixel
    1.0
    """
    _check("discretized_gaussian_nll", mean, targets, log_variance)
    mean, log_variance, targets = _float32(mean, log_variance, targets)
    precision = jnp.exp(-0.5 * log_variance)
    residual = (targets - mean) * precision
    half = HALF_BIN * precision
    log_mass = _by_bin(
        targets,
        first=_log_normal_below(residual + half),
        inner=_log_normal_within(jnp.abs(residual), half),
        last=_log_normal_below(half - residual),
    )
    return _sum(-log_mass)


def discretized_logistic_nll(mean: jax.Array, log_scale: ArrayLike, targets: jax.Array) -> jax.Array:
    """−Σ log of the mass of a logistic distribution in the bin of the target. Bins: same as `discretized_gaussian_nll`.

    The distribution function is the sigmoid of (x − μ) / s, so the standard deviation is π s / √3.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_scale: log s, of a shape that broadcasts to that of `mean`.
      targets: levels 0 … 255 scaled to −1 … 1, of the same shape as `mean`.
    Returns: [batch] float32, nats; stable where the probability is far too small for a float.
    Raises: InputError if the shapes do not fit.
    Source: Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", section 5; with the
      open ends of Salimans et al. 2017, "PixelCNN++", equation 2.
    """
    _check("discretized_logistic_nll", mean, targets, log_scale)
    mean, log_scale, targets = _float32(mean, log_scale, targets)
    precision = jnp.exp(-log_scale)
    residual = (targets - mean) * precision
    half = HALF_BIN * precision
    below, above = jax.nn.log_sigmoid(residual + half), jax.nn.log_sigmoid(half - residual)
    # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)) avoids the difference of two nearly equal numbers.
    log_mass = _by_bin(targets, first=below, inner=below + above + jnp.log(-jnp.expm1(-2 * half)), last=above)
    return _sum(-log_mass)


def bits_per_dim(nats: jax.Array, num_dims: int) -> jax.Array:
    """nats / (num_dims · log 2).

    Args:
      nats: negative log-likelihoods of whole examples, any shape.
      num_dims: the number of entries of an example, channels included.
    Returns: bits, same shape as `nats`. It is 8 for 8-bit images if all levels are equally likely.
    Raises: InputError if `num_dims` < 1.

    >>> print(bits_per_dim(jnp.array([12 * jnp.log(256)]), 12))
    [8.]
    """
    if num_dims < 1:
        raise InputError(f"num_dims is {num_dims}; it must be at least 1.")
    return nats / (num_dims * math.log(2))


def _by_bin(targets, *, first, inner, last):
    """Selects, for each target, the value that belongs to its bin."""
    return jnp.where(targets < HALF_BIN - 1, first, jnp.where(targets > 1 - HALF_BIN, last, inner))


def _log_normal_within(distance, half):
    """log P(distance − half < X < distance + half) for a standard normal X, distance ≥ 0 and half > 0.

    There are three formulas: for a narrow bin, for a bin that holds 0, and for a bin beside 0. The last one writes the
    small difference of two tiny numbers as φ(near) [M(near) − e^(−2·distance·half) M(far)], where M is Mills' ratio.
    """
    product, near, far = distance * half, distance - half, distance + half

    # φ(t + u) = φ(t) e^(−tu) e^(−u²/2), integrated over |u| < half with the last factor's mean for a uniform u.
    slope = jnp.where(product > 1e-3, product, 1.0)
    log_sinhc = slope + jnp.log(-jnp.expm1(-2 * slope) / (2 * slope))
    log_sinhc = jnp.where(product > 1e-3, log_sinhc, product**2 / 6)
    narrow = jnp.log(2 * half) - 0.5 * distance**2 - HALF_LOG_2PI + log_sinhc - half**2 / 6

    holds_0 = near < 0
    around = jnp.log1p(-_normal_above(jnp.where(holds_0, -near, 1.0)) - _normal_above(jnp.where(holds_0, far, 1.0)))

    near = jnp.where(holds_0, 1.0, near)
    tilt = jnp.where(holds_0, 1.0, 2 * product)
    beside = -0.5 * near**2 - HALF_LOG_2PI + jnp.log(_mills_ratio(near) - jnp.exp(-tilt) * _mills_ratio(far))
    return jnp.where(half < NARROW, narrow, jnp.where(holds_0, around, beside))


def _log_normal_below(x):
    """log P(X < x) for a standard normal X. (`jax.scipy.special.log_ndtr` has no derivative far below 0.)"""
    below = jnp.where(x < 0, x, 0.0)
    low = -0.5 * below**2 - HALF_LOG_2PI + jnp.log(_mills_ratio(-below))
    return jnp.where(x < 0, low, jnp.log1p(-_normal_above(jnp.where(x < 0, 0.0, x))))


def _normal_above(x):
    return 0.5 * jax.lax.erfc(x / math.sqrt(2))


def _mills_ratio(t):
    """P(X > t) / φ(t) for t ≥ 0. For large t, eight steps of a continued fraction reach the precision of float32.

    (`jax.scipy.special.erfcx` is this up to constants, but between 9.2 and 10 it is 0 in float32.)
    """
    small = jnp.where(t < 4, t, 0.0)
    near = math.sqrt(math.pi / 2) * jnp.exp(0.5 * small**2) * jax.lax.erfc(small / math.sqrt(2))
    large = jnp.where(t < 4, 4.0, t)
    fraction = large
    for k in range(8, 0, -1):
        fraction = large + k / fraction
    return jnp.where(t < 4, near, 1 / fraction)


def _check(function: str, outputs: jax.Array, targets: jax.Array, spread: ArrayLike = 0.0) -> None:
    shape = jnp.shape(spread)
    fits = len(shape) <= outputs.ndim and all(
        size in (1, wanted) for size, wanted in zip(reversed(shape), reversed(outputs.shape), strict=False)
    )
    if outputs.ndim < 1 or outputs.shape != targets.shape or not fits:
        raise InputError(
            f"{function} expects outputs and targets of one shape [batch, ...], and a spread that broadcasts to it; "
            f"got {outputs.shape}, {targets.shape} and {shape}."
        )


def _float32(*arrays: ArrayLike) -> list[jax.Array]:
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def _sum(entries: jax.Array) -> jax.Array:
    """[batch, ...] -> [batch]"""
    return entries.sum(axis=tuple(range(1, entries.ndim)))
