"""The two losses of a game, what is reported of it, and its generator afterwards."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import tasks, train
from etude.models.generative import gan
from etude.tasks import DISCRIMINATOR, GENERATOR
from etude.tasks.adversarial import latents


class Affine(nn.Module):
    """z -> images of 1×1 pixels with two channels."""

    @nn.compact
    def __call__(self, z, labels=None, *, train=False):
        return nn.Dense(2, kernel_init=nn.initializers.normal(0.5), name="affine")(z)[:, None, None, :]


class Critic(nn.Module):
    hidden: tuple[int, ...] = (32,)

    @nn.compact
    def __call__(self, x, labels=None, *, train=False):
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.leaky_relu(nn.Dense(width)(x), 0.2)
        return nn.Dense(1, name="head")(x)[:, 0]


def make_game(generator=None, discriminator=None, **options):
    options = {"preprocess": lambda images: images, "latent": 2} | options
    return tasks.adversarial(generator or Affine(), discriminator or Critic(), (1, 1, 2), **options)


def points(count=8, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, 1, 1, 2)).astype(np.float32) + 1
    return {"image": images, "label": np.zeros(count, np.int32), "index": rng.permutation(100)[:count].astype(np.int32)}


def begun(game):
    return game.init(jax.random.key(0))["params"]


def discriminators_turn(game, params, hyper=None, batch=None):
    """((loss, metrics), gradient of the loss)"""

    def loss(own):
        mean, aux = game.discriminator_loss(
            {**params, DISCRIMINATOR: own}, {}, batch or points(), jax.random.key(1), hyper or {}
        )
        return mean.value, {name: metric.value for name, metric in aux.metrics.items()}

    return jax.value_and_grad(loss, has_aux=True)(params[DISCRIMINATOR])


def test_the_weight_of_a_penalty_may_be_a_hyperparameter(tools):
    params = begun(make_game())
    (loss, metrics), gradient = discriminators_turn(make_game(penalty="r1", penalty_weight=3.0), params)
    (varied, _), its_gradient = discriminators_turn(make_game(penalty="r1"), params, {"penalty_weight": 3.0})
    assert float(varied) == pytest.approx(float(loss), rel=1e-6)
    assert tools.relative_difference(its_gradient, gradient) < 1e-6
    (more, _), heavier = discriminators_turn(make_game(penalty="r1", penalty_weight=4.0), params)
    assert tools.relative_difference(heavier, gradient) > 1e-4
    assert float(more - loss) == pytest.approx(float(metrics["penalty"]), rel=1e-4)
    assert float(loss) == pytest.approx(float(metrics["discriminator_loss"] + 3 * metrics["penalty"]), rel=1e-5)


def test_a_penalty_of_a_linear_discriminator_is_in_the_metrics():
    game = make_game(discriminator=Critic(hidden=()), penalty="wgan_gp", loss="wasserstein")
    params = begun(game)
    w = np.asarray(params[DISCRIMINATOR]["head"]["kernel"])
    (_, metrics), _ = discriminators_turn(game, params)
    assert float(metrics["penalty"]) == pytest.approx((np.linalg.norm(w) - 1) ** 2, rel=1e-5)


def test_examples_count_by_their_weight_in_both_losses(tools):
    game, batch = make_game(penalty="r1"), points()
    params = begun(game)
    weights = np.array([1, 0, 3, 1, 0, 0.5, 2, 1], np.float32)

    for loss in (game.discriminator_loss, game.generator_loss):

        def measure(weight, loss=loss):
            mean, aux = loss(params, {}, {**batch, "weight": weight}, jax.random.key(1), {})
            return {"loss": mean, **aux.metrics}

        of_each = jax.vmap(measure)(jnp.eye(8))
        for name, mean in measure(weights).items():
            assert float(mean.weight) == weights.sum()
            assert float(mean.value) == pytest.approx(np.average(of_each[name].value, weights=weights), rel=1e-5), name


def digits_game():
    generator = gan.DCGANGenerator((8, 8, 1), 4, width=4)
    discriminator = gan.DCGANDiscriminator("spectral", 4, width=4)
    return generator, tasks.adversarial(
        generator, discriminator, (8, 8, 1), latent=8, loss="hinge", penalty="r1", conditional=True
    )


@pytest.fixture(scope="module")
def digits():
    """(generator, game, variables)"""
    generator, game = digits_game()
    return generator, game, jax.jit(game.init)(jax.random.key(0))


def test_the_variables_have_both_players_at_the_top_of_each_collection(digits):
    _, _, variables = digits
    assert {name: set(both) for name, both in variables.items()} == {
        "params": {GENERATOR, DISCRIMINATOR},
        "batch_stats": {GENERATOR},
        "spectral": {DISCRIMINATOR},
    }


def test_the_evaluation_of_a_split_does_not_depend_on_the_batch_size(digits, source):
    _, game, variables = digits
    expected = jax.tree.map(float, train.evaluator(game.evaluation, source, batch_size=100)(variables))
    assert expected.keys() == {"loss", "discriminator_loss", "generator_loss", "real_score", "fake_score"}
    assert expected["loss"] == pytest.approx(expected["discriminator_loss"] + expected["generator_loss"], rel=1e-6)
    measured = train.evaluator(game.evaluation, source, batch_size=7)(variables)
    assert measured == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_samples_need_the_generator_alone_and_are_those_of_prediction(digits):
    generator, _, variables = digits
    own = tasks.player_variables(variables, GENERATOR)
    assert own.keys() == {"params", "batch_stats"}
    z, labels = jax.random.normal(jax.random.key(1), (3, 8)), jnp.array([0, 3, 1])
    images = tasks.sample_generator(generator, {name: {GENERATOR: tree} for name, tree in own.items()}, z, labels)
    np.testing.assert_array_equal(images, generator.apply(own, z, labels))
    np.testing.assert_array_equal(images, tasks.sample_generator(generator, variables, z, labels))


def test_latent_vectors_go_by_index_and_are_standard_normal():
    index = jnp.arange(4000)
    z = latents(jax.random.key(0), index, 2)
    np.testing.assert_array_equal(latents(jax.random.key(0), index[::-1], 2), z[::-1])
    np.testing.assert_allclose(z.mean(0), 0, atol=5 / 4000**0.5)  # five standard errors
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.12)  # as many of a variance
    assert not np.array_equal(latents(jax.random.key(1), index, 2), z)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="loss of a game is 'minimax'; valid are non_saturating, hinge, wasserstein"):
        make_game(loss="minimax")
    with pytest.raises(ValueError, match="penalty of a game is 'r2'; valid are wgan_gp, r1"):
        make_game(penalty="r2")
    with pytest.raises(ValueError, match="latent is 0"):
        make_game(latent=0)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"makes images of shape \(8, 8, 1\); those of the data are \(1, 1, 2\)"):
        jax.eval_shape(make_game(gan.DCGANGenerator((8, 8, 1), width=2)).init, key)
    generator, discriminator = gan.DCGANGenerator((8, 8, 1), width=2), gan.DCGANDiscriminator("batch", width=2)
    game = tasks.adversarial(generator, discriminator, (8, 8, 1), latent=2, penalty="r1")
    with pytest.raises(ValueError, match="'r1' wants a discriminator whose score of an image depends on it alone"):
        jax.eval_shape(game.init, key)
