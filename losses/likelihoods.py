"""How improbable an image is under what a network says of it: −log p(target | outputs) in nats, one number an example.

A generative model's decoder gives the parameters of a distribution for every entry of an image, all entries being
independent given them; here they become the probability of the whole. Some are densities and some are probabilities:
only those of discrete values, such as the 256 levels of a pixel, can be compared between models as bits per dimension.
Divergences between distributions are in `divergences`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

LEVELS = 256  # of a pixel
HALF_BIN = 1 / (LEVELS - 1)  # half the distance of two levels, where the first is −1 and the last is 1
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
NARROW = 0.005  # half a bin, in standard deviations, below which the normal density is all but exponential in it


def bernoulli_nll(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ [t log σ(l) + (1 − t) log(1 − σ(l))]: the cross-entropy of binary pixels.

    For targets of 0 and 1 this is −log of a probability. For grey targets between them it is in common use, but it is
    no likelihood: σ(l)^t (1 − σ(l))^(1−t) does not integrate to 1 over t in [0, 1]. What is missing is the normaliser
    of the continuous Bernoulli (Loaiza-Ganem & Cunningham 2019).

    Args:
      logits: l, [batch, ...], any float type; computed in float32.
      targets: t, of the same shape, in [0, 1].
    Returns: [batch] float32, nats; stable at extreme logits.
    Raises: ValueError if the shapes differ.
    """
    _check("bernoulli_nll", logits, targets)
    return _sum(optax.losses.sigmoid_binary_cross_entropy(*_float32(logits, targets)))


def gaussian_nll(mean: jax.Array, log_variance: ArrayLike, targets: jax.Array) -> jax.Array:
    """½ Σ [(t − μ)² / σ² + log σ² + log 2π]: a density, so that it may be negative.

    With σ² = ½ it is ‖t − μ‖² and a constant.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_variance: log σ², of a shape that broadcasts to that of `mean`.
      targets: t, of the shape of `mean`.
    Returns: [batch] float32, nats.
    Raises: ValueError if the shapes do not fit.
    """
    _check("gaussian_nll", mean, targets, log_variance)
    mean, log_variance, targets = _float32(mean, log_variance, targets)
    return _sum(0.5 * ((targets - mean) ** 2 * jnp.exp(-log_variance) + log_variance) + HALF_LOG_2PI)


def discretized_gaussian_nll(mean: jax.Array, log_variance: ArrayLike, targets: jax.Array) -> jax.Array:
    """−Σ log ∫ N(x; μ, σ²) dx over the bin of the target: a probability of 8-bit images.

    A bin reaches 1/255 to either side of its level, the first to −∞ and the last to ∞.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_variance: log σ², of a shape that broadcasts to that of `mean`.
      targets: of the shape of `mean`: levels 0 … 255 scaled to −1 … 1.
    Returns: [batch] float32, nats; stable where the probability is far too small for a float.
    Raises: ValueError if the shapes do not fit.
    Source: Ho et al. 2020, "Denoising diffusion probabilistic models", equation 13.
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
    """−Σ log of the logistic distribution's mass in the target's bin; bins are those of `discretized_gaussian_nll`.

    The distribution function is the sigmoid of (x − μ) / s, so the standard deviation is π s / √3.

    Args:
      mean: μ, [batch, ...], any float type; computed in float32.
      log_scale: log s, of a shape that broadcasts to that of `mean`.
      targets: of the shape of `mean`: levels 0 … 255 scaled to −1 … 1.
    Returns: [batch] float32, nats; stable where the probability is far too small for a float.
    Raises: ValueError if the shapes do not fit.
    Source: Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", section 5; with the
      open ends of Salimans et al. 2017, "PixelCNN++", equation 2.
    """
    _check("discretized_logistic_nll", mean, targets, log_scale)
    mean, log_scale, targets = _float32(mean, log_scale, targets)
    precision = jnp.exp(-log_scale)
    residual = (targets - mean) * precision
    half = HALF_BIN * precision
    below, above = jax.nn.log_sigmoid(residual + half), jax.nn.log_sigmoid(half - residual)
    # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)): no difference of two numbers that are nearly equal.
    log_mass = _by_bin(targets, first=below, inner=below + above + jnp.log(-jnp.expm1(-2 * half)), last=above)
    return _sum(-log_mass)


def bits_per_dim(nats: jax.Array, dims: int) -> jax.Array:
    """nats / (dims · log 2).

    Args:
      nats: negative log-likelihoods of whole examples, any shape.
      dims: how many entries an example has, channels included.
    Returns: as `nats`. 8 for 8-bit images of which nothing is known.
    Raises: ValueError if `dims` is not positive.
    """
    if dims < 1:
        raise ValueError(f"dims is {dims}; it must be at least 1.")
    return nats / (dims * math.log(2))


def _by_bin(targets, *, first, inner, last):
    """What of the three belongs to the bin of each target."""
    return jnp.where(targets < HALF_BIN - 1, first, jnp.where(targets > 1 - HALF_BIN, last, inner))


def _log_normal_within(distance, half):
    """log P(distance − half < X < distance + half) for a standard normal X, distance ≥ 0 and half > 0.

    Three formulas, for a bin that is narrow, one that holds 0, and one beside it, where the small difference of two
    tiny numbers is written as φ(near) [M(near) − e^(−2·distance·half) M(far)], M being Mills' ratio.
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
    """P(X > t) / φ(t) for t ≥ 0: a continued fraction where it converges to float32's precision in eight steps.

    (`jax.scipy.special.erfcx`, which is this up to constants, is 0 between 9.2 and 10 in float32.)
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
        raise ValueError(
            f"{function} wants outputs and targets of one shape [batch, ...], and a spread that broadcasts to it; "
            f"they are {outputs.shape}, {targets.shape} and {shape}."
        )


def _float32(*arrays) -> list[jax.Array]:
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def _sum(entries: jax.Array) -> jax.Array:
    """[batch, ...] -> [batch]"""
    return entries.sum(axis=tuple(range(1, entries.ndim)))
