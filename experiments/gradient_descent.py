"""Why does gradient descent zig-zag in a narrow valley, and what does momentum do about it?

Paths on the level sets of f(x, y) = (x² + κ y²) / 2. Gradient descent at its best rate, 2/(1 + κ), jumps across the
valley at every step, and its error shrinks by (κ − 1)/(κ + 1). Momentum at the rate 1/κ with β = (1 − 1/√κ)², which
damps the slowest direction critically (Polyak 1964; Qian 1999), turns back rarely and shrinks the error by 1 − 1/√κ.
Answer: figures/paths.png; result.json has the measured factors beside those of theory, and the crossings of the valley.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import lab, plots, train
from ..errors import InputError

SMALLEST = 1e-30  # error up to which a float32 has all its digits
FAR = 1e6  # beyond it, squares of float32 lose the shape of the valley
NARROW = lab.Valid(f"greater than 1 and at most {FAR:g}", lambda x: 1 < x <= FAR)
NEAR = lab.Valid(f"at most {FAR:g} in size", lambda x: abs(x) <= FAR)


@dataclass(frozen=True)
class Config:
    """The valley and the walk."""

    run: lab.RunOptions = lab.RunOptions()
    condition: Annotated[float, NARROW] = 20.0
    """Condition number κ: how many times steeper the valley is across than along."""
    steps: Annotated[int, lab.at_least(10, 100_000)] = 60
    """Number of steps of each path."""
    start_x: Annotated[float, NEAR] = -10.0
    """Coordinate along the valley at which paths begin."""
    start_y: Annotated[float, NEAR] = 1.0
    """Coordinate across the valley at which paths begin."""


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", steps=40),
    "demo": DEMO,
    "paper": lab.override(DEMO, preset="paper", steps=200),
}


def main(config: Config) -> lab.Result:
    """Walks, measures and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        if np.hypot(config.start_x, config.start_y) < 1 / FAR:
            raise InputError(
                f"Paths begin at start_x {config.start_x} and start_y {config.start_y}, which is the minimum: begin at "
                f"least {1 / FAR:g} away from it."
            )
        kappa = config.condition
        root = float(np.sqrt(kappa))
        methods = {  # name -> (optimizer, factor by which the error shrinks in a step)
            "gradient descent": (train.sgd(2 / (1 + kappa), momentum=0.0), (kappa - 1) / (kappa + 1)),
            "momentum": (train.sgd(1 / kappa, momentum=(1 - 1 / root) ** 2), 1 - 1 / root),
        }
        start = jnp.array([config.start_x, config.start_y])
        values, claims, rows = {}, [], []
        for name, (optimizer, theory) in methods.items():
            path = walk(optimizer, start, jnp.array([1.0, kappa]), config.steps)
            rows += [(name, t, *point) for t, point in enumerate(path.tolist())]
            factor, crossings = error_factor(path), int((np.diff(np.sign(path[:, 1])) != 0).sum())
            short = name.replace(" ", "_")
            values |= {f"{short}_factor": factor, f"{short}_theory": theory, f"{short}_crossings": crossings}
            name = f"{name}: error factor a step, within 0.05 of theory"
            claims.append(lab.Claim(name, factor, f"{theory:.4f}", abs(factor - theory) < 0.05))
        for what in ("factor", "crossings"):
            with_momentum, without = values[f"momentum_{what}"], values[f"gradient_descent_{what}"]
            holds = with_momentum < without
            claims.append(lab.Claim(f"{what} with momentum", with_momentum, f"< {without:.4g}", holds))
        lab.write_csv(run.folder / "paths.csv", ("method", "step", "x", "y"), rows)
        return run.finish(values, draw(run.folder), claims)


def error_factor(path: np.ndarray) -> float:
    """The mean factor of the error in a step, over the second half of a path, in which the slowest part of it is left.

    Args:
      path: points [steps + 1, 2]; the minimum is at 0. What comes after the error has fallen below a float32 of full
        precision does not count; 0 if it does in the first step.
    """
    errors = np.linalg.norm(path.astype(np.float64), axis=1)
    told = np.flatnonzero(errors > SMALLEST)
    half, last = told[(len(told) - 1) // 2], told[-1]
    return float((errors[last] / errors[half]) ** (1 / (last - half))) if last > half else 0.0


def walk(optimizer: optax.GradientTransformation, start: jax.Array, curvatures: jax.Array, steps: int) -> np.ndarray:
    """[steps + 1, 2] float32: the points of a path on Σ curvature · x² / 2."""

    def step(carry, _):
        point, state = carry
        updates: Any
        updates, state = optimizer.update({"point": curvatures * point}, state, {"point": point})
        return (point + updates["point"], state), point

    (last, _), points = jax.lax.scan(step, (start, optimizer.init({"point": start})), None, steps)
    return np.concatenate([points, last[None]])


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from paths.csv and the config."""
    table = lab.read_csv(folder / "paths.csv")
    paths = {}
    for name in dict.fromkeys(table["method"].tolist()):
        rows = table["method"] == name
        paths[name] = np.stack([table["x"][rows], table["y"][rows]], axis=1)
    return {"paths": plots.paths(paths, lab.read_config(folder, Config, PRESETS).condition)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
