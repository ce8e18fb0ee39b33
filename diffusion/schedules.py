"""Noise schedules: how much of the image and how much noise x_t = α x_0 + σ ε has, for each time t in [0, 1].

At time 0 x_t is the image, at time 1 it is (almost) only noise. A noise schedule is a function t -> `Level`; everything
else in this room needs nothing more of it. Most schedules are variance preserving, α² + σ² = 1, and so determined by
their log-SNR λ = log α²/σ² alone. Rectified flow, α = 1 − t and σ = t, is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..errors import InputError


class Level(NamedTuple):
    """The noise level of x_t = α x_0 + σ ε, ε ~ N(0, I)."""

    alpha: jax.Array
    """α ≥ 0, any shape."""
    sigma: jax.Array
    """σ ≥ 0, same shape."""

    @property
    def log_snr(self) -> jax.Array:
        """λ = log α²/σ², the logarithm of the signal-to-noise ratio; ∞ where there is no noise."""
        return 2 * (jnp.log(self.alpha) - jnp.log(self.sigma))

    def like(self, x: jax.Array) -> Level:
        """The level with trailing axes of size 1, so that one level per example, [batch], multiplies x of any rank."""
        return Level(*(jnp.reshape(a, (*a.shape, *[1] * (x.ndim - a.ndim))) for a in map(jnp.asarray, self)))


NoiseSchedule = Callable[[ArrayLike], Level]
"""Times in [0, 1], any shape -> noise level, same shape."""


def variance_preserving(log_snr: Callable[[jax.Array], jax.Array]) -> NoiseSchedule:
    """The schedule with a given log-SNR λ(t): α² = sigmoid(λ), σ² = sigmoid(−λ).

    Args:
      log_snr: times in [0, 1], any shape -> λ, falling. It may be ∞ at time 0.
    Returns: the noise schedule.
    Source: Kingma et al. 2021, "Variational Diffusion Models", section 3.1.
    """

    def schedule(t):
        log = log_snr(jnp.asarray(t, jnp.float32))
        return Level(jnp.sqrt(jax.nn.sigmoid(log)), jnp.sqrt(jax.nn.sigmoid(-log)))

    return schedule


def linear(beta_min: float = 0.1, beta_max: float = 20.0) -> NoiseSchedule:
    """Noise at a rate β(t) that grows linearly: α² = exp(−∫β), σ² = 1 − α².

    This is the limit of the DDPM schedule (`linear_betas`) for many steps. The defaults match its 1,000 steps of
    10⁻⁴ … 0.02.

    Args:
      beta_min: β(0), per unit of time.
      beta_max: β(1), per unit of time.
    Returns: the noise schedule.
    Raises: InputError unless 0 < beta_min <= beta_max.
    Source: Song et al. 2021, "Score-Based Generative Modeling through SDEs", equations 32 and 33.

    >>> start, end = linear()(0.0), linear()(1.0)
    >>> print(start.alpha, start.sigma, end.alpha.round(3), end.sigma.round(3))
    1.0 0.0 0.007 1.0
    """
    if not 0 < beta_min <= beta_max:
        raise InputError(f"beta_min is {beta_min} and beta_max {beta_max}; they must satisfy 0 < beta_min <= beta_max.")

    def schedule(t):
        t = jnp.asarray(t, jnp.float32)
        integral = t * (beta_min + 0.5 * t * (beta_max - beta_min))
        return Level(jnp.exp(-0.5 * integral), jnp.sqrt(-jnp.expm1(-integral)))

    return schedule


def cosine(log_snr_min: float = -15.0, log_snr_max: float = 15.0, *, shift: float = 0.0) -> NoiseSchedule:
    """α = cos(πt/2), σ = sin(πt/2), between two log-SNRs: λ = −2 log tan(πt'/2), where t' moves linearly between them.

    Args:
      log_snr_min: λ at time 1, before the shift.
      log_snr_max: λ at time 0, before the shift.
      shift: added to λ. For images of d × d pixels, 2 log(64 / d) gives the same noise as for 64 × 64.
    Returns: the noise schedule.
    Raises: InputError unless log_snr_min < log_snr_max.
    Source: Nichol & Dhariwal 2021, section 3.2; Hoogeboom et al. 2023, "simple diffusion", equations 1 and 3.

    >>> level = cosine()(0.5)
    >>> print((level.alpha**2).round(3), (level.sigma**2).round(3))  # halfway: as much image as noise
    0.5 0.5
    """
    if not log_snr_min < log_snr_max:
        raise InputError(f"log_snr_min is {log_snr_min} and log_snr_max {log_snr_max}; the first must be lower.")
    first, last = math.atan(math.exp(-0.5 * log_snr_max)), math.atan(math.exp(-0.5 * log_snr_min))
    return variance_preserving(lambda t: shift - 2 * jnp.log(jnp.tan(first + t * (last - first))))


def rectified_flow() -> NoiseSchedule:
    """α = 1 − t, σ = t: straight lines between image and noise.

    Returns: the noise schedule.
    Source: Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2023, "Flow Matching", whose time runs backwards.

    >>> level = rectified_flow()(0.25)
    >>> print(level.alpha, level.sigma)
    0.75 0.25
    """

    def schedule(t):
        t = jnp.asarray(t, jnp.float32)
        return Level(1 - t, t)

    return schedule


def from_betas(betas: ArrayLike) -> NoiseSchedule:
    """The schedule of a table of betas: after step i of T, at time i / T, α² = Π_{j ≤ i} (1 − β_j).

    Between the steps, λ is interpolated linearly. Before the first step, σ/α grows linearly from 0.

    Args:
      betas: [T], each in (0, 1).
    Returns: the noise schedule.
    Raises: InputError if they are not.
    Source: Ho et al. 2020, equation 4.
    """
    table = np.asarray(betas, np.float64)
    if table.ndim != 1 or not table.size or not ((table > 0) & (table < 1)).all():
        raise InputError(f"betas have shape {table.shape}; expected one axis of numbers between 0 and 1.")
    log_alpha = np.cumsum(np.log1p(-table))  # log α²
    log_snr = jnp.asarray(log_alpha - np.log(-np.expm1(log_alpha)), jnp.float32)
    steps = np.arange(1, len(table) + 1, dtype=np.float32)

    def interpolated(t):
        step = t * len(table)
        return jnp.interp(step, steps, log_snr) - 2 * jnp.log(jnp.minimum(step, 1))

    return variance_preserving(interpolated)


def linear_betas(num_steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> np.ndarray:
    """β_1 … β_T of the DDPM, evenly spaced.

    Args:
      num_steps: T.
      beta_min: β_1.
      beta_max: β_T.
    Returns: [num_steps] float64.
    Source: Ho et al. 2020, section 4.
    """
    return np.linspace(beta_min, beta_max, num_steps)


def cosine_betas(num_steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> np.ndarray:
    """β_1 … β_T of the improved DDPM.

    Args:
      num_steps: T.
      offset: the paper's s, which keeps the first β from being too small.
      max_beta: upper limit of each β.
    Returns: [num_steps] float64.
    Source: Nichol & Dhariwal 2021, equation 17.
    """
    alpha_squared = np.cos((np.arange(num_steps + 1) / num_steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - alpha_squared[1:] / alpha_squared[:-1], max_beta)


def diffuse(x0: jax.Array, noise: jax.Array, level: Level) -> jax.Array:
    """x_t = α x_0 + σ ε: the forward process from time 0 to t in one step.

    Args:
      x0: the images, [batch, …].
      noise: ε, same shape.
      level: noise level of each example, [batch], or of all, [].
    Returns: x_t, same shape.
    Raises: InputError if the shapes differ.
    Source: Ho et al. 2020, equation 4.

    >>> print(diffuse(jnp.array([[1.0]]), jnp.array([[3.0]]), rectified_flow()(0.25)))  # 0.75 · 1 + 0.25 · 3
    [[1.5]]
    """
    if x0.shape != noise.shape:
        raise InputError(f"x0 and noise must have one shape; got {x0.shape} and {noise.shape}.")
    alpha, sigma = level.like(x0)
    return alpha * x0 + sigma * noise


def draw_noise(keys: jax.Array, number: ArrayLike, x: jax.Array) -> jax.Array:
    """Standard normal noise of the shape of x. Each example's noise depends only on its own key and the number.

    Args:
      keys: one key per example, [batch].
      number: number of the draw, such as that of the step.
      x: [batch, …].
    Returns: noise, same shape and type as `x`.
    """
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), x.shape[1:], x.dtype))(keys)


def posterior(x: jax.Array, x0: jax.Array, here: Level, there: Level) -> tuple[jax.Array, jax.Array]:
    """q(x_s | x_t, x_0): the distribution of x at an earlier time s if x_0 is known.

    Let α_{t|s} = α_t / α_s and σ²_{t|s} = σ_t² (1 − SNR_t / SNR_s). The mean is
    (α_{t|s} σ_s² / σ_t²) x_t + (α_s σ²_{t|s} / σ_t²) x_0 and the variance is σ²_{t|s} σ_s² / σ_t².

    Args:
      x: x_t, [batch, …].
      x0: x_0, same shape.
      here: noise level at time t, [] or [batch].
      there: noise level at time s.
    Returns: (mean, same shape as `x`; variance, same shape as the levels).
    Source: Ho et al. 2020, equations 6 and 7; for any two times, Kingma et al. 2021, appendix A.2.
    """
    fresh, kept = added_noise(here, there), (there.sigma / here.sigma) ** 2
    a, b = Level(here.alpha / there.alpha * kept, there.alpha * fresh).like(x)
    return a * x + b * x0, fresh * there.sigma**2


def added_noise(here: Level, there: Level) -> jax.Array:
    """σ²_{t|s} / σ_t² = 1 − SNR_t / SNR_s: the share of the noise at time t that was added after time s < t."""
    return -jnp.expm1(here.log_snr - there.log_snr)
