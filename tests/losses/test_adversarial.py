"""Losses of the two players against their definitions in float64, and penalties where the gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(0, 3, 50), RNG.normal(0, 3, 50)


def probability(score):
    return 1 / (1 + np.exp(-score))


DEFINITIONS = {
    "non_saturating": (
        lambda real, fake: -np.log(probability(real)) - np.log(1 - probability(fake)),
        lambda fake: -np.log(probability(fake)),
    ),
    "hinge": (lambda real, fake: np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), lambda fake: -fake),
    "wasserstein": (lambda real, fake: fake - real, lambda fake: -fake),
}


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_both_losses_equal_their_definitions(name):
    loss, (discriminator, generator) = losses.ADVERSARIAL_LOSSES[name], DEFINITIONS[name]
    np.testing.assert_allclose(
        loss.discriminator(jnp.asarray(REAL), jnp.asarray(FAKE)), discriminator(REAL, FAKE), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(loss.generator(jnp.asarray(FAKE)), generator(FAKE), rtol=1e-5, atol=1e-6)


@pytest.fixture
def densities():
    """Of real and fake examples on nine points."""
    p, q = RNG.dirichlet(np.ones(9)), RNG.dirichlet(np.ones(9))
    return p, q


def test_the_best_discriminator_is_the_log_ratio_and_its_loss_is_log_4_minus_twice_the_divergence(densities):
    p, q = densities
    loss = losses.ADVERSARIAL_LOSSES["non_saturating"]

    def expected(scores):
        of_real = loss.discriminator(scores, jnp.full(9, -jnp.inf))  # log-loss 0 of the fake ones
        of_fake = loss.discriminator(jnp.full(9, jnp.inf), scores)
        return (p * of_real + q * of_fake).sum()

    best = jnp.asarray(np.log(p / q), jnp.float32)
    m = (p + q) / 2
    divergence = ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
    np.testing.assert_allclose(jax.grad(expected)(best), 0, atol=1e-6)
    assert float(expected(best)) == pytest.approx(np.log(4) - 2 * divergence, rel=1e-5)
    assert expected(best) < expected(best + 0.1)


def test_against_a_perfect_generator_the_best_loss_is_log_4():
    loss = losses.ADVERSARIAL_LOSSES["non_saturating"].discriminator(jnp.zeros(3), jnp.zeros(3))
    np.testing.assert_allclose(loss, np.log(4), rtol=1e-6)


def test_the_gradient_of_the_generator_does_not_vanish_where_the_discriminator_is_sure():
    slopes = jax.grad(lambda f: losses.ADVERSARIAL_LOSSES["non_saturating"].generator(f).sum())
    np.testing.assert_allclose(slopes(jnp.array([-1e4, 0, 1e4])), [-1, -0.5, 0])


def test_beyond_the_margin_the_hinge_is_flat():
    slopes = jax.grad(lambda real, fake: losses.ADVERSARIAL_LOSSES["hinge"].discriminator(real, fake).sum(), (0, 1))
    real, fake = slopes(jnp.array([0.9, 1.1]), jnp.array([-0.9, -1.1]))
    np.testing.assert_array_equal(real, [-1, 0])
    np.testing.assert_array_equal(fake, [1, 0])


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_extreme_scores_and_bfloat16_give_finite_float32(name):
    loss = losses.ADVERSARIAL_LOSSES[name]
    scores = jnp.array([-1e4, 0, 1e4], jnp.bfloat16)
    for value in (loss.discriminator(scores, -scores), loss.discriminator(scores, scores), loss.generator(scores)):
        assert value.dtype == jnp.float32
        assert jnp.isfinite(value).all()


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_scores_of_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match=r"real and fake images of one shape.*\(4, 1\) and \(4,\)"):
        losses.ADVERSARIAL_LOSSES[name].discriminator(jnp.ones((4, 1)), jnp.ones(4))


@pytest.fixture
def images(key):
    real, fake = jax.random.normal(key, (2, 6, 3, 4, 2))
    return real, fake


def linear(w):
    return lambda images: (images * w).sum((1, 2, 3))


def half_square(images):
    """Whose gradient is the image."""
    return (images**2).sum((1, 2, 3)) / 2


def norms(images):
    return jnp.sqrt((images**2).sum((1, 2, 3)))


def test_of_a_linear_discriminator_penalties_are_those_of_its_weights(images, key):
    w = jax.random.normal(key, (3, 4, 2))
    norm = float(jnp.linalg.norm(w))
    np.testing.assert_allclose(losses.gradient_penalty(linear(w), *images, key), (norm - 1) ** 2, rtol=1e-5)
    np.testing.assert_allclose(losses.r1_penalty(linear(w), images[0]), norm**2 / 2, rtol=1e-5)


def test_penalties_can_be_differentiated_by_the_weights(images, key):
    w = jax.random.normal(key, (3, 4, 2))
    norm = jnp.linalg.norm(w)
    penalty = jax.grad(lambda w: losses.gradient_penalty(linear(w), *images, key).mean())
    np.testing.assert_allclose(penalty(w), 2 * (norm - 1) * w / norm, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda w: losses.r1_penalty(linear(w), images[0]).mean())(w), w, rtol=1e-5)


def test_r1_is_taken_at_real_images_and_the_other_between_real_and_fake_ones(images, key):
    real, fake = images
    np.testing.assert_allclose(losses.r1_penalty(half_square, real), norms(real) ** 2 / 2, rtol=1e-5)
    np.testing.assert_allclose(
        losses.gradient_penalty(half_square, real, real, key), (norms(real) - 1) ** 2, rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(losses.gradient_penalty(half_square, real, fake, key), (norms(real) - 1) ** 2, rtol=0.01)


def test_the_place_between_is_uniform(key):
    real = jnp.ones((4000, 1, 1, 1))
    # The gradient at ε · 3 is ε · 3: the penalty tells (3ε − 1)², whose mean and variance are 1 and 6/5.
    penalty = losses.gradient_penalty(half_square, 3 * real, 0 * real, key)
    assert float(penalty.mean()) == pytest.approx(1, abs=5 * np.sqrt(1.2 / 4000))  # five standard errors
    assert float(penalty.var()) == pytest.approx(1.2, rel=0.1)


def test_with_a_key_for_each_example_the_place_in_the_batch_does_not_matter(images, key):
    real, fake = images
    keys, order = jax.random.split(key, 6), jnp.array([3, 1, 5, 0, 2, 4])
    whole = losses.gradient_penalty(half_square, real, fake, keys)
    np.testing.assert_array_equal(
        losses.gradient_penalty(half_square, real[order], fake[order], keys[order]), whole[order]
    )
    assert len(set(np.asarray(losses.gradient_penalty(half_square, real * 0 + 1, fake * 0, keys)).tolist())) == 6


def test_a_flat_discriminator_costs_1_and_has_a_finite_gradient(images, key):
    value, slope = jax.value_and_grad(lambda w: losses.gradient_penalty(linear(w), *images, key).mean())(
        jnp.zeros((3, 4, 2))
    )
    assert value == 1
    np.testing.assert_array_equal(slope, 0)


def test_the_table_of_penalties_has_one_signature(images, key):
    by_name = {name: penalty(half_square, *images, key) for name, penalty in losses.GRADIENT_PENALTIES.items()}
    np.testing.assert_array_equal(by_name["wgan_gp"], losses.gradient_penalty(half_square, *images, key))
    np.testing.assert_array_equal(by_name["r1"], losses.r1_penalty(half_square, images[0]))


def test_images_and_keys_that_do_not_fit_are_refused(images, key):
    with pytest.raises(ValueError, match="of one shape"):
        losses.gradient_penalty(half_square, images[0], images[1][:3], key)
    with pytest.raises(ValueError, match="one key or 6"):
        losses.gradient_penalty(half_square, *images, jax.random.split(key, 5))
