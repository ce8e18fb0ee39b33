"""Does a network with one hidden layer fit any continuous function on a compact set, if only it is wide enough?

(Cybenko 1989; Hornik 1991. The slide omits "compact", without which it is not true.) Networks of growing width,
x -> W₂ tanh(W₁ x + b₁) + b₂, fit a function on [−1, 1] by full-batch Adam with cosine decay, several seeds of a width
at once; of each width the best seed on the training grid counts, for the theorem speaks of the best network there is.
Answer: figures/approximation.png; result.json: the largest error |g − f| on a grid twice as fine falls with the width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from .. import metrics, plots, schedules, train
from ..models.mlp import MLP
from ._population import read_csv, write_csv
from ._run import Claim, Result, RunConfig, open_run


@dataclass(frozen=True)
class Config(RunConfig):
    """The function and the networks."""

    target: str = "waves"
    """waves, kink or steps: what is fitted, see TARGETS."""
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Of the hidden layer."""
    points: int = 257
    """Of the training grid."""
    steps: int = 6000
    """Of Adam."""
    learning_rate: float = 0.02
    """Its first rate."""
    seeds: int = 8
    """Networks of each width."""
    seed: int = 0
    """The first of the seeds."""

    @property
    def many_devices(self) -> bool:
        return True


TARGETS: dict[str, Callable[[Any], Any]] = {
    "waves": lambda x: np.sin(3 * np.pi * x) * np.exp(-(x**2)) + 0.5 * x,
    "kink": lambda x: np.abs(x - 0.2) - 0.5 * np.abs(x + 0.4),
    "steps": lambda x: np.tanh(30 * (x + 0.5)) - np.tanh(30 * (x - 0.3)),
}
PRESETS = {
    "smoke": Config(preset="smoke", widths=(1, 4, 16), steps=600, seeds=2),
    "demo": Config(),
    "paper": Config(preset="paper", widths=(1, 2, 4, 8, 16, 32, 64, 128, 256), steps=50_000, seeds=32),
}


def main(config: Config) -> Result:
    """Fits every width, measures the largest errors and draws."""
    with open_run("universal_approximation", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        if config.target not in TARGETS:
            raise ValueError(f"There is no target {config.target!r}. Valid are: {', '.join(TARGETS)}.")
        if not config.widths or min(config.widths) < 1 or config.seeds < 1 or config.steps < 1 or config.points < 2:
            raise ValueError("Wanted widths, seeds and steps of at least 1, and 2 points or more.")
        target = TARGETS[config.target]
        grid, fine = np.linspace(-1, 1, config.points), np.linspace(-1, 1, 2 * config.points - 1)
        errors, fits = [], []
        for width in config.widths:
            run.journal.say(f"width {width}: {config.seeds} networks, {config.steps} steps …")
            on_grid, on_fine = fit(config, width, grid, target(grid), fine)
            worst = np.abs(on_fine - target(fine)).max(1)
            best = int(np.argmin(np.abs(on_grid - target(grid)).max(1)))
            errors += [(width, config.seed + i, error, int(i == best)) for i, error in enumerate(worst.tolist())]
            fits += [(width, *row) for row in zip(fine, target(fine), on_fine[best], strict=True)]
        write_csv(run.folder / "errors.csv", ("width", "seed", "largest_error", "chosen"), errors)
        write_csv(run.folder / "fits.csv", ("width", "x", "target", "network"), fits)
        chosen = np.array([(width, error) for width, _, error, best in errors if best])
        ratio = float(chosen[-1, 1] / chosen[0, 1])
        claims = [Claim("largest error, widest network over narrowest", ratio, "< 0.1", ratio < 0.1)]
        values = {f"largest_error_width_{int(width)}": error for width, error in chosen}
        if len(chosen) > 1:
            values["slope"] = metrics.loglog_slope(*chosen.T)
            claims.append(Claim("slope of the error over width", values["slope"], "< 0", values["slope"] < 0))
        return run.finish(values, draw(run.folder), claims)


def fit(config: Config, width: int, x: np.ndarray, y: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([seeds, len(x)], [seeds, len(fine)]): what the networks of a width answer after training."""
    model = MLP(1, hidden=(width,), activation=nn.tanh)
    schedule = schedules.cosine_decay(config.learning_rate, config.steps)
    inputs, targets = jnp.asarray(x, jnp.float32)[:, None], jnp.asarray(y, jnp.float32)

    def one(key):
        params: Any = dict(model.init(key, inputs)["params"])
        # Kinks spread over the interval: with biases at 0 all hidden units would bend at the same place.
        spread = jax.random.uniform(jax.random.fold_in(key, 1), (width,), minval=-1.0, maxval=1.0)
        slope = 3.0 * params["hidden1"]["kernel"]
        params["hidden1"] = {"kernel": slope, "bias": -slope[0] * spread}

        def loss(params):
            answer: Any = model.apply({"params": params}, inputs)
            return jnp.mean((answer[:, 0] - targets) ** 2)

        def step(t, carry):
            params, state = carry
            updates, state = train.adam(jnp.asarray(schedule(t))).update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        params, _ = jax.lax.fori_loop(0, config.steps, step, (params, train.adam(0.0).init(params)))
        answers: list[Any] = [
            model.apply({"params": params}, jnp.asarray(at, jnp.float32)[:, None]) for at in (x, fine)
        ]
        return answers[0][:, 0], answers[1][:, 0]

    where = train.population_layout(train.placement("vmap", config.seeds), config.seeds)
    keys = jnp.stack([jax.random.key(config.seed + i) for i in range(config.seeds)])
    return where.logical(where.compile(one, donate=False)(where.place(keys)))


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from the tables."""
    return {"approximation": plots.approximation(read_csv(folder / "errors.csv"), read_csv(folder / "fits.csv"))}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("universal_approximation"))
