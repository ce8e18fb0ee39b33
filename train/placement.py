"""Where the members of a population run: over how many devices, and how many at a time on each.

All members at once is `vmap`, which fills an accelerator. One at a time is a loop inside the compiled program, which on
CPUs beats batching small matrices. One at a time on each of several devices uses all cores. The numbers are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ..errors import InputError

MODES = ("auto", "vmap", "map", "devices")


@dataclass(frozen=True)
class Placement:
    """Where the members run."""

    devices: int
    """Number of devices that share the members."""
    chunk: int
    """Number of members at a time on each device, by `vmap`."""


def placement(mode: str, members: int, chunk: int | None = None) -> Placement:
    """The placement that a mode names.

    Args:
      mode: "vmap" (all members at once, spread over all devices), "map" (one after another on one device) or
        "devices" (one at a time on each device).
      members: number of members.
      chunk: with vmap, the largest number of members at a time on each device; None for all.
    Raises: InputError for another mode or a chunk that is not positive.
    """
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk is {chunk}; it must be at least 1 member.")
    devices = min(jax.device_count(), members)
    modes = {
        "vmap": lambda: Placement(devices, min(chunk or members, -(-members // devices))),
        "map": lambda: Placement(1, 1),
        "devices": lambda: Placement(devices, 1),
    }
    if mode not in modes:
        raise InputError(f"The mode of a population is {mode!r}; valid are {', '.join(MODES)}.")
    return modes[mode]()


def fastest_placement(
    probe: Callable[[Placement], Callable[[int], Any]],
    members: int,
    *,
    steps: int,
    chunk: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Placement:
    """The placement that a short measurement finds fastest.

    What is usually best is tried first: vmap on accelerators; on CPUs one member at a time on each device. The other is
    compiled and measured only in runs so long that this is a small part of them.

    Args:
      probe: placement -> function of a number of steps, which takes them with all members and waits for them.
      members: number of members.
      steps: number of steps of the run.
      chunk: same as `placement`.
      clock: returns seconds.
    """
    by_loop = placement("devices", members)
    at_once = placement("vmap", members, chunk)
    first, second = (by_loop, at_once) if jax.default_backend() == "cpu" else (at_once, by_loop)

    def seconds(take: Callable[[int], Any], count: int) -> float:
        began = clock()
        take(count)
        return (clock() - began) / count

    takes = [probe(first)]
    compile_seconds = seconds(takes[0], 1)
    if first == second or seconds(takes[0], PROBE_STEPS) * steps < WORTH_MEASURING * compile_seconds:
        return first
    takes.append(probe(second))
    seconds(takes[1], 1)
    # In turn, and the fastest of several: other programs can only make a measurement longer.
    rounds = [[seconds(take, PROBE_STEPS) for take in takes] for _ in range(PROBE_ROUNDS)]
    one, other = np.min(rounds, axis=0)
    return second if other < CLEARLY_FASTER * one else first


PROBE_STEPS, PROBE_ROUNDS = 5, 3
CLEARLY_FASTER = 0.9
WORTH_MEASURING = 20  # times as long as compilation: then the measurement takes less than a tenth of the run
