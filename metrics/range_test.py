"""Reading a learning-rate range test: from a noisy loss at rising rates to three regions and a suggested rate.

A range test trains once while the rate grows geometrically. At low rates the loss stays flat, then it falls, then it
diverges. Two rates are read off: the rate of steepest descent, which the lecture picks by eye, and a rate in the basin,
which is the suggestion. The steepest descent is not a good suggestion, because the loss at a rate depends on all rates
before it. Its position moves with the speed of the sweep (by 1.8× between 100 and 400 steps over six decades), and lies
a factor of 3 to 60 below the rates that train best. The end of the descent and the start of the divergence depend less
on the speed, and in opposite ways. docs/learning_rates.md has the measurements.

The whole curve is known before it is read, so it is smoothed forward and backward. An exponential average in one
direction lags behind and would place every feature of the curve at too high a rate. All rules are relative to the drop
and the noise of the curve itself, so they do not change if the loss is scaled or a constant is added.

A curve that ends before its loss rises again says nothing about the upper end of the basin. Such a test is `open`, and
suggests no rate: what it would suggest is the last rate of the range, a factor of 10 to 100 too low if the range ended
within the descent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import InputError

MIN_POINTS = 20
"""The least number of finite losses. With fewer, a fitted line follows the noise."""

RESOLUTION = 4 * float(np.finfo(np.float32).eps)
"""A change below this share of the loss is rounding: losses are measured in float32."""

EDGE = 0.1
"""The descent starts at this share of the drop and ends at 1 minus it: the usual 10 % to 90 % of a step response."""

DIVERGED = 0.5
"""Share of the drop by which the loss must rise again after its minimum to count as diverged."""

SIGNIFICANT = 8.0
"""A drop or a rise counts from this many standard deviations of the smoothed noise on. The greatest fall within 200
points of pure noise is about 6."""

BASIN = 0.1
"""The loss counts as at its bottom if it is within this share of the drop."""

POSITION = 0.4
"""Position of the suggestion between the ends of the basin, in log rate. It is left of the middle, because a run stays
at a rate that a sweep only passes, and so becomes unstable sooner."""

BASIN_WIDTH = 0.3
"""Standard deviation, in decades, of the Gaussian average from which the basin is read. It is wide because each end of
the basin is found by a single crossing of a level."""

MIN_WINDOW = 0.4 * np.log(10)
"""Narrowest window for fitting the slope, in log rate: 0.4 decades."""


@dataclass(frozen=True)
class RangeTest:
    """The curve of a range test and what was read from it. A rate is None where the curve does not show it."""

    rates: np.ndarray
    """The rates, [n], ascending."""
    losses: np.ndarray
    """The losses as measured, [n]."""
    smoothed: np.ndarray
    """The losses without noise, [n]; NaN from the divergence on."""
    descent_start: float | None
    """The rate at which the loss has fallen by a tenth of its drop. Below it the curve is flat."""
    minimum: float | None
    """The rate of the smallest smoothed loss."""
    divergence: float | None
    """The first rate above the minimum at which the loss has risen by half of the drop again, or is not finite."""
    steepest: float | None
    """The rate of steepest descent per log rate, between `descent_start` and `minimum`."""
    basin: tuple[float, float] | None
    """The (lowest, highest) rate at which the loss is at its bottom, within a tenth of its drop."""
    suggestion: float | None
    """A rate to train with, `POSITION` of the way from the lowest to the highest rate of the basin, in log rate."""
    open: bool
    """Whether higher rates have to be tried: nothing of the curve says yet where the loss stops falling."""
    reason: str
    """One sentence that says how the suggestion was found, or why there is none."""


def range_test(rates: np.ndarray, losses: np.ndarray, *, smoothing: float = 0.8) -> RangeTest:
    """Finds the three regions of a learning-rate range test, its steepest descent and a rate to train with.

    Args:
      rates: [n], > 0, strictly ascending, about geometric (a constant factor per step).
      losses: [n], the minibatch loss at each rate. The last ones may be NaN, infinite or huge if training diverged.
      smoothing: β in [0, 1), the decay per point of the exponential average, which runs forward and backward.
    Returns: a RangeTest. If there is no clear descent, or the range ends within it, `suggestion` is None and `reason`
      says why.
    Raises: InputError if the shapes differ, there are no rates, they are not positive and ascending, or β is outside
      [0, 1).
    Source: Smith 2017 (https://arxiv.org/abs/1506.01186), section 3.3. The bias correction of an average that starts at
      0 is that of Adam (https://arxiv.org/abs/1412.6980), section 3, here for both directions.

    >>> rates = np.geomspace(1e-5, 10, 100)
    >>> losses = 2 - 1 / (1 + (0.01 / rates) ** 2) + np.maximum(0, rates - 1)  # falls around 0.01, rises from 1 on
    >>> test = range_test(rates, losses)
    >>> test.descent_start < test.steepest < test.minimum < test.divergence
    True
    >>> print(f"{test.suggestion:.2f}")
    0.12
    >>> print(range_test(rates, np.full(100, 2.0)).suggestion)
    None
    """
    rates, losses = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    _check(rates, losses, smoothing)
    usable = np.isfinite(losses)
    finite = len(losses) if usable.all() else int(np.argmin(usable))
    blown = finite if finite < len(rates) else None
    if finite < MIN_POINTS:
        return _without_descent(rates, losses, [], blown, _too_few(rates, finite))

    values = losses[:finite]
    initial = _initial(losses, finite)
    noise = _noise(_before_blow_up(values, initial))
    rounding = RESOLUTION * float(np.max(np.abs(values[:MIN_POINTS])))
    clear = max(SIGNIFICANT * noise * _attenuation(smoothing), rounding)
    diverged = _divergence(values, initial, clear)
    cut = finite if diverged is None else diverged
    diverged = blown if diverged is None else diverged
    if cut < MIN_POINTS:
        reason = f"The loss diverges after {cut} points, without room for a descent; start at a lower rate."
        return _without_descent(rates, losses, [], diverged, reason)

    # A spike within the descent counts as no more than a return to the top. The tail is already cut.
    ceiling = initial + max(clear, initial - float(np.min(_median5(values[:cut]))))
    smoothed = _smooth(np.minimum(values[:cut], ceiling), smoothing)
    lowest = int(np.argmin(smoothed))
    drop = initial - smoothed[lowest]
    if drop > clear:
        start, steepest = _descent(np.log(rates[: lowest + 1]), smoothed[: lowest + 1], initial)
        return _with_descent(rates, losses, smoothed, start, lowest, diverged, steepest, initial)
    risen = diverged is not None or smoothed[-1] - initial > clear
    if risen:
        reason = (
            "The loss only rises from its initial level; start at a lower rate, or raise it more slowly, in more steps "
            "per decade."
        )
    elif np.ptp(values) <= rounding:
        reason = (
            f"The loss is {initial:.6g} at every rate up to {rates[-1]:.3g}: no step changes it. Either all rates are "
            "too low, or no gradient reaches the parameters."
        )
    else:
        reason = (
            f"The loss is flat up to a rate of {rates[-1]:.3g}: it falls by {max(drop, 0):.3g}, which its noise of "
            f"{noise:.3g} from step to step could explain. Go on to higher rates; if those are flat too, take larger "
            "batches or more steps per decade."
        )
    return _without_descent(rates, losses, smoothed, diverged, reason, ended=risen)


def blown_up(losses: np.ndarray, *, window: int = 10, factor: float = 4.0) -> bool:
    """Whether a range test that is under way need not go on: the loss has left everything that it came from.

    Args:
      losses: [n], the minibatch losses so far.
      window: number of losses that are averaged.
      factor: the test has blown up once the mean of the last losses exceeds that of the first ones by this multiple of
        the fall so far or, as long as nothing has fallen, of the noise. It is measured from the first losses and not
        in multiples of the loss, so that it does not change if a constant is added.
    Returns: also True if the mean of the last losses is not finite.

    >>> losses = np.concatenate([np.linspace(2, 1, 50), np.linspace(1, 9, 50)])
    >>> blown_up(losses[:80]), blown_up(losses), blown_up(losses - 100)
    (False, True, True)
    """
    losses = np.asarray(losses, np.float64)
    recent = float(np.mean(losses[-window:]))
    if not np.isfinite(recent):
        return True
    if len(losses) < 2 * window:
        return False
    means = np.convolve(losses, np.ones(window) / window, mode="valid")
    scale = max(means[0] - np.min(means), SIGNIFICANT * _noise(losses), RESOLUTION * float(np.max(np.abs(losses))))
    return bool(recent > means[0] + factor * scale)


def _too_few(rates: np.ndarray, finite: int) -> str:
    if finite == len(rates):
        return f"There are only {finite} losses, and {MIN_POINTS} are needed; take more steps per decade."
    if finite == 0:
        return f"The loss is not finite at the lowest rate, {rates[0]:.3g}, before any step: the rate is not the cause."
    return (
        f"Only {finite} finite losses before the first that is not, at a rate of {rates[finite]:.3g}; {MIN_POINTS} are "
        "needed. Start at a lower rate, or take more steps per decade."
    )


def _initial(losses: np.ndarray, finite: int) -> float:
    """The loss at the lowest rates, before it falls."""
    return float(np.median(losses[: max(5, finite // 10)]))


def _without_descent(rates, losses, smoothed, diverged: int | None, reason: str, *, ended: bool = True) -> RangeTest:
    divergence = None if diverged is None else float(rates[diverged])
    return RangeTest(
        rates,
        losses,
        _padded(smoothed, len(rates)),
        descent_start=None,
        minimum=None,
        divergence=divergence,
        steepest=None,
        basin=None,
        suggestion=None,
        open=not ended,
        reason=reason,
    )


def _with_descent(
    rates, losses, smoothed, start: int, lowest: int, diverged: int | None, steepest: int, initial: float
) -> RangeTest:
    low, high = _basin(rates, losses, initial)
    is_open = diverged is None and high == rates[-1]
    if is_open:
        reason = (
            f"The loss does not rise again up to {rates[-1]:.3g}, the end of the range; it is near its lowest from "
            f"{low:.2g} on. Go on to higher rates."
        )
    else:
        reason = f"Among the rates at which the smoothed loss is within {BASIN:.0%} of its drop from the bottom."
    return RangeTest(
        rates,
        losses,
        _padded(smoothed, len(rates)),
        descent_start=float(rates[start]),
        minimum=float(rates[lowest]),
        divergence=None if diverged is None else float(rates[diverged]),
        steepest=float(rates[steepest]),
        basin=(low, high),
        suggestion=None if is_open else float(low ** (1 - POSITION) * high**POSITION),
        open=is_open,
        reason=reason,
    )


def _padded(smoothed, length: int) -> np.ndarray:
    padded = np.full(length, np.nan)
    padded[: len(smoothed)] = smoothed
    return padded


def _descent(logs: np.ndarray, smoothed: np.ndarray, initial: float) -> tuple[int, int]:
    """Indices at which the descent starts and at which it is steepest, on a curve that ends at its minimum."""
    drop = initial - smoothed[-1]
    half = int(np.argmax(smoothed <= initial - 0.5 * drop))
    above = np.flatnonzero(smoothed[: half + 1] >= initial - EDGE * drop)
    start = int(above[-1]) if len(above) else 0
    stop = half + int(np.argmax(smoothed[half:] <= initial - (1 - EDGE) * drop))
    # The window is half as wide as the descent: wide enough for its noise, narrow enough for its shape.
    slopes = _slopes(logs, smoothed, max(MIN_WINDOW, 0.5 * (logs[stop] - logs[start])))
    return start, start + int(np.argmin(slopes[start : stop + 1]))


def _check(rates: np.ndarray, losses: np.ndarray, smoothing: float) -> None:
    if rates.ndim != 1 or rates.shape != losses.shape:
        raise InputError(f"range_test expects rates [n] and losses [n]; got shapes {rates.shape} and {losses.shape}.")
    if not len(rates):
        raise InputError("rates and losses are empty.")
    valid = np.isfinite(rates) & (rates > 0)
    if not valid.all():
        raise InputError(f"rates must be finite and > 0; got {rates[~valid][0]}.")
    rising = np.diff(rates) > 0
    if not rising.all():
        i = int(np.argmin(rising))
        raise InputError(f"rates must ascend strictly; got {rates[i]} before {rates[i + 1]} at index {i}.")
    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing must be in [0, 1); got {smoothing}.")


def _noise(values: np.ndarray) -> float:
    """Standard deviation of white noise on a smooth curve: a robust estimate from second differences.

    The median ignores the bends of the curve and a few huge values. The factor 1/0.6745 makes it exact for normal
    noise.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        bends = np.abs(np.diff(values, 2)) / np.sqrt(6)
    return float(np.median(np.nan_to_num(bends, nan=np.inf))) / 0.6745


def _before_blow_up(values: np.ndarray, initial: float) -> np.ndarray:
    """The losses before they first exceed the initial one by 4 times the drop: jumps behind that are no noise."""
    typical = _median5(values)
    above = np.flatnonzero(typical > initial + 4 * (initial - np.min(typical)))
    return values[: max(MIN_POINTS, above[0])] if len(above) else values


def _attenuation(decay: float) -> float:
    """Standard deviation of unit white noise after an average with weights ∝ decay^|k|."""
    weights = decay ** np.abs(np.arange(-500, 501))
    return float(np.sqrt(np.sum(weights**2)) / np.sum(weights))


def _divergence(values: np.ndarray, initial: float, clear: float) -> int | None:
    """Index where the loss, past its lowest running median, has risen again by `DIVERGED` of the drop, or None."""
    typical = _median5(values)
    lowest = int(np.argmin(typical))
    drop = initial - typical[lowest]
    # Without a drop worth the name, the lowest of many noisy values is no level to rise from.
    level = typical[lowest] + max(DIVERGED * drop, 2 * clear) if drop > 2 * clear else initial + 2 * clear
    above = np.flatnonzero(typical[lowest:] > level)
    return lowest + int(above[0]) if len(above) else None


def _basin(rates: np.ndarray, losses: np.ndarray, initial: float) -> tuple[float, float]:
    """(lowest, highest) rate around the minimum of a wide average, within `BASIN` of the drop from the bottom.

    Losses above the initial one, and all from the first that is not finite, count as the initial one: no progress.
    """
    lost = np.logical_or.accumulate(~np.isfinite(losses))
    values = np.minimum(np.where(lost, initial, losses), initial)
    logs = np.log10(rates)
    weights = np.exp(-0.5 * ((logs[:, None] - logs) / BASIN_WIDTH) ** 2)
    smoothed = weights @ values / weights.sum(1)
    lowest = int(np.argmin(smoothed))
    above = smoothed > smoothed[lowest] + BASIN * (initial - smoothed[lowest])
    before, after = np.flatnonzero(above[:lowest]), np.flatnonzero(above[lowest:])
    first = before[-1] + 1 if len(before) else 0
    last = lowest + after[0] - 1 if len(after) else len(rates) - 1
    return float(rates[first]), float(rates[last])


def _median5(values: np.ndarray) -> np.ndarray:
    """Running median over five points, with repeated ends: [n] -> [n]. A single spike leaves no trace."""
    return np.median(sliding_window_view(np.pad(values, 2, mode="edge"), 5), axis=-1)


def _smooth(values: np.ndarray, decay: float) -> np.ndarray:
    """Exponential average forward, then backward, so that it does not lag: [n] -> [n].

    It is divided by the same average of ones, which is 1 − βᵗ for one direction as in Adam, so that neither end is
    drawn towards 0.
    """

    def forward(x):
        out, average = np.empty_like(x), 0.0
        for i, value in enumerate(x):
            average = decay * average + (1 - decay) * value
            out[i] = average
        return out

    def both(x):
        return forward(forward(x)[::-1])[::-1]

    return values[0] + both(values - values[0]) / both(np.ones_like(values))


def _slopes(logs: np.ndarray, values: np.ndarray, window: float) -> np.ndarray:
    """Least-squares slope of `values` over `logs` within ± window/2 of each point: [n] -> [n]. +inf if undefined."""
    slopes = np.full(len(logs), np.inf)
    for i, center in enumerate(logs):
        near = np.abs(logs - center) <= window / 2
        if near.sum() >= 3:
            x = logs[near] - logs[near].mean()
            slopes[i] = (x @ values[near]) / (x @ x)
    return slopes
