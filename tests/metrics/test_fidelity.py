"""Distances between sets of features: closed forms, references written otherwise, and what estimators do on average."""

import jax.numpy as jnp
import numpy as np
import pytest
from etude import metrics
from etude.metrics import fidelity
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors


def normal(n, d, seed=0, mean=0.0, scale=1.0):
    return mean + scale * np.random.default_rng(seed).standard_normal((n, d))


def with_moments(n, mean, root, seed=0):
    """n rows whose mean is exactly `mean` and whose unbiased covariance is exactly rootᵀ root."""
    x = normal(n, len(mean), seed)
    x -= x.mean(0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return mean + white @ root


def published_frechet(a, b):
    """By SciPy's root of the product of covariances, as pytorch-fid has it."""
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(sigma_a @ sigma_b)
    difference = a.mean(0) - b.mean(0)
    return difference @ difference + np.trace(sigma_a) + np.trace(sigma_b) - 2 * np.trace(root.real)


# --- Fréchet distance


def test_the_distance_of_commuting_gaussians_is_that_of_their_means_and_deviations():
    # Given covariances with the same axes, the root of their product is the product of their deviations.
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    mean_a, mean_b, std_a, std_b = rng.uniform(0.2, 3, (4, 6))
    a = with_moments(50, mean_a, np.diag(std_a) @ axes, seed=2)
    b = with_moments(80, mean_b, np.diag(std_b) @ axes, seed=3)
    expected = ((mean_a - mean_b) ** 2).sum() + ((std_a - std_b) ** 2).sum()
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_the_distance_of_gaussians_in_one_dimension_is_written_by_hand():
    # Means 1 and 3; unbiased variances 1 and 4, so deviations 1 and 2.
    a, b = np.array([[0.0], [1], [2]]), np.array([[1.0], [3], [5]])
    assert metrics.frechet_distance(a, b) == pytest.approx(2**2 + 1**2, rel=1e-14)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 20), (1000, 150, 64)])
def test_the_distance_agrees_with_the_published_formula(n, m, d):
    a, b = normal(n, d), np.exp(normal(m, d, seed=1, mean=0.1, scale=0.5))
    # sqrtm of a product with a condition of 1e3 is right to about 1e-12.
    assert metrics.frechet_distance(a, b) == pytest.approx(published_frechet(a, b), rel=1e-9)


@given(
    n=st.integers(2, 30), m=st.integers(2, 30), d=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 99)
)
def test_the_distance_is_symmetric_not_negative_and_blind_to_rotations_even_where_covariances_are_singular(
    n, m, d, rank, seed
):
    rng = np.random.default_rng(seed)
    low_rank = rng.standard_normal((rank, d)) * 10.0 ** rng.integers(-6, 6, d)  # features of very different sizes
    a, b = rng.standard_normal((n, rank)) @ low_rank, rng.standard_normal((m, rank)) @ low_rank
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    distance = metrics.frechet_distance(a, b)
    variance = np.var(a, 0, ddof=1).sum() + np.var(b, 0, ddof=1).sum() + ((a.mean(0) - b.mean(0)) ** 2).sum()
    close = {"rel": 1e-9, "abs": 1e-12 * variance}
    assert isinstance(distance, float)
    assert distance >= 0
    assert metrics.frechet_distance(b, a) == pytest.approx(distance, **close)
    assert metrics.frechet_distance(a @ rotation, b @ rotation) == pytest.approx(distance, **close)


@pytest.mark.parametrize(("n", "d"), [(500, 30), (20, 30), (2, 5)])
def test_the_distance_of_equal_sets_in_any_order_is_zero(n, d):
    a = normal(n, d, mean=100)  # a large common mean, as of features after ReLU
    a[:, 0] = 7  # a dead feature
    assert metrics.frechet_distance(a, a[::-1]) < 1e-12 * d


def test_a_shift_of_fewer_examples_than_features_counts_whole():
    a = normal(10, 40)
    assert metrics.frechet_distance(a, a + 0.5) == pytest.approx(40 * 0.25, rel=1e-12)


def test_sets_that_pass_in_many_blocks_give_the_same_distance(monkeypatch):
    a, b = normal(203, 7), normal(101, 7, seed=1, scale=2)
    whole = metrics.frechet_distance(a, b)
    monkeypatch.setattr(fidelity, "BLOCK", 1)
    assert metrics.frechet_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_device_arrays_of_half_precision_and_integers_are_read_as_they_are():
    a, b = jnp.arange(12, dtype=jnp.bfloat16).reshape(6, 2), np.arange(2, 14).reshape(6, 2)
    assert metrics.frechet_distance(a, b) == pytest.approx(8, rel=1e-12)


def test_the_plain_distance_is_biased_upwards_and_the_extrapolated_one_is_not():
    # Given Gaussians of a known distance, many times.
    d, n = 48, 500
    deviations = np.exp(0.5 * normal(1, d, seed=9)[0])
    truth = d * 0.1**2 + (0.1**2 * deviations**2).sum()
    plain, extrapolated = [], []
    for seed in range(10):
        a, b = normal(n, d, seed) * deviations, normal(n, d, 100 + seed, 0.1, 1.1 * deviations)
        plain.append(metrics.frechet_distance(a, b) - truth)
        extrapolated.append(metrics.frechet_distance_unbiased(a, b, seed=seed) - truth)
    # Then the plain distance is more than twice the true one each time. The other one's errors are a tenth of that
    # (0.08 to 0.13 of it over six such series), and on average none.
    assert min(plain) > truth
    assert np.sqrt(np.mean(np.square(extrapolated))) < 0.2 * np.sqrt(np.mean(np.square(plain)))
    assert abs(np.mean(extrapolated)) < 0.1 * np.mean(plain)


def test_extrapolation_uses_the_same_share_of_a_larger_set_and_is_a_function_of_its_seed():
    a, b = normal(400, 16), normal(1600, 16, seed=1)
    first = metrics.frechet_distance_unbiased(a, b, seed=0)
    assert metrics.frechet_distance_unbiased(a, b, seed=0) == first
    assert metrics.frechet_distance_unbiased(a, b, seed=1) != first
    assert abs(first) < 0.2 * metrics.frechet_distance(a, b)


def test_extrapolation_through_two_sizes_is_the_line_through_their_distances():
    # All examples of one set, and halves of it: averaged over both halves, whatever the draw.
    a, b = normal(8, 2), normal(8, 2, seed=1)
    halves = []
    whole = metrics.frechet_distance(a, b)
    rng = np.random.default_rng(5)
    order_a, order_b = rng.permutation(8), rng.permutation(8)
    for part in (slice(0, 4), slice(4, 8)):
        halves.append(metrics.frechet_distance(a[order_a[part]], b[order_b[part]]))
    expected = 2 * whole - np.mean(halves)
    assert metrics.frechet_distance_unbiased(a, b, seed=5, sizes=(4, 8)) == pytest.approx(expected, rel=1e-9)


# --- Kernel distance


def test_the_kernel_distance_agrees_with_scikit_learns_kernel():
    a, b = normal(40, 5), normal(30, 5, seed=1, mean=0.3)
    within_a, within_b, between = (polynomial_kernel(x, y) for x, y in ((a, a), (b, b), (a, b)))  # degree 3, 1/d, 1
    expected = (
        (within_a.sum() - np.trace(within_a)) / (40 * 39)
        + (within_b.sum() - np.trace(within_b)) / (30 * 29)
        - 2 * between.mean()
    )
    assert metrics.kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_the_kernel_distance_of_one_distribution_is_zero_on_average_and_so_it_falls_below():
    draws = np.array([metrics.kernel_distance(normal(20, 4, 2 * i), normal(30, 4, 2 * i + 1)) for i in range(2000)])
    assert abs(draws.mean()) < 3 * draws.std() / np.sqrt(len(draws))
    assert 0.2 < (draws < 0).mean() < 0.8


def test_the_kernel_distance_of_shifted_points_is_the_difference_of_kernels():
    # Two copies of 0 against two copies of c in one dimension: (0 + 1)³ + (c² + 1)³ − 2 (0 + 1)³.
    assert metrics.kernel_distance(np.zeros((2, 1)), np.full((2, 1), 2.0)) == pytest.approx(5**3 - 1)


def test_distances_of_pairs_in_blocks_are_the_same(monkeypatch):
    a, b = normal(50, 6), normal(70, 6, seed=1, mean=0.5)
    measures = (metrics.kernel_distance, metrics.precision_recall, metrics.density_coverage)
    whole = [measure(a, b) for measure in measures]
    monkeypatch.setattr(fidelity, "BLOCK", 7 * 70)
    assert [measure(a, b) for measure in measures] == [pytest.approx(value, rel=1e-12) for value in whole]


def test_subsets_have_the_mean_of_the_whole_and_one_whole_subset_is_the_whole():
    a, b = normal(200, 4), normal(300, 4, seed=1, mean=0.5)
    whole = metrics.kernel_distance(a, b)
    mean, deviation = metrics.kernel_distance_of_subsets(a, b, seed=0, num_subsets=200, subset_size=50)
    assert mean == pytest.approx(whole, abs=4 * deviation / np.sqrt(200))
    assert deviation > 0
    once = metrics.kernel_distance_of_subsets(a, b[:200], seed=0, num_subsets=1, subset_size=200)
    assert once == pytest.approx((metrics.kernel_distance(a, b[:200]), 0))


# --- Neighborhoods


def neighborhoods(real, generated, k):
    """[real, generated] distances and the radii of both, by scikit-learn."""
    search = {name: NearestNeighbors(algorithm="brute").fit(x) for name, x in (("r", real), ("g", generated))}
    radii = [search[name].kneighbors(n_neighbors=k)[0][:, -1] for name in "rg"]  # without the point itself
    return linalg.norm(real[:, None] - generated, axis=-1), *radii


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_and_coverage_agree_with_brute_force(k):
    real, generated = normal(120, 8), normal(90, 8, seed=1, mean=0.4, scale=0.8)
    distances, real_radii, generated_radii = neighborhoods(real, generated, k)
    in_real = distances <= real_radii[:, None]
    expected = in_real.any(0).mean(), (distances <= generated_radii).any(1).mean()
    assert metrics.precision_recall(real, generated, k=k) == pytest.approx(expected)
    assert metrics.density_coverage(real, generated, k=k) == pytest.approx(
        (in_real.sum(0).mean() / k, in_real.any(1).mean())
    )
    assert 0 < min(expected) <= max(expected) < 1


@pytest.mark.parametrize("real", [normal(60, 5, mean=30), np.eye(4)[np.arange(60) % 4], np.zeros((60, 2))])
def test_equal_sets_are_precise_and_complete_even_where_copies_leave_no_radius(real):
    assert metrics.precision_recall(real, real[::-1]) == (1, 1)
    density, coverage = metrics.density_coverage(real, real[::-1])
    assert coverage == 1
    assert density >= 1


def test_the_density_of_an_equal_set_counts_each_example_and_k_less_one_neighbors():
    real = normal(60, 5)
    assert metrics.density_coverage(real, real, k=5) == (1, 1)


def test_equal_distributions_have_a_density_of_one_and_the_coverage_of_lemma_two():
    n, k = 100, 3
    found = np.mean([metrics.density_coverage(normal(n, 4, i), normal(n, 4, 999 + i), k=k) for i in range(100)], 0)
    # 1 − (n−1) … (n−k) / (2n−1) … (2n−k); the standard errors of the means are 0.014 and 0.004.
    missed = np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    np.testing.assert_allclose(found, [1, 1 - missed], atol=0.03)


def test_sets_far_apart_share_nothing():
    far = normal(50, 5, seed=1, mean=100)
    assert metrics.precision_recall(normal(50, 5), far) == (0, 0)
    assert metrics.density_coverage(normal(50, 5), far) == (0, 0)


def test_dropped_modes_lower_recall_and_coverage_alone_and_junk_lowers_precision_and_density_alone():
    modes = 100 * np.eye(4)
    real = np.concatenate([normal(100, 4, i, mean) for i, mean in enumerate(modes)])
    everything = np.concatenate([normal(100, 4, 10 + i, mean) for i, mean in enumerate(modes)])
    half = everything[:200]
    junk = np.concatenate([everything, normal(400, 4, 99, -1000)])
    (precision, recall), (density, coverage) = (f(real, everything) for f in SHARES)
    (half_precision, half_recall), (half_density, half_coverage) = (f(real, half) for f in SHARES)
    (junk_precision, junk_recall), (junk_density, junk_coverage) = (f(real, junk) for f in SHARES)
    assert min(precision, recall, coverage) > 0.85
    assert half_recall < 0.5
    assert half_coverage < 0.5
    assert half_precision == pytest.approx(precision, abs=0.05)
    assert half_density == pytest.approx(density, abs=0.15)
    assert junk_precision == pytest.approx(precision / 2)
    assert junk_density == pytest.approx(density / 2)
    assert junk_recall == recall
    assert junk_coverage == coverage


SHARES = (metrics.precision_recall, metrics.density_coverage)


def test_one_far_real_example_makes_junk_precise_but_hardly_dense():
    real = np.concatenate([normal(100, 4), [[100.0] * 4]])
    junk = normal(100, 4, seed=1, mean=100, scale=10)
    assert metrics.precision_recall(real, junk)[0] > 0.9
    assert metrics.density_coverage(real, junk)[0] <= 0.2


# --- Modes


def test_mode_coverage_of_samples_counted_by_hand():
    found = metrics.mode_coverage([0] * 90 + [1] * 5 + [2] * 4 + [3], 5)
    np.testing.assert_allclose(found.shares, [0.9, 0.05, 0.04, 0.01, 0])
    assert found.covered == 2
    p = found.shares[:4]
    assert found.divergence == pytest.approx((p * np.log(p * 5)).sum())


def test_the_divergence_is_zero_at_the_target_and_the_logarithm_of_the_classes_at_one_mode():
    assert metrics.mode_coverage(jnp.arange(1000) % 10, 10).divergence == pytest.approx(0, abs=1e-15)
    assert metrics.mode_coverage(np.zeros(7, int), 10).divergence == pytest.approx(np.log(10))
    assert metrics.mode_coverage([0, 0, 0, 1], 2, target=[0.75, 0.25]).divergence == pytest.approx(0, abs=1e-15)
    assert metrics.mode_coverage([0, 1], 2, target=[1, 0]).divergence == np.inf


def test_stacked_digits_count_the_classes_with_one_sample():
    found = metrics.mode_coverage(np.arange(500).repeat(2), 1000, min_share=1 / 1000)
    assert found.covered == 500
    assert found.divergence == pytest.approx(np.log(2))


# --- What is refused

OF_SETS = {
    "frechet_distance": metrics.frechet_distance,
    "frechet_distance_unbiased": lambda a, b: metrics.frechet_distance_unbiased(a, b, seed=0),
    "kernel_distance": metrics.kernel_distance,
    "kernel_distance_of_subsets": lambda a, b: metrics.kernel_distance_of_subsets(a, b, seed=0),
    "precision_recall": metrics.precision_recall,
    "density_coverage": metrics.density_coverage,
}


@pytest.mark.parametrize("name", OF_SETS)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((9, 3)), np.zeros((9, 4)), r"one width; got .*\[9, 3\] and .*\[9, 4\]"),
        (np.zeros((1, 3)), np.zeros((9, 3)), r"n at least 2; got .*\[1, 3\]"),
        (np.zeros((9, 3)), np.zeros(9), r"features \[n, d\] .* got .* and .*\[9\]"),
        (np.zeros((9, 0)), np.zeros((9, 0)), "got"),
        (np.zeros((9, 3)), np.array([[1, np.nan]] * 2 + [[1, 2]] * 7)[:, [0, 1, 0]], "finite numbers; 2 of the 9 rows"),
        (np.full((9, 3), np.inf), np.zeros((9, 3)), "finite numbers; 9 of the 9 rows"),
    ],
)
def test_features_without_a_distance_are_refused(name, a, b, message):
    with pytest.raises(ValueError, match=f"{name} expects .*{message}"):
        OF_SETS[name](a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: metrics.frechet_distance_unbiased(x, x, seed=0, sizes=[5]), r"sizes are \[5\]; .* 2 … 9"),
        (lambda x: metrics.frechet_distance_unbiased(x, x, seed=0, sizes=[1, 5]), "sizes are"),
        (lambda x: metrics.frechet_distance_unbiased(x, x, seed=0, sizes=[5, 10]), "sizes are"),
        (lambda x: metrics.frechet_distance_unbiased(x[:2], x, seed=0), r"sizes are \[2\]"),
        (lambda x: metrics.kernel_distance_of_subsets(x, x, seed=0, subset_size=10), "50 subsets of 10; .* 2 … 9"),
        (lambda x: metrics.kernel_distance_of_subsets(x, x, seed=0, num_subsets=0, subset_size=9), "at least 1"),
        (lambda x: metrics.precision_recall(x, x[:4], k=4), "k is 4; for 4 examples, precision_recall expects 1 … 3"),
        (lambda x: metrics.density_coverage(x, x[:4], k=0), "k is 0; for 9 examples, density_coverage expects 1 … 8"),
    ],
)
def test_sizes_and_neighbors_that_there_are_not_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(9, 3))


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([0.0, 1.0], {}, r"integer classes .*; got \[2\] float64"),
        ([], {}, r"integer classes \[n\]"),
        ([[0, 1]], {}, r"got \[1, 2\]"),
        ([0, 10], {}, "0 … 10; of 10 classes they must be 0 … 9"),
        ([-1, 3], {}, "-1 … 3"),
        ([0, 1], {"min_share": 0.2}, r"min_share is 0.2; .* \(0, 0.1\]"),
        ([0, 1], {"min_share": 0}, "min_share is 0;"),
        ([0, 1], {"target": [0.5, 0.5]}, r"target must be \[10\] shares .* got \[2\]"),
        ([0, 1], {"target": [0.2] * 10}, "sum 2"),
        ([0, 1], {"target": [np.nan] * 10}, "sum nan"),
    ],
)
def test_classes_and_shares_that_are_not_possible_are_refused(classes, options, message):
    with pytest.raises(ValueError, match=message):
        metrics.mode_coverage(classes, 10, **options)
