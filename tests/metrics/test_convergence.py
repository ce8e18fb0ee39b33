"""The theorem's right side, by hand."""

import numpy as np
import pytest
from etude import metrics


def test_the_bound_is_that_of_the_slide():
    rates = np.array([0.5, 0.25, 0.125])
    expected = [3 / 0.5 + 2 * 4 / 2 * 0.5, 3 / 0.75 + 4 * 0.3125 / 0.75, 3 / 0.875 + 4 * 0.328125 / 0.875]
    np.testing.assert_allclose(metrics.sgd_bound(rates, gap=3, lipschitz=2, second_moment=4), expected)


def test_at_a_constant_rate_the_bound_tends_to_a_floor_proportional_to_the_rate():
    for rate in (0.1, 0.2):
        bound = metrics.sgd_bound(np.full(10**6, rate), gap=1.0, lipschitz=2.0, second_moment=3.0)
        assert bound[-1] == pytest.approx(3 * rate, rel=1e-4)


def test_square_summable_but_not_summable_rates_take_the_bound_to_zero():
    bound = metrics.sgd_bound(1 / np.arange(1, 10**6), gap=1.0, lipschitz=1.0, second_moment=1.0)
    assert bound[-1] < 0.15
    assert (np.diff(bound[10:]) < 0).all()


def test_without_noise_the_bound_falls_like_one_over_t():
    bound = metrics.gradient_descent_bound(np.full(1000, 0.5), gap=2.0, lipschitz=2.0)
    np.testing.assert_allclose(bound, 2 / (0.5 * 0.5 * np.arange(1, 1001)))


def test_a_power_law_has_its_exponent_as_slope():
    x = np.array([1.0, 3.0, 10.0])
    assert metrics.loglog_slope(x, 5 * x**-1.7) == pytest.approx(-1.7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.sgd_bound(np.array([]), 1, 1, 1), "must be positive"),
        (lambda: metrics.sgd_bound(np.array([0.1, -0.1]), 1, 1, 1), "must be positive"),
        (lambda: metrics.sgd_bound(np.array([0.1]), -1, 1, 1), "gap is -1"),
        (lambda: metrics.gradient_descent_bound(np.array([2.0]), 1, 1), "below 2/L"),
        (lambda: metrics.loglog_slope(np.array([1.0]), np.array([1.0])), "two or more positive"),
        (lambda: metrics.loglog_slope(np.array([1.0, 2.0]), np.array([1.0, 0.0])), "positive"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
