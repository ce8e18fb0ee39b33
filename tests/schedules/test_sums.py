"""What schedules add up to, against sums known in closed form and limits known from analysis."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import schedules

CONVERGES, DIVERGES = True, False


def power(p):
    return lambda step: (1.0 + step) ** -p


def test_partial_sums_of_a_constant_grow_by_it_each_step():
    sums, squares = schedules.partial_sums(schedules.constant(0.25), 10**6)
    np.testing.assert_allclose(sums, 0.25 * np.arange(1, 10**6 + 1), rtol=1e-12)  # 0.25 is exact in float32
    np.testing.assert_allclose(squares, 0.0625 * np.arange(1, 10**6 + 1), rtol=1e-12)


def test_partial_sums_equal_exactly_rounded_sums_of_the_closed_form():
    sums, squares = schedules.partial_sums(schedules.inverse_time(0.3, 50.0), 10**5)
    rates = 0.3 * 50 / (np.arange(10**5) + 50)
    for last in (0, 1, 1000, 10**5 - 1):
        assert sums[last] == pytest.approx(math.fsum(rates[: last + 1]), rel=1e-6)  # the rates are float32
        assert squares[last] == pytest.approx(math.fsum(rates[: last + 1] ** 2), rel=1e-6)


def test_partial_sums_take_any_optax_schedule():
    for theirs in (optax.constant_schedule(0.5), optax.linear_schedule(0.5, 0.5, 3)):
        np.testing.assert_allclose(schedules.partial_sums(theirs, 4)[0], [0.5, 1.0, 1.5, 2.0])


def test_partial_sums_of_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps is 0"):
        schedules.partial_sums(schedules.constant(0.1), 0)


@pytest.mark.parametrize(
    ("schedule", "sums", "squares"),
    [
        (schedules.constant(0.1), DIVERGES, DIVERGES),
        (schedules.constant(0.0), CONVERGES, CONVERGES),
        (schedules.linear_decay(0.1, 1000), CONVERGES, CONVERGES),
        (schedules.linear_decay(0.1, 10**7), CONVERGES, CONVERGES),
        (schedules.linear_decay(0.1, 1000, 1e-6), DIVERGES, DIVERGES),
        (schedules.cosine_decay(0.1, 1000), CONVERGES, CONVERGES),
        (schedules.warmup_cosine(0.1, 100, 1000, 1e-6), DIVERGES, DIVERGES),
        (schedules.one_cycle(0.1, 30, 100), DIVERGES, DIVERGES),
        (schedules.step_decay(0.1, 0.5, 1000), CONVERGES, CONVERGES),
        (schedules.step_decay(0.1, 0.9, 10**6), CONVERGES, CONVERGES),
        (schedules.milestone_decay(0.1, 0.1, [32_000, 48_000]), DIVERGES, DIVERGES),
        (schedules.exponential_decay(0.1, 0.999, 10), CONVERGES, CONVERGES),
        (schedules.cosine_restarts(0.1, 1000), DIVERGES, DIVERGES),
        (schedules.cosine_restarts(0.1, 1000, 2), DIVERGES, DIVERGES),
        (schedules.cosine_restarts(0.1, 10, 10), DIVERGES, DIVERGES),
        (schedules.triangular(0.0, 0.1, 512), DIVERGES, DIVERGES),  # a period that divides the blocks
        (schedules.triangular(0.0, 0.1, 777), DIVERGES, DIVERGES),
        (schedules.triangular2(0.0, 0.1, 777), CONVERGES, CONVERGES),
        (schedules.triangular2(1e-3, 0.1, 777), DIVERGES, DIVERGES),
        (schedules.inverse_sqrt(0.1, 1.0), DIVERGES, DIVERGES),
        (schedules.inverse_sqrt(0.1, 1e5), DIVERGES, DIVERGES),
        *((schedules.inverse_time(0.1, 10.0**k), DIVERGES, CONVERGES) for k in range(6)),
        (schedules.warmup(schedules.inverse_time(0.1, 100), 1000), DIVERGES, CONVERGES),
        (power(0.3), DIVERGES, DIVERGES),
        (power(0.5), DIVERGES, DIVERGES),
        (power(0.6), DIVERGES, CONVERGES),
        (power(0.75), DIVERGES, CONVERGES),
        (power(1.0), DIVERGES, CONVERGES),
        (power(1.1), CONVERGES, CONVERGES),
        (power(1.5), CONVERGES, CONVERGES),
        (power(3.0), CONVERGES, CONVERGES),
        (lambda step: 1 / ((step + 2.0) * jnp.log(step + 2.0)), DIVERGES, CONVERGES),
        (lambda step: 1 / ((step + 2.0) * jnp.log(step + 2.0) ** 2), CONVERGES, CONVERGES),
        (optax.constant_schedule(0.1), DIVERGES, DIVERGES),
    ],
)
def test_whether_a_schedule_is_summable_is_decided_as_analysis_does(schedule, sums, squares):
    decided = schedules.summability(schedule)
    assert decided == (sums, squares)
    assert decided.robbins_monro == (not sums and squares)


@pytest.mark.parametrize(("rate", "message"), [(math.nan, "must be finite"), (-0.1, "at least 0")])
def test_a_schedule_without_sensible_rates_is_refused(rate, message):
    with pytest.raises(ValueError, match=message):
        schedules.summability(lambda step: jnp.full(step.shape, rate))
