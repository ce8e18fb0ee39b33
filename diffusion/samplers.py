"""From noise to images: samplers, each a step from one time to an earlier one, and one scan for all steps.

A `Sampler` is a step, and the memory that it carries to the next. `ddim` and `dpm_solver_2m` solve the probability flow
ODE with an estimate of x_0, and are exact if that estimate does not change. `euler` and `heun` solve any ODE. They take
a velocity, such as the prediction of a rectified flow, or `probability_flow` of a denoiser. The caller chooses the
times, so any number of steps and any grid is the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ..errors import InputError
from .prediction import Denoiser
from .schedules import (
    Level,
    NoiseSchedule,
    added_noise,
    checked_times,
    draw_noise,
    is_concrete,
    per_example,
    posterior,
)

Velocity = Callable[[jax.Array, jax.Array], jax.Array]
"""(x [batch, …], t []) -> dx/dt, same shape as x."""

Memory = Any
"""What a sampler remembers between steps: any pytree, of a type of its own."""


class Step(NamedTuple):
    """The circumstances of a step."""

    time: jax.Array
    """The time before the step, float32 []."""
    to: jax.Array
    """The time after the step, float32 [], earlier than `time`."""
    draw: Callable[[], jax.Array]
    """() -> noise of the shape of x; always the same noise within one step."""
    last: jax.Array
    """Whether this is the last step, bool []."""


class Sampler(NamedTuple):
    """A method for taking steps."""

    init: Callable[[jax.Array], Memory]
    """x [batch, …] -> memory before the first step."""
    step: Callable[[jax.Array, Memory, Step], tuple[jax.Array, Memory]]
    """(x, memory, step) -> (x at the earlier time, memory)."""


def sample(sampler: Sampler, x: jax.Array, times: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """Runs a sampler from the first time to the last.

    Args:
      sampler: one from this file, or your own.
      x: [batch, …] at the first time. At time 1 it is standard normal noise (times σ, if σ is not 1 there).
      times: [steps + 1], falling, in [0, 1]; for example from `uniform_times` or `uniform_log_snr_times`.
      keys: one key per example, [batch], because the noise of an example must not depend on the others. None is allowed
        for a sampler that draws no noise.
    Returns: x at the last time, [batch, …]. This and all intermediate values are at least float32.
    Raises: InputError if the shapes do not fit, if concrete times do not fall at each step within [0, 1], or if a
      sampler that draws noise gets no keys.

    >>> towards_0 = euler(lambda x, t: x)  # dx/dt = x, backwards in time
    >>> print(sample(towards_0, jnp.ones((1, 1)), uniform_times(2)))  # (1 − ½)²
    [[0.25]]
    """
    return _scan(sampler, x, times, keys, keep=False)


def trajectory(sampler: Sampler, x: jax.Array, times: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """Same as `sample`, but returns x at each of the times.

    Args, Raises: same as `sample`.
    Returns: [steps + 1, batch, …].
    """
    return _scan(sampler, x, times, keys, keep=True)


def _scan(sampler: Sampler, x: jax.Array, times: jax.Array, keys: jax.Array | None, *, keep: bool) -> jax.Array:
    times = checked_times(times)
    if keys is not None and keys.shape != x.shape[:1]:
        raise InputError(f"keys have shape {keys.shape}; expected one for each of {len(x)} examples.")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # as the levels are: a step must not change the type

    def body(carry, inputs):
        (state, memory), (number, time, to) = carry, inputs

        def draw():
            if keys is None:
                raise InputError("This sampler draws noise; give keys, one per example.")
            return draw_noise(keys, number, x)

        state, memory = sampler.step(state, memory, Step(time, to, draw, number == len(times) - 2))
        return (state, memory), state if keep else None

    steps = jnp.arange(len(times) - 1), times[:-1], times[1:]
    (last, _), states = jax.lax.scan(body, (x, sampler.init(x)), steps)
    return last if states is None else jnp.concatenate([x[None], states])


def ancestral(denoise: Denoiser, schedule: NoiseSchedule, *, variance: float = 0.0) -> Sampler:
    """The reverse process of the DDPM: a draw from q(x_s | x_t, x_0) at the estimate of x_0.

    Args:
      denoise: estimate of x_0; see `denoiser`.
      schedule: the noise schedule.
      variance: 0 for the variance of q(x_s | x_t, x_0), which is right for one known image; 1 for that of q(x_t | x_s),
        which is right for white noise. Values between them interpolate the logarithms. The last step, to time 0, adds
        no noise.
    Returns: the sampler.
    Raises: InputError if `variance` is outside [0, 1].
    Source: Ho et al. 2020, algorithm 2 and section 3.2; Nichol & Dhariwal 2021, equation 15.
    """
    if not 0 <= variance <= 1:
        raise InputError(f"variance is {variance}; it must be in [0, 1].")

    def step(x, memory, step):
        here, there = _levels(schedule, step, x)
        mean, lower = posterior(x, denoise(x, step.time), here, there)
        upper = added_noise(here, there) * here.sigma**2
        chosen = lower ** (1 - variance) * upper**variance if variance else lower
        # Some schedules still have a trace of noise at time 0, so `lower` alone would not end without noise.
        ends = per_example(step.to, x) > 0
        return mean + jnp.sqrt(jnp.where(ends, chosen, 0)) * step.draw(), memory

    return Sampler(lambda x: (), step)


def ddim(denoise: Denoiser, schedule: NoiseSchedule, *, eta: float = 0.0) -> Sampler:
    """x_s = α_s x_0 + √(σ_s² − η² v) ε + η √v z, with v the variance of q(x_s | x_t, x_0), ε = (x_t − α_t x_0)/σ_t.

    With η = 0 it solves the probability flow ODE to first order with one evaluation per step. For `rectified_flow` this
    is `euler`. With η = 1 it is `ancestral`.

    Args:
      denoise: estimate of x_0; see `denoiser`.
      schedule: the noise schedule.
      eta: η in [0, 1].
    Returns: the sampler.
    Raises: InputError for another η.
    Source: Song et al. 2021, "Denoising Diffusion Implicit Models", equations 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta is {eta}; it must be in [0, 1].")

    def step(x, memory, step):
        here, there = _levels(schedule, step, x)
        x0 = denoise(x, step.time)
        noise = (x - here.alpha * x0) / here.sigma
        if not eta:
            return there.alpha * x0 + there.sigma * noise, memory
        spread = eta**2 * posterior(x, x0, here, there)[1]
        kept = jnp.sqrt(jnp.maximum(there.sigma**2 - spread, 0))
        return there.alpha * x0 + kept * noise + jnp.sqrt(spread) * step.draw(), memory

    return Sampler(lambda x: (), step)


def dpm_solver_2m(denoise: Denoiser, schedule: NoiseSchedule) -> Sampler:
    """DPM-Solver++(2M): solves the probability flow ODE to second order with one evaluation per step.

    x_s = (σ_s / σ_t) x_t + α_s (1 − e^(−h)) D, where h is half the step of the log-SNR (the paper's λ is log α/σ). D is
    the estimate of x_0, extrapolated from this step and the one before. Two steps are of first order, as in `ddim`: the
    first, which has no step before it, and the last, which may lead to an infinite log-SNR.

    Args:
      denoise: estimate of x_0; see `denoiser`.
      schedule: the noise schedule.
    Returns: the sampler.
    Source: Lu et al. 2022, "DPM-Solver++", algorithm 2.
    """

    def init(x):
        return jnp.zeros_like(x), jnp.full((), -jnp.inf, x.dtype)  # estimate and log-SNR of the step before

    def step(x, memory, step):
        before, log_snr_before = memory
        here, there = _levels(schedule, step, x)
        x0 = denoise(x, step.time)
        h, h_before = (there.log_snr - here.log_snr) / 2, (here.log_snr - log_snr_before) / 2
        # In the first step h_before is ∞ or, if α is 0, NaN. After a first step from α = 0 it is ∞ again.
        ahead = jnp.where(step.last | jnp.isneginf(log_snr_before), 0, h / (2 * h_before))
        estimate = x0 + ahead * (x0 - before)
        x = there.sigma / here.sigma * x - there.alpha * jnp.expm1(-h) * estimate
        return x, (x0, here.log_snr.astype(x.dtype))

    return Sampler(init, step)


def euler(velocity: Velocity) -> Sampler:
    """Euler's method: x_s = x_t + (s − t) · velocity(x_t, t), of first order.

    Args:
      velocity: (x [batch, …], t []) -> dx/dt.
    Returns: the sampler.
    """

    def step(x, memory, step):
        return x + per_example(step.to - step.time, x) * velocity(x, step.time), memory

    return Sampler(lambda x: (), step)


def heun(velocity: Velocity) -> Sampler:
    """Heun's method: the mean of the velocities here and at the end of Euler's step. Of second order.

    It costs two evaluations per step. The last step is Euler's, because the velocity may not be defined at time 0. The
    method is also called the explicit trapezoidal rule. It is not the midpoint rule, which is of second order too.

    Args:
      velocity: (x [batch, …], t []) -> dx/dt.
    Returns: the sampler.
    Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 1.
    """

    def step(x, memory, step):
        size = per_example(step.to - step.time, x)
        first = velocity(x, step.time)
        second = jax.lax.cond(step.last, lambda: first, lambda: velocity(x + size * first, step.to))
        return x + 0.5 * size * (first + second), memory

    return Sampler(lambda x: (), step)


def _levels(schedule: NoiseSchedule, step: Step, x: jax.Array) -> tuple[Level, Level]:
    """The levels before and after a step."""
    return schedule(step.time).like(x), schedule(step.to).like(x)


def probability_flow(denoise: Denoiser, schedule: NoiseSchedule) -> Velocity:
    """The velocity dx/dt = α' x_0 + σ' ε, along which x has the distribution of x_t at each time.

    For `rectified_flow` it is ε − x_0. It is not defined where σ is 0.

    Args:
      denoise: estimate of x_0; see `denoiser`.
      schedule: the noise schedule, smooth in t.
    Returns: (x [batch, …], t []) -> dx/dt, same shape as x.
    Source: Song et al. 2021, "Score-Based Generative Modeling through SDEs", equation 13.
    """

    def velocity(x, t):
        level, slope = jax.jvp(lambda t: tuple(schedule(t)), (t,), (jnp.ones_like(t),))
        (alpha, sigma), (alpha_dot, sigma_dot) = Level(*level).like(x), Level(*slope).like(x)
        x0 = denoise(x, t)
        return alpha_dot * x0 + sigma_dot / sigma * (x - alpha * x0)

    return velocity


def uniform_times(num_steps: int, first: float = 1.0, last: float = 0.0) -> jax.Array:
    """Evenly spaced times, from `first` down to `last`.

    Args:
      num_steps: number of steps, at least 1.
      first: the first time, at most 1.
      last: the last time, at least 0 and less than `first`.
    Returns: [num_steps + 1] float32.
    Raises: InputError if a number is out of range.

    >>> print(uniform_times(4))
    [1.   0.75 0.5  0.25 0.  ]
    """
    _check_times(num_steps, first, last)
    return jnp.linspace(first, last, num_steps + 1)


def uniform_log_snr_times(schedule: NoiseSchedule, num_steps: int, first: float = 1.0, last: float = 1e-3) -> jax.Array:
    """Times that are evenly spaced in λ, then 0: many small steps where an image is nearly clean.

    Args:
      schedule: the noise schedule.
      num_steps: number of steps, at least 2. The last step leads from `last` to 0.
      first: the first time; below 1 for a schedule with α = 0 at time 1.
      last: the last time before 0; above 0.
    Returns: [num_steps + 1] float32, falling.
    Raises: InputError if a number is out of range, or if the schedule has α = 0 at the first time.
    Source: Lu et al. 2022, "DPM-Solver", section 3.4.
    """
    _check_times(num_steps - 1, first, last)
    if not last > 0:
        raise InputError(f"last is {last}; it must be above 0, because the log-SNR may be infinite at 0.")
    ends = schedule(jnp.array([first, last])).log_snr
    if is_concrete(ends) and not jnp.isfinite(ends).all():
        raise InputError(
            f"The log-SNR is {ends[0]} at time {first}, so it cannot be spaced evenly; choose a lower first time."
        )
    times = times_of_log_snr(schedule, jnp.linspace(ends[0], ends[1], num_steps))
    return jnp.append(times.at[jnp.array([0, -1])].set(jnp.array([first, last])), 0.0)


def times_of_log_snr(schedule: NoiseSchedule, log_snr: ArrayLike) -> jax.Array:
    """The times at which a schedule has these λ.

    Args:
      schedule: the noise schedule.
      log_snr: λ, any shape; outside the range of the schedule the answer is the nearer end, 0 or 1.
    Returns: times, same shape, float32.
    """
    wanted = jnp.asarray(log_snr, jnp.float32)

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        noisier = schedule(middle).log_snr < wanted
        return jnp.where(noisier, low, middle), jnp.where(noisier, middle, high)

    # Bisection: λ falls with time. 40 halvings determine all bits of a float32.
    low, high = jax.lax.fori_loop(0, 40, halve, (jnp.zeros_like(wanted), jnp.ones_like(wanted)))
    return (low + high) / 2


def _check_times(num_steps: int, first: float, last: float) -> None:
    if num_steps < 1 or not 0 <= last < first <= 1:
        raise InputError(
            f"Got {num_steps} steps from time {first} to {last}; expected at least 1 step, and 0 <= last < first <= 1."
        )
