"""The variational bound on −log p(x) of 8-bit images: a true bound for any number of steps.

The bound is that of a model of T steps, each with a variance, and a decoder. Four choices decide how tight it is. All
may be made on images other than those it is reported of, such as validation images:

- the last time before 0, where the decoder takes over. Too early, and the decoder is too wide; too late, and a network
  that can't tell an image in so little noise pays for all steps on the way. `tightest` chooses it.
- the other times. `bound_times` spaces them evenly in λ, `tightest` where the error of the estimate changes most.
- the variances of the steps. That of q(x_s | x_t, x_0) is too small, because the network does not know x_0: what is
  missing is the mean squared error of its estimate. With it, far fewer steps do.
- the spread of the decoder, narrower than the remaining noise where the network knows which gray level it is.

    times = bound_times(schedule, 100)
    times, spread = tightest(profile(denoise, validation, keys, schedule, times), schedule, times)
    errors = profile(denoise, validation, keys, schedule, times).errors.mean(0)
    variational_bound(denoise, test, keys, schedule, times, errors=errors, spread=spread).nats
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ..errors import InputError
from .prediction import Denoiser
from .samplers import times_of_log_snr
from .schedules import Level, NoiseSchedule, checked_times, diffuse, draw_noise, is_concrete

LOWEST_LOG_SNR = -14.0  # an image in a thousand times as much noise: a millionth of a nat
EARLIEST = 1e-5  # where the noise of a schedule counts as its least; at 0 there may be none
SPREADS = (1.0, 0.5, 0.25, 0.125)  # standard deviations of a decoder, over that of the remaining noise
TINY = 1e-30


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
    times: ArrayLike,
    *,
    errors: ArrayLike = 0.0,
    spread: ArrayLike = 1.0,
    num_levels: int = 256,
) -> Bound:
    """The variational bound with one draw of noise per step; unbiased.

    A step has the variance of q(x_s | x_t, x_0), times 1 + g m for g = SNR_s − SNR_t and an estimate m of the error of
    each entry, (x_0 − estimate)². Its KL is ½ [d log(1 + g m) + g (‖x_0 − estimate‖² − d m) / (1 + g m)] for d entries,
    and ½ g ‖x_0 − estimate‖² for m = 0. The last step decodes: every gray level gets the mass of its bin under a normal
    distribution around the estimate, whose standard deviation is that of the remaining noise, σ/α, times `spread`.

    Args:
      denoise: the denoising network as an estimate of x_0; see `denoiser`.
      x0: [batch, …], gray levels scaled to [−1, 1].
      keys: one key per example, [batch].
      schedule: the noise schedule. If its α is 0 at time 1, as in `rectified_flow`, `denoise` must be defined there. An
        ε-prediction is not.
      times: [steps + 1], falling to 0.
      errors: m, [] or [steps]: the mean squared error of the estimate at each time but 0, as `profile` finds it on
        other images. (With that of these images it would not be a bound.) The last one has no use.
      spread: standard deviation of the decoder, over σ/α.
      num_levels: the number of gray levels.
    Returns: a Bound.
    Raises: InputError if there are fewer than 2 steps or 2 levels, errors of another shape or below 0, or if concrete
      times do not fall to 0.
    Source: Ho et al. 2020, equations 5 and 13; Kingma et al. 2021, equations 13 and 14; for the variance, Bao et al.
      2022, "Analytic-DPM", theorem 1.
    """
    times = _checked(times, num_levels)
    if is_concrete(errors) and not (np.asarray(errors) >= 0).all():
        raise InputError(f"errors are squares, at least 0; the least is {np.min(errors)}.")
    errors = jnp.asarray(errors, jnp.float32)
    if errors.shape not in ((), (len(times) - 1,)):
        raise InputError(
            f"errors have shape {errors.shape}; expected one number, or {len(times) - 1}, one for each step."
        )
    dims = x0[0].size

    def step(total, inputs):
        number, time, to, expected = inputs
        gain = _gain(schedule(time), schedule(to))
        found = _sum((x0 - denoise(_noised(x0, keys, number, schedule(time)), time)) ** 2)
        return total + _divergence(gain, found, expected, dims), None

    expected = jnp.broadcast_to(errors, len(times) - 1)[:-1]
    steps = jnp.arange(len(times) - 2), times[:-2], times[1:-1], expected
    diffusion, _ = jax.lax.scan(step, jnp.zeros(len(x0)), steps)

    first = schedule(times[-2])
    estimate = denoise(_noised(x0, keys, len(times) - 2, first), times[-2])
    reconstruction = _decoded(x0, estimate, spread, first, num_levels)

    last = schedule(times[0])
    variance = last.sigma**2
    prior = 0.5 * _sum((last.alpha * x0) ** 2 + variance - 1 - jnp.log(variance))
    return Bound(prior, diffusion, reconstruction)


class Profile(NamedTuple):
    """How well a network denoises at each of some times."""

    errors: Any
    """Mean squared error of the estimate of x_0, [batch, steps]."""
    reconstruction: Any
    """What a decoder that takes over at this time would need, with each of `SPREADS`: nats per entry of the image,
    [batch, steps, spreads]."""


def profile(
    denoise: Denoiser,
    x0: jax.Array,
    keys: jax.Array,
    schedule: NoiseSchedule,
    times: ArrayLike,
    *,
    num_levels: int = 256,
) -> Profile:
    """The error of the estimates at all times but 0, and the cost of decoding there.

    Args, Raises: same as `variational_bound`; x0 are images other than those whose bound is to be reported.
    """
    times = _checked(times, num_levels)

    def at(inputs):
        number, time = inputs
        level = schedule(time)
        estimate = denoise(_noised(x0, keys, number, level), time)
        nats = [_decoded(x0, estimate, spread, level, num_levels) for spread in SPREADS]
        return _sum((x0 - estimate) ** 2) / x0[0].size, jnp.stack(nats, -1) / x0[0].size

    errors, reconstruction = jax.lax.map(at, (jnp.arange(len(times) - 1), times[:-1]))
    return Profile(errors.T, jnp.moveaxis(reconstruction, 0, 1))


def tightest(found: Profile, schedule: NoiseSchedule, times: ArrayLike) -> tuple[jax.Array, float]:
    """The times, as many as there were, and the spread of the decoder with which the bound is tight on average.

    The last time before 0, and the spread, are those with the lowest bound among those that were tried. The times on
    the way are spaced as if steps had the variance of q(x_s | x_t, x_0): the excess of a small step is then
    ¼ SNR |dm/dλ| Δλ², m being the error of the estimate, and the sum is least where all roots are equal. A tenth of the
    steps is spaced evenly in λ.

    Args:
      found: profile of some images at the times.
      schedule, times: same as `profile`, from `bound_times`.
    Returns: (times [steps + 1], spread).
    """
    times, errors, decoding = (
        jnp.asarray(times, jnp.float32),
        np.mean(found.errors, 0),
        np.mean(found.reconstruction, 0),
    )
    gains = np.asarray(_gain(schedule(times[:-2]), schedule(times[1:-1])))
    spent = np.cumsum(_divergence(gains, errors[:-1], errors[:-1], 1))
    last, spread = np.unravel_index((spent[:, None] + decoding[1:]).argmin(), decoding[1:].shape)
    log_snr = np.maximum(schedule(times[: last + 2]).log_snr, LOWEST_LOG_SNR).astype(np.float64)
    wide, fall = np.diff(log_snr), np.maximum(-np.diff(errors[: last + 2]), 0)
    dense = np.sqrt(np.exp(log_snr[:-1] + wide / 2) * fall * wide)
    share = 0.9 * dense / max(dense.sum(), TINY) + 0.1 * wide / wide.sum()
    placed = np.interp(np.linspace(0, share.sum(), len(times) - 1), np.append(0, np.cumsum(share)), log_snr)
    inner = times_of_log_snr(schedule, placed).at[jnp.array([0, -1])].set(times[jnp.array([0, last + 1])])
    return jnp.append(inner, 0.0), SPREADS[spread]


def bound_times(schedule: NoiseSchedule, num_steps: int, *, num_levels: int = 256) -> jax.Array:
    """Times from 1 to 0, evenly spaced in λ between an image that can't be seen and the precision of the data.

    At the last time before 0 the noise has the standard deviation of half a gray level or, if that is more, the least
    that the schedule has.

    Args:
      schedule: the noise schedule.
      num_steps: number of steps, at least 2; the last leads to 0.
      num_levels: the number of gray levels.
    Returns: [num_steps + 1] float32.
    Raises: InputError if there are fewer than 2 steps or 2 levels.
    """
    if num_steps < 2 or num_levels < 2:
        raise InputError(f"Got {num_steps} steps and {num_levels} levels; expected at least 2 of each.")
    ends = schedule(jnp.array([1.0, EARLIEST])).log_snr
    lowest, highest = jnp.maximum(ends[0], LOWEST_LOG_SNR), jnp.minimum(ends[1], 2 * math.log(num_levels - 1))
    inner = times_of_log_snr(schedule, jnp.linspace(lowest, highest, num_steps))
    return jnp.append(inner.at[0].set(1.0), 0.0)


def _checked(times: ArrayLike, num_levels: int) -> jax.Array:
    """Raises InputError as `variational_bound` says."""
    times = checked_times(times)
    if len(times) < 3 or num_levels < 2:
        raise InputError(
            f"There are {len(times) - 1} steps and {num_levels} levels; expected at least 2 steps and 2 levels."
        )
    if is_concrete(times) and times[-1] != 0:
        raise InputError(f"The last time is {times[-1]:g}; a bound on an image ends at 0.")
    return times


def _noised(x0: jax.Array, keys: jax.Array, number: ArrayLike, level: Level) -> jax.Array:
    return diffuse(x0, draw_noise(keys, number, x0), level)


def _decoded(x0: jax.Array, estimate: jax.Array, spread: ArrayLike, level: Level, num_levels: int) -> jax.Array:
    """−log of the mass of x_0, summed over the image, [batch]."""
    return -_sum(_log_mass(x0, estimate, jnp.asarray(spread) * level.sigma / level.alpha, num_levels))


def _gain(here: Level, there: Level) -> jax.Array:
    """SNR_s − SNR_t: a difference of large numbers, each exact to a part in 10⁷. SNR_s (1 − SNR_t / SNR_s) is not."""
    return jnp.exp(there.log_snr) * -jnp.expm1(here.log_snr - there.log_snr)


def _divergence(gain: Any, found: Any, expected: Any, dims: int) -> Any:
    """KL of a step for a squared error, summed over `dims` entries, where `expected` was expected of each entry."""
    wider = gain * expected
    return 0.5 * (dims * jnp.log1p(wider) + (gain * found - dims * wider) / (1 + wider))


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
