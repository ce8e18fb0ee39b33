"""Accuracy per example."""

import jax.numpy as jnp
import numpy as np
import pytest
from etude import metrics


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_accuracy_is_one_where_the_largest_logit_is_the_labels_and_zero_elsewhere(dtype):
    score = metrics.accuracy(jnp.array([[0, 1, 2], [5, 1, 2], [0, 1, 2]], dtype), jnp.array([2, 0, 1]))
    assert score.dtype == jnp.float32
    np.testing.assert_array_equal(score, [1, 1, 0])


def test_of_equal_logits_the_first_class_counts():
    np.testing.assert_array_equal(metrics.accuracy(jnp.zeros((2, 3)), jnp.array([0, 1])), [1, 0])


def test_of_probabilities_as_labels_the_largest_counts():
    labels = jnp.array([[0.2, 0.5, 0.3], [0.5, 0.0, 0.5], [0.0, 0.1, 0.9]])
    logits = jnp.array([[0.0, 1, 0], [2, 1, 0], [2, 1, 0]])
    np.testing.assert_array_equal(metrics.accuracy(logits, labels), [1, 1, 0])


@pytest.mark.parametrize(("logits", "labels"), [((4, 3), (4, 1)), ((4, 3), (1,)), ((3,), (3,)), ((4, 0), (4,))])
def test_shapes_that_would_broadcast_are_refused(logits, labels):
    with pytest.raises(ValueError, match="logits"):
        metrics.accuracy(jnp.zeros(logits), jnp.zeros(labels, int))


@pytest.mark.parametrize("labels", [jnp.zeros(4), jnp.zeros((4, 3), int)])
def test_labels_of_the_wrong_dtype_are_refused(labels):
    with pytest.raises(ValueError, match="integer labels"):
        metrics.accuracy(jnp.zeros((4, 3)), labels)
