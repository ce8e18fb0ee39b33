"""What the curve of a learning-rate range test says: its three regions and a rate to train with.

A minibatch loss is noisy, so it is smoothed by a debiased exponential moving average, as is usual. Such an
average lags: online nothing can be done, but here the whole curve is at hand, so it runs forward and backward and
the lags cancel. The slope is then fitted over a window of rates, never taken from one step to the next. All lengths
are in decades of the rate, so that a longer range or more steps do not move the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DECADES = 0.15  # time constant of the smoothing
WINDOW = 0.5  # decades over which a slope is fitted
LEAST_POINTS = 20
DIVERGED = 1.5  # a smoothed loss above this multiple of the initial one has diverged
CLEAR = 6.0  # a descent must exceed the noise of the smoothed curve by this factor


@dataclass(frozen=True)
class RangeTest:
    """An analysed range test.

    rates: [n] learning rates, ascending.
    losses: [n] minibatch losses as measured, perhaps not finite at the end.
    smoothed: [n] the smoothed loss, NaN from where the losses are not finite.
    descent_start: rate where the flat region ends and the descent begins; None without a descent.
    minimum: rate of the lowest smoothed loss, where the descent ends; None without a descent.
    divergence: first rate whose loss is not finite or far above the initial one; None if the curve ends before.
    suggestion: rate of the steepest descent against log(rate); None without a clear one.
    reason: why there is no suggestion, a sentence; "" where there is one.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    descent_start: float | None
    minimum: float | None
    divergence: float | None
    suggestion: float | None
    reason: str


def range_test(rates: np.ndarray, losses: np.ndarray) -> RangeTest:
    """Analyses the curve of a range test.

    Args:
      rates: [n] positive, ascending, in equal ratios.
      losses: [n] minibatch loss at each rate, before its update.
    Returns: the regions and the suggestion, unchanged if a constant is added to the losses or they are scaled,
      except for where a divergence begins.
    Raises: ValueError if the lengths differ or the rates are not positive and ascending.
    Source: Smith 2017, section 3.3; the choice by the steepest descent is the lecture's.
    """
    rates, losses = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    if rates.ndim != 1 or rates.shape != losses.shape:
        raise ValueError(
            f"rates and losses must be of one length; their shapes are {rates.shape}, {losses.shape}."
        )
    if not len(rates) or rates[0] <= 0 or (np.diff(rates) <= 0).any():
        raise ValueError("rates must be positive and ascending.")

    decades = np.log10(rates)
    usable = _usable(losses)
    divergence = float(rates[usable]) if usable < len(rates) else None
    smoothed = np.full(len(rates), np.nan)
    nothing = {"descent_start": None, "minimum": None, "divergence": divergence, "suggestion": None}
    if usable < LEAST_POINTS:
        reason = f"Only {usable} losses came before the divergence; {LEAST_POINTS} are needed."
        return RangeTest(rates, losses, smoothed, **nothing, reason=reason)

    y, x = losses[:usable], decades[:usable]
    per_decade = (len(rates) - 1) / (decades[-1] - decades[0])
    decay = np.exp(-1 / max(DECADES * per_decade, 1e-9))
    # Capped at the initial level: the blow-up at the end would else flow backward over the descent.
    level = _initial_level(y)
    smoothed[:usable] = _zero_phase(y, decay)
    capped = _zero_phase(np.minimum(y, level + _noise(y)), decay)

    lowest = int(np.argmin(capped))
    slopes = _slopes(x, capped)
    before = slopes[: lowest + 1]
    steepest = int(np.argmin(before))
    drop = capped[: lowest + 1].max() - capped[lowest]
    # What is left of independent noise after averaging forward and backward over about 2 / (1 - decay) losses.
    noise = _noise(y) * np.sqrt((1 - decay) / 2)
    if lowest == 0 or drop < CLEAR * noise or before[steepest] >= 0 or drop <= 1e-12 * max(abs(level), 1):
        reason = "The loss has no clear descent over the swept range."
        return RangeTest(rates, losses, smoothed, **nothing, reason=reason)
    # The descent begins where a tenth of the drop is behind.
    top = capped[lowest] + 0.9 * drop
    start = int(np.flatnonzero(capped[: lowest + 1] >= top)[-1])
    return RangeTest(
        rates, losses, smoothed,
        descent_start=float(rates[min(start, steepest)]), minimum=float(rates[lowest]), divergence=divergence,
        suggestion=float(rates[steepest]), reason="",
    )  # fmt: skip


def _usable(losses: np.ndarray) -> int:
    """How many losses come before the first that is not finite or part of the blow-up."""
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    level = _initial_level(losses[:end]) if end else 0.0
    high = losses[:end] > DIVERGED * level
    # Not one unlucky minibatch but most of five.
    lasting = np.convolve(high, np.ones(5), "full")[: len(high)] >= 3
    return int(np.argmax(lasting)) - 2 if lasting.any() else end


def _initial_level(losses: np.ndarray) -> float:
    return float(np.median(losses[: max(5, len(losses) // 10)]))


def _noise(losses: np.ndarray) -> float:
    """Standard deviation of the minibatch noise, from neighbours, robustly: trends and spikes do not count."""
    return float(np.median(np.abs(np.diff(losses))) / 0.954)


def _zero_phase(losses: np.ndarray, decay: float) -> np.ndarray:
    """A debiased exponential average forward and one backward; their mean lags nowhere inside the curve."""
    return (_debiased(losses, decay) + _debiased(losses[::-1], decay)[::-1]) / 2


def _debiased(losses: np.ndarray, decay: float) -> np.ndarray:
    """m_t = βm_{t−1} + (1 − β)y_t divided by 1 − β^t, as the moments of Adam."""
    average, result = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses):
        average = decay * average + (1 - decay) * loss
        result[i] = average / (1 - decay ** (i + 1))
    return result


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through the points within `WINDOW` / 2 of each x."""
    slopes = np.zeros(len(x))
    for i, centre in enumerate(x):
        near = np.abs(x - centre) <= max(WINDOW / 2, x[1] - x[0])
        dx = x[near] - x[near].mean()
        slopes[i] = (dx @ y[near]) / (dx @ dx)
    return slopes
