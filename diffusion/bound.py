"""The variational bound on −log p(x) of 8-bit images: an honest number of bits, for any number of steps.

The model that is bounded is the T-step ancestral one of the times given: more steps, a tighter bound.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .prediction import Denoiser
from .schedules import NoiseSchedule, diffuse, draw_noise


class Bound(NamedTuple):
    """The parts of the bound, each [batch] float32 in nats, summed over the image.

    prior: KL of q(x_1 | x_0) to N(0, I), that of what the last time still knows of the image.
    diffusion: KL of all steps between.
    reconstruction: −log p(x_0 | x_t) at the first time after 0.
    """

    prior: jax.Array
    diffusion: jax.Array
    reconstruction: jax.Array

    @property
    def nats(self) -> jax.Array:
        """−ELBO >= −log p(x), [batch]."""
        return self.prior + self.diffusion + self.reconstruction


def variational_bound(
    denoise: Denoiser, x0: jax.Array, keys: jax.Array, schedule: NoiseSchedule, times: jax.Array, *, levels: int = 256
) -> Bound:
    """The bound with one draw of noise for each step, unbiased.

    The steps' KL are ½ (SNR_s − SNR_t) ‖x_0 − estimate‖², if the reverse process has the variance of q(x_s | x_t, x_0).
    The last one decodes: every grey level gets the mass of its bin, under a normal distribution about the estimate
    whose standard deviation is the noise that is left, σ/α.

    Args:
      denoise: see `denoiser`.
      x0: [batch, …] of grey levels, scaled to [−1, 1].
      keys: one for each example, [batch].
      schedule: any. Where α is 0 at time 1, as of `rectified_flow`, `denoise` must be defined there: an ε-prediction
        is not.
      times: falling, [steps + 1], from 1 to 0.
      levels: how many grey levels there are.
    Raises: ValueError if there are fewer than 2 steps, or 2 levels.
    Source: Ho et al. 2020, equations 5 and 13; Kingma et al. 2021, equations 13 and 14.
    """
    times = jnp.asarray(times, jnp.float32)
    if times.ndim != 1 or len(times) < 3 or levels < 2:
        raise ValueError(f"times of shape {times.shape}, {levels} levels; wanted: 2 steps at least, and 2 levels.")

    def noised(number, time):
        return diffuse(x0, draw_noise(keys, number, x0), schedule(time))

    def step(total, inputs):
        number, time, to = inputs
        # A difference of large numbers, each exact to a part in 10⁷: of SNR_s (1 − SNR_t / SNR_s) as a product.
        here, there = schedule(time).log_snr, schedule(to).log_snr
        gain = jnp.exp(there) * -jnp.expm1(here - there)
        return total + 0.5 * gain * _sum((x0 - denoise(noised(number, time), time)) ** 2), None

    steps = jnp.arange(len(times) - 2), times[:-2], times[1:-1]
    diffusion, _ = jax.lax.scan(step, jnp.zeros(len(x0)), steps)

    first = schedule(times[-2])
    estimate = denoise(noised(len(times) - 2, times[-2]), times[-2])
    reconstruction = -_sum(_log_mass(x0, estimate, first.sigma / first.alpha, levels))

    last = schedule(times[0])
    variance = last.sigma**2
    prior = 0.5 * _sum((last.alpha * x0) ** 2 + variance - 1 - jnp.log(variance))
    return Bound(prior, diffusion, reconstruction)


def _log_mass(x, mean, std, levels):
    """log of the normal distribution's mass in the bin of each grey level; the outermost bins have no end."""
    half = 1 / (levels - 1)
    low = jnp.where(x <= -1 + half, -jnp.inf, (x - half - mean) / std)
    high = jnp.where(x >= 1 - half, jnp.inf, (x + half - mean) / std)
    # Of the two tails the one that does not round to 1.
    flip = low > 0
    low, high = jnp.where(flip, -high, low), jnp.where(flip, -low, high)
    log_high, log_low = jax.scipy.special.log_ndtr(high), jax.scipy.special.log_ndtr(low)
    return log_high + jnp.log1p(-jnp.exp(jnp.minimum(log_low - log_high, -1e-7)))


def _sum(x):
    return x.sum(tuple(range(1, x.ndim)))
