"""Training a generative model in stages, and showing what it makes at each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .. import plots, tasks
from .arrays import load_arrays, save_arrays
from .options import AveragingOptions, GridOptions, RateOptions, ScheduleOptions, SeedsOptions, TrainingOptions
from .rates import scheduled
from .run import Run
from .trained import Trained, fit
from .training import Training, population_of


def train_in_stages(
    run: Run,
    training: Training,
    show: Callable[[tasks.Variables], np.ndarray],
    *,
    rate: RateOptions,
    schedule: ScheduleOptions,
    shape: str = "warmup_cosine",
    length: TrainingOptions,
    averaging: AveragingOptions,
    population: SeedsOptions,
    grid: GridOptions = GridOptions(),
    better: Callable | None = lambda validation: (-validation["loss"],),
    title: str = "training",
) -> Sequence[tasks.Variables]:
    """Trains, alone or as a population, and shows what the (first) model makes at each of `stages_of` the epochs.

    Args:
      run: open; gets stages/<epoch>.npz and curves.npz, which `stages` and `draw_curves` read.
      training: what is trained.
      show: variables -> images uint8 [n, …]; those of an earlier start are not made again.
      rate, schedule, length, averaging: groups of options.
      shape: name of the schedule.
      population, grid: who trains.
      better: same as `train.fit`; None keeps the last variables and validates nothing.
      title: title of the progress bar.
    Returns: the variables of each seed: those of the best validation or, without one, the last.
    """
    (run.folder / "stages").mkdir(exist_ok=True)
    epochs, members = length.epochs, training.members(rate.learning_rate, population, grid)
    first, *later = stages_of(epochs)
    training, make_schedule = scheduled(training, shape, schedule, epochs)

    def file(epoch: int) -> Path:
        return run.folder / "stages" / f"{epoch}.npz"

    def look(epoch: int, variables: tasks.Variables) -> None:
        if not file(epoch).exists():
            save_arrays(file(epoch), {"images": show(variables)})

    look(first, training.state(members).variables)
    later = [epoch for epoch in later if epoch == later[-1] or not file(epoch).exists()]
    trained = fit(
        run,
        training,
        members,
        make_schedule,
        epochs,
        population=population_of(population, grid),
        better=better,
        ema_decay=averaging.ema_decay,
        title=title,
        stages=later[:-1],
        look=lambda epoch, trained: look(epoch, trained.variables(trained.fitted.state.variables, 0)),
    )
    rows = trained.chosen_rows(population.seeds)
    _save_curves(run.folder, trained, rows.start)
    return trained.best_variables(rows)


def stages_of(epochs: int, count: int = 4) -> list[int]:
    """Epochs at which to look: before training, then about equally spaced in the logarithm.

    >>> stages_of(100)
    [0, 1, 5, 22, 100]
    """
    return [0, *sorted({max(1, round(epochs ** (i / (count - 1)))) for i in range(count)})]


def stages(folder: Path) -> tuple[list[int], np.ndarray]:
    """(epochs, images of the first member's model after each: [stages, n, …]), from stages/<epoch>.npz."""
    files = (folder / "stages").glob("*.npz")
    epochs = sorted(int(file.stem) for file in files if file.stem.isdigit())  # a killed start leaves partial ones
    return epochs, np.stack([load_arrays(folder / "stages" / f"{epoch}.npz")["images"] for epoch in epochs])


def draw_stages(folder: Path) -> plots.Figure:
    """The figure of what the model made at each stage."""
    epochs, images = stages(folder)
    return plots.image_grid(images, [str(epoch) for epoch in epochs], ylabel="after epoch", width=7)


def draw_curves(folder: Path, names: Mapping[str, str]) -> plots.Figure:
    """The figure of metrics over the epochs, from curves.npz.

    Args:
      folder: of the run.
      names: metric -> label of its axis.
    """
    kept = load_arrays(folder / "curves.npz")

    def of(split):
        prefix = f"{split}/"
        curves = {name.removeprefix(prefix): values for name, values in kept.items() if name.startswith(prefix)}
        return curves | {"epoch": kept["epoch"]}

    best = int(kept["best_epoch"])
    return plots.loss_curves(of("train"), of("validation"), names, best if best > 0 else None)


def _save_curves(folder: Path, trained: Trained, number: int) -> None:
    """The epochs of one member; its best epoch is 0 if nothing was chosen."""
    epochs = list(trained.epochs())
    curves = {
        f"{split}/{name}": np.array([epoch[split][name][number] for epoch in epochs])
        for split in ("train", "validation")
        for name in epochs[0][split]
    }
    best = int(np.atleast_1d(trained.fitted.best_epoch)[number])
    numbers = np.array([epoch["epoch"] for epoch in epochs])
    save_arrays(folder / "curves.npz", curves | {"epoch": numbers, "best_epoch": best})
