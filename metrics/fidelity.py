"""How near generated examples are to real ones, as distances between two sets of feature vectors.

What the features are is the caller's choice: `models.inception` has those that papers on images report, a small
classifier's last hidden layer serves digits. Only numbers of equal features compare.

Everything is computed by NumPy on the host, in float64, once per evaluation. The Fréchet and the kernel distance are
small differences of large sums, of which float32 leaves two digits or so, and a TPU has no float64. Matrices of all
pairs are never held: they pass in blocks of rows, so that memory is the features' own, twice. A distance over all pairs
of two sets of 10,000 by 2048 takes half a minute of one core; time grows with the square of the examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

BLOCK = 2**23
"""Entries of the largest array of pairs that is held at once: 64 MiB."""

TIE = 1e-12
"""Squared distances that differ by this share of the largest squared norm are equal: rounding, of 1e-14 at 2048
features, must not decide whether a point on a ball's surface is inside."""


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½): "FID" where the features are Inception's.

    The squared 2-Wasserstein distance of two Gaussians with the sets' means and unbiased covariances. The estimator
    is biased upwards, by about c / n with c growing with the features' number: compare only distances of the same
    sample sizes, or extrapolate with `frechet_distance_unbiased`.

    No matrix root is taken. With Σ = RᵀR, R from a QR decomposition of the centred features, the trace of the root is
    the sum of the singular values of R_a R_bᵀ. So nothing is squared and rooted again, which costs half of the digits
    where covariances are singular, and nothing becomes complex: fewer examples than features, constant and repeated
    features are no special cases.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
    Returns: at least 0, in squared units of the features. Symmetric; 0 for equal sets up to rounding, which is
      about 1e-14 of the sets' total variance.
    Raises: ValueError for another rank, fewer than 2 rows, different widths, or numbers that are not finite.
    Source: Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), equation 6; Dowson & Landau 1982.
    """
    a, b = _checked("frechet_distance", features_a=features_a, features_b=features_b)
    return _frechet(a, b)


def frechet_distance_unbiased(
    features_a: ArrayLike, features_b: ArrayLike, *, seed: int, sizes: Sequence[int] | None = None
) -> float:
    """`frechet_distance` extrapolated to infinitely many examples: the line through it over 1/n, at 0.

    Of the smaller set n examples are drawn, of the larger one the same share, as often as whole subsets fit; their
    distances are averaged. (The paper draws one subset of generated examples for each size, and holds the real ones
    fixed.) The bias is a line in 1/n for n of a few times d. Measured on Gaussians of d = 64: of sets of 10 d
    examples at most a twentieth of it is left, of sets of 2 d an eighth.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
      seed: of the draws.
      sizes: numbers of examples of the smaller set; by default 15 from a quarter of it to all, evenly spaced. (The
        paper's are 15 from 5000 to 50,000, with d = 2048.) Each size costs as much as one or two plain distances.
    Returns: may be below 0 by the estimate's own noise, which is greater than that of the plain distance.
    Raises: ValueError as of `frechet_distance`, or for sizes that are not two or more different ones of 2 … min(n, m).
    Source: Chong & Forsyth 2020 (https://arxiv.org/abs/1911.07023).
    """
    a, b = _checked("frechet_distance_unbiased", features_a=features_a, features_b=features_b)
    smaller = min(len(a), len(b))
    default = np.unique(np.linspace(max(2, smaller / 4), smaller, 15).round())
    used = [int(size) for size in (default if sizes is None else sizes)]
    if len(set(used)) < 2 or min(used) < 2 or max(used) > smaller:
        raise ValueError(f"sizes are {used}; wanted are two or more different ones of 2 … {smaller}.")
    rng = np.random.default_rng(seed)
    distances = []
    for size in used:
        subsets = zip(*(_disjoint(x, size, smaller, rng) for x in (a, b)), strict=True)
        distances.append(np.mean([_frechet(x, y) for x, y in subsets]))
    return float(np.polyfit(1 / np.asarray(used), distances, 1)[1])


def _disjoint(x: np.ndarray, size: int, of: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """As many disjoint random subsets of a share size / of as there are."""
    order, rows = rng.permutation(len(x)), len(x) * size // of
    return (x[order[i * rows : (i + 1) * rows]] for i in range(of // size))


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    (mean_a, root_a), (mean_b, root_b) = _gaussian(a), _gaussian(b)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return max(0.0, float(distance))


def _gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, R) with RᵀR the unbiased covariance. R is [min(n, d), d], and rows pass in blocks."""
    n, d = x.shape
    mean = x.mean(0)
    rows = max(2 * d, BLOCK // d)
    root = np.zeros((0, d))
    for start in range(0, n, rows):
        root = np.linalg.qr(np.concatenate([root, x[start : start + rows] - mean]), mode="r")
    return mean, root / np.sqrt(n - 1)


def kernel_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Unbiased squared MMD under the kernel (x·y / d + 1)³, of all examples at once: "KID" of Inception's features.

    Its mean is 0 for two sets of one distribution, at every sample size, so unlike the Fréchet distance it needs no
    extrapolation. It sees means, covariances and third moments, not a fitted Gaussian.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
    Returns: may be below 0, by the estimate's noise. Papers report it times 1000.
    Raises: ValueError for another rank, fewer than 2 rows, different widths, or numbers that are not finite.
    Source: Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401), "Kernel Inception Distance"; Gretton et al. 2012,
      equation 3.
    """
    return _mmd(*_checked("kernel_distance", features_a=features_a, features_b=features_b))


def kernel_distance_of_subsets(
    features_a: ArrayLike, features_b: ArrayLike, *, seed: int, subsets: int = 50, subset_size: int = 1000
) -> tuple[float, float]:
    """`kernel_distance` as its authors' code reports it: of random subsets of both sets.

    Subsets overlap, so the deviation is neither a standard error nor that of a new sample: use `kernel_distance` of
    independent runs for that.

    Args:
      features_a: [n, d], at least 2 rows of finite numbers.
      features_b: [m, d].
      seed: of the draws, without replacement within each subset.
      subsets: how many; at least 1.
      subset_size: examples of each set in a subset.
    Returns: (mean, standard deviation with divisor `subsets`).
    Raises: ValueError as of `kernel_distance`, for no subset, or for a size outside 2 … min(n, m).
    """
    a, b = _checked("kernel_distance_of_subsets", features_a=features_a, features_b=features_b)
    smaller = min(len(a), len(b))
    if subsets < 1 or not 2 <= subset_size <= smaller:
        raise ValueError(f"There are {subsets} subsets of {subset_size}; wanted is at least 1, of 2 … {smaller}.")
    rng = np.random.default_rng(seed)
    draws = [
        _mmd(*(x[rng.choice(len(x), subset_size, replace=False)] for x in (a, b)))
        for _ in range(subsets)
    ]  # fmt: skip
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
    """Which share of the generated examples looks real, and which share of the real ones could be generated.

    A set's manifold is the union of balls around its examples that reach to their k-th nearest neighbour in the set.
    Precision is the share of the generated in the real manifold, recall that of the real in the generated one: low
    fidelity lowers the first, dropped modes the second. One far real example makes a large ball, which
    `density_coverage` forgives. Both depend on n and k; compare only equal ones. The paper has n = 50,000.

    Args:
      real: [n, d], at least 2 rows of finite numbers.
      generated: [m, d].
      k: 1 … min(n, m) − 1. An example is no neighbour of itself; copies of it are. The surface is in the ball.
    Returns: (precision, recall), each in [0, 1].
    Raises: ValueError for another rank, fewer than 2 rows, different widths, numbers that are not finite, or k.
    Source: Kynkäänniemi et al. 2019 (https://arxiv.org/abs/1904.06991), equations 1 and 2.
    """
    a, b = _checked("precision_recall", real=real, generated=generated)
    _check_neighbours("precision_recall", k, min(len(a), len(b)))
    real, generated, tie = _centred(a, b)
    real_radii, generated_radii = _squared_radii(real, k) + tie, _squared_radii(generated, k) + tie
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    for rows in _row_blocks(real, generated):
        distances = _squared_distances(real[rows], generated)
        precise |= (distances <= real_radii[rows, None]).any(0)
        recalled[rows] = (distances <= generated_radii).any(1)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(real: ArrayLike, generated: ArrayLike, *, k: int = 5) -> tuple[float, float]:
    """In how many real balls a generated example lies, and which share of the real balls holds one.

    Balls are those of `precision_recall`, around real examples alone. Density counts all of an example's balls, so
    that one far real example changes it by little; its mean is 1 where both sets have one distribution. Coverage has
    then a mean of about 1 − 2^−k (lemma 2, for many examples).

    Args:
      real: [n, d], at least 2 rows of finite numbers.
      generated: [m, d].
      k: 1 … n − 1. As in the authors' code a ball is open; here it holds its centre even where k copies of it leave no
        radius.
    Returns: (density, coverage): at least 0 and not bounded by 1; in [0, 1].
    Raises: ValueError as of `precision_recall`.
    Source: Naeem et al. 2020 (https://arxiv.org/abs/2002.09797).
    """
    a, b = _checked("density_coverage", real=real, generated=generated)
    _check_neighbours("density_coverage", k, len(a))
    real, generated, tie = _centred(a, b)
    radii = np.maximum(_squared_radii(real, k) - tie, tie)
    held, covered = 0, 0
    for rows in _row_blocks(real, generated):
        inside = _squared_distances(real[rows], generated) <= radii[rows, None]
        held += int(inside.sum())
        covered += int(inside.any(1).sum())
    return held / (k * len(generated)), covered / len(real)


def _check_neighbours(function: str, k: int, examples: int) -> None:
    if not 1 <= k < examples:
        raise ValueError(f"k is {k}; {function} of {examples} examples wants 1 … {examples - 1}.")


def _centred(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both sets about the real mean, where products cancel least, and the squared distance that counts as none."""
    centre = real.mean(0)
    real, generated = real - centre, generated - centre
    return real, generated, TIE * max((x**2).sum(1).max() for x in (real, generated))


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other one, [n]."""
    radii = np.empty(len(x))
    for rows in _row_blocks(x, x):
        distances = _squared_distances(x[rows], x)
        distances[np.arange(len(distances)), np.arange(len(x))[rows]] = np.inf
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[len(a), len(b)], by one matrix product."""
    distances = a @ b.T
    distances *= -2
    distances += (a**2).sum(1)[:, None]
    distances += (b**2).sum(1)
    return np.maximum(distances, 0, out=distances)


def _row_blocks(a: np.ndarray, b: np.ndarray) -> list[slice]:
    """Rows of a whose pairs with all of b are held at once."""
    rows = max(1, BLOCK // len(b))
    return [slice(start, start + rows) for start in range(0, len(a), rows)]


@dataclass(frozen=True)
class ModeCoverage:
    """Which classes a generator's samples fall into.

    Attributes:
      shares: [num_classes] float64, of the samples of each class; they sum to 1.
      covered: how many classes have at least the minimum share.
      divergence: KL(shares ‖ target) in nats: 0 where they agree, log(num_classes) where one of equally likely
        classes has all samples, infinite for samples of a class that the target does not have.
    """

    shares: np.ndarray
    covered: int
    divergence: float


def mode_coverage(
    classes: ArrayLike, num_classes: int, *, minimum_share: float = 0.05, target: ArrayLike | None = None
) -> ModeCoverage:
    """Which modes a generator has dropped, by the classes that a classifier sees in its samples.

    Args:
      classes: [n] integers in [0, num_classes): predictions for generated examples. Stacked MNIST's three digits are
        one class of 1000.
      num_classes: how many there are.
      minimum_share: of the samples, from which on a class counts as covered; in (0, 1 / num_classes]. For stacked
        MNIST papers count classes with one sample or more: 1 / n.
      target: [num_classes] shares of the real data, with sum 1; uniform by default.
    Returns: a ModeCoverage. For few samples its divergence is biased upwards, by about (num_classes − 1) / 2n.
    Raises: ValueError for classes that are no integers or out of range, none, or shares that are not possible.
    Source: Metz et al. 2017 (https://arxiv.org/abs/1611.02163); Srivastava et al. 2017
      (https://arxiv.org/abs/1705.07761).
    """
    found = np.asarray(classes)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(f"mode_coverage wants classes [n], integers; they are {list(found.shape)} {found.dtype}.")
    if found.min() < 0 or found.max() >= num_classes:
        raise ValueError(
            f"Classes are {found.min()} … {found.max()}; with num_classes they must be 0 … {num_classes - 1}."
        )
    if not 0 < minimum_share <= 1 / num_classes:
        raise ValueError(
            f"minimum_share is {minimum_share}; {num_classes} classes can all have one in (0, {1 / num_classes:.3g}]."
        )
    wanted = np.full(num_classes, 1 / num_classes) if target is None else np.asarray(target, np.float64)
    if wanted.shape != (num_classes,) or not (wanted >= 0).all() or abs(wanted.sum() - 1) > 1e-6:
        raise ValueError(
            f"target must be [{num_classes}] shares of at least 0 and sum 1; it is {list(wanted.shape)}, "
            f"sum {wanted.sum():.6g}."
        )
    shares = np.bincount(found, minlength=num_classes) / len(found)
    some = shares > 0
    with np.errstate(divide="ignore"):
        divergence = float((shares[some] * np.log(shares[some] / wanted[some])).sum())
    return ModeCoverage(shares, int((shares >= minimum_share).sum()), max(0.0, divergence))


def _checked(function: str, **sets: ArrayLike) -> list[np.ndarray]:
    """Two sets of features as float64, refused if no distance is defined for them."""
    arrays = {name: np.asarray(x) for name, x in sets.items()}
    shapes = " and ".join(f"{name} {list(x.shape)}" for name, x in arrays.items())
    if any(x.ndim != 2 or len(x) < 2 or not x.shape[1] for x in arrays.values()):
        raise ValueError(f"{function} wants features [n, d] with n at least 2; got {shapes}.")
    if len({x.shape[1] for x in arrays.values()}) > 1:
        raise ValueError(f"{function} wants features of one width; got {shapes}.")
    floats = {name: x.astype(np.float64) for name, x in arrays.items()}
    for name, x in floats.items():
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).any(1).sum())
            raise ValueError(f"{function} wants finite numbers; {bad} of the {len(x)} rows of {name} have others.")
    return list(floats.values())
