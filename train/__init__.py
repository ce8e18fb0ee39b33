"""How anything is trained: state, step, optimizers, layouts over devices, feeds, one loop, evaluation, checkpoints.

A run is put together from pure pieces and driven by `fit`:

    task = tasks.classification(model, image_shape)               what is trained, what "good" means
    step = make_step(task, make_optimizer, make_schedule)         (state, batch) -> (state, metrics)
    state = create_state(task, make_optimizer, key, hyper)        one immutable pytree
    layout = make_layout("jit")                                   on which devices, and how
    run = fit(state, feed(step, source, layout=layout, …), layout, epochs=10)

A population is another layout of another state, `create_population` and `population_layout`; the rest is the same.
"""

from .checkpoint import Checkpoints, read_checkpoint
from .convergence import curvature, second_moment, sgd_path
from .display import Display, open_console
from .evaluate import Measure, evaluator, map_examples, row_evaluator
from .feed import Feed, check_batch, feed, is_resident
from .frozen import only
from .game import make_game_step, players
from .journal import Journal, read_journal
from .layout import AXIS, LAYOUTS, Layout, check_batch_size, make_layout
from .loop import Diverged, Fitted, Stopped, check_counts, fit
from .of_optax import needs_loss, optax_optimizers, optimizer_named, takes_momentum
from .optimizers import (
    OPTIMIZERS,
    MakeOptimizer,
    adagrad,
    adam,
    adamw,
    decay_mask,
    newton_cg,
    rmsprop,
    sgd,
    shampoo,
)
from .placement import MODES, Placement, fastest_placement, placement
from .plateau import reduce_on_plateau
from .population import Members, create_population, grid, member, population_layout
from .state import State, compile_create, create_state
from .step import Step, check_ema_decay, make_step
from .sweep import sweep

__all__ = [
    "AXIS",
    "LAYOUTS",
    "MODES",
    "OPTIMIZERS",
    "Checkpoints",
    "Display",
    "Diverged",
    "Feed",
    "Fitted",
    "Journal",
    "Layout",
    "MakeOptimizer",
    "Measure",
    "Members",
    "Placement",
    "State",
    "Step",
    "Stopped",
    "adagrad",
    "adam",
    "adamw",
    "check_batch",
    "check_batch_size",
    "check_counts",
    "check_ema_decay",
    "compile_create",
    "create_population",
    "create_state",
    "curvature",
    "decay_mask",
    "evaluator",
    "fastest_placement",
    "feed",
    "fit",
    "grid",
    "is_resident",
    "make_game_step",
    "make_layout",
    "make_step",
    "map_examples",
    "member",
    "needs_loss",
    "newton_cg",
    "only",
    "open_console",
    "optax_optimizers",
    "optimizer_named",
    "placement",
    "players",
    "population_layout",
    "read_checkpoint",
    "read_journal",
    "reduce_on_plateau",
    "rmsprop",
    "row_evaluator",
    "second_moment",
    "sgd",
    "sgd_path",
    "shampoo",
    "sweep",
    "takes_momentum",
]
