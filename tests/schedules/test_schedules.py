"""Schedules against their closed forms in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import schedules
from hypothesis import given
from hypothesis import strategies as st

rates = st.floats(1e-6, 10)


@given(step=st.integers(0, 3000), peak=rates, warmup=st.integers(0, 500), rest=st.integers(1, 2000))
def test_warmup_cosine_equals_its_closed_form(step, peak, warmup, rest):
    total = warmup + rest
    if step < warmup:
        expected = peak * step / warmup
    else:
        expected = peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / rest)))
    assert float(schedules.warmup_cosine(peak, warmup, total)(step)) == pytest.approx(expected, abs=1e-6 * peak)


def test_warmup_cosine_is_exact_at_its_boundaries():
    schedule = schedules.warmup_cosine(0.3, 10, 100, end_value=0.01)
    np.testing.assert_allclose(schedule(np.array([0, 10, 100, 1000])), [0, 0.3, 0.01, 0.01], rtol=1e-6)


@given(low=st.floats(1e-7, 1e-3), factor=st.floats(2, 1e6), steps=st.integers(2, 500))
def test_the_sweep_grows_by_a_constant_factor_between_its_ends(low, factor, steps):
    swept = np.asarray(schedules.exponential_sweep(low, low * factor, steps)(np.arange(steps)), np.float64)
    np.testing.assert_allclose(swept[[0, -1]], [low, low * factor], rtol=1e-4)
    np.testing.assert_allclose(swept[1:] / swept[:-1], factor ** (1 / (steps - 1)), rtol=1e-4)


def test_a_population_of_schedules_equals_each_alone():
    peaks = jnp.array([0.1, 0.5, 2.0])
    steps = jnp.arange(50)
    together = jax.jit(jax.vmap(lambda peak: schedules.warmup_cosine(peak, 5, 50)(steps)))(peaks)
    for peak, row in zip(peaks, together, strict=True):
        np.testing.assert_allclose(row, schedules.warmup_cosine(float(peak), 5, 50)(steps), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.1), (0.0, 1.0), (-1.0, 1.0), (1.0, math.inf)])
def test_a_reversed_or_unbounded_sweep_is_refused(low, high):
    with pytest.raises(ValueError, match="0 < lowest < highest"):
        schedules.exponential_sweep(low, high, 10)


@pytest.mark.parametrize(("warmup", "total"), [(-1, 10), (10, 10), (11, 10)])
def test_a_warmup_must_fit_in_the_total(warmup, total):
    with pytest.raises(ValueError, match="0 <= warm-up < total"):
        schedules.warmup_cosine(0.1, warmup, total)
