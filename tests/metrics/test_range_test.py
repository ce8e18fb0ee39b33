"""The analysis of a range test on curves whose answer is known."""

import numpy as np
import pytest
from etude import metrics

STEEPEST = 0.05
SUGGESTED = (
    0.46  # of the basin, from 0.177 (the logistic has a tenth of its drop left) to 1.2 (the blow-up has taken it back)
)


def curve(seed=0, low=1e-5, high=10.0, steps=150, noise=0.12):
    """A logistic descent from 2.3 to 0.4 around `STEEPEST`, and a blow-up beyond 1."""
    rng = np.random.default_rng(seed)
    rates = np.geomspace(low, high, steps)
    position = np.log10(rates / STEEPEST)
    losses = 0.4 + 1.9 / (1 + np.exp(4 * position)) + np.maximum(0, np.log10(rates / 1.0)) ** 2 * 30
    return rates, losses + rng.normal(0, noise, steps)


@pytest.mark.parametrize("steps", [80, 150, 300])
def test_the_steepest_descent_is_found_for_every_noise_seed(steps):
    found = [metrics.range_test(*curve(seed, steps=steps)).steepest for seed in range(20)]
    assert all(STEEPEST / 2 < rate < STEEPEST * 2 for rate in found), found


@pytest.mark.parametrize(("low", "high"), [(1e-4, 10), (1e-6, 10), (1e-5, 100), (1e-5, 1)])
def test_moving_the_ends_of_the_range_moves_neither_steepest_descent_nor_suggestion(low, high):
    tests = [metrics.range_test(*curve(seed, low, high)) for seed in range(8)]
    assert all(STEEPEST / 2 < test.steepest < STEEPEST * 2 for test in tests)
    if high > 3:
        assert all(SUGGESTED / 2 < test.suggestion < SUGGESTED * 2 for test in tests)
        assert not any(test.open for test in tests)


@pytest.mark.parametrize("high", [1e-3, 0.02, 0.05, 0.3])
def test_a_range_that_ends_before_the_loss_rises_again_suggests_nothing(high):
    for seed in range(8):
        test = metrics.range_test(*curve(seed, high=high))
        assert test.open
        assert test.suggestion is None
        assert "higher rates" in test.reason


@pytest.mark.parametrize("constant", [-3.0, -1.0, 100.0])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_nothing_that_is_read_changes_if_a_constant_is_added_or_the_loss_is_scaled(constant, scale):
    for seed in range(4):
        rates, losses = curve(seed)
        losses = losses.astype(np.float32).astype(np.float64)
        plain, moved = metrics.range_test(rates, losses), metrics.range_test(rates, scale * losses + constant)
        for name in ("suggestion", "steepest", "descent_start", "minimum", "divergence", "basin"):
            assert getattr(moved, name) == pytest.approx(getattr(plain, name)), name
        ends = [[metrics.blown_up(each[:n]) for n in range(1, 151)] for each in (losses, scale * losses + constant)]
        assert ends[0] == ends[1]
        assert True in ends[0]


def test_a_test_blows_up_behind_its_divergence_alone():
    for seed in range(8):
        rates, losses = curve(seed, high=100.0, steps=200)
        end = next(n for n in range(1, 201) if metrics.blown_up(losses[:n]))
        assert rates[end - 1] > metrics.range_test(rates, losses).divergence
        noise = np.random.default_rng(seed).normal(0, 0.1, 1000)
        assert not any(metrics.blown_up(noise[:n]) for n in range(1, 1000))
    assert metrics.blown_up(np.array([1.0, np.nan]))


def test_what_lies_behind_the_divergence_is_no_noise_of_the_descent():
    rates, losses = curve(high=1e4, steps=220)
    assert metrics.range_test(rates, np.where(rates > 30, 1e6 * np.arange(220) % 7, losses)).suggestion is not None


@pytest.mark.parametrize("steps", [80, 150, 300])
def test_the_suggestion_lies_in_the_basin_for_every_noise_seed(steps):
    tests = [metrics.range_test(*curve(seed, steps=steps)) for seed in range(20)]
    for test in tests:
        low, high = test.basin
        assert test.suggestion == pytest.approx(low**0.6 * high**0.4)
        assert SUGGESTED / 2 < test.suggestion < SUGGESTED * 2
        assert test.steepest < test.suggestion < test.divergence


def test_the_basin_is_that_of_the_curve_without_noise_and_smoothing():
    rates, losses = curve(noise=0.0, steps=2000)
    low, high = metrics.range_test(rates, losses).basin
    near = rates[losses <= losses.min() + 0.1 * (losses[0] - losses.min())]
    assert np.log10(low / near[0]) == pytest.approx(0, abs=0.35)
    assert np.log10(high / near[-1]) == pytest.approx(0, abs=0.35)


def test_the_three_regions_are_in_order():
    test = metrics.range_test(*curve())
    assert test.descent_start < test.steepest < test.minimum < test.divergence
    assert test.descent_start < STEEPEST < test.minimum


@pytest.mark.parametrize("seed", range(10))
def test_noise_without_a_descent_suggests_nothing(seed):
    rates = np.geomspace(1e-5, 10, 150)
    test = metrics.range_test(rates, np.random.default_rng(seed).normal(2.3, 0.1, 150))
    assert test.suggestion is None
    assert "its noise" in test.reason or "only rises" in test.reason
    assert test.open == ("its noise" in test.reason)


def test_a_rising_loss_suggests_nothing():
    rates = np.geomspace(1e-5, 10, 150)
    assert metrics.range_test(rates, 2.3 + 0.1 * np.arange(150) / 150).suggestion is None


@pytest.mark.parametrize(
    ("losses", "cause"),
    [
        (np.full(150, 2.3), "The loss is 2.3 at every rate up to 10: no step changes it"),
        (np.full(150, -1e3), "no gradient reaches the parameters"),
        (np.full(12, 2.3), "There are only 12 losses, and 20 are needed; take more steps per decade"),
        (np.full(150, np.nan), "not finite at the lowest rate, 1e-05, before any step: the rate is not the cause"),
        (np.r_[np.full(100, 2.3), np.full(50, np.nan)], "only rises from its initial level"),
    ],
)
def test_a_curve_without_an_answer_names_the_cause(losses, cause):
    test = metrics.range_test(np.geomspace(1e-5, 10, len(losses)), losses)
    assert test.suggestion is None
    assert cause in test.reason


def test_an_immediate_divergence_suggests_nothing_and_says_why():
    rates = np.geomspace(1e-5, 10, 150)
    test = metrics.range_test(rates, np.where(np.arange(150) < 10, 2.3, np.nan))
    assert test.suggestion is None
    assert "Only 10 finite losses" in test.reason


def test_a_tail_that_is_not_finite_marks_the_divergence():
    rates, losses = curve()
    losses[130:] = np.nan
    whole, cut = metrics.range_test(*curve()), metrics.range_test(rates, losses)
    assert cut.steepest == pytest.approx(whole.steepest, rel=0.3)
    assert cut.suggestion == pytest.approx(whole.suggestion, rel=0.3)
    assert cut.divergence <= rates[130]


def test_the_smoothed_curve_does_not_lag():
    rates = np.geomspace(1e-4, 1, 101)
    test = metrics.range_test(rates, 2 - np.arange(101) / 100)
    np.testing.assert_allclose(test.smoothed[40:60], 2 - np.arange(40, 60) / 100, atol=1e-3)


@pytest.mark.parametrize(
    ("rates", "losses"), [([1, 2], [1]), ([2, 1], [1, 1]), ([0, 1], [1, 1]), ([], []), ([1, 1], [1, 1])]
)
def test_rates_that_do_not_ascend_or_do_not_match_are_refused(rates, losses):
    with pytest.raises(ValueError, match="rates"):
        metrics.range_test(rates, losses)
