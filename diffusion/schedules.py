"""Noise schedules: how much of the image and how much noise x_t = α x_0 + σ ε has, for each time t in [0, 1].

At time 0 x_t is the image, at time 1 it is (almost) only noise. A noise schedule is a function t -> `Level`; everything
else in this room needs nothing more of it. Most schedules are variance preserving, α² + σ² = 1, and so determined by
their log-SNR λ = log α²/σ² alone. Rectified flow, α = 1 − t and σ = t, is not.

Whatever may be one number or one per example, a level, a time or a scale of guidance, meets images through
`per_example`. So [batch] numbers can't multiply the channels of images that have as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
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
        """The level for x [batch, …]; see `per_example`."""
        return Level(*(per_example(part, x) for part in self))


def per_example(value: ArrayLike, x: jax.Array) -> jax.Array:
    """One number, or one per example, with trailing axes of size 1, so that each multiplies its own example.

    Args:
      value: [], [batch], or what this returned.
      x: [batch, …], of any rank.
    Returns: the value as [] or [batch, 1, …], of the rank of `x`.
    Raises: InputError for another shape.

    >>> print((per_example(jnp.array([1.0, 10.0]), jnp.ones((2, 2))) * jnp.ones((2, 2))).tolist())
    [[1.0, 1.0], [10.0, 10.0]]
    """
    value = jnp.asarray(value)
    aligned = x.shape[:1] + (1,) * (x.ndim - 1)
    if value.shape in ((), aligned):
        return value
    if value.shape != x.shape[:1]:
        raise InputError(
            f"A number per example has shape {value.shape}; expected one number, or {x.shape[:1]} for x of shape "
            f"{x.shape}."
        )
    return value.reshape(aligned)


NoiseSchedule = Callable[[ArrayLike], Level]
"""Times in [0, 1], any shape -> noise level, same shape. Those made here raise InputError for other concrete times."""


def is_concrete(value: Any) -> bool:
    """Whether the numbers are known, and can be checked. Those of a traced array are not."""
    return not isinstance(value, jax.core.Tracer)


def checked_times(times: ArrayLike, least: int = 2) -> jax.Array:
    """The times of a sampler as float32.

    Args:
      times: [steps + 1].
      least: the least number of times.
    Raises: InputError if there are fewer, or if concrete times do not fall, step by step, within [0, 1].
    """
    if is_concrete(times):  # before jnp, which makes a tracer of a constant under jit
        times = np.asarray(times, np.float32)
        if times.ndim == 1 and not (np.diff(times) < 0).all():
            number = int((np.diff(times) < 0).argmin())
            raise InputError(
                f"times must fall at each step; number {number} is {times[number]:g}, and the next is "
                f"{times[number + 1]:g}."
            )
        if times.ndim == 1 and times.size and not (times[0] <= 1 and times[-1] >= 0):
            raise InputError(f"times go from {times[0]} to {times[-1]}; they must be in [0, 1].")
    times = jnp.asarray(times, jnp.float32)
    if times.ndim != 1 or len(times) < least:
        raise InputError(f"times have shape {times.shape}; expected one axis of at least {least} times.")
    return times


ROUNDING = 1e-6  # by which float32 may take a time out of [0, 1]


def time_of(t: ArrayLike) -> jax.Array:
    """Times as float32, for a noise schedule.

    Raises: InputError for a concrete time outside [0, 1], where a schedule has no level: steps are divided by their
      number.
    """
    if is_concrete(t):
        known = np.asarray(t, np.float32)
        inside = (known >= -ROUNDING) & (known <= 1 + ROUNDING)
        if not inside.all():
            raise InputError(
                f"The time {known[~inside].flat[0]:g} is not in [0, 1]; step i of T, counted from 1, is at time i / T."
            )
    return jnp.asarray(t, jnp.float32)


def variance_preserving(log_snr: Callable[[jax.Array], jax.Array]) -> NoiseSchedule:
    """The schedule with a given log-SNR λ(t): α² = sigmoid(λ), σ² = sigmoid(−λ).

    Args:
      log_snr: times in [0, 1], any shape -> λ, falling. It may be ∞ at time 0.
    Returns: the noise schedule.
    Source: Kingma et al. 2021, "Variational Diffusion Models", section 3.1.
    """

    def schedule(t):
        log = log_snr(time_of(t))
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
        t = time_of(t)
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
    Raises: InputError unless log_snr_min < log_snr_max, and all are finite.
    Source: Nichol & Dhariwal 2021, section 3.2; Hoogeboom et al. 2023, "simple diffusion", equations 1 and 3.

    >>> level = cosine()(0.5)
    >>> print((level.alpha**2).round(3), (level.sigma**2).round(3))  # halfway: as much image as noise
    0.5 0.5
    """
    if not log_snr_min < log_snr_max:
        raise InputError(f"log_snr_min is {log_snr_min} and log_snr_max {log_snr_max}; the first must be lower.")
    if math.isinf(log_snr_min) or math.isinf(log_snr_max) or not math.isfinite(shift):
        raise InputError(
            f"log_snr_min is {log_snr_min}, log_snr_max {log_snr_max} and shift {shift}; they must be finite, because "
            "the tangent of π/2 is not."
        )
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
        t = time_of(t)
        return Level(1 - t, t)

    return schedule


def from_betas(betas: ArrayLike) -> NoiseSchedule:
    """The schedule of a table of betas: after step i of T, at time i / T, α² = Π_{j ≤ i} (1 − β_j).

    Between the steps, λ is interpolated linearly. Before the first step, σ/α grows linearly from 0. A last β of 1
    leaves nothing of the image ("zero terminal SNR"); before it, α/σ falls linearly to 0.

    Steps are counted from 1, as in the paper. Published networks count them from 0; see `from_published`.

    Args:
      betas: [T], each in (0, 1); the last may be 1 if there are others.
    Returns: the noise schedule.
    Raises: InputError if they are not.
    Source: Ho et al. 2020, equation 4; Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed",
      for a last β of 1.
    """
    table = np.asarray(betas, np.float64)
    if table.ndim != 1 or not table.size:
        raise InputError(f"betas have shape {table.shape}; expected one axis of numbers.")
    to_noise = table[-1] == 1 and len(table) > 1
    inner = table[:-1] if to_noise else table
    if not ((inner > 0) & (inner < 1)).all():
        wrong = int(((inner > 0) & (inner < 1)).argmin())
        raise InputError(
            f"Beta number {wrong + 1} of {len(table)} is {table[wrong]}; expected numbers between 0 and 1, and at most "
            "the last of several may be 1."
        )
    log_alpha = np.cumsum(np.log1p(-inner))  # log α²
    log_snr = jnp.asarray(log_alpha - np.log(-np.expm1(log_alpha)), jnp.float32)
    steps = np.arange(1, len(inner) + 1, dtype=np.float32)

    def schedule(t):
        step = time_of(t) * len(table)
        # σ : α, of which neither is infinite at an end, as λ is; so they have derivatives there.
        sigma = jnp.exp(-0.5 * jnp.interp(step, steps, log_snr)) * jnp.minimum(step, 1)
        alpha = jnp.minimum(len(table) - step, 1) if to_noise else jnp.ones_like(sigma)
        length = jnp.sqrt(alpha**2 + sigma**2)
        return Level(alpha / length, sigma / length)

    return schedule


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
