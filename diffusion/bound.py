"""The variational bound on −log p(x) of 8-bit images: a true bound for any number of steps.

The bound is that of the T-step ancestral model at the given times. With more steps it becomes tighter.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..errors import InputError
from .prediction import Denoiser
from .schedules import NoiseSchedule, diffuse, draw_noise


class Bound(NamedTuple):
    """The parts of the bound, each [batch] float32 in nats, summed over the image."""

    prior: jax.Array
    """KL of q(x_1 | x_0) to N(0, I): what x at the first time still reveals about the image."""
    diffusion: jax.Array
    """KL of all steps but the last."""
    reconstruction: jax.Array
    """−log p(x_0 | x_t) at the last time before 0."""

    @property
    def nats(self) -> jax.Array:
        """−ELBO ≥ −log p(x), [batch]."""
        return self.prior + self.diffusion + self.reconstruction


def variational_bound(
    denoise: Denoiser,
    x0: jax.Array,
    keys: jax.Array,
    schedule: NoiseSchedule,
    times: jax.Array,
    *,
    num_levels: int = 256,
) -> Bound:
    """The variational bound with one draw of noise per step; unbiased.

    If the reverse process has the variance of q(x_s | x_t, x_0), the KL of a step is ½ (SNR_s − SNR_t) ‖x_0 −
    estimate‖². The last step decodes: every gray level gets the mass of its bin under a normal distribution around the
    estimate. The standard deviation of this distribution is that of the remaining noise, σ/α.

    Args:
      denoise: the denoising network as an estimate of x_0; see `denoiser`.
      x0: [batch, …], gray levels scaled to [−1, 1].
      keys: one key per example, [batch].
      schedule: the noise schedule. If its α is 0 at time 1, as in `rectified_flow`, `denoise` must be defined there. An
        ε-prediction is not.
      times: [steps + 1], falling from 1 to 0.
      num_levels: the number of gray levels.
    Returns: a Bound.
    Raises: InputError if there are fewer than 2 steps or 2 levels.
    Source: Ho et al. 2020, equations 5 and 13; Kingma et al. 2021, equations 13 and 14.
    """
    times = jnp.asarray(times, jnp.float32)
    if times.ndim != 1 or len(times) < 3 or num_levels < 2:
        raise InputError(
            f"times have shape {times.shape} and num_levels is {num_levels}; expected at least 2 steps and 2 levels."
        )

    def noised(number, time):
        return diffuse(x0, draw_noise(keys, number, x0), schedule(time))

    def step(total, inputs):
        number, time, to = inputs
        # SNR_s − SNR_t is a difference of large numbers, each exact to a part in 10⁷. SNR_s (1 − SNR_t / SNR_s) is not.
        here, there = schedule(time).log_snr, schedule(to).log_snr
        gain = jnp.exp(there) * -jnp.expm1(here - there)
        return total + 0.5 * gain * _sum((x0 - denoise(noised(number, time), time)) ** 2), None

    steps = jnp.arange(len(times) - 2), times[:-2], times[1:-1]
    diffusion, _ = jax.lax.scan(step, jnp.zeros(len(x0)), steps)

    first = schedule(times[-2])
    estimate = denoise(noised(len(times) - 2, times[-2]), times[-2])
    reconstruction = -_sum(_log_mass(x0, estimate, first.sigma / first.alpha, num_levels))

    last = schedule(times[0])
    variance = last.sigma**2
    prior = 0.5 * _sum((last.alpha * x0) ** 2 + variance - 1 - jnp.log(variance))
    return Bound(prior, diffusion, reconstruction)


def _log_mass(x: jax.Array, mean: jax.Array, std: jax.Array, num_levels: int) -> jax.Array:
    """log of the mass of a normal distribution in the bin of each gray level. The outermost bins are open."""
    half = 1 / (num_levels - 1)
    low = jnp.where(x <= -1 + half, -jnp.inf, (x - half - mean) / std)
    high = jnp.where(x >= 1 - half, jnp.inf, (x + half - mean) / std)
    # Use the tail that does not round to 1.
    flip = low > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    log_high, log_low = jax.scipy.special.log_ndtr(high), jax.scipy.special.log_ndtr(low)
    return log_high + jnp.log1p(-jnp.exp(jnp.minimum(log_low - log_high, -1e-7)))


def _sum(x: jax.Array) -> jax.Array:
    """[batch, …] -> [batch]"""
    return x.sum(tuple(range(1, x.ndim)))
