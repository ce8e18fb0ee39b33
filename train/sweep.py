"""The single-pass learning-rate range test: one short run whose rate grows every step.

Only the run lives here; `metrics.range_test` analyzes its curve. The run starts from a state of its own and returns
none, so that the training after it is the same as without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import metrics
from ..errors import InputError
from .feed import Feed
from .journal import Journal

STEPS_PER_CALL = 10


def sweep(
    placed: Any,
    feed: Feed,
    *,
    steps: int,
    further: Callable[[np.ndarray], int] = lambda losses: 0,
    journal: Journal | None = None,
) -> np.ndarray:
    """Runs a range test until its last rate or until the loss diverges.

    Args:
      placed: placed state at step 0, which is donated; of one run or of a population.
      feed: takes the steps; its step has a growing schedule, `schedules.exponential_sweep`.
      steps: number of rates.
      further: losses so far -> number of steps to go on with, asked at the end of the range; 0 ends the test.
      journal: shows the progress.
    Returns: float32 [steps, *layout.shape]: the minibatch loss before each update. It is shorter, and ends with the
      first losses of the divergence, if every member has blown up before (`metrics.blown_up`).
    Raises: InputError if `steps` < 1.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1.")
    journal = journal or Journal()
    losses = np.empty((0,), np.float32)
    step, left = 0, steps
    journal.begin("range test", 0, steps)
    journal.display.doing("compiling the training step …")
    try:
        while left:
            count = min(STEPS_PER_CALL, feed.most, left, feed.steps_per_epoch - step % feed.steps_per_epoch)
            placed, read = feed.advance(placed, step, count)
            rows = np.asarray(read()["loss"].value)
            losses = np.concatenate([losses, rows]) if step else rows
            step, left = step + count, left - count
            journal.progress(step, rows[-1])
            if all(metrics.blown_up(each, window=STEPS_PER_CALL) for each in losses.reshape(step, -1).T):
                journal.display.doing("the loss has diverged, which ends the test")
                break
            if not left:
                left = further(losses)
                journal.display.extend(step + left)
        journal.display.extend(step)
    finally:
        journal.end()
    return losses
