"""What does it buy that all steps of a sampler are one compiled program? Samples a second against a loop in Python.

The network and the fast sampler are those of `etude diffusion`, with random weights and guidance: 1,000 images of 20
steps. The peer calls one compiled step for each time, as most code does, with the same numbers (checked). Rounds are
interleaved; medians count; compilation, told apart, is paid once.

Read: `loop / scan`, the time of the loop over that of one program, should be at least 1. On a CPU the network's
arithmetic is nearly all; on an accelerator the gaps between small steps count.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from etude import diffusion
from etude.experiments.diffusion import PRESETS, SAMPLERS, SCHEDULES, denoiser, denoising


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    config = PRESETS["demo"]
    training, model = denoising(config)
    state = training.state(training.members(1e-3))
    schedule, times = SCHEDULES[config.schedule](), diffusion.uniform_times(options.steps)
    classes, shape = len(training.source.classes), training.source.element_spec["image"].shape
    x = jax.random.normal(jax.random.key(1), (options.batch, *shape))
    labels = jnp.arange(options.batch) % classes

    def sampler(variables):
        denoise = denoiser(config, model, variables, labels, classes, config.guidance)
        return SAMPLERS[config.sampler](denoise, schedule)

    scan = jax.jit(lambda variables, x: diffusion.sample(sampler(variables), x, times))

    @jax.jit
    def step(variables, x, memory, time, to, last):
        return sampler(variables).step(x, memory, diffusion.samplers.Step(time, to, lambda: x, last))

    def loop(variables, x):
        memory = sampler(variables).init(x)
        for i in range(options.steps):
            x, memory = step(variables, x, memory, times[i], times[i + 1], i == options.steps - 1)
        return x

    batches = -(-options.samples // options.batch)

    def seconds(draw) -> float:
        began = time.perf_counter()
        for _ in range(batches):
            jax.block_until_ready(draw(state.variables, x))
        return time.perf_counter() - began

    began, compiled = time.perf_counter(), {}
    for name, draw in (("scan", scan), ("loop", loop)):
        jax.block_until_ready(draw(state.variables, x))
        compiled[name] = time.perf_counter() - began
        began = time.perf_counter()
    np.testing.assert_allclose(scan(state.variables, x), loop(state.variables, x), rtol=1e-3, atol=1e-4)
    rounds = [(seconds(scan), seconds(loop)) for _ in range(options.repeats)]
    found = dict(zip(("scan", "loop"), map(statistics.median, zip(*rounds, strict=True)), strict=True))
    drawn = batches * options.batch
    print(f"{drawn} samples of {options.steps} steps, batches of {options.batch}, {jax.devices()[0].device_kind}")
    for name, taken in found.items():
        print(f"{name:>6} {drawn / taken:>9.1f} samples/s   first call {compiled[name]:.1f} s")
    print(f"loop / scan {found['loop'] / found['scan']:.2f}")


if __name__ == "__main__":
    main()
