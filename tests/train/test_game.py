"""Two players in one state: who moves when, what each is told, and a game whose end is known."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import losses, tasks, train
from etude.models.generative import gan
from etude.tasks import DISCRIMINATOR, GENERATOR
from etude.tasks.adversarial import latents


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


class Match:
    """A step and the state it begins with."""

    def __init__(
        self,
        generator=None,
        discriminator=None,
        *,
        optimizers=(sgd, sgd),
        hyper=None,
        ema_decay=None,
        seed=0,
        discriminator_steps=1,
        **options,
    ):
        self.generator, self.discriminator = generator or Affine(), discriminator or Critic()
        options = {"preprocess": unchanged, "latent": 2} | options
        self.game = tasks.adversarial(self.generator, self.discriminator, (1, 1, 2), **options)
        self.make_optimizer = train.players(*optimizers)
        self.step = train.make_game_step(
            self.game,
            self.make_optimizer,
            constant,
            discriminator_steps=discriminator_steps,
            ema_decay=ema_decay,
        )
        self.hyper = {"learning_rate": 0.1} | (hyper or {})
        create = jax.jit(partial(train.create_state, self.game, self.make_optimizer, ema=ema_decay is not None))
        self.state = create(jax.random.key(seed), self.hyper)

    def after(self, steps=1, batch=None):
        """(state, metrics of the last step)"""
        return self.states(steps, batch)[-1]

    def states(self, steps, batch=None):
        state, step, states = self.state, jax.jit(self.step), []
        for _ in range(steps):
            state, metrics = step(state, points() if batch is None else batch)
            states.append((state, {name: mean.value for name, mean in metrics.items()}))
        return states


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
    match = Match(
        optimizers=(adam, adam),
        loss=loss,
        penalty=penalty,
        hyper=hyper,
        ema_decay=0.99,
        discriminator_steps=discriminator_steps,
    )

    @jax.jit
    def run(state):
        def body(i, state):
            index = jax.random.choice(jax.random.fold_in(jax.random.key(1), i), 4096, (256,), replace=False)
            return match.step(state, {"image": images[index], "index": index})[0]

        return jax.lax.fori_loop(0, steps, body, state)

    layer = run(match.state).variables["params"][GENERATOR]["affine"]
    # x = Wz + b has mean b and covariance WWᵀ. Within 0.1: the game goes around its equilibrium, and the average of
    # the generators was within 0.06 of it with each of eight seeds.
    np.testing.assert_allclose(layer["bias"], data.mean(0), atol=0.1)
    np.testing.assert_allclose(layer["kernel"].T @ layer["kernel"], np.cov(data.T), atol=0.1)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_step_is_k_discriminator_updates_and_then_one_generator_update(steps):
    match, batch = Match(discriminator_steps=steps), points()
    params = match.state.params
    _, key, generator_key = jax.random.split(jax.random.fold_in(match.state.key, 0), 3)
    loss = losses.ADVERSARIAL_LOSSES["non_saturating"]

    def score(params, images):
        return match.discriminator.apply({"params": params}, images)

    def make(params, key, rows):
        return match.generator.apply({"params": params}, latents(key, batch["index"][rows], 2))

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

    state, metrics = match.after()
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
    match = Match(optimizers=optimizers)
    state, _ = match.after(3)
    assert tools.identical(state.params[stays], match.state.params[stays])
    assert not tools.identical(state.params[moves], match.state.params[moves])


def test_an_optimizer_of_two_leaves_who_has_no_gradients_as_it_was(tools):
    match = Match(optimizers=(adam, adam))
    optimizer = match.make_optimizer(0.1, {})
    gradients = {GENERATOR: match.state.params[GENERATOR]}
    updates, state = optimizer.update(gradients, match.state.opt_state, match.state.params)
    assert updates.keys() == {GENERATOR}
    assert tools.identical(state[DISCRIMINATOR], match.state.opt_state[DISCRIMINATOR])
    own = match.state.params[GENERATOR]
    alone, alone_state = adam(0.1, {}).update(gradients[GENERATOR], match.state.opt_state[GENERATOR], own)
    assert tools.identical((updates[GENERATOR], state[GENERATOR]), (alone, alone_state))


def test_running_statistics_of_the_generator_move_in_its_own_turn_alone():
    match = Match(Affine(norm=True), discriminator_steps=4)
    state, _ = match.after()
    _, _, key = jax.random.split(jax.random.fold_in(match.state.key, 0), 3)
    z = latents(key, points()["index"][::4], 2)
    measured = state.model_state["batch_stats"][GENERATOR]["norm"]["mean"]
    np.testing.assert_allclose(measured, 0.01 * z.mean(0), rtol=1e-5)  # flax's momentum is 0.99


def test_the_discriminators_rate_is_a_multiple():
    one, other = Match(), Match(hyper={"discriminator_rate_ratio": 3.0})
    moved = [
        jax.tree.map(jnp.subtract, match.after()[0].params[DISCRIMINATOR], match.state.params[DISCRIMINATOR])
        for match in (one, other)
    ]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, 3 * x, rtol=1e-3, atol=1e-6), *moved)


def test_the_average_follows_its_recursion():
    match = Match(ema_decay=0.9)
    average = np.asarray(match.state.params[GENERATOR]["affine"]["bias"], np.float64)
    for step, (state, _) in enumerate(match.states(3)):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(state.params[GENERATOR]["affine"]["bias"])
    np.testing.assert_allclose(state.variables["params"][GENERATOR]["affine"]["bias"], average, rtol=1e-5)


def test_real_images_are_augmented_and_labels_kept():
    seen = {}

    def augment(key, batch, hyper):
        seen.update(batch)
        return {**batch, "image": batch["image"] * 0 + hyper["learning_rate"]}

    match = Match()
    step = train.make_game_step(match.game, match.make_optimizer, constant, augment=augment)
    _, metrics = jax.jit(step)(match.state, points())
    assert seen.keys() == points().keys()
    score = match.discriminator.apply({"params": match.state.params[DISCRIMINATOR]}, jnp.full((1, 1, 1, 2), 0.1))
    assert float(metrics["real_score"].value) == pytest.approx(float(score[0]), rel=1e-5)


@cache
def digits_game(parallel):
    """Networks with everything: labels, BatchNorm, spectral normalization, several discriminator steps."""
    layout = train.make_layout(parallel)
    game = tasks.adversarial(
        gan.DCGANGenerator((8, 8, 1), 4, layout.axis_name, width=4),
        gan.DCGANDiscriminator("spectral", 4, width=4),
        (8, 8, 1),
        latent=8,
        loss="hinge",
        penalty="r1",
        conditional=True,
    )
    make_optimizer = train.players(sgd, adam)
    step = train.make_game_step(
        game,
        make_optimizer,
        constant,
        discriminator_steps=2,
        ema_decay=0.9,
        axis_name=layout.axis_name,
        gather=layout.gather,
    )
    state = train.compile_create(game, make_optimizer, ema=True)(jax.random.key(0), {"learning_rate": 0.01})
    return game, step, state, layout


@cache
def digits_feed(tools, parallel, resident=True):
    _, step, _, layout = digits_game(parallel)
    return train.feed(step, tools.make_source(), batch_size=32, seed=0, layout=layout, resident=resident)


@cache
def trained(tools, parallel, steps, resident=True):
    _, _, state, layout = digits_game(parallel)
    placed, read = digits_feed(tools, parallel, resident).advance(layout.place_state(state), 0, steps)
    return layout.state(placed), read()


@pytest.mark.parametrize(("parallel", "resident"), [("data", True), ("fsdp", True), ("pmap", True), ("jit", False)])
def test_every_layout_and_feed_gives_the_same_run(tools, parallel, resident):
    reference, expected = trained(tools, "jit", 3)
    state, metrics = trained(tools, parallel, 3, resident)
    # Adam divides by the gradient's size, so that a last bit of a small gradient counts.
    assert tools.relative_difference(state.params, reference.params) < 1e-4
    assert tools.relative_difference(state.model_state, reference.model_state) < 1e-4
    assert tools.relative_difference(state.ema, reference.ema) < 1e-4
    assert metrics.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(metrics[name].value, expected[name].value, rtol=1e-3, atol=1e-4)


def test_the_state_has_both_players_at_the_top_of_each_tree():
    _, _, state, _ = digits_game("jit")
    assert state.params.keys() == state.opt_state.keys() == {GENERATOR, DISCRIMINATOR}
    assert {name: set(both) for name, both in state.model_state.items()} == {
        "batch_stats": {GENERATOR},
        "spectral": {DISCRIMINATOR},
    }


def test_a_checkpoint_holds_both_players(tools, tmp_path):
    state, _ = trained(tools, "jit", 3)
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, state, {})
    found = checkpoints.restore(digits_game("jit")[2])
    checkpoints.close()
    assert tools.identical(found.tree, state)


def test_fit_trains_and_evaluates_a_game(tools):
    game, _, state, layout = digits_game("jit")
    validation = tools.make_source(20, "validation", seed=1)
    validate = train.evaluator(game.evaluation, validation, layout, batch_size=8)
    fitted = train.fit(state, digits_feed(tools, "jit"), layout, epochs=1, validate=validate)
    assert int(fitted.state.step) == 3
    measured = fitted.epochs[0]["validation"]
    assert measured.keys() == {"loss", "discriminator_loss", "generator_loss", "real_score", "fake_score"}
    assert fitted.epochs[0]["train"].keys() == measured.keys() | {"penalty", "gradient_norm", "learning_rate"}
    # The latent vector of an example is a function of its index: cut otherwise, the numbers are the same.
    again = train.evaluator(game.evaluation, validation, layout, batch_size=20)(fitted.best)
    assert again == {name: pytest.approx(float(value), rel=1e-4, abs=1e-6) for name, value in measured.items()}


def test_a_population_of_games_equals_each_alone():
    rates = {"learning_rate": [0.05, 0.2], "discriminator_rate_ratio": [2.0, 0.5], "penalty_weight": [1.0, 0.1]}
    options = {"penalty": "r1", "discriminator_steps": 2}
    games = [Match(hyper={name: values[i] for name, values in rates.items()}, seed=i, **options) for i in (0, 1)]
    members = train.Members(np.arange(2), {name: np.asarray(values) for name, values in rates.items()})
    stack = train.create_population(games[0].game, games[0].make_optimizer, members)
    batch = points()
    for _ in range(3):
        stack, _ = jax.jit(jax.vmap(games[0].step, in_axes=(0, None)))(stack, batch)
    for i, match in enumerate(games):
        alone, _ = match.after(3)
        mine = jax.tree.map(lambda x, i=i: x[i], stack.params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), mine, alone.params)


def test_an_example_of_weight_0_changes_nothing_in_either_turn(tools):
    # Given batches that differ in the examples of weight 0 alone, which are in both parts,
    match = Match(penalty="r1", discriminator_steps=2)
    weight = np.array([1, 0, 3, 1, 0, 0.5, 2, 1], np.float32)
    one, other = points() | {"weight": weight}, points() | {"weight": weight}
    other["image"] = np.where((weight == 0)[:, None, None, None], 100, other["image"])
    other["index"] = np.where(weight == 0, 77, other["index"]).astype(np.int32)
    (state, metrics), (same, equal) = match.after(batch=one), match.after(batch=other)
    assert tools.identical((state, metrics), (same, equal))
    other["weight"] = np.ones(8, np.float32)
    assert tools.relative_difference(match.after(batch=other)[0].params, state.params) > 1e-3


def test_steps_that_do_not_fit_are_refused():
    match = Match()
    make = partial(train.make_game_step, match.game, match.make_optimizer, constant)
    with pytest.raises(ValueError, match="discriminator_steps is 0"):
        make(discriminator_steps=0)
    with pytest.raises(ValueError, match="ema_decay is 1"):
        make(ema_decay=1)
    with pytest.raises(ValueError, match="8 examples can't be cut into 3 parts"):
        jax.eval_shape(make(discriminator_steps=3), match.state, points())
