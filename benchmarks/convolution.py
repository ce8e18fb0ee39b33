"""Are convolutions as fast as they can be here? Layers and whole training steps: ours, XLA's own, PyTorch's.

A layer is forward and both derivatives, a step is forward, backward and SGD with momentum; the U-Net's is that of
predicting noise, with attention on the grid of 14×14 and in the middle; the ViT, for comparison, has no convolution to
be slow. XLA's own is `lax.conv` with the derivatives that jax takes of it; networks of it are compiled without loops,
which is best for it. PyTorch (`benchmarks/peers/torch_convolution.py`, run by the Python of --torch) is the best of
eager, eager channels_last, and compiled. All take turns; medians count. XLA runs most convolutions on one core; `data`
gives each core a part of the batch (`--parallel data`). --loops repeats the comparison with XLA's own inside a compiled
loop, where training happens (`train.feed`) and where blocks of a network run (`nn.scan`): slow, to be waited for.

Read: `lax / ours` should be >= 1 for each layer, up to noise; for ResNet-20 `torch / ours` should be >= 0.9, or
`lax / ours` >= 1.5.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from functools import partial
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from beside import Peer, seconds_of
from etude import diffusion, models, schedules, tasks, train
from etude.models.layers import conv, convolution

LAYERS = [  # batch, size, channels, features, kernel, stride, padding
    (128, 28, 1, 16, 3, 1, 1),
    (128, 28, 16, 16, 3, 1, 1),
    (128, 28, 16, 32, 3, 2, 1),
    (128, 14, 32, 32, 3, 1, 1),
    (128, 7, 64, 64, 3, 1, 1),
    (32, 56, 64, 64, 3, 1, 1),
    (32, 56, 64, 128, 3, 2, 1),
    (32, 28, 128, 128, 3, 1, 1),
    (32, 14, 256, 256, 3, 1, 1),
    (32, 28, 128, 512, 1, 1, 0),
    (32, 56, 256, 512, 1, 2, 0),
    (64, 2, 512, 512, 3, 1, 1),
    (8, 224, 3, 64, 7, 2, 3),
    (8, 224, 3, 64, 11, 4, 2),
]
UNET = {"width": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention_levels": (1,), "dropout": 0.0}
NETWORKS = {  # model, its fields, batch, image shape
    "resnet20": ("resnet20", {}, 128, (28, 28, 1)),
    "resnet18": ("resnet18", {"imagenet_stem": False, "num_classes": 10}, 32, (32, 32, 3)),
    "unet": ("ddpm_cifar10", UNET, 32, (28, 28, 1)),
    "vit": ("vit_tiny_patch4_32", {}, 64, (32, 32, 3)),
}
LOOP = 3  # steps in one compiled loop
CALLS = 3  # in one measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["layers", *NETWORKS], nargs="+", default=["layers", *NETWORKS])
    parser.add_argument("--loops", action="store_true", help="lax.conv in a loop too; takes long")
    parser.add_argument("--torch", help="a Python that has torch; without it there is no such column")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    jax.config.update("jax_enable_compilation_cache", False)
    peer = Peer(options.torch, "torch_convolution.py") if options.torch else None
    variants = [("ours", conv, "", 1), ("lax", lax_conv, "", 1)]
    variants += [("ours", conv, " loop", LOOP), ("lax", lax_conv, " loop", LOOP)] if options.loops else []
    heads = "ours: a device per core" + ", looped: ours, lax" * options.loops
    print(f"{'milliseconds':<34}{'ours':>9}{'lax':>9}{'torch':>9}{'lax/ours':>10}{'torch/ours':>11}   {heads}")
    if "layers" in options.only:
        for shape in LAYERS:
            take = {f"{name}{where}": layer(convolve, *shape, loop=loop) for name, convolve, where, loop in variants}
            compare(
                "{} × {}² × {} -> {}, {}×{}/{}".format(*shape[:5], *shape[4:6]), take, peer, {"layer": shape}, options
            )
    for name in options.only:
        if name in NETWORKS:
            model, fields, batch, image = NETWORKS[name]
            fixed = (model, fields, batch, image)
            take = {
                f"{name}{where}": training_step(convolve, *fixed, loop=loop) for name, convolve, where, loop in variants
            }
            take["data"] = training_step(conv, *fixed, parallel="data")
            told = {"network": name, "batch": batch, "shape": image}
            told["parameters"] = models.count_parameters(models.create(model, **fields), image)
            compare(f"{name}, batch {batch}", take, peer, told, options)


def compare(label, take, peer, told, options) -> None:
    """Times everything in turn and prints a row."""
    if peer:
        peer.ask(told)
    for each in take.values():
        each()
    rows: list[dict[str, float]] = []
    for _ in range(options.repeats):
        row = {name: each() for name, each in take.items()}
        rows.append(row | ({f"torch {k}": v for k, v in peer.ask({"time": CALLS}).items()} if peer else {}))
    median = {name: 1e3 * statistics.median(row[name] for row in rows) for name in rows[0]}
    torch = min((v for k, v in median.items() if k.startswith("torch")), default=math.nan)
    ours, lax = median["ours"], median["lax"]
    others = "".join(f"{median[name]:>10.1f}" for name in ("data", "ours loop", "lax loop") if name in median)
    columns = f"{ours:>9.1f}{lax:>9.1f}{torch:>9.1f}{lax / ours:>10.2f}{torch / ours:>11.2f}   {others}"
    print(f"{label:<34}{columns}", flush=True)


def lax_conv(x, kernel, *, strides=(1, 1), padding="SAME", groups=1, dilation=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def layer(convolve, batch, size, channels, features, kernel, stride, padding, loop=1):
    """A function that runs a layer and says how long it took."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, size, size, channels)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(kernel, kernel, channels, features)), jnp.float32)
    forward = partial(convolve, strides=(stride, stride), padding=((padding, padding),) * 2)
    g = jnp.ones_like(forward(x, w))

    def once(x, w):
        y, back = jax.vjp(forward, x, w)
        # All of the outputs are wanted, and none before it was computed.
        return jax.lax.optimization_barrier((y, *back(g)))[1:]

    def body(carry, _):
        dx, dw = once(*carry)
        return (x + 1e-9 * dx, w + 1e-9 * dw), None

    run = jax.jit(once) if loop == 1 else jax.jit(lambda x, w: jax.lax.scan(body, (x, w), None, length=loop)[0])
    return lambda: seconds_of(CALLS, run, x, w) / loop


def training_step(convolve, name, fields, batch, image, loop=1, parallel="jit"):
    """A function that takes a training step and says how long it took."""
    model = models.create(name, **fields)
    if models.entry(name).role == "denoiser":
        task = tasks.denoising(model, image, schedule=diffusion.cosine(), prediction="epsilon")
    else:
        task = tasks.classification(model, image, preprocess=lambda images: images / 255.0)

    def optimizer(learning_rate, hyper):
        return train.sgd(learning_rate, momentum=0.9, nesterov=True, weight_decay=hyper["weight_decay"])

    step = train.make_step(task, optimizer, lambda hyper: schedules.constant(1e-3))
    rng = np.random.default_rng(0)
    examples = {
        "image": jnp.asarray(rng.integers(0, 256, (batch, *image)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 10, batch), jnp.int32),
        "index": jnp.arange(batch),
    }
    state = jax.jit(partial(train.create_state, task, optimizer))(jax.random.key(0), {"weight_decay": 5e-4})
    layout = train.make_layout(parallel)
    state, examples = layout.place_state(state), layout.place_batch(examples, 0)

    def run(state, examples):
        def once(state, _):
            return step(state, examples)

        return once(state, None) if loop == 1 else jax.lax.scan(once, state, None, length=loop)

    compiled = layout.compile(run, ("state", "batch"), ("state", "members"))

    def take():
        nonlocal state
        state, _ = compiled(state, examples)  # which donates it
        return state

    # Blocks under `nn.scan` are a loop too, which `lax.conv` does not bear.
    unrolled = partial(nn.scan, unroll=1 if convolve is conv or loop > 1 else 100)
    with mock.patch.object(convolution, "conv", convolve), mock.patch.object(nn, "scan", unrolled):
        jax.block_until_ready(take())  # or what is timed next begins while this still runs
    return lambda: seconds_of(CALLS, take) / loop


if __name__ == "__main__":
    main()
