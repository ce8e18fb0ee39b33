"""The one immutable pytree that training maps to training.

Everything that a run needs to go on, apart from its data (which is a function of the seed and the step), is in
`State`: it is what the step transforms, what the layouts place on devices and what a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ..tasks import Game, Task
from .optimizers import Hyper, MakeOptimizer


@flax.struct.dataclass
class State:
    """One moment of a run.

    step: int32 [], how many steps led here.
    params: the trained variables.
    model_state: the other collections (`batch_stats`), {} when there are none.
    opt_state: optax's.
    key: typed PRNG key []; every step folds its number into it, nothing else draws from it.
    ema: exponential moving average of {"params", "model_state"}, or None.
    hyper: name -> float32 [], the traced hyperparameters that a population may vary.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    key: jax.Array
    ema: Any
    hyper: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What to predict with: the averaged variables where an average is kept, else the trained ones."""
        kept = self.ema if self.ema is not None else {"params": self.params, "model_state": self.model_state}
        return {"params": kept["params"], **kept["model_state"]}


def create_state(
    task: Task | Game,
    make_optimizer: MakeOptimizer,
    key: jax.Array,
    hyper: Mapping[str, float | jax.Array],
    *,
    make_schedule: Callable[[Hyper], optax.Schedule] | None = None,
    ema: bool = False,
    start: Any = None,
) -> State:
    """The state at step 0: a pure function of the key, the hyperparameters and the variables to start with.

    Args:
      task: has the initial variables.
      make_optimizer: (learning rate, hyper) -> optax transformation; only its `init` is used here.
      key: typed PRNG key [], split into one for the variables and one for the run.
      hyper: name -> scalar.
      make_schedule: same as `make_step`: some optimizers keep the rate of step 0 in their state. None for one that
        begins at hyper["learning_rate"] or, if there is none, at 1.
      ema: keep an exponential moving average, which begins at the initial variables.
      start: variables to start with instead of the task's own, such as pretrained ones: a tree of the same structure,
        with None where the task's own stay. None for all of the task's own.
    """
    hyper = {name: jnp.asarray(value, jnp.float32) for name, value in hyper.items()}
    init_key, run_key = jax.random.split(key)
    first_rate = hyper.get("learning_rate", jnp.float32(1)) if make_schedule is None else make_schedule(hyper)(0)
    variables = dict(task.init(init_key))
    if start is not None:
        variables = jax.tree.map(lambda own, given: own if given is None else given, variables, dict(start))
    model_state = variables
    params = model_state.pop("params")
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=make_optimizer(jnp.asarray(first_rate, jnp.float32), hyper).init(params),
        key=run_key,
        # A copy: the step donates its input, and one buffer can't be donated twice.
        ema=jax.tree.map(jnp.copy, {"params": params, "model_state": model_state}) if ema else None,
        hyper=hyper,
    )


def compile_create(
    task: Task | Game,
    make_optimizer: MakeOptimizer,
    *,
    make_schedule: Callable[[Hyper], optax.Schedule] | None = None,
    ema: bool = False,
    start: Any = None,
) -> Callable[[jax.Array, Mapping[str, float | jax.Array]], State]:
    """`create_state` as one compiled function of (key, hyper), quickly compiled where it runs once and is no work.

    On a CPU initializers take longer to optimize than to run: without optimization a ResNet-8 compiles in 0.7 s and not
    in 2.6 s, and takes 8 ms and not 1 ms. (Their values differ in the last bit.)
    """
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    create = jax.jit(
        partial(create_state, task, make_optimizer, make_schedule=make_schedule, ema=ema), compiler_options=options
    )
    return partial(create, start=start)  # an argument, for as a constant it would become a part of the program
