"""Reading a learning-rate range test: from a noisy loss at rising rates to three regions and one suggestion.

A range test trains once while the rate grows geometrically. At low rates the loss stays flat, then it falls,
then it diverges. Two rates are read off: that of steepest descent, which the lecture picks by eye, and one in
the basin, which is suggested. For the loss of a sweep is that of a run: how far it has come at a rate depends on
all rates before it, so that the steepest point moves with the speed of the sweep (by 2.7× between 100 and 400 steps
over six decades) and lies a factor of 3 to 60 below the rates that train best. Where the descent ends and where
it turns back depend on it less, and in opposite ways. docs/learning_rates.md has the measurements.

The whole curve is there
before it is read, so it is smoothed forward and backward: an exponential average taken online lags behind,
and would place every feature of the curve at too high a rate. All rules are relative to the curve's own drop
and its own noise, so adding a constant to the loss or scaling it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MIN_POINTS = 20
"""Fewest finite losses that are read at all; below it a line fitted to a few points follows the noise."""

EDGE = 0.1
"""Share of the drop at which the descent starts, and is over: the usual 10 % to 90 % of a step response."""

DIVERGED = 0.5
"""Share of the drop that the loss must lose again, after its minimum, to count as diverged."""

SIGNIFICANT = 8.0
"""A drop or a rise counts from this many standard deviations of the smoothed noise on; the greatest fall
within 200 points of pure noise is about 6."""

BASIN = 0.1
"""Share of the drop up to which the loss counts as at its bottom."""

POSITION = 0.4
"""Where between the basin's ends the suggestion lies, in log rate. Left of the middle: a run stays at rates that a
sweep only passes, and so becomes unstable sooner."""

BASIN_WIDTH = 0.3
"""Standard deviation, in decades, of the Gaussian average that the basin is read from: wide, since its two ends are
found by single crossings of a level."""

MIN_WINDOW = 0.4 * np.log(10)
"""Narrowest window of the slope's fit, in log rate: 0.4 decades."""


@dataclass(frozen=True)
class RangeTest:
    """A range test's curve and what it says; a rate is None where the curve does not show it.

    Attributes:
      rates: [n], the rates, ascending.
      losses: [n], the losses as measured.
      smoothed: [n], the losses without noise; NaN from the divergence on.
      descent_start: the rate at which the loss has fallen by a tenth of its drop; below it the curve is flat.
      minimum: the rate of the smallest smoothed loss.
      divergence: the first rate above the minimum at which half of the drop is lost again, or a loss is not
        finite.
      steepest: the rate of steepest descent per log rate, between `descent_start` and `minimum`.
      basin: (lowest, highest) rate at which the loss is at its bottom, within a tenth of its drop.
      suggestion: the rate `POSITION` of the way from the basin's lowest to its highest, in log rate.
      reason: one sentence; why there is no suggestion, or how it was found.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    descent_start: float | None
    minimum: float | None
    divergence: float | None
    steepest: float | None
    basin: tuple[float, float] | None
    suggestion: float | None
    reason: str


def range_test(rates: np.ndarray, losses: np.ndarray, *, smoothing: float = 0.8) -> RangeTest:
    """Finds the three regions of a learning-rate range test, its steepest descent and a rate to train with.

    Args:
      rates: [n], > 0, strictly ascending, about geometric (a constant factor per step).
      losses: [n], the minibatch loss at each rate; NaN, infinite or huge at the end if training diverged.
      smoothing: β in [0, 1): decay per point of the exponential average, run forward and backward.
    Returns: a RangeTest; `suggestion` is None, with the reason, where there is no clear descent.
    Raises: ValueError if the shapes differ, the rates are not positive and ascending, there are
      none, or β is outside [0, 1).
    Source: Smith 2017 (https://arxiv.org/abs/1506.01186), section 3.3; the bias correction of an average that
      starts at 0 is that of Adam (https://arxiv.org/abs/1412.6980), section 3, here for both directions.
    """
    rates, losses = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    _check(rates, losses, smoothing)
    usable = np.isfinite(losses)
    finite = len(losses) if usable.all() else int(np.argmin(usable))

    def result(smoothed, start, minimum, divergence, steepest, reason) -> RangeTest:
        padded = np.full(len(rates), np.nan)
        padded[: len(smoothed)] = smoothed
        at = lambda i: None if i is None else float(rates[i])  # noqa: E731
        basin = None if steepest is None else _basin(rates, losses, initial)
        suggestion = None if basin is None else float(basin[0] ** (1 - POSITION) * basin[1] ** POSITION)
        return RangeTest(
            rates, losses, padded, at(start), at(minimum), at(divergence), at(steepest), basin, suggestion, reason
        )  # fmt: skip

    initial = float(np.median(losses[: max(5, finite // 10)]))
    blown = finite if finite < len(rates) else None
    if finite < MIN_POINTS:
        reason = f"Only {finite} finite losses before the first that is not; {MIN_POINTS} are needed."
        return result([], None, None, blown, None, reason)

    values = losses[:finite]
    noise = _noise(values)
    clear = SIGNIFICANT * noise * _attenuation(smoothing) + 1e-9 * np.max(np.abs(values[:MIN_POINTS]))
    diverged = _divergence(values, initial, clear)
    cut = finite if diverged is None else diverged
    diverged = blown if diverged is None else diverged
    if cut < MIN_POINTS:
        reason = f"The loss diverges after {cut} points, without room for a descent; start at a lower rate."
        return result([], None, None, diverged, None, reason)

    # A spike within the descent counts as no more than a return to the top; the tail is already cut.
    ceiling = initial + max(clear, initial - float(np.min(_median5(values[:cut]))))
    smoothed = _smooth(np.minimum(values[:cut], ceiling), smoothing)
    lowest = int(np.argmin(smoothed))
    drop = initial - smoothed[lowest]
    if drop <= clear:
        risen = smoothed[-1] - smoothed[lowest] > clear or diverged is not None
        reason = (
            "The loss only rises from its initial level; start at a lower rate."
            if risen
            else f"The loss falls by {max(drop, 0):.3g}, which its noise of {noise:.3g} could do by itself."
        )
        return result(smoothed, None, None, diverged, None, reason)

    half = int(np.argmax(smoothed <= initial - 0.5 * drop))
    above = np.flatnonzero(smoothed[: half + 1] >= initial - EDGE * drop)
    start = int(above[-1]) if len(above) else 0
    stop = half + int(np.argmax(smoothed[half : lowest + 1] <= initial - (1 - EDGE) * drop))
    logs = np.log(rates[:cut])
    # A window of half the descent's own width: wide enough for its noise, narrow enough for its shape.
    window = max(MIN_WINDOW, 0.5 * (logs[stop] - logs[start]))
    slopes = _slopes(logs[: lowest + 1], smoothed[: lowest + 1], window)
    steepest = start + int(np.argmin(slopes[start : stop + 1]))
    reason = f"Among the rates at which the smoothed loss is within {BASIN:.0%} of its drop from the bottom."
    return result(smoothed, start, lowest, diverged, steepest, reason)


def _check(rates: np.ndarray, losses: np.ndarray, smoothing: float) -> None:
    if rates.ndim != 1 or rates.shape != losses.shape:
        raise ValueError(f"need rates [n] and losses [n]; got shapes {rates.shape} and {losses.shape}.")
    if not len(rates):
        raise ValueError("rates and losses are empty.")
    valid = np.isfinite(rates) & (rates > 0)
    if not valid.all():
        raise ValueError(f"rates must be finite and > 0; got {rates[~valid][0]}.")
    rising = np.diff(rates) > 0
    if not rising.all():
        i = int(np.argmin(rising))
        raise ValueError(f"rates must ascend strictly; got {rates[i]} before {rates[i + 1]} at index {i}.")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be in [0, 1); got {smoothing}.")


def _noise(values: np.ndarray) -> float:
    """Standard deviation of white noise on a smooth curve, as a robust estimate from second differences.

    The median keeps out the curve's bends and a few huge values; 1/0.6745 makes it right for normal noise.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        bends = np.abs(np.diff(values, 2)) / np.sqrt(6)
    return float(np.median(np.nan_to_num(bends, nan=np.inf))) / 0.6745


def _attenuation(decay: float) -> float:
    """Standard deviation of unit white noise after an average with weights ∝ decay^|k|."""
    weights = decay ** np.abs(np.arange(-500, 501))
    return float(np.sqrt(np.sum(weights**2)) / np.sum(weights))


def _divergence(values: np.ndarray, initial: float, clear: float) -> int | None:
    """Index from which the loss is lost: past the lowest running median, `DIVERGED` of the drop above it."""
    typical = _median5(values)
    lowest = int(np.argmin(typical))
    rise = max(DIVERGED * (initial - typical[lowest]), 2 * clear)
    above = np.flatnonzero(typical[lowest:] > typical[lowest] + rise)
    return lowest + int(above[0]) if len(above) else None


def _basin(rates: np.ndarray, losses: np.ndarray, initial: float) -> tuple[float, float]:
    """(lowest, highest) rate around the minimum of a wide average with less than `BASIN` of the drop above it.

    Losses above the initial one, and all from the first that is not finite, count as no progress: as the initial one.
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
    """Running median over five points, the ends repeated: [n] -> [n]; a single spike leaves no trace."""
    return np.median(sliding_window_view(np.pad(values, 2, mode="edge"), 5), axis=-1)


def _smooth(values: np.ndarray, decay: float) -> np.ndarray:
    """Exponential average forward, then backward, without lag: [n] -> [n].

    Divided by the same average of ones, which is 1 − βᵗ for one direction as in Adam, so that neither end is
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
    """Least-squares slope of `values` over `logs` within ± window/2 of each point: [n] -> [n], or +inf."""
    slopes = np.full(len(logs), np.inf)
    for i, centre in enumerate(logs):
        near = np.abs(logs - centre) <= window / 2
        if near.sum() >= 3:
            x = logs[near] - logs[near].mean()
            slopes[i] = (x @ values[near]) / (x @ x)
    return slopes
