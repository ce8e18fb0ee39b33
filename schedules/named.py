"""The schedules by name, each for a run of a given length: what a command line or a race chooses from.

The lengths within a schedule (of a stair, a cycle, a half-life) are shares of the run, so that a name means the same
shape at any length. None begins at 0: the first step would do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optax

from .cyclic import cosine_restarts, one_cycle, triangular, triangular2
from .decay import (
    constant,
    cosine_decay,
    exponential_decay,
    inverse_sqrt,
    inverse_time,
    linear_decay,
    step_decay,
)


def _triangle(make: Callable[..., optax.Schedule]) -> Callable[[Any, int, int], optax.Schedule]:
    """Three triangles, whose lowest rate is the first of a warm-up of as many steps."""

    def of(peak, total, epoch):
        half = max(1, total // 6)
        return make(peak / (half + 1), peak, half)

    return of


SCHEDULES: Mapping[str, Callable[[Any, int, int], optax.Schedule]] = {
    "constant": lambda peak, total, epoch: constant(peak),
    "step": lambda peak, total, epoch: step_decay(peak, 0.1, max(1, total // 3)),
    "exponential": lambda peak, total, epoch: exponential_decay(peak, 0.02 ** (epoch / total), epoch, staircase=True),
    "linear": lambda peak, total, epoch: linear_decay(peak, total),
    "cosine": lambda peak, total, epoch: cosine_decay(peak, total),
    "cosine_restarts": lambda peak, total, epoch: cosine_restarts(peak, -(-total // 7), 2),
    "triangular": _triangle(triangular),
    "triangular2": _triangle(triangular2),
    "one_cycle": lambda peak, total, epoch: one_cycle(peak, max(1, int(0.3 * total)), max(2, total)),
    "inverse_time": lambda peak, total, epoch: inverse_time(peak, max(1, total // 20)),
    "inverse_sqrt": lambda peak, total, epoch: inverse_sqrt(peak, max(1, total // 20)),
}
"""Name -> (peak rate, number of steps of the run, number of steps of an epoch) -> schedule."""
