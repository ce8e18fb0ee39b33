"""Adversarial training: two players, each with its own loss, parameters and optimizer, who take turns within one step.

Both live in one `State`, whose trees have "generator" and "discriminator" at their top (in `model_state`, at the top of
each collection). So layouts, feeds, the loop, checkpoints and populations work on two players as on one network; only
the step is another: some updates of the discriminator, then one of the generator.

    task = adversarial(generator, discriminator, image_shape, latent=128, loss="hinge")
    make_optimizer = players(make_generator_optimizer, make_discriminator_optimizer)
    step = make_adversarial_step(task, make_optimizer, make_schedule)
    state = create_state(task, make_optimizer, key, hyper)

What is random for an example is drawn from its index in the data set, so that neither batches nor devices change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from .. import data, losses
from .optimizers import Hyper, MakeOptimizer
from .state import State
from .step import Metrics, Step, check_ema_decay, cut, moving_average
from .task import Aux, Batch, Task, Variables, example_keys

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
PlayerLoss = Callable[[Any, Variables, Batch, jax.Array, Hyper], tuple[jax.Array, Aux]]


@dataclass(frozen=True)
class AdversarialTask(Task):
    """A game to train on.

    init, loss: as of every task; `loss` is for evaluation alone.
    discriminator_loss: (params, model_state, batch, key, hyper) -> (scalar mean loss, `Aux`), in training. params and
      model_state are both players'; only the discriminator's are meant to be differentiated, and are updated in Aux.
    generator_loss: the same for the generator. Of the batch it may read what is no image.
    """

    discriminator_loss: PlayerLoss
    generator_loss: PlayerLoss


def adversarial(
    generator: nn.Module,
    discriminator: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    latent: int,
    loss: str = "non_saturating",
    penalty: str | None = None,
    penalty_weight: float = 10.0,
    conditional: bool = False,
    preprocess: Callable[[jax.Array], jax.Array] = data.to_unit,
) -> AdversarialTask:
    """A generator of images like `batch["image"]` against a discriminator that tells them from its own.

    In the discriminator's turn the generator stands still, its BatchNorm's running statistics too, and the other way
    round. Both normalise by the batch; the discriminator sees real and fake images in two passes.

    Args:
      generator: (z [batch, latent], labels or None, train=) -> images [batch, *image_shape] in [−1, 1].
      discriminator: (images, labels or None, train=) -> scores [batch].
      image_shape: (height, width, channel) of one image.
      latent: numbers in z, which is standard normal.
      loss: a row of `losses.ADVERSARIAL_LOSSES`: "non_saturating", "hinge" or "wasserstein".
      penalty: a row of `losses.GRADIENT_PENALTIES`, "wgan_gp" or "r1", or None.
      penalty_weight: what it counts in the discriminator's loss; a hyperparameter of this name comes before it.
      conditional: both are given `batch["label"]`. A fake image takes over the label of the real one in its place.
      preprocess: images of the data set -> images like the generator's, at training and at prediction alike. By default
        0 … 255 becomes −1 … 1.
    Returns: a task whose metrics at evaluation are, per example, `loss` and `discriminator_loss` (the same, without a
      penalty), `generator_loss`, `real_score` and `fake_score`; in training, `penalty` in place of `loss`.
    Raises: ValueError for another loss or penalty, and from `init` if the generator makes images of another shape, or
      if there is a penalty and the discriminator has BatchNorm, which makes the gradient at one image depend on others.
    """
    for name, given, table in (
        ("loss", loss, losses.ADVERSARIAL_LOSSES),
        ("penalty", penalty, losses.GRADIENT_PENALTIES),
    ):
        if given is not None and given not in table:
            raise ValueError(f"The {name} of a game is {given!r}; valid are {', '.join(table)}.")
    if latent < 1:
        raise ValueError(f"latent is {latent}; z must have at least 1 number.")
    modules = {GENERATOR: generator, DISCRIMINATOR: discriminator}
    losses_of = losses.ADVERSARIAL_LOSSES[loss]
    no_labels = jnp.zeros((1,), jnp.int32) if conditional else None

    def init(key):
        keys = jax.random.split(key)
        images, of_generator = generator.init_with_output(keys[0], jnp.zeros((1, latent)), no_labels, train=False)
        if images.shape != (1, *image_shape):
            raise ValueError(
                f"The generator makes images of shape {images.shape[1:]}; those of the data are {image_shape}."
            )
        of_discriminator = discriminator.init(keys[1], images, no_labels, train=False)
        if penalty is not None and "batch_stats" in of_discriminator:
            raise ValueError(
                f"The penalty {penalty!r} wants a discriminator whose score of an image depends on it alone; this one "
                "has BatchNorm. Give it another normalisation."
            )
        return _joined({GENERATOR: of_generator, DISCRIMINATOR: of_discriminator})

    def play(player, params, model_state, inputs, labels, train) -> tuple[Any, Any]:
        """(output, model state after it)"""
        variables = player_variables({"params": params, **model_state}, player)
        if not train:
            return modules[player].apply(variables, inputs, labels, train=False), model_state
        own = [name for name in variables if name != "params"]
        output, updated = modules[player].apply(variables, inputs, labels, train=True, mutable=own)
        changed = {name: {**model_state[name], player: of_player} for name, of_player in updated.items()}
        return output, {**model_state, **changed}

    def labels_of(batch):
        return batch["label"] if conditional else None

    def discriminator_loss(params, model_state, batch, key, hyper):
        z_key, penalty_key = jax.random.split(key)
        labels, z = labels_of(batch), latents(z_key, batch["index"], latent)
        real = preprocess(batch["image"])
        fake, _ = play(GENERATOR, params, model_state, z, labels, True)
        real_scores, model_state = play(DISCRIMINATOR, params, model_state, real, labels, True)
        fake_scores, model_state = play(DISCRIMINATOR, params, model_state, fake, labels, True)
        per_example = losses_of.discriminator(real_scores, fake_scores)
        metrics = {"discriminator_loss": per_example, "real_score": real_scores, "fake_score": fake_scores}
        if penalty is not None:

            def score_fn(images):
                return play(DISCRIMINATOR, params, model_state, images, labels, True)[0]

            keys = example_keys(penalty_key, batch["index"])
            metrics["penalty"] = losses.GRADIENT_PENALTIES[penalty](score_fn, real, fake, keys)
            per_example = per_example + hyper.get("penalty_weight", penalty_weight) * metrics["penalty"]
        return per_example.mean(), Aux(model_state, metrics)

    def generator_loss(params, model_state, batch, key, hyper):
        del hyper
        labels, z = labels_of(batch), latents(key, batch["index"], latent)
        fake, model_state = play(GENERATOR, params, model_state, z, labels, True)
        fake_scores, _ = play(DISCRIMINATOR, params, model_state, fake, labels, True)
        per_example = losses_of.generator(fake_scores)
        return per_example.mean(), Aux(model_state, {"generator_loss": per_example})

    def evaluate(params, model_state, batch, key, train, hyper):
        del hyper
        if train:
            raise ValueError("Two players are not trained by one loss: make the step with make_adversarial_step.")
        labels, z = labels_of(batch), latents(key, batch["index"], latent)
        fake, _ = play(GENERATOR, params, model_state, z, labels, False)
        real_scores, _ = play(DISCRIMINATOR, params, model_state, preprocess(batch["image"]), labels, False)
        fake_scores, _ = play(DISCRIMINATOR, params, model_state, fake, labels, False)
        per_example = losses_of.discriminator(real_scores, fake_scores)
        metrics = {
            "loss": per_example,
            "discriminator_loss": per_example,
            "generator_loss": losses_of.generator(fake_scores),
            "real_score": real_scores,
            "fake_score": fake_scores,
        }
        return per_example.mean(), Aux(model_state, metrics)

    return AdversarialTask(init, evaluate, discriminator_loss, generator_loss)


def players(make_generator_optimizer: MakeOptimizer, make_discriminator_optimizer: MakeOptimizer) -> MakeOptimizer:
    """One optimizer made of two: its state is {"generator": …, "discriminator": …}.

    The discriminator's rate is the generator's times the hyperparameter `discriminator_rate_ratio`, where there is one
    (two time scales: Heusel et al. 2017).

    Args:
      make_generator_optimizer: (learning rate, hyper) -> optax transformation.
      make_discriminator_optimizer: the same.
    Returns: (learning rate, hyper) -> transformation of both. Its `update` takes the gradients of one player or of
      both; who has none stays as it was, and has no updates.
    """

    def make(learning_rate, hyper):
        ratio = hyper.get("discriminator_rate_ratio", 1.0)
        optimizers = {
            GENERATOR: optax.with_extra_args_support(make_generator_optimizer(learning_rate, hyper)),
            DISCRIMINATOR: optax.with_extra_args_support(make_discriminator_optimizer(ratio * learning_rate, hyper)),
        }

        def init(params):
            return {player: optimizer.init(params[player]) for player, optimizer in optimizers.items()}

        def update(updates, state, params=None, **extra):
            updates, state = dict(updates), dict(state)
            for player, gradients in updates.items():
                own = None if params is None else params[player]
                updates[player], state[player] = optimizers[player].update(gradients, state[player], own, **extra)
            return updates, state

        return optax.GradientTransformationExtraArgs(init, update)

    return make


def make_adversarial_step(
    task: AdversarialTask,
    make_optimizer: MakeOptimizer,
    make_schedule: Callable[[Hyper], optax.Schedule],
    *,
    discriminator_steps: int = 1,
    ema_decay: float | None = None,
    augment: Callable[[jax.Array, Batch, Hyper], Batch] | None = None,
    axis_name: str | None = None,
    gather: Callable[[Any], Any] = lambda tree: tree,
) -> Step:
    """Composes a step of adversarial training (Goodfellow et al. 2014, algorithm 1).

    The batch is cut into k = `discriminator_steps` parts. The discriminator is updated k times, on one part after the
    other, against fresh fake images. Then the generator is updated once, with as many fake images as a part has. So an
    epoch has one generator update for each batch, and a batch should be k times as large as the paper's.

    Args:
      task: the game.
      make_optimizer: from `players`; each is given `value` (the player's mean loss) and `grad` besides.
      make_schedule: hyper -> (step -> learning rate), where a step is one of the generator's.
      discriminator_steps: k, which must divide the batch (under pmap, the part of it that a device has).
      ema_decay: decay of the moving average in `state.ema`, in (0, 1), reached slowly as in `make_step`; of both
        players, though only the generator's is of use. None when the state has no average.
      augment: (key, batch, hyper) -> batch, or None: of the real images alone, so that fake ones come to look
        augmented too.
      axis_name: the pmap axis to average over, None elsewhere.
      gather: as of `make_step`.
    Returns: (state, batch) -> (state, metrics): scalars float32. `discriminator_loss`, `real_score`, `fake_score` and
      perhaps `penalty` are means over the k updates, each before it; `generator_loss`; `loss`, the sum of all that was
      minimised, which is finite where every part is, and says nothing else; `gradient_norm`, of both players
      together, with the mean square over the k updates for the discriminator; `learning_rate`.
    Raises: ValueError if `discriminator_steps` < 1, `ema_decay` is outside (0, 1), or, from the step, if the parts
      would differ in size.
    """
    if discriminator_steps < 1:
        raise ValueError(f"discriminator_steps is {discriminator_steps}; it must be at least 1.")
    check_ema_decay(ema_decay)
    losses_of = {GENERATOR: task.generator_loss, DISCRIMINATOR: task.discriminator_loss}

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        augment_key, discriminator_key, generator_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        if augment is not None:
            batch = augment(augment_key, batch, state.hyper)
        size = len(batch["index"])
        if size % discriminator_steps:
            raise ValueError(
                f"A batch of {size} examples can't be cut into {discriminator_steps} parts, one for each discriminator "
                "step."
            )
        parts = cut(batch, discriminator_steps)
        learning_rate = jnp.asarray(make_schedule(state.hyper)(state.step), jnp.float32)
        optimizer = optax.with_extra_args_support(make_optimizer(learning_rate, state.hyper))

        def turn(player, game, batch, key):
            """One update of one player: ((params, model state, optimizer's state), what happened)"""
            params, model_state, opt_state = game

            def loss(own):
                both = gather({**params, player: own})
                return losses_of[player](both, gather(model_state), batch, key, state.hyper)

            (value, aux), gradients = jax.value_and_grad(loss, has_aux=True)(params[player])
            metrics = jax.tree.map(jnp.mean, dict(aux.metrics))
            if axis_name is not None:
                value, gradients, metrics = jax.lax.pmean((value, gradients, metrics), axis_name)
            updates: Any
            updates, opt_state = optimizer.update({player: gradients}, opt_state, params, value=value, grad=gradients)
            params = {**params, player: optax.apply_updates(params[player], updates[player])}
            metrics |= {"loss": value, "squared_gradient": optax.tree.norm(gradients, squared=True)}
            return (params, aux.model_state, opt_state), metrics

        def discriminator_turn(game, part):
            return turn(DISCRIMINATOR, game, *part)

        game = (state.params, state.model_state, state.opt_state)
        keys = jax.random.split(discriminator_key, discriminator_steps)
        game, of_discriminator = jax.lax.scan(discriminator_turn, game, (parts, keys))
        game, of_generator = turn(GENERATOR, game, jax.tree.map(lambda x: x[0], parts), generator_key)
        params, model_state, opt_state = game

        ema = moving_average(state, params, model_state, ema_decay)
        of_discriminator = jax.tree.map(lambda x: x.mean(0), of_discriminator)
        both = {name: of_discriminator.pop(name) + of_generator.pop(name) for name in ("loss", "squared_gradient")}
        metrics = of_discriminator | of_generator
        metrics |= {"loss": both["loss"], "gradient_norm": jnp.sqrt(both["squared_gradient"])}
        metrics |= {"learning_rate": learning_rate}
        metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
        state = replace(
            state, step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=ema
        )
        return state, metrics

    return step


def latents(key: jax.Array, index: jax.Array, latent: int) -> jax.Array:
    """Standard normal vectors, each a function of the key and its own index: [batch] -> [batch, latent] float32."""
    return jax.vmap(lambda key: jax.random.normal(key, (latent,)))(example_keys(key, index))


def player_variables(variables: Variables, player: str) -> dict[str, Any]:
    """One player's variables out of both's: {collection: its tree}, without collections in which it has nothing.

    Args:
      variables: of a `State`, or as `fit` returns them.
      player: "generator" or "discriminator".
    """
    return {collection: both[player] for collection, both in variables.items() if player in both}


def sample_generator(
    generator: nn.Module, variables: Variables, z: jax.Array, labels: jax.Array | None = None
) -> jax.Array:
    """What the generator makes of z at prediction. The discriminator is not needed any more.

    Args:
      generator: the task's.
      variables: both players', or the generator's share of them, with the players at the top of each collection.
      z: [batch, latent].
      labels: int [batch] for a conditional generator.
    Returns: [batch, height, width, channel] float32 in [−1, 1].
    """
    images: Any = generator.apply(player_variables(variables, GENERATOR), z, labels, train=False)
    return images


def _joined(variables: Mapping[str, Variables]) -> dict[str, Any]:
    """{player: {collection: tree}} -> {collection: {player: tree}}."""
    collections = dict.fromkeys(name for own in variables.values() for name in own)
    return {name: {player: own[name] for player, own in variables.items() if name in own} for name in collections}
