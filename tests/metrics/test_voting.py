"""Votes of several predictions for one image."""

import jax.numpy as jnp
import numpy as np
import pytest
from etude import metrics

# Copies × one example × three classes: two copies prefer class 1, narrowly; one is sure of class 0.
NARROW = jnp.array([[[0.4, 0.45, 0.15]], [[0.4, 0.45, 0.15]], [[0.9, 0.05, 0.05]]])


def test_the_mean_listens_to_the_confident_and_the_majority_does_not():
    mean = metrics.mean_vote(NARROW)
    np.testing.assert_allclose(mean, [[1.7 / 3, 0.95 / 3, 0.35 / 3]], rtol=1e-6)
    np.testing.assert_array_equal(metrics.accuracy(mean, jnp.array([0])), [1])
    np.testing.assert_array_equal(metrics.majority_vote(NARROW), [1])


def test_among_classes_with_equally_many_votes_the_mean_decides():
    tied = jnp.array([[[0.6, 0.3, 0.1]], [[0.05, 0.9, 0.05]], [[0.55, 0.4, 0.05]], [[0.1, 0.8, 0.1]]])
    np.testing.assert_array_equal(metrics.majority_vote(tied), [1])
    np.testing.assert_array_equal(metrics.majority_vote(tied[..., ::-1]), [1])
    # The third class has the greatest mean of all but fewer votes.
    outvoted = jnp.array([[[0.4, 0.2, 0.39]], [[0.41, 0.2, 0.39]], [[0.2, 0.41, 0.39]], [[0.2, 0.42, 0.38]]])
    np.testing.assert_array_equal(metrics.majority_vote(outvoted), [1])


def test_votes_do_not_depend_on_the_order_of_copies_and_one_copy_is_itself():
    rng = np.random.default_rng(0)
    copies = rng.dirichlet(np.ones(4), (7, 30))
    shuffled = copies[rng.permutation(7)]
    np.testing.assert_array_equal(metrics.majority_vote(shuffled), metrics.majority_vote(copies))
    np.testing.assert_allclose(metrics.mean_vote(shuffled), metrics.mean_vote(copies), rtol=1e-5)
    np.testing.assert_array_equal(metrics.majority_vote(copies[:1]), copies[0].argmax(-1))
    np.testing.assert_allclose(metrics.mean_vote(copies[:1]), copies[0], rtol=1e-6)


def test_the_majority_is_the_most_frequent_favourite():
    copies = np.random.default_rng(1).dirichlet(np.ones(3), (11, 50))
    counts = np.stack([np.bincount(column, minlength=3) for column in copies.argmax(-1).T])
    winners = np.asarray(metrics.majority_vote(jnp.asarray(copies)))
    np.testing.assert_array_equal(counts[np.arange(50), winners], counts.max(1))


@pytest.mark.parametrize("shape", [(5, 3), (0, 5, 3), (2, 5, 0), (2, 5, 3, 1)])
def test_predictions_of_another_form_are_refused(shape):
    for vote in (metrics.mean_vote, metrics.majority_vote):
        with pytest.raises(ValueError, match=r"\[copies, batch, classes\]"):
            vote(jnp.zeros(shape))
