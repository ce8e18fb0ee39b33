"""Adversarial training as a game: a generator of images against a discriminator that tells them from real ones.

The variables of both players live in one tree, with "generator" and "discriminator" at the top of each collection, so
that layouts, feeds, the loop, checkpoints and populations treat two players as one network. Only the training step
differs: `train.make_game_step`.

    game = adversarial(generator, discriminator, image_shape, latent=128, loss="hinge")
    make_optimizer = train.players(make_generator_optimizer, make_discriminator_optimizer)
    step = train.make_game_step(game, make_optimizer, make_schedule)
    state = train.create_state(game, make_optimizer, key, hyper)

The randomness of an example is drawn from its index in the data set, so that neither batches nor devices change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import data, losses
from ..errors import InputError
from .mean import Mean
from .task import (
    DISCRIMINATOR,
    GENERATOR,
    Aux,
    Evaluation,
    Game,
    Variables,
    example_keys,
    example_weights,
    report_means,
)


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
    preprocess: Callable[[jax.Array], jax.Array] = data.to_signed_unit,
) -> Game:
    """A generator of images like `batch["image"]` against a discriminator that tells real from generated images.

    In the discriminator's turn the generator stays as it is, its running statistics of BatchNorm included, and the
    other way round. Both normalize by the batch; the discriminator sees real and fake images in two passes.

    Args:
      generator: (z [batch, latent], labels or None, train=) -> images [batch, *image_shape] in [−1, 1].
      discriminator: (images, labels or None, train=) -> scores [batch].
      image_shape: (height, width, channel) of one image.
      latent: size of z, which is standard normal.
      loss: a row of `losses.ADVERSARIAL_LOSSES`: "non_saturating", "hinge" or "wasserstein".
      penalty: a row of `losses.GRADIENT_PENALTIES`, "wgan_gp" or "r1", or None.
      penalty_weight: weight of the penalty in the discriminator's loss; a hyperparameter of this name overrides it.
      conditional: give both players `batch["label"]`. A fake image takes the label of the real image in its place.
      preprocess: images of the data set -> images like the generator's, in training and at prediction alike. By default
        0 … 255 becomes −1 … 1.
    Returns: a game with the metrics `discriminator_loss` (without the penalty), `generator_loss`, `real_score` and
      `fake_score` and, in training, `penalty`.
    Raises: InputError for another loss or penalty, and from `init` if the generator makes images of another shape, or
      if there is a penalty and the discriminator has BatchNorm, which makes the gradient at one image depend on others.
    """
    for name, given, table in (
        ("loss", loss, losses.ADVERSARIAL_LOSSES),
        ("penalty", penalty, losses.GRADIENT_PENALTIES),
    ):
        if given is not None and given not in table:
            raise InputError(f"The {name} of a game is {given!r}; valid are {', '.join(table)}.")
    if latent < 1:
        raise InputError(f"latent is {latent}; z must have at least 1 number.")
    players, losses_of = _Players(generator, discriminator, conditional), losses.ADVERSARIAL_LOSSES[loss]
    play = players.play

    def init(key):
        return players.init(key, image_shape, latent, penalty)

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
        measured = {"discriminator_loss": per_example, "real_score": real_scores, "fake_score": fake_scores}
        if penalty is not None:

            def score_fn(images):
                return play(DISCRIMINATOR, params, model_state, images, labels, True)[0]

            keys = example_keys(penalty_key, batch["index"])
            measured["penalty"] = losses.GRADIENT_PENALTIES[penalty](score_fn, real, fake, keys)
            per_example = per_example + hyper.get("penalty_weight", penalty_weight) * measured["penalty"]
        weights = example_weights(batch)
        return Mean.of(per_example, weights), Aux(model_state, means(measured, weights))

    def generator_loss(params, model_state, batch, key, hyper):
        del hyper
        labels, z = labels_of(batch), latents(key, batch["index"], latent)
        fake, model_state = play(GENERATOR, params, model_state, z, labels, True)
        fake_scores, _ = play(DISCRIMINATOR, params, model_state, fake, labels, True)
        mean = Mean.of(losses_of.generator(fake_scores), example_weights(batch))
        return mean, Aux(model_state, {"generator_loss": mean})

    def statistics(variables, batch):
        params, model_state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
        # Nothing but z is random at prediction, and it is always the same.
        labels, z = labels_of(batch), latents(jax.random.key(0), batch["index"], latent)
        fake, _ = play(GENERATOR, params, model_state, z, labels, False)
        real_scores, _ = play(DISCRIMINATOR, params, model_state, preprocess(batch["image"]), labels, False)
        fake_scores, _ = play(DISCRIMINATOR, params, model_state, fake, labels, False)
        measured = {
            "discriminator_loss": losses_of.discriminator(real_scores, fake_scores),
            "generator_loss": losses_of.generator(fake_scores),
            "real_score": real_scores,
            "fake_score": fake_scores,
        }
        # As in training, the sum of both losses, which says little.
        measured["loss"] = measured["discriminator_loss"] + measured["generator_loss"]
        return means(measured, example_weights(batch))

    return Game(init, discriminator_loss, generator_loss, Evaluation(statistics, report_means))


@dataclass(frozen=True)
class _Players:
    """Two networks whose variables live in one tree."""

    generator: nn.Module
    discriminator: nn.Module
    conditional: bool

    def init(self, key: jax.Array, image_shape: tuple[int, int, int], latent: int, penalty: str | None) -> Variables:
        """The variables of both; raises InputError as `adversarial` says."""
        keys, no_labels = jax.random.split(key), jnp.zeros((1,), jnp.int32) if self.conditional else None
        images, of_generator = self.generator.init_with_output(keys[0], jnp.zeros((1, latent)), no_labels, train=False)
        if images.shape != (1, *image_shape):
            raise InputError(
                f"The generator makes images of shape {images.shape[1:]}; those of the data are {image_shape}."
            )
        of_discriminator = self.discriminator.init(keys[1], images, no_labels, train=False)
        if penalty is not None and "batch_stats" in of_discriminator:
            raise InputError(
                f"The penalty {penalty!r} wants a discriminator whose score of an image depends on it alone; this one "
                "has BatchNorm. Give it another normalization."
            )
        return _joined({GENERATOR: of_generator, DISCRIMINATOR: of_discriminator})

    def play(self, player: str, params: Any, model_state: Any, inputs, labels, train: bool) -> tuple[Any, Any]:
        """(output of one player, model state of both after it)"""
        module = self.generator if player == GENERATOR else self.discriminator
        variables = player_variables({"params": params, **model_state}, player)
        if not train:
            return module.apply(variables, inputs, labels, train=False), model_state
        own = [name for name in variables if name != "params"]
        output, updated = module.apply(variables, inputs, labels, train=True, mutable=own)
        changed = {name: {**model_state[name], player: of_player} for name, of_player in updated.items()}
        return output, {**model_state, **changed}


def means(measured: Mapping[str, jax.Array], weights: jax.Array) -> dict[str, Mean]:
    """{name: [batch]} -> {name: `Mean`}."""
    return {name: Mean.of(values, weights) for name, values in measured.items()}


def latents(key: jax.Array, index: jax.Array, latent: int) -> jax.Array:
    """Standard normal vectors, each a function of the key and its own index: [batch] -> [batch, latent] float32."""
    return jax.vmap(lambda key: jax.random.normal(key, (latent,)))(example_keys(key, index))


def player_variables(variables: Variables, player: str) -> dict[str, Any]:
    """One player's variables out of both's: {collection: its tree}, without collections in which it has none.

    Args:
      variables: those of a `State`, or as `fit` returns them.
      player: "generator" or "discriminator".
    """
    return {collection: both[player] for collection, both in variables.items() if player in both}


def sample_generator(
    generator: nn.Module, variables: Variables, z: jax.Array, labels: jax.Array | None = None
) -> jax.Array:
    """The generator's images of z at prediction. The discriminator is no longer needed.

    Args:
      generator: the game's generator.
      variables: those of both players, or the generator's part of them, with the players at the top of each collection.
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
