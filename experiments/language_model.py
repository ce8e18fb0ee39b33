"""Train a small language model: how many bits does it need for a byte of text that it has not seen?

Radford et al. 2018 ("GPT"): a decoder reads a text token by token and says how likely each next token is. The
checkpoint of the best validation loss is measured once on the test split. Answer: result.json's "test_perplexity", e to
the loss in nats per token, and "test_bits_per_byte", which does not depend on the tokens and can be compared with
compression programs ("lzma_bits_per_byte"). With --population.seeds all numbers are means over seeds. `etude generate`
continues a text.
"""

from __future__ import annotations

import lzma
import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from .. import data, lab, plots


@dataclass(frozen=True)
class NetworkOptions:
    """Which network reads and writes."""

    TITLE: ClassVar[str] = "model"

    model: str = "language_model_small"
    """Name of the network; etude models lists all, with the role language_model."""


@dataclass(frozen=True)
class Config:
    """Any language model by its name."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.TextOptions = lab.TextOptions(vocab_size=1000)
    network: NetworkOptions = NetworkOptions()
    size: lab.SizeOptions = lab.SizeOptions()
    loss: lab.SmoothingOptions = lab.SmoothingOptions(0.0)
    batch: lab.BatchOptions = lab.BatchOptions(16)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adamw")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.1, clip_norm=1.0)
    rate: lab.RangeTestOptions = lab.RangeTestOptions(learning_rate=3e-3)
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=3)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    sampling: lab.SamplingOptions = lab.SamplingOptions(top_p=0.9)
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO = lab.override(Config(), width=128)
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", width=16, depth=1, epochs=1, batch_size=64),
    "demo": DEMO,
    "paper": lab.override(
        Config(),
        preset="paper",
        data="tfds:imdb_reviews",
        vocab_size=16_000,
        row_tokens=512,
        width=768,
        depth=12,
        batch_size=64,
        epochs=20,
    ),
}
SAMPLES = 5  # texts that the trained network writes into the notes


def main(config: Config) -> lab.Result:
    """Trains, measures and writes a few texts."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        corpus, test = lab.corpus(config.data, cut=True), lab.load(config.data, "test")
        rows = lab.packed_texts(test, corpus.tokenizer, config.data.row_tokens, cut=True)
        for note in dict.fromkeys((*corpus.train.notes, *corpus.validation.notes, *rows.notes)):
            run.note(note)
        training, model = lab.text_training(
            "language_model",
            corpus,
            model=config.network.model,
            fields=lab.known_fields(config.network.model, config.size),
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
        peak, figures = lab.choose_rate(run, training, config.rate, config.population, config.grid)
        trained = lab.fit(
            run,
            scheduled,
            scheduled.members(peak, config.population, config.grid),
            schedule,
            epochs,
            population=population,
            ema_decay=config.averaging.ema_decay,
            title=f"{config.network.model} on {config.data.data}",
            patience=config.stopping.patience,
            checkpoint_every=config.stopping.checkpoint_every,
        )
        chosen = trained.reported_rows(population)
        losses = trained.measure(trained.fitted.best, rows)["loss"][chosen]
        tokens, size = int((rows.arrays()["text"] != data.text.PAD).sum()), size_of(test)
        values = lab.mean_over_seeds(
            [
                {
                    "test_loss": float(loss),
                    "test_perplexity": math.exp(loss),
                    "test_bits_per_byte": float(loss) * tokens / size / math.log(2),
                }
                for loss in losses
            ],
            ("test_loss", "test_perplexity", "test_bits_per_byte") if len(losses) > 1 else (),
        )
        values |= {"lzma_bits_per_byte": lzma_bits(lab.load(config.data, "train"), test) / size}
        values |= {name: float(numbers[chosen.start]) for name, numbers in trained.members.hyper.items()}
        written = lab.continue_text(
            model,
            trained.best_variables(chosen)[0],
            corpus.tokenizer,
            "",
            jax.random.key(config.random.seed),
            length=corpus.lengths["text"],
            samples=SAMPLES,
            options=config.sampling,
        )
        for text in written:
            run.note(f"It writes: {text!r}")
        train, validation = (lab.curves(trained, split, chosen.start) for split in ("train", "validation"))
        best = int(np.atleast_1d(trained.fitted.best_epoch)[chosen.start])
        figures["learning_curves"] = plots.learning_curves(train, validation, best)
        return run.finish(values, figures)


def size_of(texts: data.text.Texts) -> int:
    """Bytes of texts in UTF-8, with one for the end of each, which the network is to tell as well."""
    return sum(len(text.encode("utf-8", "replace")) + 1 for text in texts.columns["text"])


def lzma_bits(known: data.text.Texts, texts: data.text.Texts) -> float:
    """Bits by which the compressed size of known texts grows with others behind them."""
    before, own = ("\n".join(each.columns["text"]).encode("utf-8", "replace") for each in (known, texts))
    return 8.0 * (len(lzma.compress(before + b"\n" + own)) - len(lzma.compress(before)))


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
