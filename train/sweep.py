"""The single-pass learning-rate range test: one short run whose rate grows every step.

Only the run lives here; what its curve says is `metrics.range_test`'s to tell. The run begins from a state of
its own and returns none, so that the training after it is the same as without it.
"""

from __future__ import annotations

import numpy as np

from .feed import Feed
from .journal import Journal
from .parallel import Layout
from .state import State

STEPS_PER_CALL = 10


def sweep(
    state: State,
    feed: Feed,
    where: Layout,
    *,
    steps: int,
    stop_factor: float = 4.0,
    journal: Journal | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a range test until its last rate or until the loss diverges.

    Args:
      state: logical state at step 0.
      feed: takes the steps; its step was made with a schedule that grows, `schedules.exponential_sweep`.
      where: the feed's layout.
      steps: how many rates.
      stop_factor: stop once the mean loss of `STEPS_PER_CALL` steps is not finite or exceeds this multiple of
        the lowest such mean so far.
      journal: is told how far it is.
    Returns: (rates, losses), each [at most steps] float32: the rate of each step and its minibatch loss before
      the update. Ends with what was seen of the divergence.
    Raises: ValueError if `steps` < 1.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1.")
    journal = journal or Journal()
    placed = where.place_state(state)
    rates: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    lowest = np.inf
    step = 0
    journal.begin("range test", 0, steps)
    try:
        while step < steps:
            count = min(STEPS_PER_CALL, feed.most, steps - step, feed.steps_per_epoch - step % feed.steps_per_epoch)
            placed, read = feed.advance(placed, step, count)
            rows = read()
            step += count
            rates.append(rows["learning_rate"])
            losses.append(rows["loss"])
            journal.progress(step, f"rate {rates[-1][-1]:.2g}, loss {losses[-1][-1]:.3g}")
            mean = np.mean(np.concatenate(losses)[-STEPS_PER_CALL:])
            if not np.isfinite(mean) or mean > stop_factor * lowest:
                break
            lowest = min(lowest, mean)
    finally:
        journal.end()
    return np.concatenate(rates), np.concatenate(losses)
