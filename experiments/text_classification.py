"""Classify texts: an RNN, an LSTM and a Transformer beside a bag of words, which is hard to beat on small data.

Each network trains on the same tokens; its best checkpoint on validation is measured once on the test split. The
baseline is logistic regression on TF-IDF of words, by scikit-learn, on the same splits. Answer: result.json's
"<network>_test_accuracy" beside "baseline_accuracy"; figures/errors.png. With --population.seeds all numbers are means
over seeds. `etude classify_text` uses a trained network.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from .. import data, lab, plots

BASELINE = "baseline.csv"
COLUMNS = ("seed", "learning_rate", "validation_accuracy", "validation_loss", "test_accuracy")


@dataclass(frozen=True)
class NetworkOptions:
    """Which networks classify."""

    TITLE: ClassVar[str] = "model"

    networks: Annotated[tuple[str, ...], lab.DISTINCT] = ("text_rnn", "text_lstm", "text_transformer")
    """Names of the networks; etude models lists all, with the role text_classifier. Numbers are reported by the last
    word of a name."""


@dataclass(frozen=True)
class Config:
    """Networks that classify texts, all trained alike."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.LabeledTextOptions = lab.LabeledTextOptions("sentiment", row_tokens=64)
    network: NetworkOptions = NetworkOptions()
    size: lab.SizeOptions = lab.SizeOptions(dropout=0.3)
    loss: lab.SmoothingOptions = lab.SmoothingOptions()
    batch: lab.BatchOptions = lab.BatchOptions(64)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adamw")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.1, clip_norm=1.0)
    rate: lab.RangeTestOptions = lab.RangeTestOptions(learning_rate=1e-3)
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=6)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", width=16, epochs=1),
    "demo": DEMO,
    "paper": lab.override(DEMO, preset="paper", data="tfds:imdb_reviews", row_tokens=512, width=256, epochs=10),
}


def main(config: Config) -> lab.Result:
    """Trains every network, and compares it with the baseline."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        texts = {split: lab.load(config.data, split) for split in data.text.SPLITS}
        corpus = lab.labeled_corpus(config.data, texts)
        test = lab.labeled_texts(texts["test"], corpus.tokenizer, config.data.row_tokens)
        for note in dict.fromkeys((*corpus.train.notes, *corpus.validation.notes, *test.notes)):
            run.note(note)
        if not (run.folder / BASELINE).exists():
            run.display.doing("fitting the bag of words …")
            found = lab.bag_of_words(texts)
            lab.write_csv(run.folder / BASELINE, list(found), [list(found.values())])
        values = {name: float(column[0]) for name, column in lab.read_csv(run.folder / BASELINE).items()}
        accuracies = {}
        for name in config.network.networks:
            short = name.rpartition(":")[2].rpartition("_")[2]
            part = run.part(short)
            if not (part.folder / "scores.csv").exists():
                run.display.say(f"{name} …")
                train_one(part, config, name, corpus, test)
            numbers = scores_of(part.folder)
            accuracies[short] = numbers["test_accuracy"]
            values |= {f"{short}_{what}": x for what, x in numbers.items()}
        gain = max(accuracies.values()) - values["baseline_accuracy"]
        claim = lab.Claim("accuracy of the best network beyond the bag of words", gain, "> 0", gain > 0)
        return run.finish(values, draw(run.folder), [claim])


def train_one(part: lab.Run, config: Config, name: str, corpus: lab.Corpus, test: data.Source) -> None:
    """Trains one network, or a population of it, and writes its scores."""
    training, _ = lab.text_training(
        "text_classifier",
        corpus,
        model=name,
        fields=lab.known_fields(name, config.size),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        label_smoothing=config.loss.label_smoothing,
        seed=config.random.seed,
        dtype=config.precision.dtype,
        layout=config.layout,
        accumulate=config.accumulation.accumulate,
    )
    epochs = config.training.epochs
    population = lab.population_of(config.population, config.grid, config.layout)
    scheduled, schedule = lab.scheduled(training, config.shape.schedule, config.schedule, epochs)
    peak, figures = lab.choose_rate(part, training, config.rate, config.population, config.grid)
    lab.save_figures(figures, part.folder)
    trained = lab.fit(
        part,
        scheduled,
        scheduled.members(peak, config.population, config.grid),
        schedule,
        epochs,
        population=population,
        better=lab.more_accurate,
        ema_decay=config.averaging.ema_decay,
        title=f"{name} on {config.data.data}",
        patience=config.stopping.patience,
        checkpoint_every=config.stopping.checkpoint_every,
    )
    rows = trained.reported_rows(population)
    measured = trained.measure(trained.fitted.best, test)
    columns = (
        trained.members.seeds[rows],
        trained.members.hyper["learning_rate"][rows],
        trained.at_best("validation", "accuracy")[rows],
        trained.at_best("validation", "loss")[rows],
        measured["accuracy"][rows],
    )
    lab.write_csv(part.folder / "scores.csv", COLUMNS, zip(*columns, strict=True))


def scores_of(folder: Path) -> dict[str, float]:
    """Means over seeds of all numbers of one network, with their spread over several seeds."""
    table = lab.read_csv(folder / "scores.csv")
    columns = {name: table[name].tolist() for name in COLUMNS[1:]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return lab.mean_over_seeds(rows, COLUMNS[2:] if len(rows) > 1 else ())


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figure, from the tables in the run's folder."""
    baseline = lab.read_csv(folder / BASELINE)
    seeds = 1
    errors: dict[str, dict[str, np.ndarray]] = {}
    for path in sorted(folder.glob("*/scores.csv")):
        table = lab.read_csv(path)
        seeds = len(table["seed"])
        errors[path.parent.name] = {split: 100 * (1 - table[f"{split}_accuracy"]) for split in ("validation", "test")}
    errors["bag of words"] = {
        "validation": np.repeat(100 * (1 - baseline["baseline_validation_accuracy"]), seeds),
        "test": np.repeat(100 * (1 - baseline["baseline_accuracy"]), seeds),
    }
    return {"errors": plots.gaps(errors)}


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
