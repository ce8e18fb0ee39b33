"""Learning-rate schedules: pure functions step -> learning rate, compatible with `optax.Schedule`.

Every numeric parameter may be traced, lengths included, so that a population can vary any of them. Concrete values are
checked when the schedule is made. Traced values have no value to check yet, so they are trusted.
"""

from .cyclic import cosine_restarts, one_cycle, triangular, triangular2
from .decay import (
    constant,
    cosine_decay,
    exponential_decay,
    inverse_sqrt,
    inverse_time,
    linear_decay,
    milestone_decay,
    step_decay,
)
from .named import SCHEDULES
from .sums import Summability, partial_sums, summability
from .sweep import exponential_sweep
from .warmup import warmup, warmup_cosine

__all__ = [
    "SCHEDULES",
    "Summability",
    "constant",
    "cosine_decay",
    "cosine_restarts",
    "exponential_decay",
    "exponential_sweep",
    "inverse_sqrt",
    "inverse_time",
    "linear_decay",
    "milestone_decay",
    "one_cycle",
    "partial_sums",
    "step_decay",
    "summability",
    "triangular",
    "triangular2",
    "warmup",
    "warmup_cosine",
]
