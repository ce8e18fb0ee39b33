"""Fidelity of generated examples: distances between two sets of feature vectors.

The caller chooses the features. `models.inception` has those that papers on images report. For digits, the last hidden
layer of a small classifier is enough. Only numbers from the same features can be compared.

NumPy computes everything on the host in float64, once per evaluation. The Fréchet and the kernel distance are small
differences of large sums, of which float32 keeps about two digits, and a TPU has no float64. Matrices over all pairs
are never held: they are computed in blocks of rows, so memory is twice that of the features. A distance over all pairs
of two sets of 10,000 by 2048 takes half a minute on one core. Time grows with the square of the number of examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from ..errors import InputError

BLOCK = 2**23
"""Number of entries of the largest array of pairs that is held at once: 64 MiB."""

TIE = 1e-12
"""Squared distances count as equal if they differ by less than this share of the largest squared norm. Rounding,
1e-14 at 2048 features, must not decide whether a point on the surface of a ball is inside."""


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½): the "FID" if the features are Inception's.

    This is the squared 2-Wasserstein distance between two Gaussians with the means and unbiased covariances of the
    sets. The estimator is biased upwards by about c / n, where c grows with the number of features. Compare only
    distances at equal sample sizes, or extrapolate with `frechet_distance_unbiased`.

    No matrix root is computed. Let Σ = RᵀR, with R from a QR decomposition of the centered features. The trace of the
    root is then the sum of the singular values of R_a R_bᵀ. Nothing is squared and rooted again, which would cost half
    of the digits where covariances are singular, and nothing becomes complex. So fewer examples than features, constant
    features and repeated features are not special cases.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
    Returns: at least 0, in squared units of the features. It is symmetric, and 0 for equal sets up to rounding, which
      is about 1e-14 of the total variance of the sets.
    Raises: InputError for another rank, fewer than 2 rows, different widths, or numbers that are not finite.
    Source: Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), equation 6; Dowson & Landau 1982.

    >>> features = np.random.default_rng(0).normal(size=(50, 4))
    >>> print(round(frechet_distance(features, features), 6))  # equal sets
    0.0
    >>> print(round(frechet_distance(features, features + 3), 6))  # the same covariance, means 3 apart in 4 features
    36.0
    """
    a, b = _checked("frechet_distance", features_a=features_a, features_b=features_b)
    return _frechet(a, b)


def frechet_distance_unbiased(
    features_a: ArrayLike, features_b: ArrayLike, *, seed: int, sizes: Sequence[int] | None = None
) -> float:
    """`frechet_distance` extrapolated to infinitely many examples: a line is fitted over 1/n and read at 0.

    For each size n, the smaller set is cut into random subsets of n examples and the larger set into as many subsets of
    the same share. The distances of these subsets are averaged. (The paper draws one subset of generated examples for
    each size and keeps the real ones fixed.) From n of a few times d on, the bias is a line in 1/n. Measured on
    Gaussians with d = 64, at most a twentieth of the bias is left for sets of 10 d examples, and an eighth for sets of
    2 d.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
      seed: seed of the draws.
      sizes: sample sizes of the smaller set; by default 15 from a quarter of it to all, evenly spaced. (The paper's are
        15 from 5000 to 50,000, with d = 2048.) Each size costs as much as one or two plain distances.
    Returns: the distance. It may be below 0 because of its noise, which is greater than that of the plain distance.
    Raises: InputError as in `frechet_distance`, or if `sizes` are not two or more different numbers in 2 … min(n, m).
    Source: Chong & Forsyth 2020 (https://arxiv.org/abs/1911.07023).
    """
    a, b = _checked("frechet_distance_unbiased", features_a=features_a, features_b=features_b)
    smaller = min(len(a), len(b))
    default = np.unique(np.linspace(max(2, smaller / 4), smaller, 15).round())
    used = [int(size) for size in (default if sizes is None else sizes)]
    if len(set(used)) < 2 or min(used) < 2 or max(used) > smaller:
        raise InputError(f"sizes are {used}; they must be two or more different numbers in 2 … {smaller}.")
    rng = np.random.default_rng(seed)
    distances = []
    for size in used:
        subsets = zip(*(_disjoint(x, size, smaller, rng) for x in (a, b)), strict=True)
        distances.append(np.mean([_frechet(x, y) for x, y in subsets]))
    return float(np.polyfit(1 / np.asarray(used), distances, 1)[1])


def _disjoint(x: np.ndarray, size: int, total: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Disjoint random subsets of the share size / total, as many as there are."""
    order, rows = rng.permutation(len(x)), len(x) * size // total
    return (x[order[i * rows : (i + 1) * rows]] for i in range(total // size))


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    (mean_a, root_a), (mean_b, root_b) = _gaussian(a), _gaussian(b)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return max(0.0, float(distance))


def _gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, R), where RᵀR is the unbiased covariance and R is [min(n, d), d]. It reads the rows in blocks."""
    n, d = x.shape
    mean = x.mean(0)
    rows = max(2 * d, BLOCK // d)
    root = np.zeros((0, d))
    for start in range(0, n, rows):
        root = np.linalg.qr(np.concatenate([root, x[start : start + rows] - mean]), mode="r")
    return mean, root / np.sqrt(n - 1)


def kernel_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Unbiased squared MMD with the kernel (x·y / d + 1)³ over all examples: the "KID" if the features are Inception's.

    For two sets from one distribution its mean is 0 at every sample size, so unlike the Fréchet distance it needs no
    extrapolation. It depends on means, covariances and third moments, not on a fitted Gaussian.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
    Returns: the distance. It may be below 0 because of its noise. Papers report it times 1000.
    Raises: InputError for another rank, fewer than 2 rows, different widths, or numbers that are not finite.
    Source: Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), "Kernel Inception Distance"; Gretton et al. 2012,
      equation 3.

    >>> print(kernel_distance(np.zeros((2, 1)), np.full((2, 1), 2.0)))  # (0 + 1)³ + (2² + 1)³ − 2 (0 + 1)³
    124.0
    """
    return _mmd(*_checked("kernel_distance", features_a=features_a, features_b=features_b))


def kernel_distance_of_subsets(
    features_a: ArrayLike, features_b: ArrayLike, *, seed: int, num_subsets: int = 50, subset_size: int = 1000
) -> tuple[float, float]:
    """`kernel_distance` as the authors' code reports it: over random subsets of both sets.

    The subsets overlap, so the standard deviation is neither a standard error nor that of a new sample. For those, use
    `kernel_distance` of independent runs.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
      seed: seed of the draws, which are without replacement within a subset.
      num_subsets: the number of subsets, at least 1.
      subset_size: the number of examples that each subset has of each set.
    Returns: (mean, standard deviation with divisor `num_subsets`).
    Raises: InputError as in `frechet_distance`, or if there is no subset or its size is outside 2 … min(n, m).
    """
    a, b = _checked("kernel_distance_of_subsets", features_a=features_a, features_b=features_b)
    smaller = min(len(a), len(b))
    if num_subsets < 1 or not 2 <= subset_size <= smaller:
        raise InputError(f"Got {num_subsets} subsets of {subset_size}; expected at least 1 of 2 … {smaller} examples.")
    rng = np.random.default_rng(seed)

    def draw(x):
        return x[rng.choice(len(x), subset_size, replace=False)]

    draws = [_mmd(draw(a), draw(b)) for _ in range(num_subsets)]
    return float(np.mean(draws)), float(np.std(draws))


def _mmd(a: np.ndarray, b: np.ndarray) -> float:
    within = sum(
        (_kernel_sum(x, x) - _kernel((x**2).sum(1), x.shape[1]).sum()) / (len(x) * (len(x) - 1)) for x in (a, b)
    )
    return float(within - 2 * _kernel_sum(a, b) / (len(a) * len(b)))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    return sum(float(_kernel(a[rows] @ b.T, a.shape[1]).sum()) for rows in _row_blocks(a, b))


def _kernel(products: np.ndarray, d: int) -> np.ndarray:
    x = products / d + 1
    return x * x * x  # NumPy's x**3 takes twenty times as long


def precision_recall(real: ArrayLike, generated: ArrayLike, *, k: int = 3) -> tuple[float, float]:
    """Precision: the share of generated examples that look real. Recall: the share of real ones that are covered.

    The manifold of a set is the union of balls around its examples, each reaching to the k-th nearest neighbor in the
    set. Precision is the share of generated examples in the real manifold. Recall is the share of real examples in the
    generated manifold. Low fidelity lowers the first, dropped modes lower the second. One far real example makes a
    large ball, to which `density_coverage` is less sensitive. Both depend on n and k, so compare only equal ones. The
    paper has n = 50,000.

    Args:
      real: [n, d], at least 2 rows of finite numbers.
      generated: [m, d].
      k: 1 … min(n, m) − 1. An example is not its own neighbor; copies of it are. The surface belongs to the ball.
    Returns: (precision, recall), each in [0, 1].
    Raises: InputError as in `frechet_distance`, or if k is out of range.
    Source: Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991), equations 1 and 2.

    >>> real = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> print(precision_recall(real, real[:2], k=1))  # one of two modes was dropped
    (1.0, 0.5)
    """
    a, b = _checked("precision_recall", real=real, generated=generated)
    _check_neighbors("precision_recall", k, min(len(a), len(b)))
    real, generated, tie = _centered(a, b)
    real_radii, generated_radii = _squared_radii(real, k) + tie, _squared_radii(generated, k) + tie
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    for rows in _row_blocks(real, generated):
        distances = _squared_distances(real[rows], generated)
        precise |= (distances <= real_radii[rows, None]).any(0)
        recalled[rows] = (distances <= generated_radii).any(1)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(real: ArrayLike, generated: ArrayLike, *, k: int = 5) -> tuple[float, float]:
    """Density: how many real balls hold a generated example, over k. Coverage: the share of real balls that hold one.

    The balls are those of `precision_recall`, around real examples only. Density counts all balls around a generated
    example, so one far real example changes it little. Its mean is 1 if both sets have one distribution. The mean of
    the coverage is then about 1 − 2^−k (lemma 2, for many examples).

    Args:
      real: [n, d], at least 2 rows of finite numbers.
      generated: [m, d].
      k: 1 … n − 1. As in the authors' code, a ball is open. Here it holds its center even if k copies of the center
        leave no radius.
    Returns: (density, coverage). Density is at least 0 and has no upper bound; coverage is in [0, 1].
    Raises: InputError as in `frechet_distance`, or if k is out of range.
    Source: Naeem et al. 2020 (https://arxiv.org/abs/2002.09797).

    >>> real = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> print(density_coverage(real, real[:2], k=1))
    (1.0, 0.5)
    """
    a, b = _checked("density_coverage", real=real, generated=generated)
    _check_neighbors("density_coverage", k, len(a))
    real, generated, tie = _centered(a, b)
    radii = np.maximum(_squared_radii(real, k) - tie, tie)
    held, covered = 0, 0
    for rows in _row_blocks(real, generated):
        inside = _squared_distances(real[rows], generated) <= radii[rows, None]
        held += int(inside.sum())
        covered += int(inside.any(1).sum())
    return held / (k * len(generated)), covered / len(real)


def _check_neighbors(function: str, k: int, examples: int) -> None:
    if not 1 <= k < examples:
        raise InputError(f"k is {k}; for {examples} examples, {function} expects 1 … {examples - 1}.")


def _centered(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sets minus the real mean, where products cancel least, and the squared distance that counts as 0."""
    center = real.mean(0)
    real, generated = real - center, generated - center
    return real, generated, TIE * max((x**2).sum(1).max() for x in (real, generated))


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, [n]."""
    radii = np.empty(len(x))
    for rows in _row_blocks(x, x):
        distances = _squared_distances(x[rows], x)
        distances[np.arange(len(distances)), np.arange(len(x))[rows]] = np.inf
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of all pairs, [len(a), len(b)], by one matrix product."""
    distances = a @ b.T
    distances *= -2
    distances += (a**2).sum(1)[:, None]
    distances += (b**2).sum(1)
    return np.maximum(distances, 0, out=distances)


def _row_blocks(a: np.ndarray, b: np.ndarray) -> list[slice]:
    """Slices of the rows of a, such that the pairs of a slice with all of b fit in one block."""
    rows = max(1, BLOCK // len(b))
    return [slice(start, start + rows) for start in range(0, len(a), rows)]


@dataclass(frozen=True)
class ModeCoverage:
    """The classes that the samples of a generator fall into."""

    shares: np.ndarray
    """The share of the samples in each class, [num_classes] float64; the sum is 1."""
    covered: int
    """The number of classes that have at least the minimum share."""
    divergence: float
    """KL(shares ‖ target) in nats: 0 if they agree, log(num_classes) if one of equally likely classes has all samples,
    infinite if a class has samples but is not in the target."""


def mode_coverage(
    classes: ArrayLike, num_classes: int, *, min_share: float = 0.05, target: ArrayLike | None = None
) -> ModeCoverage:
    """Finds the modes that a generator has dropped, from the classes that a classifier assigns to its samples.

    Args:
      classes: [n] integers in [0, num_classes): the predicted classes of generated examples. The three digits of
        Stacked MNIST are one of 1000 classes.
      num_classes: the number of classes.
      min_share: the share of the samples from which on a class counts as covered, in (0, 1 / num_classes]. For Stacked
        MNIST, papers count classes with at least one sample: 1 / n.
      target: [num_classes] shares of the real data, with sum 1; uniform by default.
    Returns: a ModeCoverage. For few samples, its divergence is biased upwards by about (num_classes − 1) / 2n.
    Raises: InputError if there are no classes, they are not integers or out of range, or if the shares are not
      possible.
    Source: Metz et al. 2017 (https://arxiv.org/abs/1611.02163); Srivastava et al. 2017
      (https://arxiv.org/abs/1705.07761).

    >>> found = mode_coverage([0, 0, 0, 0], num_classes=2)  # the second class was dropped
    >>> print(found.shares, found.covered, round(found.divergence, 3))  # log 2
    [1. 0.] 1 0.693
    """
    found = np.asarray(classes)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise InputError(f"mode_coverage expects integer classes [n]; got {list(found.shape)} {found.dtype}.")
    if found.min() < 0 or found.max() >= num_classes:
        raise InputError(
            f"classes are {found.min()} … {found.max()}; of {num_classes} classes they must be 0 … {num_classes - 1}."
        )
    if not 0 < min_share <= 1 / num_classes:
        raise InputError(
            f"min_share is {min_share}; for {num_classes} classes it must be in (0, {1 / num_classes:.3g}]."
        )
    wanted = np.full(num_classes, 1 / num_classes) if target is None else np.asarray(target, np.float64)
    if wanted.shape != (num_classes,) or not (wanted >= 0).all() or abs(wanted.sum() - 1) > 1e-6:
        raise InputError(
            f"target must be [{num_classes}] shares of at least 0 with sum 1; got {list(wanted.shape)} "
            f"with sum {wanted.sum():.6g}."
        )
    shares = np.bincount(found, minlength=num_classes) / len(found)
    some = shares > 0
    with np.errstate(divide="ignore"):
        divergence = float((shares[some] * np.log(shares[some] / wanted[some])).sum())
    return ModeCoverage(shares, int((shares >= min_share).sum()), max(0.0, divergence))


def _checked(function: str, **sets: ArrayLike) -> list[np.ndarray]:
    """Two sets of features as float64. Raises InputError if no distance between them is defined."""
    arrays = {name: np.asarray(x) for name, x in sets.items()}
    shapes = " and ".join(f"{name} {list(x.shape)}" for name, x in arrays.items())
    if any(x.ndim != 2 or len(x) < 2 or not x.shape[1] for x in arrays.values()):
        raise InputError(f"{function} expects features [n, d] with n at least 2; got {shapes}.")
    if len({x.shape[1] for x in arrays.values()}) > 1:
        raise InputError(f"{function} expects features of one width; got {shapes}.")
    floats = {name: x.astype(np.float64) for name, x in arrays.items()}
    for name, x in floats.items():
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).any(1).sum())
            raise InputError(f"{function} expects finite numbers; {bad} of the {len(x)} rows of {name} have others.")
    return list(floats.values())
