"""Does compile time grow with depth? A training step of ResNet-20 (n = 3) against ResNet-1202 (n = 200), or of a ViT
of 4 blocks against one of 48 (`--family vit`).

Equal blocks run under `nn.scan`, so that the compiler sees one of them whatever the depth. Tracing, lowering and
compiling of the whole step (forward, backward, SGD with momentum) are timed, interleaved, without any cache.

Read: `ratio` is the deepest network's median over the shallowest one's; the target is <= 1.5. The last line shows
that the deepest network initializes and takes a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etude import models, schedules, tasks, train

BATCH = 8


@dataclass(frozen=True)
class Family:
    """Networks that differ in depth alone.

    make: blocks -> network for 32×32×3 images.
    name: blocks -> what people call it.
    blocks: the shallow and the deep one compared by default.
    """

    make: Callable[[int], nn.Module]
    name: Callable[[int], str]
    blocks: tuple[int, ...]


FAMILIES = {
    "resnet": Family(
        make=lambda n: models.create(f"cifar_resnet{6 * n + 2}"),
        name=lambda n: f"ResNet-{6 * n + 2} (n = {n})",
        blocks=(3, 200),
    ),
    "vit": Family(
        make=lambda n: models.create("vit_tiny_patch4_32", depth=n),
        name=lambda n: f"ViT-Ti/4 of {n} blocks",
        blocks=(4, 48),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=list(FAMILIES), default="resnet")
    parser.add_argument("--blocks", type=int, nargs="+", help="n of depth 6n + 2, or of the ViT")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)

    family = FAMILIES[options.family]
    blocks = options.blocks or family.blocks
    seconds: dict[int, list[float]] = {n: [] for n in blocks}
    compiled = None
    for _ in range(options.repeats):
        for n in blocks:
            jax.clear_caches()
            began = time.perf_counter()
            compiled = _compile(family.make(n))
            seconds[n].append(time.perf_counter() - began)
    medians = {n: statistics.median(values) for n, values in seconds.items()}
    for n, median in medians.items():
        print(f"{family.name(n):<24}: {median:6.2f} s to compile")
    print(f"ratio {medians[blocks[-1]] / medians[blocks[0]]:.2f}")

    assert compiled is not None
    step, initial, batch = compiled
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(step(initial(), batch))
    print(
        f"{family.name(blocks[-1])}: initialized and took step {int(state.step)} on {BATCH} images in "
        f"{time.perf_counter() - began:.1f} s, loss {float(metrics['loss'].value):.3f}"
    )


def _compile(model: nn.Module):
    """(compiled training step, function that makes its state, a batch) of a network."""
    task = tasks.classification(model, (32, 32, 3), preprocess=lambda x: x / 255.0)

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
