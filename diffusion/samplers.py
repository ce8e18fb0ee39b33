"""From noise to images: samplers, each one step from a time to an earlier one, and one scan for all of them.

A `Sampler` is what it remembers between steps and the step. Those that solve the probability flow ODE with an estimate
of x_0 (`ddim`, `dpm_solver_2m`) are exact for an estimate that does not change; those for any ODE (`euler`, `heun`)
take a velocity, such as rectified flow's prediction itself or `probability_flow` of a denoiser. The times are the
caller's, so that any number of steps and any grid is the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from .prediction import Denoiser
from .schedules import NoiseSchedule, added_noise, draw_noise, posterior

Velocity = Callable[[jax.Array, jax.Array], jax.Array]


class Step(NamedTuple):
    """A step's circumstances.

    time, to: float32 [], from when to when, time > to.
    draw: () -> noise of x's shape, always the same in one step.
    last: bool [], whether no other follows.
    """

    time: jax.Array
    to: jax.Array
    draw: Callable[[], jax.Array]
    last: jax.Array


class Sampler(NamedTuple):
    """A way to take steps.

    init: x [batch, …] -> memory, any pytree.
    step: (x, memory, `Step`) -> (x at the earlier time, memory).
    """

    init: Callable[[jax.Array], Any]
    step: Callable[[jax.Array, Any, Step], tuple[jax.Array, Any]]


def sample(sampler: Sampler, x: jax.Array, times: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """Takes a sampler from the first time to the last.

    Args:
      sampler: of this file, or your own.
      x: [batch, …] at the first time: at time 1, standard normal noise (times σ, where that is not 1).
      times: falling, [steps + 1]. `uniform_times` and `uniform_log_snr_times` have them.
      keys: one for each example, [batch], as an example's noise must not depend on the others; may be None for a
        sampler that draws none.
    Returns: [batch, …] at the last time, float32 at least, as is all that is computed on the way.
    Raises: ValueError if the shapes do not fit, or a sampler that draws is given no keys.
    """
    return _scan(sampler, x, times, keys, keep=False)


def trajectory(sampler: Sampler, x: jax.Array, times: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """As `sample`, but returns x at each of the times, [steps + 1, batch, …]."""
    return _scan(sampler, x, times, keys, keep=True)


def _scan(sampler, x, times, keys, *, keep):
    times = jnp.asarray(times, jnp.float32)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times are of shape {times.shape}; wanted: one axis, of at least 2 times.")
    if keys is not None and keys.shape != x.shape[:1]:
        raise ValueError(f"keys are of shape {keys.shape}; wanted: one for each of {len(x)} examples.")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # as levels are: a step must not change the type

    def body(carry, inputs):
        number, time, to = inputs

        def draw():
            if keys is None:
                raise ValueError("This sampler draws noise; give keys, one for each example.")
            return draw_noise(keys, number, x)

        carry = sampler.step(*carry, Step(time, to, draw, number == len(times) - 2))
        return carry, carry[0] if keep else None

    steps = jnp.arange(len(times) - 1), times[:-1], times[1:]
    (last, _), states = jax.lax.scan(body, (x, sampler.init(x)), steps)
    return last if states is None else jnp.concatenate([x[None], states])


def ancestral(denoise: Denoiser, schedule: NoiseSchedule, *, variance: float = 0.0) -> Sampler:
    """The reverse process of the DDPM: a draw from q(x_s | x_t, x_0) at the estimate of x_0.

    Args:
      denoise: see `denoiser`.
      schedule: of the noise.
      variance: between the variance of q(x_s | x_t, x_0) at 0, right for one known image, and that of q(x_t | x_s) at
        1, right for white noise; interpolated as logarithms. The last step, to time 0, has none.
    Raises: ValueError for a variance outside [0, 1].
    Source: Ho et al. 2020, algorithm 2 and section 3.2; Nichol & Dhariwal 2021, equation 15.
    """
    if not 0 <= variance <= 1:
        raise ValueError(f"variance is {variance}; it must be in [0, 1].")

    def step(x, memory, step):
        here, there = schedule(step.time), schedule(step.to)
        mean, lower = posterior(x, denoise(x, step.time), here, there)
        upper = added_noise(here, there) * here.sigma**2
        chosen = lower ** (1 - variance) * upper**variance if variance else lower
        # At time 0 some schedules still have a trace of noise, so that `lower` alone does not tell.
        return mean + jnp.sqrt(jnp.where(step.to > 0, chosen, 0)) * step.draw(), memory

    return Sampler(lambda x: (), step)


def ddim(denoise: Denoiser, schedule: NoiseSchedule, *, eta: float = 0.0) -> Sampler:
    """x_s = α_s x_0 + √(σ_s² − η² v) ε + η √v z, v the variance of q(x_s | x_t, x_0), ε what x_0 leaves of x_t.

    With η = 0 it solves the probability flow ODE by one evaluation a step, to first order; for `rectified_flow` it is
    `euler`. With η = 1 it is `ancestral`.

    Args:
      denoise: see `denoiser`.
      schedule: of the noise.
      eta: η in [0, 1].
    Raises: ValueError for another η.
    Source: Song et al. 2021, "Denoising Diffusion Implicit Models", equations 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; it must be in [0, 1].")

    def step(x, memory, step):
        here, there = schedule(step.time), schedule(step.to)
        x0 = denoise(x, step.time)
        noise = (x - here.alpha * x0) / here.sigma
        if not eta:
            return there.alpha * x0 + there.sigma * noise, memory
        spread = eta**2 * posterior(x, x0, here, there)[1]
        kept = jnp.sqrt(jnp.maximum(there.sigma**2 - spread, 0))
        return there.alpha * x0 + kept * noise + jnp.sqrt(spread) * step.draw(), memory

    return Sampler(lambda x: (), step)


def dpm_solver_2m(denoise: Denoiser, schedule: NoiseSchedule) -> Sampler:
    """DPM-Solver++(2M): the probability flow ODE to second order, by one evaluation a step.

    x_s = (σ_s / σ_t) x_t + α_s (1 − e^(−h)) D, where h is half the step of the log-SNR (the paper's λ is log α/σ) and D
    the estimate of x_0, extrapolated from this step's and the one before it. The first step, without one before it, and
    the last, which may lead to an infinite log-SNR, are of first order, those of `ddim`.

    Args:
      denoise: see `denoiser`.
      schedule: of the noise.
    Source: Lu et al. 2022, "DPM-Solver++", algorithm 2.
    """

    def init(x):
        return jnp.zeros_like(x), jnp.full((), -jnp.inf, x.dtype)  # of the step before: estimate and log-SNR

    def step(x, memory, step):
        before, log_snr_before = memory
        here, there = schedule(step.time), schedule(step.to)
        x0 = denoise(x, step.time)
        h, h_before = (there.log_snr - here.log_snr) / 2, (here.log_snr - log_snr_before) / 2
        # In the first step h_before is ∞ or, where α is 0, not a number; after one from there it is ∞ again.
        ahead = jnp.where(step.last | jnp.isneginf(log_snr_before), 0, h / (2 * h_before))
        estimate = x0 + ahead * (x0 - before)
        x = there.sigma / here.sigma * x - there.alpha * jnp.expm1(-h) * estimate
        return x, (x0, here.log_snr.astype(x.dtype))

    return Sampler(init, step)


def euler(velocity: Velocity) -> Sampler:
    """x_s = x_t + (s − t) · velocity(x_t, t), to first order.

    Args:
      velocity: (x [batch, …], t []) -> dx/dt.
    """
    return Sampler(lambda x: (), lambda x, memory, step: (x + (step.to - step.time) * velocity(x, step.time), memory))


def heun(velocity: Velocity) -> Sampler:
    """The mean of the velocities here and where Euler's step leads, to second order, by two evaluations a step.

    The last step is Euler's: at time 0 the velocity may not be defined.

    Args:
      velocity: (x [batch, …], t []) -> dx/dt.
    Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 1. Also
      called the explicit trapezoidal rule; not the midpoint rule, of order 2 as well.
    """

    def step(x, memory, step):
        size = step.to - step.time
        first = velocity(x, step.time)
        second = jax.lax.cond(step.last, lambda: first, lambda: velocity(x + size * first, step.to))
        return x + 0.5 * size * (first + second), memory

    return Sampler(lambda x: (), step)


def probability_flow(denoise: Denoiser, schedule: NoiseSchedule) -> Velocity:
    """dx/dt = α' x_0 + σ' ε, along which the distribution of x is that of x_t at each time.

    For `rectified_flow` it is ε − x_0. Not defined where σ is 0.

    Args:
      denoise: see `denoiser`.
      schedule: of the noise, smooth in t.
    Source: Song et al. 2021, "Score-Based Generative Modeling through SDEs", equation 13.
    """

    def velocity(x, t):
        (alpha, sigma), (alpha_dot, sigma_dot) = jax.jvp(lambda t: tuple(schedule(t)), (t,), (jnp.ones_like(t),))
        x0 = denoise(x, t)
        return alpha_dot * x0 + sigma_dot / sigma * (x - alpha * x0)

    return velocity


def uniform_times(steps: int, first: float = 1.0, last: float = 0.0) -> jax.Array:
    """Times at equal distances: [steps + 1] float32, from `first` down to `last`.

    Raises: ValueError unless steps >= 1 and 0 <= last < first <= 1.
    """
    _check_times(steps, first, last)
    return jnp.linspace(first, last, steps + 1)


def uniform_log_snr_times(schedule: NoiseSchedule, steps: int, first: float = 1.0, last: float = 1e-3) -> jax.Array:
    """Times at equal distances of λ, then 0: many small steps where an image is nearly clean.

    Args:
      schedule: of the noise.
      steps: at least 2, the last of which leads from `last` to 0.
      first: the first time; below 1 for a schedule with α = 0 there.
      last: the last time but one, above 0.
    Returns: [steps + 1] float32, falling.
    Raises: ValueError for other numbers, or if the schedule has α = 0 at the first time.
    Source: Lu et al. 2022, "DPM-Solver", section 3.4.
    """
    _check_times(steps - 1, first, last)
    if not last > 0:
        raise ValueError(f"last is {last}; it must be above 0, where the log-SNR may be infinite.")
    ends = schedule(jnp.array([first, last])).log_snr
    if not isinstance(ends, jax.core.Tracer) and not jnp.isfinite(ends).all():
        raise ValueError(
            f"The log-SNR is {ends[0]} at time {first}; there are no equal distances from there. Begin later."
        )
    wanted = jnp.linspace(ends[0], ends[1], steps)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        noisier = schedule(middle).log_snr < wanted
        return jnp.where(noisier, low, middle), jnp.where(noisier, middle, high)

    # Bisection: λ falls with time. 40 times leave no bit of a float32.
    low, high = jax.lax.fori_loop(0, 40, halve, (jnp.full(steps, last), jnp.full(steps, first)))
    times = ((low + high) / 2).at[jnp.array([0, -1])].set(jnp.array([first, last]))
    return jnp.append(times, 0.0)


def _check_times(steps, first, last):
    if steps < 1 or not 0 <= last < first <= 1:
        raise ValueError(
            f"{steps} steps from time {first} to {last}; wanted: at least 1 step, and 0 <= last < first <= 1."
        )
