"""The machinery of training: state, step, layouts over devices, feeds, the loop, checkpoints and run folders.

A run is put together from pure pieces and driven by `fit`:

    task  = classification(model, image_shape)                    what is trained, what "good" means
    step  = make_step(task, make_optimizer, make_schedule)        (state, batch) -> (state, metrics)
    state = create_state(task, make_optimizer, key, hyper)        one immutable pytree
    where = layout("jit")                                         on which devices, and how
    run   = fit(state, feed(step, source, …, where=where), where, epochs=10)
"""

from .adversarial import (
    AdversarialTask,
    adversarial,
    make_adversarial_step,
    player_variables,
    players,
    sample_generator,
)
from .checkpoint import Checkpoints
from .convergence import curvature, second_moment, sgd_path
from .denoising import denoising, predictor
from .evaluate import evaluator, map_examples
from .feed import Feed, feed, is_resident
from .journal import Journal, read_journal
from .loop import Diverged, Fitted, Stopped, check_counts, fit
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
from .quantized import codes_to_images, images_to_codes, vector_quantized
from .run_folder import read_result, run_folder, write_json
from .state import State, compile_create, create_state
from .step import check_ema_decay, make_step
from .sweep import sweep
from .task import Aux, Task, Variables, classification
from .variational import (
    decode_images,
    encode_images,
    importance_weighted_bound,
    variational_autoencoder,
)

__all__ = [
    "AXIS",
    "MODES",
    "OPTIMIZERS",
    "AdversarialTask",
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
    "adversarial",
    "check_batch_size",
    "check_counts",
    "check_ema_decay",
    "classification",
    "codes_to_images",
    "compile_create",
    "compile_step",
    "create_population",
    "create_state",
    "curvature",
    "decay_mask",
    "decode_images",
    "denoising",
    "encode_images",
    "evaluator",
    "fastest_placement",
    "feed",
    "fit",
    "fit_population",
    "grid",
    "images_to_codes",
    "importance_weighted_bound",
    "is_resident",
    "layout",
    "make_adversarial_step",
    "make_step",
    "map_examples",
    "newton_cg",
    "placement",
    "player_variables",
    "players",
    "population_evaluator",
    "population_feed",
    "population_layout",
    "predictor",
    "read_journal",
    "read_result",
    "reduce_on_plateau",
    "rmsprop",
    "run_folder",
    "sample_generator",
    "second_moment",
    "sgd",
    "sgd_path",
    "shampoo",
    "sweep",
    "variational_autoencoder",
    "vector_quantized",
    "write_json",
]
