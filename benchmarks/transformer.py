"""Does a transformer train and write as fast as PyTorch's? Training steps, and decoding with kept keys and values.

A step is forward, backward and AdamW on 64 rows of 32 tokens: of the decoder alone, and of encoder and decoder, with 4
layers (4 and 4) of width 256, 4 heads, a vocabulary of 6,000, no dropout. Decoding goes on greedily for 64 tokens in
16 rows. PyTorch (`benchmarks/peers/torch_transformer.py`, run by the Python of --torch) is the best of eager and
compiled. All take turns; medians count. `data` gives each core a part of the batch (`--parallel data`).

Read: `torch / ours` should be >= 1 for steps; for decoding, ours should write at least as many tokens in a second.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from beside import Peer, seconds_of
from etude import models, schedules, tasks, train
from etude.models import sequences

SIZE: dict[str, Any] = {"width": 256, "depth": 4, "num_heads": 4, "vocab_size": 6000}
BATCH, LENGTH = 64, 32
ROWS, WRITTEN = 16, 64
CALLS = 5  # in one measurement
KINDS = {
    "decoder": (
        models.LanguageModel(**SIZE, activation="relu", positions="sinusoidal"),
        tasks.language_model,
        ("text",),
        (LENGTH,),
    ),
    "encoder and decoder": (
        models.Transformer(**SIZE, norm_first=True),
        tasks.translation,
        ("source", "target"),
        ((LENGTH, LENGTH),),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--torch", help="a Python that has torch; without it there is no such column")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    jax.config.update("jax_enable_compilation_cache", False)
    peer = Peer(options.torch, "torch_transformer.py") if options.torch else None
    print(f"load of the machine before: {os.getloadavg()[0]:.2f}")
    print(f"{'milliseconds':<24}{'ours':>9}{'data':>9}{'torch':>9}{'torch/ours':>12}{'torch/data':>12}")
    for kind in KINDS:
        take = {"ours": training_step(kind), "data": training_step(kind, parallel="data")}
        median = compare(take, peer, {"step": kind, **SIZE, "batch": BATCH, "length": LENGTH}, options.repeats)
        torch = median["torch"]
        both = f"{torch / median['ours']:>12.2f}{torch / median['data']:>12.2f}"
        print(
            f"{kind:<24}{1e3 * median['ours']:>9.1f}{1e3 * median['data']:>9.1f}{1e3 * torch:>9.1f}{both}", flush=True
        )
    median = compare(
        {"ours": decoding()}, peer, {"decode": True, **SIZE, "batch": ROWS, "length": WRITTEN}, options.repeats
    )
    rates = {name: ROWS * WRITTEN / seconds for name, seconds in median.items()}
    ratio = rates["ours"] / rates["torch"]
    print(f"decoding, tokens/s: ours {rates['ours']:,.0f}, torch {rates['torch']:,.0f}, ours / torch {ratio:.2f}")


def compare(take, peer, told, repeats) -> dict[str, float]:
    """Medians in seconds of what takes turns; PyTorch's best way counts."""
    if peer:
        peer.ask(told | {"parameters": parameters(told.get("step", "decoder"))})
    for each in take.values():
        each()
    rows: list[dict[str, float]] = []
    for _ in range(repeats):
        row = {name: each() for name, each in take.items()}
        rows.append(row | ({f"torch {k}": v for k, v in peer.ask({"time": CALLS}).items()} if peer else {}))
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return median | {"torch": min((v for k, v in median.items() if k.startswith("torch")), default=math.nan)}


def parameters(kind: str) -> int:
    """Of the network, which the peer's must have too."""
    model, task, _, lengths = KINDS[kind]
    shapes = jax.eval_shape(task(model, *lengths).init, jax.random.key(0))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def training_step(kind: str, parallel: str = "jit"):
    """A function that takes a training step and says how long it took."""
    model, task, columns, lengths = KINDS[kind]
    task = task(model, *lengths)

    def optimizer(learning_rate, hyper):
        return train.adamw(learning_rate, weight_decay=hyper["weight_decay"])

    step = train.make_step(task, optimizer, lambda hyper: schedules.constant(1e-4))
    rng = np.random.default_rng(0)
    texts = {name: jnp.asarray(rng.integers(8, SIZE["vocab_size"], (BATCH, LENGTH)), jnp.int32) for name in columns}
    state = jax.jit(partial(train.create_state, task, optimizer))(jax.random.key(0), {"weight_decay": 0.01})
    layout = train.make_layout(parallel)
    state, batch = layout.place_state(state), layout.place_batch(texts | {"index": jnp.arange(BATCH)}, 0)
    compiled = layout.compile(step, ("state", "batch"), ("state", "members"))

    def take():
        nonlocal state
        state, _ = compiled(state, batch)  # which donates it
        return state

    jax.block_until_ready(take())  # or what is timed next begins while this still runs
    return lambda: seconds_of(CALLS, take)


def decoding():
    """A function that writes and says how long it took."""
    model = KINDS["decoder"][0]
    variables = model.init(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32))

    @jax.jit
    def write(variables):
        def step(carried, tokens, at):
            return model.apply(variables, carried, tokens, at, method="step")

        start = model.apply(variables, ROWS, WRITTEN, method="start")
        return sequences.greedy(step, start, ROWS, begin=1, end=-1, length=WRITTEN).tokens  # no token ends it

    return lambda: seconds_of(CALLS, write, variables)


if __name__ == "__main__":
    main()
