"""The right side of the convergence theorem, and the slopes and floors that summarize measured curves."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def sgd_bound(rates: np.ndarray, gap: float, lipschitz: float, second_moment: float) -> np.ndarray:
    """(f(θ_0) − f*) / Σα_t + (Lσ²/2) · Σα_t² / Σα_t for every number of steps.

    Args:
      rates: α_0 … α_{T−1}, [T], positive.
      gap: f(θ_0) − f* ≥ 0.
      lipschitz: L ≥ 0, the Lipschitz constant of the gradient.
      second_moment: σ² ≥ E‖g‖², the second moment of the minibatch gradient g (its mean is not subtracted).
    Returns: float64 [T]; at index k the bound on min_{t ≤ k} E‖∇f(θ_t)‖².
    Raises: InputError if a rate is not positive or a constant is negative.
    Source: the lecture's theorem; Bottou, Curtis & Nocedal 2018, theorems 4.8 and 4.10.

    >>> print(sgd_bound(np.array([0.5, 0.5]), gap=1.0, lipschitz=2.0, second_moment=3.0))  # 1 / Σα + 3 · Σα² / Σα
    [3.5 2.5]
    """
    total, squares = _sums(rates, gap, lipschitz, second_moment)
    return gap / total + lipschitz * second_moment / 2 * squares / total


def gradient_descent_bound(rates: np.ndarray, gap: float, lipschitz: float) -> np.ndarray:
    """(f(θ_0) − f*) / Σ α_t (1 − L α_t / 2): the bound without noise, where E‖g‖² = ‖∇f‖² need not be bounded.

    Args:
      rates: α_0 … α_{T−1}, [T], each in (0, 2/L).
      gap: f(θ_0) − f* ≥ 0.
      lipschitz: L ≥ 0, the Lipschitz constant of the gradient.
    Returns: float64 [T]; same as `sgd_bound`.
    Raises: InputError if a rate is outside (0, 2/L).
    Source: the descent lemma, summed (Nesterov 2004, section 1.2.3).

    >>> print(gradient_descent_bound(np.array([0.5, 0.5]), gap=1.0, lipschitz=2.0))
    [4. 2.]
    """
    _sums(rates, gap, lipschitz, 0.0)
    rates = np.asarray(rates, np.float64)
    if (rates * lipschitz >= 2).any():
        raise InputError(f"rates must be below 2/L = {2 / lipschitz:.3g}; the largest is {rates.max():.3g}.")
    return gap / np.cumsum(rates * (1 - lipschitz * rates / 2))


def loglog_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of log y over log x: p if y is proportional to x^p.

    Args:
      x: [n], positive, with at least two different values.
      y: [n], positive.
    Returns: the slope.
    Raises: InputError if there are fewer than two different points, or if a value is not positive.

    >>> print(round(loglog_slope(np.array([1, 10, 100]), np.array([8, 0.8, 0.08])), 6))
    -1.0
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(np.unique(x)) < 2 or x.shape != y.shape or (x <= 0).any() or (y <= 0).any():
        raise InputError(f"loglog_slope expects two or more positive points; got x {x} and y {y}.")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _sums(rates: np.ndarray, gap: float, lipschitz: float, second_moment: float) -> tuple[np.ndarray, np.ndarray]:
    """Running sums Σα and Σα²."""
    rates = np.asarray(rates, np.float64)
    if rates.ndim != 1 or not len(rates) or not (rates > 0).all():
        raise InputError(f"rates must be positive, [T]; got shape {rates.shape}, smallest {rates.min(initial=np.inf)}.")
    for name, value in (("gap", gap), ("lipschitz", lipschitz), ("second_moment", second_moment)):
        if not value >= 0:
            raise InputError(f"{name} is {value}; it must be at least 0.")
    return np.cumsum(rates), np.cumsum(rates**2)
