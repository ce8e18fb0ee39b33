"""The training step of a game: two players, each with its own loss and optimizer, who take turns within one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..errors import InputError
from ..tasks import DISCRIMINATOR, GENERATOR, Batch, Game, Mean
from .optimizers import Hyper, MakeOptimizer
from .plateau import at_rate
from .state import State
from .step import Metrics, Step, check_ema_decay, cut, divided, moving_average


def players(make_generator_optimizer: MakeOptimizer, make_discriminator_optimizer: MakeOptimizer) -> MakeOptimizer:
    """One optimizer made of two: its state is {"generator": …, "discriminator": …}.

    The discriminator's rate is the generator's times the hyperparameter `discriminator_rate_ratio`, if there is one
    (two time scales: Heusel et al. 2017).

    Args:
      make_generator_optimizer: (learning rate, hyper) -> optax transformation.
      make_discriminator_optimizer: the same.
    Returns: (learning rate, hyper) -> transformation of both. Its `update` takes the gradients of one player or of
      both; a player without gradients stays as it was and has no updates.
    """

    def make(learning_rate, hyper):
        ratio = hyper.get("discriminator_rate_ratio", 1.0)
        optimizers = {
            GENERATOR: optax.with_extra_args_support(make_generator_optimizer(learning_rate, hyper)),
            DISCRIMINATOR: optax.with_extra_args_support(make_discriminator_optimizer(ratio * learning_rate, hyper)),
        }

        rates = {GENERATOR: learning_rate, DISCRIMINATOR: ratio * learning_rate}

        def init(params):
            return {player: optimizer.init(params[player]) for player, optimizer in optimizers.items()}

        def update(updates, state, params=None, **extra):
            updates, state = dict(updates), dict(state)
            for player, gradients in updates.items():
                own = None if params is None else params[player]
                before = at_rate(state[player], rates[player])
                updates[player], state[player] = optimizers[player].update(gradients, before, own, **extra)
            return updates, state

        return optax.GradientTransformationExtraArgs(init, update)

    return make


def make_game_step(
    game: Game,
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
      game: the two players' losses.
      make_optimizer: from `players`; each optimizer also gets `value` (the player's mean loss) and `grad`.
      make_schedule: hyper -> (step -> learning rate), where a step is one of the generator's.
      discriminator_steps: k, which must divide the batch (under pmap, the part of it that a device has).
      ema_decay: decay of the moving average in `state.ema`, in (0, 1), reached slowly as in `make_step`; of both
        players, though only the generator's is useful. None if the state has no average.
      augment: (key, batch, hyper) -> batch, or None: of the real images alone, so that fake ones come to look
        augmented too.
      axis_name: the pmap axis over which sums are added; None under other layouts.
      gather: same as `make_step`.
    Returns: (state, batch) -> (state, metrics): {name: `Mean`}. The discriminator's metrics are means over its k
      updates, each measured before the update; then the generator's. `loss` is the sum of both losses: it is finite if
      they are, and says nothing else. `gradient_norm` is that of both players together, with the mean square over the k
      updates for the discriminator. `learning_rate` is the rate of this step.
    Raises: InputError if `discriminator_steps` < 1, `ema_decay` is outside (0, 1), or, from the step, if the parts
      would differ in size.
    """
    if discriminator_steps < 1:
        raise InputError(f"discriminator_steps is {discriminator_steps}; it must be at least 1.")
    check_ema_decay(ema_decay)
    losses_of = {GENERATOR: game.generator_loss, DISCRIMINATOR: game.discriminator_loss}

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        augment_key, discriminator_key, generator_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
        if augment is not None:
            batch = augment(augment_key, batch, state.hyper)
        size = len(batch["index"])
        if size % discriminator_steps:
            raise InputError(
                f"A batch of {size} examples can't be cut into {discriminator_steps} parts, one for each discriminator "
                "step."
            )
        parts = cut(batch, discriminator_steps)
        learning_rate = jnp.asarray(make_schedule(state.hyper)(state.step), jnp.float32)
        optimizer = optax.with_extra_args_support(make_optimizer(learning_rate, state.hyper))

        def turn(player, moment, batch, key):
            return _turn(player, losses_of[player], optimizer, moment, batch, key, state.hyper, axis_name, gather)

        def discriminator_turn(moment, part):
            return turn(DISCRIMINATOR, moment, *part)

        moment = (state.params, state.model_state, state.opt_state)
        keys = jax.random.split(discriminator_key, discriminator_steps)
        moment, turns = jax.lax.scan(discriminator_turn, moment, (parts, keys))
        moment, of_generator = turn(GENERATOR, moment, jax.tree.map(lambda x: x[0], parts), generator_key)
        params, model_state, opt_state = moment

        ema = moving_average(state, params, model_state, ema_decay)
        of_discriminator = jax.tree.map(lambda x: x.sum(0), turns)
        both = {
            name: of_discriminator.pop(name).value + of_generator.pop(name).value
            for name in ("loss", "squared_gradient")
        }
        metrics = of_discriminator | of_generator
        metrics |= {"loss": Mean.once(both["loss"]), "gradient_norm": Mean.once(jnp.sqrt(both["squared_gradient"]))}
        metrics |= {"learning_rate": Mean.once(learning_rate)}
        state = replace(
            state, step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state, ema=ema
        )
        return state, metrics

    return step


def _turn(
    player: str,
    loss_of: Callable,
    optimizer: optax.GradientTransformationExtraArgs,
    moment: tuple[Any, Any, Any],
    batch: Batch,
    key: jax.Array,
    hyper: Hyper,
    axis_name: str | None,
    gather: Callable[[Any], Any],
) -> tuple[tuple[Any, Any, Any], dict[str, Mean]]:
    """One update of one player: ((params, model state, optimizer's state) after it, metrics before it)."""
    params, model_state, opt_state = moment

    def total(own):
        both = gather({**params, player: own})
        loss, aux = loss_of(both, gather(model_state), batch, key, hyper)
        return loss.total, (loss, aux)

    (_, (loss, aux)), gradients = jax.value_and_grad(total, has_aux=True)(params[player])
    sums = (gradients, loss, dict(aux.metrics))
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    gradients, loss, metrics = sums
    gradients = divided(gradients, loss.weight)
    updates: Any
    updates, opt_state = optimizer.update({player: gradients}, opt_state, params, value=loss.value, grad=gradients)
    params = {**params, player: optax.apply_updates(params[player], updates[player])}
    own = {"loss": loss, "squared_gradient": Mean.once(optax.tree.norm(gradients, squared=True))}
    return (params, aux.model_state, opt_state), metrics | own
