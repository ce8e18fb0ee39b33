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
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import lab, metrics, models, plots, train
from ..errors import InputError

TARGETS: dict[str, Callable[[Any], Any]] = {
    "waves": lambda x: np.sin(3 * np.pi * x) * np.exp(-(x**2)) + 0.5 * x,
    "kink": lambda x: np.abs(x - 0.2) - 0.5 * np.abs(x + 0.4),
    "steps": lambda x: np.tanh(30 * (x + 0.5)) - np.tanh(30 * (x - 0.3)),
}


@dataclass(frozen=True)
class Config:
    """The function and the networks."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    rate: lab.RateOptions = lab.RateOptions(0.02)
    shape: lab.ShapeOptions = lab.ShapeOptions("cosine")
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    target: Annotated[str, lab.Choice("target", TARGETS)] = "waves"
    """Name of the function that is fitted."""
    widths: Annotated[tuple[int, ...], lab.at_least(1, 65_536)] = (1, 2, 4, 8, 16, 32, 64)
    """Numbers of hidden units."""
    points: Annotated[int, lab.at_least(2)] = 257
    """Number of points of the training grid."""
    steps: Annotated[int, lab.COUNT] = 6000
    """Number of Adam's steps."""
    seeds: Annotated[int, lab.at_least(1, 10_000)] = 8
    """Number of networks of each width, with seeds counted up from --seed."""

    @property
    def many_devices(self) -> bool:
        """Every CPU core should be a device: all networks of a width train at once."""
        return True


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", widths=(1, 4, 16), steps=600, seeds=2),
    "demo": DEMO,
    "paper": lab.override(DEMO, preset="paper", widths=(1, 2, 4, 8, 16, 32, 64, 128, 256), steps=50_000, seeds=32),
}


def main(config: Config) -> lab.Result:
    """Fits every width, measures the largest errors and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        if not config.widths:
            raise InputError("There is no width to fit; give --widths 1 4 16.")
        if config.shape.schedule == "plateau":
            raise InputError("The schedule plateau watches epochs, and there are none here.")
        if list(config.widths) != sorted(set(config.widths)):
            raise InputError(f"widths are {config.widths}; give each once, the smallest first.")
        target = TARGETS[config.target]
        grid, fine = np.linspace(-1, 1, config.points), np.linspace(-1, 1, 2 * config.points - 1)
        errors, fits = [], []
        for width in config.widths:
            run.display.say(f"width {width}: {config.seeds} networks, {config.steps} steps …")
            on_grid, on_fine = fit(config, width, grid, target(grid), fine)
            worst = np.abs(on_fine - target(fine)).max(1)
            trained = np.abs(on_grid - target(grid)).max(1)
            gone = ~(np.isfinite(trained) & np.isfinite(worst))
            if gone.any():
                raise train.Diverged(
                    f"{gone.sum()} of {config.seeds} networks of width {width} diverged; give a lower --learning-rate."
                )
            best = int(np.argmin(trained))
            errors += [(width, config.random.seed + i, error, int(i == best)) for i, error in enumerate(worst.tolist())]
            fits += [(width, *row) for row in zip(fine, target(fine), on_fine[best], strict=True)]
        lab.write_csv(run.folder / "errors.csv", ("width", "seed", "largest_error", "chosen"), errors)
        lab.write_csv(run.folder / "fits.csv", ("width", "x", "target", "network"), fits)
        chosen = np.array([(width, error) for width, _, error, best in errors if best])
        claims = []
        values = {f"largest_error_width_{int(width)}": error for width, error in chosen}
        if len(chosen) > 1:
            ratio = float(chosen[-1, 1] / chosen[0, 1])
            claims.append(lab.Claim("largest error, widest network over narrowest", ratio, "< 0.1", ratio < 0.1))
            values["slope"] = metrics.loglog_slope(*chosen.T)
            claims.append(lab.Claim("slope of the error over width", values["slope"], "< 0", values["slope"] < 0))
        return run.finish(values, draw(run.folder), claims)


def fit(config: Config, width: int, x: np.ndarray, y: np.ndarray, fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([seeds, len(x)], [seeds, len(fine)]): what the networks of a width answer after training."""
    model = models.create("mlp", num_classes=1, hidden=(width,), activation=nn.tanh)
    rates = lab.schedule_of(config.shape.schedule, config.schedule, config.steps, max(1, config.steps // 100))
    schedule = rates({"learning_rate": config.rate.learning_rate})
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

    layout = train.population_layout(train.placement("vmap", config.seeds), config.seeds)
    keys = jnp.stack([jax.random.key(config.random.seed + i) for i in range(config.seeds)])
    train_all = layout.compile(one, ("members",), ("members", "members"), donate=False)
    return layout.unplace(train_all(layout.place_members(keys)))


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from the tables."""
    return {
        "approximation": plots.approximation(lab.read_csv(folder / "errors.csv"), lab.read_csv(folder / "fits.csv"))
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
