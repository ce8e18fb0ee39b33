"""Is attention a look-up in a table? The lecture's example: films are keys, their gross returns are the values.

Answers are softmax(β QKᵀ)V. Every film's key is a unit vector of its own, and the scale β says how sharp keys are. At
β = ln 9 all can be checked by hand: the key of Avatar scores 9 against 1, 1 and 1, so its answer is
(9 · 2847 + 1 + 7 + 229) / 12 = 2155 M$. Half Avatar, half Ghostbusters scores 3, 3, 1, 1: (3 · 3076 + 1 + 7) / 8 =
1154.5 M$. Ghostbusters with some Gigli scores 9, 3, 1, 1: (9 · 229 + 3 · 7 + 1 + 2847) / 14 = 352.1 M$.
Answer: figures/lookup.png; result.json: with sharp keys the answer is that of a dictionary, the value of the nearest
key (the mean of two that are equally near); at scale 0 it is the mean of all values, 771 M$, whatever is asked.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import numpy as np

from .. import lab, plots
from ..models.layers import attention

RETURNS = {"Lolita": 1.0, "Gigli": 7.0, "Avatar": 2847.0, "Ghostbusters": 229.0}  # gross, M$: the lecture's slide
QUERIES = {  # how much of each film
    "Lolita": (1.0, 0.0, 0.0, 0.0),
    "Gigli": (0.0, 1.0, 0.0, 0.0),
    "Avatar": (0.0, 0.0, 1.0, 0.0),
    "Ghostbusters": (0.0, 0.0, 0.0, 1.0),
    "half Avatar, half Ghostbusters": (0.0, 0.0, 0.5, 0.5),
    "Ghostbusters with some Gigli": (0.0, 0.5, 0.0, 1.0),
}
SCALES = np.geomspace(0.01, 20, 100)  # of the curve; at the last one keys count as sharp
CLOSE = 1e-3  # relative error up to which two returns count as equal


@dataclass(frozen=True)
class Config:
    """How sharp the keys are."""

    run: lab.RunOptions = lab.RunOptions()
    scale: Annotated[float, lab.NON_NEGATIVE] = float(np.log(9))
    """Scale β of the scores, for the weights and answers that are reported; by default ln 9."""


DEMO = Config()
PRESETS = {name: lab.override(DEMO, preset=name) for name in ("smoke", "demo", "paper")}


def main(config: Config) -> lab.Result:
    """Looks up, compares with the two limits and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        values = np.array(list(RETURNS.values()))
        weights, answers = look_up(config.scale, np.eye(len(values))), look_up(config.scale, values[:, None])[:, 0]
        curve = np.stack([look_up(scale, values[:, None])[:, 0] for scale in SCALES])
        lab.write_csv(run.folder / "weights.csv", ("query", *RETURNS), zip(QUERIES, *weights.T, strict=True))
        lab.write_csv(run.folder / "answers.csv", ("scale", *QUERIES), zip(SCALES, *curve.T, strict=True))
        errors = {
            "sharp keys, relative error of a dictionary's answer": curve[-1] / dictionary(values) - 1,
            "scale 0, relative error of the mean of all": look_up(0.0, values[:, None])[:, 0] / values.mean() - 1,
        }
        claims = [
            lab.Claim(f"{name}, largest", worst, f"< {CLOSE:g}", worst < CLOSE)
            for name, worst in ((name, float(np.abs(each).max())) for name, each in errors.items())
        ]
        short = [name.replace(",", "").replace(" ", "_").lower() for name in QUERIES]
        metrics = {f"answer_{name}": float(answer) for name, answer in zip(short, answers, strict=True)}
        return run.finish(metrics, draw(run.folder), claims)


def look_up(scale: float, values: np.ndarray) -> np.ndarray:
    """What attention answers to `QUERIES`.

    Args:
      scale: β ≥ 0, the factor of the scores.
      values: of the films, [film, value]. Those of the identity matrix make the answers the weights.
    Returns: [query, value].
    """
    arrays = np.array(list(QUERIES.values())), np.eye(len(RETURNS)), values
    q, k, v = (jnp.asarray(x, jnp.float32)[None, :, None] for x in arrays)  # one batch, one head
    return np.asarray(attention(q, k, v, scale=scale)[0, :, 0])


def dictionary(values: np.ndarray) -> np.ndarray:
    """[query]: the value [film] of the nearest key, or the mean of those that are equally near."""
    scores = np.array(list(QUERIES.values()))  # keys are unit vectors
    nearest = scores == scores.max(1, keepdims=True)
    return nearest @ values / nearest.sum(1)


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from weights.csv, answers.csv and the config."""
    weights, answers = (lab.read_csv(folder / f"{name}.csv") for name in ("weights", "answers"))
    return {
        "lookup": plots.lookup(
            np.stack([weights[film] for film in RETURNS], 1),
            {f"{film}\n{value:,g} M$": value for film, value in RETURNS.items()},
            answers["scale"],
            {query: answers[query] for query in QUERIES},
            lab.read_config(folder, Config, PRESETS).scale,
        )
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
