"""Two players in one state: who moves when, what each is told, and a game whose end is known."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import losses, train
from etude.models import gan
from etude.train.adversarial import latents
from etude.train.parallel import MODES

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


class Affine(nn.Module):
    """z -> images of 1×1 pixels with two channels, Gaussian of any mean and covariance."""

    norm: bool = False

    @nn.compact
    def __call__(self, z, labels=None, *, train=False):
        if self.norm:
            z = nn.BatchNorm(use_running_average=not train, name="norm")(z)
        return nn.Dense(2, kernel_init=nn.initializers.normal(0.5), name="affine")(z)[:, None, None, :]


class Critic(nn.Module):
    hidden: tuple[int, ...] = (32, 32)

    @nn.compact
    def __call__(self, x, labels=None, *, train=False):
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.leaky_relu(nn.Dense(width)(x), 0.2)
        return nn.Dense(1, name="head")(x)[:, 0]


def unchanged(images):
    return images


def constant(hyper):
    return lambda step: hyper["learning_rate"]


def sgd(rate, hyper):
    return optax.sgd(rate)


def still(rate, hyper):
    return optax.set_to_zero()


def points(count=8, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, 1, 1, 2)).astype(np.float32) + 1
    return {"image": images, "label": np.zeros(count, np.int32), "index": rng.permutation(100)[:count].astype(np.int32)}


class Game:
    """A step and the state it begins with."""

    def __init__(
        self, generator=None, discriminator=None, *, optimizers=(sgd, sgd), hyper=None, ema_decay=None, seed=0,
        discriminator_steps=1, **options
    ):  # fmt: skip
        self.generator, self.discriminator = generator or Affine(), discriminator or Critic()
        options = {"preprocess": unchanged, "latent": 2} | options
        self.task = train.adversarial(self.generator, self.discriminator, (1, 1, 2), **options)
        self.make_optimizer = train.players(*optimizers)
        self.step = train.make_adversarial_step(
            self.task, self.make_optimizer, constant,
            discriminator_steps=discriminator_steps, ema_decay=ema_decay,
        )  # fmt: skip
        self.hyper = {"learning_rate": 0.1} | (hyper or {})
        create = jax.jit(partial(train.create_state, self.task, self.make_optimizer, ema=ema_decay is not None))
        self.state = create(jax.random.key(seed), self.hyper)

    def after(self, steps=1, batch=None):
        state, step = self.state, jax.jit(self.step)
        for _ in range(steps):
            state, metrics = step(state, points() if batch is None else batch)
        return state, metrics


MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[1.0, 0.6], [0.6, 0.8]])


def adam(rate, hyper):
    return train.adam(rate, b1=0.5, b2=0.9)


@pytest.mark.parametrize(
    ("loss", "penalty", "weight", "discriminator_steps", "steps"),
    [("non_saturating", "r1", 0.1, 1, 600), ("hinge", "r1", 0.1, 1, 600), ("wasserstein", "wgan_gp", 1.0, 4, 1200)],
)
def test_a_gaussian_is_found_with_its_mean_and_covariance(loss, penalty, weight, discriminator_steps, steps):
    data = np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, 4096).astype(np.float32)
    images = jnp.asarray(data)[:, None, None]
    hyper = {"learning_rate": 0.005, "penalty_weight": weight}
    game = Game(
        optimizers=(adam, adam), loss=loss, penalty=penalty, hyper=hyper, ema_decay=0.99,
        discriminator_steps=discriminator_steps,
    )  # fmt: skip

    @jax.jit
    def run(state):
        def body(i, state):
            index = jax.random.choice(jax.random.fold_in(jax.random.key(1), i), 4096, (256,), replace=False)
            return game.step(state, {"image": images[index], "index": index})[0]

        return jax.lax.fori_loop(0, steps, body, state)

    layer = run(game.state).variables["params"][GENERATOR]["affine"]
    # x = Wz + b has mean b and covariance WWᵀ. Within 0.1: the game goes around its equilibrium, and the average of
    # the generators was within 0.06 of it with each of eight seeds.
    np.testing.assert_allclose(layer["bias"], data.mean(0), atol=0.1)
    np.testing.assert_allclose(layer["kernel"].T @ layer["kernel"], np.cov(data.T), atol=0.1)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_step_is_k_discriminator_updates_and_then_one_generator_update(steps):
    game, batch = Game(discriminator_steps=steps), points()
    params = game.state.params
    _, key, generator_key = jax.random.split(jax.random.fold_in(game.state.key, 0), 3)
    loss = losses.ADVERSARIAL_LOSSES["non_saturating"]

    def score(params, images):
        return game.discriminator.apply({"params": params}, images)

    def make(params, key, rows):
        return game.generator.apply({"params": params}, latents(key, batch["index"][rows], 2))

    discriminator, of_discriminator = params[DISCRIMINATOR], []
    for j, part_key in enumerate(jax.random.split(key, steps)):
        rows = slice(j, None, steps)
        fake = make(params[GENERATOR], jax.random.split(part_key)[0], rows)
        real = batch["image"][rows]
        value, gradient = jax.value_and_grad(
            lambda d, real, fake: loss.discriminator(score(d, real), score(d, fake)).mean()
        )(discriminator, real, fake)
        discriminator = jax.tree.map(lambda p, g: p - 0.1 * g, discriminator, gradient)
        of_discriminator.append((float(value), float(optax.tree.norm(gradient, squared=True))))
    rows = slice(0, None, steps)
    value, gradient = jax.value_and_grad(
        lambda g: loss.generator(score(discriminator, make(g, generator_key, rows))).mean()
    )(params[GENERATOR])
    generator = jax.tree.map(lambda p, g: p - 0.1 * g, params[GENERATOR], gradient)

    state, metrics = game.after()
    for measured, expected in ((state.params[GENERATOR], generator), (state.params[DISCRIMINATOR], discriminator)):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), measured, expected)
    of_losses, of_norms = np.mean(of_discriminator, 0)
    assert float(metrics["discriminator_loss"]) == pytest.approx(of_losses, rel=1e-5)
    assert float(metrics["generator_loss"]) == pytest.approx(float(value), rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(of_losses + float(value), rel=1e-5)
    squared = of_norms + float(optax.tree.norm(gradient, squared=True))
    assert float(metrics["gradient_norm"]) == pytest.approx(squared**0.5, rel=1e-4)
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("optimizers", "moves", "stays"),
    [((still, sgd), DISCRIMINATOR, GENERATOR), ((sgd, still), GENERATOR, DISCRIMINATOR)],
)
def test_the_turn_of_one_player_leaves_the_others_parameters_to_the_bit(tools, optimizers, moves, stays):
    game = Game(optimizers=optimizers)
    state, _ = game.after(3)
    assert tools.identical(state.params[stays], game.state.params[stays])
    assert not tools.identical(state.params[moves], game.state.params[moves])


def test_an_optimizer_of_two_leaves_who_has_no_gradients_as_it_was(tools):
    game = Game(optimizers=(adam, adam))
    optimizer = game.make_optimizer(0.1, {})
    gradients = {GENERATOR: game.state.params[GENERATOR]}
    updates, state = optimizer.update(gradients, game.state.opt_state, game.state.params)
    assert updates.keys() == {GENERATOR}
    assert tools.identical(state[DISCRIMINATOR], game.state.opt_state[DISCRIMINATOR])
    own = game.state.params[GENERATOR]
    alone, alone_state = adam(0.1, {}).update(gradients[GENERATOR], game.state.opt_state[GENERATOR], own)
    assert tools.identical((updates[GENERATOR], state[GENERATOR]), (alone, alone_state))


def test_running_statistics_of_the_generator_move_in_its_own_turn_alone():
    game = Game(Affine(norm=True), discriminator_steps=4)
    state, _ = game.after()
    _, _, key = jax.random.split(jax.random.fold_in(game.state.key, 0), 3)
    z = latents(key, points()["index"][::4], 2)
    measured = state.model_state["batch_stats"][GENERATOR]["norm"]["mean"]
    np.testing.assert_allclose(measured, 0.01 * z.mean(0), rtol=1e-5)  # flax's momentum is 0.99


def test_the_discriminators_rate_is_a_multiple():
    one, other = Game(), Game(hyper={"discriminator_rate_ratio": 3.0})
    moved = [
        jax.tree.map(jnp.subtract, game.after()[0].params[DISCRIMINATOR], game.state.params[DISCRIMINATOR])
        for game in (one, other)
    ]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, 3 * x, rtol=1e-3, atol=1e-6), *moved)


def test_the_weight_of_a_penalty_may_be_a_hyperparameter(tools):
    given = Game(penalty="r1", penalty_weight=3.0)
    varied = Game(penalty="r1", hyper={"penalty_weight": 3.0})
    assert tools.relative_difference(varied.after()[0].params, given.after()[0].params) < 1e-6
    heavier = Game(penalty="r1", penalty_weight=4.0)
    assert tools.relative_difference(heavier.after()[0].params, given.after()[0].params) > 1e-4
    (_, metrics), (_, more) = given.after(), heavier.after()
    assert float(more["loss"] - metrics["loss"]) == pytest.approx(float(metrics["penalty"]), rel=0.3)


def test_a_penalty_of_a_linear_discriminator_is_in_the_metrics():
    game = Game(discriminator=Critic(hidden=()), penalty="wgan_gp", loss="wasserstein")
    w = np.asarray(game.state.params[DISCRIMINATOR]["head"]["kernel"])
    _, metrics = game.after()
    assert float(metrics["penalty"]) == pytest.approx((np.linalg.norm(w) - 1) ** 2, rel=1e-5)


def test_the_average_follows_its_recursion():
    game = Game(ema_decay=0.9)
    average = np.asarray(game.state.params[GENERATOR]["affine"]["bias"], np.float64)
    for step in range(3):
        state, _ = game.after(step + 1)
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(state.params[GENERATOR]["affine"]["bias"])
    np.testing.assert_allclose(state.variables["params"][GENERATOR]["affine"]["bias"], average, rtol=1e-5)


def test_real_images_are_augmented_and_labels_kept():
    seen = {}

    def augment(key, batch, hyper):
        seen.update(batch)
        return {**batch, "image": batch["image"] * 0 + hyper["learning_rate"]}

    game = Game()
    step = train.make_adversarial_step(game.task, game.make_optimizer, constant, augment=augment)
    _, metrics = jax.jit(step)(game.state, points())
    assert seen.keys() == points().keys()
    score = game.discriminator.apply({"params": game.state.params[DISCRIMINATOR]}, jnp.full((1, 1, 1, 2), 0.1))
    assert float(metrics["real_score"]) == pytest.approx(float(score[0]), rel=1e-5)


@cache
def digits_game(parallel, **options):
    """Networks with everything: labels, BatchNorm, spectral normalisation, several discriminator steps."""
    where = train.layout(parallel)
    task = train.adversarial(
        gan.DCGANGenerator((8, 8, 1), 4, where.axis_name, width=4),
        gan.DCGANDiscriminator("spectral", 4, width=4),
        (8, 8, 1),
        latent=8,
        loss="hinge",
        penalty="r1",
        conditional=True,
    )
    make_optimizer = train.players(sgd, adam)
    step = train.make_adversarial_step(
        task, make_optimizer, constant, discriminator_steps=2, ema_decay=0.9, axis_name=where.axis_name,
        gather=where.gather,
    )  # fmt: skip
    state = jax.jit(partial(train.create_state, task, make_optimizer, ema=True))(
        jax.random.key(0), {"learning_rate": 0.01}
    )
    return task, step, state, where


def trained(tools, parallel, steps, resident=True):
    _, step, state, where = digits_game(parallel)
    feed = train.feed(step, tools.make_source(), batch_size=32, seed=0, where=where, resident=resident)
    placed, read = feed.advance(where.place_state(state), 0, steps)
    return where.logical(placed), read()


@pytest.mark.parametrize(("parallel", "resident"), [*((mode, True) for mode in MODES[1:]), ("jit", False)])
def test_every_layout_and_feed_gives_the_same_run(tools, parallel, resident):
    reference, expected = trained(tools, "jit", 3)
    state, metrics = trained(tools, parallel, 3, resident)
    # Adam divides by the gradient's size, so that a last bit of a small gradient counts.
    assert tools.relative_difference(state.params, reference.params) < 1e-4
    assert tools.relative_difference(state.model_state, reference.model_state) < 1e-4
    assert tools.relative_difference(state.ema, reference.ema) < 1e-4
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-3, atol=1e-4)


def test_the_state_has_both_players_at_the_top_of_each_tree():
    _, _, state, _ = digits_game("jit")
    assert state.params.keys() == state.opt_state.keys() == {GENERATOR, DISCRIMINATOR}
    assert {name: set(both) for name, both in state.model_state.items()} == {
        "batch_stats": {GENERATOR},
        "spectral": {DISCRIMINATOR},
    }


def test_a_checkpoint_holds_both_players(tools, tmp_path):
    state, _ = trained(tools, "jit", 1)
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state, {}, None)
    found = checkpoints.restore(digits_game("jit")[2])
    checkpoints.close()
    assert tools.identical(found.state, state)


def test_fit_trains_and_evaluates_a_game(tools):
    task, step, state, where = digits_game("jit")
    feed = train.feed(step, tools.make_source(), batch_size=32, seed=0, where=where)
    validation = tools.make_source(20, "validation", seed=1)
    fitted = train.fit(state, feed, where, epochs=1, validate=train.evaluator(task, validation, batch_size=8))
    assert int(fitted.state.step) == 3
    measured = fitted.epochs[0]["validation"]
    assert measured.keys() == {"loss", "discriminator_loss", "generator_loss", "real_score", "fake_score"}
    # The latent vector of an example is a function of its index: cut otherwise, the numbers are the same.
    again = train.evaluator(task, validation, batch_size=20)(fitted.best)
    assert again == pytest.approx(measured, rel=1e-4, abs=1e-6)


def test_a_population_of_games_equals_each_alone():
    rates = {"learning_rate": [0.05, 0.2], "discriminator_rate_ratio": [2.0, 0.5], "penalty_weight": [1.0, 0.1]}
    options = {"penalty": "r1", "discriminator_steps": 2}
    games = [Game(hyper={name: values[i] for name, values in rates.items()}, seed=i, **options) for i in (0, 1)]
    members = train.Members(np.arange(2), {name: np.asarray(values) for name, values in rates.items()})
    stack = train.create_population(games[0].task, games[0].make_optimizer, members).state
    batch = points()
    for _ in range(3):
        stack, _ = jax.jit(jax.vmap(games[0].step, in_axes=(0, None)))(stack, batch)
    for i, game in enumerate(games):
        alone, _ = game.after(3)
        mine = jax.tree.map(lambda x, i=i: x[i], stack.params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), mine, alone.params)


def test_samples_need_the_generator_alone_and_are_those_of_prediction():
    _, _, state, _ = digits_game("jit")
    generator = gan.DCGANGenerator((8, 8, 1), 4, width=4)
    own = train.player_variables(state.variables, GENERATOR)
    assert own.keys() == {"params", "batch_stats"}
    z, labels = jax.random.normal(jax.random.key(1), (3, 8)), jnp.array([0, 3, 1])
    images = train.sample_generator(generator, {name: {GENERATOR: tree} for name, tree in own.items()}, z, labels)
    np.testing.assert_array_equal(images, generator.apply(own, z, labels))
    np.testing.assert_array_equal(images, train.sample_generator(generator, state.variables, z, labels))


def test_latent_vectors_go_by_index_and_are_standard_normal():
    index = jnp.arange(4000)
    z = latents(jax.random.key(0), index, 2)
    np.testing.assert_array_equal(latents(jax.random.key(0), index[::-1], 2), z[::-1])
    np.testing.assert_allclose(z.mean(0), 0, atol=5 / 4000**0.5)  # five standard errors
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.12)  # as many of a variance
    assert not np.array_equal(latents(jax.random.key(1), index, 2), z)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="loss of a game is 'minimax'; valid are non_saturating, hinge, wasserstein"):
        Game(loss="minimax")
    with pytest.raises(ValueError, match="penalty of a game is 'r2'; valid are wgan_gp, r1"):
        Game(penalty="r2")
    with pytest.raises(ValueError, match="latent is 0"):
        Game(latent=0)
    with pytest.raises(ValueError, match=r"makes images of shape \(8, 8, 1\); those of the data are \(1, 1, 2\)"):
        Game(gan.DCGANGenerator((8, 8, 1), width=2))
    task = train.adversarial(
        gan.DCGANGenerator((8, 8, 1), width=2), gan.DCGANDiscriminator("batch", width=2), (8, 8, 1), latent=2,
        penalty="r1",
    )  # fmt: skip
    with pytest.raises(ValueError, match="'r1' wants a discriminator whose score of an image depends on it alone"):
        jax.eval_shape(task.init, jax.random.key(0))


def test_steps_that_do_not_fit_are_refused():
    game = Game()
    make = partial(train.make_adversarial_step, game.task, game.make_optimizer, constant)
    with pytest.raises(ValueError, match="discriminator_steps is 0"):
        make(discriminator_steps=0)
    with pytest.raises(ValueError, match="ema_decay is 1"):
        make(ema_decay=1)
    with pytest.raises(ValueError, match="8 examples can't be cut into 3 parts"):
        jax.eval_shape(make(discriminator_steps=3), game.state, points())
    one = train.make_step(game.task, game.make_optimizer, constant)
    with pytest.raises(ValueError, match="make_adversarial_step"):
        jax.eval_shape(one, game.state, points())
