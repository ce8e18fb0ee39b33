"""The machinery of training: state, step, layouts over devices, feeds, the loop, checkpoints and run folders.

A run is put together from pure pieces and driven by `fit`:

    task  = classification(model, image_shape)                    what is trained, what "good" means
    step  = make_step(task, make_optimizer, make_schedule)        (state, batch) -> (state, metrics)
    state = create_state(task, make_optimizer, key, hyper)        one immutable pytree
    where = layout("jit")                                         on which devices, and how
    run   = fit(state, feed(step, source, …, where=where), where, epochs=10)
"""

from .checkpoint import Checkpoints
from .convergence import curvature, second_moment, sgd_path
from .evaluate import evaluator, map_examples
from .feed import Feed, feed, is_resident
from .journal import Journal, read_journal
from .loop import Diverged, Fitted, Stopped, fit
from .optimizers import (
    OPTIMIZERS,
    adagrad,
    adam,
    adamw,
    decay_mask,
    newton_cg,
    reduce_on_plateau,
    rmsprop,
    sgd,
    shampoo,
)
from .parallel import AXIS, MODES, Layout, check_batch_size, compile_step, layout
from .population import (
    Member,
    Members,
    Placement,
    PopulationFitted,
    PopulationLayout,
    create_population,
    fastest_placement,
    fit_population,
    grid,
    placement,
    population_evaluator,
    population_feed,
    population_layout,
)
from .run_folder import read_result, run_folder, write_json
from .state import State, compile_create, create_state
from .step import make_step
from .sweep import sweep
from .task import Aux, Task, Variables, classification

__all__ = [
    "AXIS",
    "MODES",
    "OPTIMIZERS",
    "Aux",
    "Checkpoints",
    "Diverged",
    "Feed",
    "Fitted",
    "Journal",
    "Layout",
    "Member",
    "Members",
    "Placement",
    "PopulationFitted",
    "PopulationLayout",
    "State",
    "Stopped",
    "Task",
    "Variables",
    "adagrad",
    "adam",
    "adamw",
    "check_batch_size",
    "classification",
    "compile_create",
    "compile_step",
    "create_population",
    "create_state",
    "curvature",
    "decay_mask",
    "evaluator",
    "fastest_placement",
    "feed",
    "fit",
    "fit_population",
    "grid",
    "is_resident",
    "layout",
    "make_step",
    "map_examples",
    "newton_cg",
    "placement",
    "population_evaluator",
    "population_feed",
    "population_layout",
    "read_journal",
    "read_result",
    "reduce_on_plateau",
    "rmsprop",
    "run_folder",
    "second_moment",
    "sgd",
    "sgd_path",
    "shampoo",
    "sweep",
    "write_json",
]
