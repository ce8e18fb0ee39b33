"""A weighted mean as a total and a weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.tasks import Mean, example_weights
from hypothesis import given
from hypothesis import strategies as st

numbers = st.floats(-100, 100, width=32)


@given(st.lists(st.tuples(numbers, st.floats(0, 10, width=32)), min_size=1, max_size=20), st.integers(0, 20))
def test_the_means_of_two_parts_add_up_to_the_mean_of_the_whole(pairs, at):
    values, weights = np.array(pairs, np.float64).T
    mean = Mean.of(values[:at], weights[:at]) + Mean.of(values[at:], weights[at:])
    np.testing.assert_allclose(mean.total, (values * weights).sum(), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(mean.weight, weights.sum(), rtol=1e-6)
    if weights.sum() > 0.1:
        assert float(mean.value) == pytest.approx(np.average(values, weights=weights), rel=1e-4, abs=1e-3)


def test_without_weights_all_values_count_alike():
    values = np.arange(6.0).reshape(2, 3)
    mean = Mean.of(values)
    assert (float(mean.total), float(mean.weight), float(mean.value)) == (15, 6, 2.5)


def test_weights_with_fewer_axes_weigh_whole_leading_indices():
    values = np.arange(6.0).reshape(2, 3)
    mean = Mean.of(values, np.array([1.0, 3.0]))
    assert (float(mean.total), float(mean.weight)) == (3 + 3 * 12, 3 + 3 * 3)
    words = Mean.of(values, np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))
    assert (float(words.total), float(words.weight)) == (0 + 3 + 4, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_of_weight_0_counts_for_nothing_even_if_it_is_not_finite(value):
    assert float(Mean.of(jnp.array([2.0, value]), jnp.array([3.0, 0.0])).value) == 2


def test_a_value_of_weight_0_has_no_gradient():
    gradient = jax.grad(lambda x: Mean.of(x**2, jnp.array([2.0, 0.0])).value)(jnp.array([3.0, 5.0]))
    np.testing.assert_allclose(gradient, [6, 0])


def test_nothing_has_no_mean():
    assert np.isnan(Mean.of(jnp.ones(3), jnp.zeros(3)).value)


def test_whole_numbers_and_half_precision_are_summed_in_float32():
    many = Mean.of(jnp.ones(5000, jnp.bfloat16), jnp.ones(5000, jnp.bfloat16))
    assert (many.total.dtype, many.weight.dtype) == (jnp.float32, jnp.float32)
    assert (float(many.total), float(many.weight)) == (5000, 5000)
    right = Mean.of(jnp.array([True, False, True, True]))
    assert float(right.value) == 0.75


def test_a_number_that_was_measured_once_has_weight_1():
    mean = Mean.once(jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(mean.value, [0.1, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(mean.weight, [1, 1])


def test_the_weights_of_examples_are_those_of_the_batch_or_ones():
    np.testing.assert_array_equal(example_weights({"image": jnp.zeros((3, 2))}), [1, 1, 1])
    weights = example_weights({"image": jnp.zeros((3, 2)), "weight": np.array([0, 2, 1])})
    np.testing.assert_array_equal(weights, [0, 2, 1])
    assert weights.dtype == jnp.float32
