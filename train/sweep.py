"""The single-pass learning-rate range test: one short run whose rate grows every step.

Only the run lives here; `metrics.range_test` analyzes its curve. The run starts from a state of its own and returns
none, so that the training after it is the same as without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from .feed import Feed
from .journal import Journal

STEPS_PER_CALL = 10


def sweep(
    placed: Any,
    feed: Feed,
    *,
    steps: int,
    stop_factor: float = 4.0,
    journal: Journal | None = None,
) -> np.ndarray:
    """Runs a range test until its last rate or until the loss diverges.

    Args:
      placed: placed state at step 0, which is donated; of one run or of a population.
      feed: takes the steps; its step has a growing schedule, `schedules.exponential_sweep`.
      steps: number of rates.
      stop_factor: the test stops once, for every member, the mean loss of `STEPS_PER_CALL` steps is not finite or
        exceeds this multiple of its lowest such mean so far.
      journal: shows the progress.
    Returns: float32 [at most steps, *layout.shape]: the minibatch loss before each update. It ends with the first
      losses of the divergence.
    Raises: InputError if `steps` < 1.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1.")
    journal = journal or Journal()
    losses: list[np.ndarray] = []
    lowest: Any = np.inf
    step = 0
    journal.begin("range test", 0, steps)
    try:
        while step < steps:
            count = min(STEPS_PER_CALL, feed.most, steps - step, feed.steps_per_epoch - step % feed.steps_per_epoch)
            placed, read = feed.advance(placed, step, count)
            rows = read()
            step += count
            losses.append(np.asarray(rows["loss"].value))
            journal.progress(step, losses[-1][-1])
            mean = np.mean(np.concatenate(losses)[-STEPS_PER_CALL:], axis=0)
            if np.all(~np.isfinite(mean) | (mean > stop_factor * lowest)):
                break
            lowest = np.fmin(lowest, mean)
    finally:
        journal.end()
    return np.concatenate(losses)
