"""Classify texts with a network that a run of `etude text_classification` trained: the likeliest classes.

`etude classify_text "What a film!" --run runs/text_classification/demo` prints each class with its probability. Where
the run trained several networks, the one of the best loss on validation is used; runs/text_classification/demo/lstm
names another. Of a text that is longer than those of the training, the beginning counts, which is said.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from .. import data, lab, train
from ..data.text import Tokenizer
from ..errors import InputError
from .classify import likeliest, table_of


@dataclass(frozen=True)
class Config:
    """Which texts, and which network."""

    texts: tyro.conf.Positional[tuple[str, ...]]
    """Texts to classify, each in quotes."""
    run: Path
    """Folder of a finished run of text_classification, or of one of its networks, such as
    runs/text_classification/demo; of a population, its best member is used."""
    file: Path | None = None
    """File with a text to classify on each line, such as reviews.txt; by default none."""
    top: Annotated[int, lab.COUNT] = 5
    """Number of classes to print."""


def main(config: Config) -> list[list[tuple[str, float]]]:
    """Prints the most likely classes of each text; returns them with their probabilities, the likeliest first.

    Raises: InputError if there is no text, one is empty, or there is no network.
    """
    lab.check(config)
    texts = lab.texts_of(config.texts, config.file)
    empty = next((number for number, text in enumerate(texts, 1) if not text.strip()), None)
    if empty is not None:
        raise InputError(f"Text {empty} is empty; there is nothing to classify.")
    folder = lab.best_part(config.run)
    network = lab.load_network(folder, "text_classifier")
    saved, display = network.saved, train.Display(train.open_console())
    tokens = Tokenizer(saved.tokenizer).encode(texts)
    (length,) = saved.shape
    rows = data.text.padded(tokens, length)
    model: Any = network.model
    classify = jax.jit(lambda variables, part: jax.nn.softmax(model.apply(variables, part)))
    probabilities = lab.in_batches(lambda part: classify(network.variables, part), rows)
    display.say(f"by {folder} ({saved.model}, trained on {saved.data})")
    if network.member:
        display.say(f"Of the population this is {network.member}.")
    told = []
    for text, own, row in zip(texts, tokens, probabilities, strict=True):
        told.append(likeliest(row, saved.classes, config.top))
        display.say(text if len(text) <= 70 else f"{text[:69]}…")
        if len(own) > length:
            display.say(f"Of its {len(own):,} tokens the first {length} were read.")
        display.show(table_of(told[-1]))
    return told


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
