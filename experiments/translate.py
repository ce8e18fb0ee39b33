"""Translate texts with a network that a run of `etude translation` trained.

`etude translate "9/9/12 7:11 PM" --run runs/translation/demo` prints the translation. Where the run trained several
networks, the one of the best validation is used; runs/translation/demo/attention names another. A beam search finds
the translation, as in the experiment.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .. import lab, train
from ..data.text import Tokenizer


@dataclass(frozen=True)
class Config:
    """Which texts, and which network."""

    texts: tyro.conf.Positional[tuple[str, ...]]
    """Texts to translate, each in quotes."""
    run: Path
    """Folder of a finished run of translation, or of one of its networks, such as runs/translation/demo; of a
    population, its best member is used."""
    file: Path | None = None
    """File with a text to translate on each line, such as captions.txt; by default none."""
    best: Annotated[int, lab.COUNT] = 1
    """Number of translations of each text to print, the best first; at most as many as the beam is wide."""
    search: lab.SearchOptions = lab.SearchOptions()


def main(config: Config) -> list[list[str]]:
    """Prints the best translations of each text, and returns them.

    Raises: InputError if there is no text or no network, or a text is too long.
    """
    lab.check(config)
    texts = lab.texts_of(config.texts, config.file)
    folder = lab.best_part(config.run)
    network = lab.load_network(folder, "translator")
    saved, tokenizer = network.saved, Tokenizer(network.saved.tokenizer)
    most_read, most_written = saved.shape
    wanted = [text for text in texts if text.strip()]  # nothing is the translation of nothing
    rows = lab.rows_for(wanted, tokenizer, most_read)
    translate = lab.translate(network.model, tokenizer, most_written, config.search, config.best)
    made = iter(translate(network.variables, rows))
    told = [next(made) if text.strip() else [""] for text in texts]
    display = train.Display(train.open_console())
    display.say(f"by {folder} ({saved.model}, trained on {saved.data})")
    if network.member:
        display.say(f"Of the population this is {network.member}.")
    for translation in (each for best in told for each in best):
        display.say(translation)
    return told


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
