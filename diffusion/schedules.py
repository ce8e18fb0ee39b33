"""Noise schedules: how much of an image and how much noise is in x_t = α x_0 + σ ε, for each time t in [0, 1].

At time 0 there is the image, at time 1 (next to) nothing but noise. A noise schedule is a function t -> `Level`, and
everything else in this room asks no more of it. Most are variance preserving, α² + σ² = 1, and so named by their
log-SNR λ = log α²/σ² alone; rectified flow, α = 1 − t and σ = t, is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Level(NamedTuple):
    """How noisy x_t = α x_0 + σ ε is, ε ~ N(0, I). alpha, sigma: of one shape, not negative."""

    alpha: jax.Array
    sigma: jax.Array

    @property
    def log_snr(self) -> jax.Array:
        """λ = log α²/σ², the logarithm of the signal-to-noise ratio; ∞ where there is no noise."""
        return 2 * (jnp.log(self.alpha) - jnp.log(self.sigma))

    def like(self, x: jax.Array) -> Level:
        """With axes of size 1 behind, so that a level for each example, [batch], multiplies x of any rank."""
        return Level(*(jnp.reshape(a, (*a.shape, *[1] * (x.ndim - a.ndim))) for a in map(jnp.asarray, self)))


NoiseSchedule = Callable[[ArrayLike], Level]


def variance_preserving(log_snr: Callable[[jax.Array], jax.Array]) -> NoiseSchedule:
    """The schedule of a given log-SNR λ(t): α² = sigmoid(λ), σ² = sigmoid(−λ).

    Args:
      log_snr: times in [0, 1], any shape -> λ, falling; ∞ at time 0 is fine.
    Source: Kingma et al. 2021, "Variational Diffusion Models", section 3.1.
    """

    def schedule(t):
        log = log_snr(jnp.asarray(t, jnp.float32))
        return Level(jnp.sqrt(jax.nn.sigmoid(log)), jnp.sqrt(jax.nn.sigmoid(-log)))

    return schedule


def linear(beta_min: float = 0.1, beta_max: float = 20.0) -> NoiseSchedule:
    """Noise that is added at a rate β(t) which grows linearly: α² = exp(−∫β), σ² = 1 − α².

    The limit of many steps of the DDPM's schedule (`linear_betas`), whose 1,000 steps of 10⁻⁴ … 0.02 are the defaults.

    Args:
      beta_min: β(0), per unit of time.
      beta_max: β(1).
    Raises: ValueError unless 0 < beta_min <= beta_max.
    Source: Song et al. 2021, "Score-Based Generative Modeling through SDEs", equations 32 and 33.
    """
    if not 0 < beta_min <= beta_max:
        raise ValueError(f"beta_min is {beta_min} and beta_max {beta_max}; wanted: 0 < beta_min <= beta_max.")

    def schedule(t):
        t = jnp.asarray(t, jnp.float32)
        integral = t * (beta_min + 0.5 * t * (beta_max - beta_min))
        return Level(jnp.exp(-0.5 * integral), jnp.sqrt(-jnp.expm1(-integral)))

    return schedule


def cosine(log_snr_min: float = -15.0, log_snr_max: float = 15.0, *, shift: float = 0.0) -> NoiseSchedule:
    """α = cos(πt/2), σ = sin(πt/2), between two log-SNRs: λ = −2 log tan(πt'/2), t' the times of these.

    Args:
      log_snr_min: λ at time 1, before the shift. log_snr_max: λ at time 0, likewise.
      shift: added to λ; 2 log(64 / d) keeps the noise of images of d pixels a side what it is for 64.
    Raises: ValueError unless log_snr_min < log_snr_max.
    Source: Nichol & Dhariwal 2021, section 3.2; Hoogeboom et al. 2023, "simple diffusion", equations 1 and 3.
    """
    if not log_snr_min < log_snr_max:
        raise ValueError(f"log_snr_min is {log_snr_min} and log_snr_max {log_snr_max}; wanted: the first is lower.")
    first, last = math.atan(math.exp(-0.5 * log_snr_max)), math.atan(math.exp(-0.5 * log_snr_min))
    return variance_preserving(lambda t: shift - 2 * jnp.log(jnp.tan(first + t * (last - first))))


def rectified_flow() -> NoiseSchedule:
    """α = 1 − t, σ = t: straight lines between image and noise.

    Source: Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2023, "Flow Matching", whose time runs backwards.
    """

    def schedule(t):
        t = jnp.asarray(t, jnp.float32)
        return Level(1 - t, t)

    return schedule


def from_betas(betas: ArrayLike) -> NoiseSchedule:
    """The schedule of a table: after step i of T, at time i / T, α² = Π_{j ≤ i} (1 − β_j).

    Between the steps, λ is interpolated linearly; before the first, σ/α grows linearly from 0.

    Args:
      betas: [T], each in (0, 1).
    Raises: ValueError if they are not.
    Source: Ho et al. 2020, equation 4.
    """
    table = np.asarray(betas, np.float64)
    if table.ndim != 1 or not table.size or not ((table > 0) & (table < 1)).all():
        raise ValueError(f"betas are of shape {table.shape}; wanted: one axis, of numbers between 0 and 1.")
    log_alpha = np.cumsum(np.log1p(-table))  # of α²
    log_snr = jnp.asarray(log_alpha - np.log(-np.expm1(log_alpha)), jnp.float32)
    steps = np.arange(1, len(table) + 1, dtype=np.float32)

    def interpolated(t):
        step = t * len(table)
        return jnp.interp(step, steps, log_snr) - 2 * jnp.log(jnp.minimum(step, 1))

    return variance_preserving(interpolated)


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> np.ndarray:
    """β_1 … β_T of the DDPM (Ho et al. 2020, section 4): [steps] float64."""
    return np.linspace(first, last, steps)


def cosine_betas(steps: int = 1000, offset: float = 0.008, most: float = 0.999) -> np.ndarray:
    """β_1 … β_T of the improved DDPM (Nichol & Dhariwal 2021, equation 17): [steps] float64, at most `most`."""
    alpha_squared = np.cos((np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - alpha_squared[1:] / alpha_squared[:-1], most)


def diffuse(x0: jax.Array, noise: jax.Array, level: Level) -> jax.Array:
    """x_t = α x_0 + σ ε, the forward process at once (Ho et al. 2020, equation 4).

    Args:
      x0: [batch, …].
      noise: ε, of x0's shape.
      level: of each example, [batch], or of all, [].
    Returns: as x0.
    Raises: ValueError if the shapes differ.
    """
    if x0.shape != noise.shape:
        raise ValueError(f"x0 and noise must have one shape; they have {x0.shape} and {noise.shape}.")
    alpha, sigma = level.like(x0)
    return alpha * x0 + sigma * noise


def draw_noise(keys: jax.Array, number: ArrayLike, x: jax.Array) -> jax.Array:
    """Standard normal noise like x, the draw of this number: each example's is a function of its own key, [batch]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), x.shape[1:], x.dtype))(keys)


def posterior(x: jax.Array, x0: jax.Array, here: Level, there: Level) -> tuple[jax.Array, jax.Array]:
    """q(x_s | x_t, x_0), the step back to an earlier time s if x_0 were known.

    With α_{t|s} = α_t / α_s and σ²_{t|s} = σ_t² (1 − SNR_t / SNR_s), the mean is
    (α_{t|s} σ_s² / σ_t²) x_t + (α_s σ²_{t|s} / σ_t²) x_0 and the variance σ²_{t|s} σ_s² / σ_t².

    Args:
      x: x_t, [batch, …].
      x0: of the same shape.
      here: level of t, [] or [batch].
      there: level of s.
    Returns: (mean, as x; variance, of the levels' shape).
    Source: Ho et al. 2020, equations 6 and 7; for any two times, Kingma et al. 2021, appendix A.2.
    """
    fresh, kept = added_noise(here, there), (there.sigma / here.sigma) ** 2
    a, b = Level(here.alpha / there.alpha * kept, there.alpha * fresh).like(x)
    return a * x + b * x0, fresh * there.sigma**2


def added_noise(here: Level, there: Level) -> jax.Array:
    """σ²_{t|s} / σ_t² = 1 − SNR_t / SNR_s, the part of the noise of time t that came after s < t."""
    return -jnp.expm1(here.log_snr - there.log_snr)
