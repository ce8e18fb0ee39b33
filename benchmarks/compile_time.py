"""Does compile time grow with depth? A training step of ResNet-20 (n = 3) against ResNet-1202 (n = 200).

Equal blocks run under `nn.scan`, so that the compiler sees one of them whatever the depth. Tracing, lowering and
compiling of the whole step (forward, backward, SGD with momentum) are timed, interleaved, without any cache.

Read: `ratio` is the deepest network's median over the shallowest one's; the target is <= 1.5. The last line shows
that the deepest network initialises and takes a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from etude import models, schedules, train

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="+", default=[3, 200], help="n of depth 6n + 2")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)

    seconds: dict[int, list[float]] = {n: [] for n in options.blocks}
    compiled = None
    for _ in range(options.repeats):
        for n in options.blocks:
            jax.clear_caches()
            began = time.perf_counter()
            compiled = _compile(6 * n + 2)
            seconds[n].append(time.perf_counter() - began)
    medians = {n: statistics.median(values) for n, values in seconds.items()}
    for n, median in medians.items():
        print(f"ResNet-{6 * n + 2:<5} (n = {n:>3}): {median:6.2f} s to compile")
    print(f"ratio {medians[options.blocks[-1]] / medians[options.blocks[0]]:.2f}")

    assert compiled is not None
    step, initial, batch = compiled
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(step(initial(), batch))
    print(
        f"ResNet-{6 * options.blocks[-1] + 2}: initialised and took step {int(state.step)} on {BATCH} images in "
        f"{time.perf_counter() - began:.1f} s, loss {float(metrics['loss']):.3f}"
    )


def _compile(depth: int):
    """(compiled training step, function that makes its state, a batch) of a CIFAR ResNet."""
    task = train.classification(models.create(f"cifar_resnet{depth}"), (32, 32, 3), preprocess=lambda x: x / 255.0)

    def optimizer(learning_rate, hyper):
        return train.sgd(learning_rate, weight_decay=hyper["weight_decay"])

    step = train.make_step(task, optimizer, lambda hyper: schedules.constant(hyper["learning_rate"]))
    hyper = {"learning_rate": 1e-3, "weight_decay": 1e-4}
    initial = jax.jit(partial(train.create_state, task, optimizer, jax.random.key(0), hyper))
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 32, 32, 3)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 10, BATCH), jnp.int32),
        "index": jnp.arange(BATCH),
    }
    return jax.jit(step, donate_argnums=0).lower(jax.eval_shape(initial), batch).compile(), initial, batch


if __name__ == "__main__":
    main()
