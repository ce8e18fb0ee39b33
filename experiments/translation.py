"""Translate sentences: a recurrent network, one that looks at the source by attention, and a Transformer, side by side.

Sutskever et al. 2014; Bahdanau et al. 2015; Vaswani et al. 2017. Each network trains on the same pairs and tokens; its
best checkpoint by the loss on validation translates the held-out test sentences once. Answer: result.json's
"<network>_exact_match", "_bleu" and "_chrf", and what attention adds to short and to long sentences; figures/
quality_by_length.png and attention.png. With --population.seeds all numbers are means over seeds. `etude translate`
uses a trained network.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from .. import data, lab, metrics, models, plots

GROUPS = 6  # of test sentences of similar length, in the figure
THIRDS = 3  # short, medium and long sentences, in result.json
MAPPED = 24  # tokens, at most, of the sentence whose attention is drawn
RNN, ATTENTION = "rnn", "attention"


@dataclass(frozen=True)
class NetworkOptions:
    """Which networks translate."""

    TITLE: ClassVar[str] = "model"

    networks: Annotated[tuple[str, ...], lab.DISTINCT] = ("rnn_translator", "attention_translator", "transformer_small")
    """Names of the networks; etude models lists all, with the role translator. Numbers are reported by the first word
    of a name."""
    attention: Literal["additive", "dot"] | None = None
    """Attention of recurrent networks that have one: additive (Bahdanau et al. 2015) or dot (Luong et al. 2015); by
    default each network's own."""


@dataclass(frozen=True)
class Config:
    """Networks that translate, all trained alike."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.PairOptions = lab.PairOptions(vocab_size=1000)
    network: NetworkOptions = NetworkOptions()
    size: lab.SizeOptions = lab.SizeOptions()
    loss: lab.SmoothingOptions = lab.SmoothingOptions()
    batch: lab.BatchOptions = lab.BatchOptions(16)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adamw")
    update: lab.UpdateOptions = lab.UpdateOptions(clip_norm=1.0)
    rate: lab.RangeTestOptions = lab.RangeTestOptions(learning_rate=3e-3)
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=10)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    search: lab.SearchOptions = lab.SearchOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO = lab.override(
    Config(), width=128, attention="dot", dropout=0.0, label_smoothing=0.0, row_tokens=96, batch_size=8, epochs=6
)  # nothing here has to be kept from learning pairs by heart, which are exact and do not repeat
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", width=16, epochs=1, batch_size=64, beam=1),
    "demo": DEMO,
    "paper": lab.override(
        Config(),
        preset="paper",
        data="tfds:wmt16_translate/cs-en",
        networks=("rnn_translator", "attention_translator", "transformer_base"),
        vocab_size=37_000,
        batch_size=256,
        epochs=10,
    ),
    "multi30k": lab.override(
        Config(),
        preset="multi30k",
        data="multi30k_en_cs",
        vocab_size=6000,
        row_tokens=64,
        width=192,
        attention="dot",
        dropout=0.15,
        batch_size=32,
        epochs=8,
        length_penalty=1.0,
    ),
}


def main(config: Config) -> lab.Result:
    """Trains every network, translates the test sentences and compares."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        corpus, test = lab.corpus(config.data), lab.load(config.data, "test")
        for note in (*corpus.train.notes, *corpus.validation.notes):
            run.note(note)
        values: dict[str, float] = {}
        names = {name.rpartition(":")[2].partition("_")[0]: name for name in config.network.networks}
        for short, name in names.items():
            part = run.part(short)
            if not (part.folder / "translations.json").exists():
                run.display.say(f"{name} …")
                train_one(part, config, name, corpus, test)
            values |= {f"{short}_{what}": x for what, x in scores_of(part.folder).items()}
        for what, signature in metrics.signatures().items():
            run.note(f"{what}: {signature}")
        gains, claims = gains_of_attention(run.folder) if {RNN, ATTENTION} <= names.keys() else ({}, [])
        return run.finish(values | gains, draw(run.folder), claims)


def train_one(part: lab.Run, config: Config, name: str, corpus: lab.Corpus, test: data.text.Texts) -> None:
    """Trains one network, or a population of it, and writes what it makes of the test sentences."""
    looks = getattr(models.create(name), "attention", "none") != "none"
    plain, model = lab.text_training(
        "translator",
        corpus,
        model=name,
        fields=lab.known_fields(name, config.size, attention=config.network.attention if looks else None),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        label_smoothing=config.loss.label_smoothing,
        seed=config.random.seed,
        dtype=config.precision.dtype,
        layout=config.layout,
        accumulate=config.accumulation.accumulate,
    )
    translate = lab.translate(model, corpus.tokenizer, corpus.lengths["target"], config.search)
    epochs = config.training.epochs
    population = lab.population_of(config.population, config.grid, config.layout)
    training, schedule = lab.scheduled(plain, config.shape.schedule, config.schedule, epochs)
    peak, figures = lab.choose_rate(part, plain, config.rate, config.population, config.grid)
    lab.save_figures(figures, part.folder)
    trained = lab.fit(
        part,
        training,
        training.members(peak, config.population, config.grid),
        schedule,
        epochs,
        population=population,
        ema_decay=config.averaging.ema_decay,
        title=f"{name} on {config.data.data}",
        patience=config.stopping.patience,
        checkpoint_every=config.stopping.checkpoint_every,
    )
    part.display.doing("translating …")
    rows = trained.reported_rows(population)
    best = trained.best_variables(rows)
    sources, cut = corpus.rows(test, "source")
    if cut:
        part.note(f"Of {cut:,} of {len(test):,} test texts the first {corpus.lengths['source']} tokens are translated.")
    made = [[first for first, *_ in translate(variables, sources)] for variables in best]
    content: dict[str, Any] = {column: list(texts) for column, texts in test.columns.items()}
    content["length"] = (sources != data.text.PAD).sum(1).tolist()
    content["translations"] = made
    content["validation_loss"] = trained.at_best("validation", "loss")[rows].tolist()
    content["learning_rate"] = float(trained.members.hyper["learning_rate"][rows][0])
    if hasattr(model, "attend"):
        chosen = next((i for i, length in enumerate(content["length"]) if MAPPED // 2 < length <= MAPPED), 0)
        source, made_of_it = content["source"][chosen], made[0][chosen]
        ours, theirs, weights = lab.attention_map(model, best[0], corpus.tokenizer, source, made_of_it)
        if weights.any():  # a network without attention looks nowhere
            content["attention"] = {"source": ours, "target": theirs, "weights": np.round(weights, 4).tolist()}
    lab.write_json(part.folder / "translations.json", content)


def scores_of(folder: Path) -> dict[str, float]:
    """Means over seeds of all numbers of one network, with their spread over several seeds."""
    table = lab.read_json(folder / "translations.json")
    numbers = [metrics.translation_scores(made, table["target"]) for made in table["translations"]]
    for each, loss in zip(numbers, table["validation_loss"], strict=True):
        each["validation_loss"] = loss
    spread = tuple(numbers[0]) if len(numbers) > 1 else ()
    return lab.mean_over_seeds(numbers, spread) | {"learning_rate": table["learning_rate"]}


def by_length(table: Mapping[str, Any], groups: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Scores of groups of sentences of similar length.

    Returns: (mean length [groups], {"exact_match" and "chrf": [groups, seeds]}).
    """
    lengths = np.asarray(table["length"])
    parts = np.array_split(np.argsort(lengths, kind="stable"), groups)
    scores = [
        [
            metrics.translation_scores([made[i] for i in part], [table["target"][i] for i in part])
            for made in table["translations"]
        ]
        for part in parts
    ]
    kinds = {kind: np.array([[each[kind] for each in row] for row in scores]) for kind in ("exact_match", "chrf")}
    return np.array([lengths[part].mean() for part in parts]), kinds


def gains_of_attention(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """What attention adds to a recurrent network, in all and by the length of the sentence."""
    tables = {name: lab.read_json(folder / name / "translations.json") for name in (RNN, ATTENTION)}
    whole, thirds = ({name: by_length(table, n)[1] for name, table in tables.items()} for n in (1, THIRDS))
    values, claims = {}, []
    for kind in ("exact_match", "chrf"):
        gain = thirds[ATTENTION][kind] - thirds[RNN][kind]
        named = zip(("short", "medium", "long"), gain.mean(1), strict=True)
        values |= {f"attention_gain_{kind}_{length}": float(x) for length, x in named}
    gain = (whole[ATTENTION]["chrf"] - whole[RNN]["chrf"])[0]
    claims.append(lab.Claim("chrF that attention adds, least of all seeds", gain.min(), "> 0", bool(gain.min() > 0)))
    growth = float(values["attention_gain_chrf_long"] - values["attention_gain_chrf_short"])
    claims.append(lab.Claim("chrF that attention adds to long more than to short sentences", growth, "> 0", growth > 0))
    return values, claims


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from what the run's folder holds."""
    tables = {path.parent.name: lab.read_json(path) for path in sorted(folder.glob("*/translations.json"))}
    labels = {"exact_match": "exact match", "chrf": "chrF"}
    scores: dict[str, dict[str, np.ndarray]] = {label: {} for label in labels.values()}
    lengths, seeds = np.zeros(0), 1
    for name, table in tables.items():
        lengths, kinds = by_length(table, min(GROUPS, len(table["length"])))
        seeds = len(table["translations"])
        for kind, label in labels.items():
            scores[label][name] = kinds[kind]
    figures = {"quality_by_length": plots.quality_by_length(lengths, scores, seeds)}
    maps = {name: table["attention"] for name, table in tables.items() if "attention" in table}
    if maps:
        figures["attention"] = plots.attention_maps(
            {name: (each["source"], each["target"], np.asarray(each["weights"])) for name, each in maps.items()}
        )
    return figures


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
