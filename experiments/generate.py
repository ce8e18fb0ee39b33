"""Continue a text with a language model that a run trained.

`etude generate "On Monday" --run runs/language_model/demo` prints what the network writes behind the text; without a
text it begins one. `--samples 5` prints five, `--temperature 0.7` likelier ones.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro

from .. import lab, train
from ..data.text import Tokenizer


@dataclass(frozen=True)
class Config:
    """Which text, and which network."""

    run: Path
    """Folder of a finished run of language_model, such as runs/language_model/demo; of a population, its best member is
    used."""
    text: tyro.conf.Positional[str] = ""
    """Text to continue, in quotes; by default a new text begins."""
    samples: Annotated[int, lab.at_least(1, 1000)] = 1
    """Number of continuations."""
    random: lab.RandomOptions = lab.RandomOptions()
    sampling: lab.SamplingOptions = lab.SamplingOptions()


def main(config: Config) -> list[str]:
    """Prints the text with each continuation, and returns them.

    Raises: InputError if there is no network, or the text is too long for it.
    """
    lab.check(config)
    network = lab.load_network(config.run, "language_model")
    saved, display = network.saved, train.Display(train.open_console())
    told = lab.continue_text(
        network.model,
        network.variables,
        Tokenizer(saved.tokenizer),
        config.text,
        jax.random.key(config.random.seed),
        length=saved.shape[0],
        samples=config.samples,
        options=config.sampling,
    )
    display.say(f"by {config.run} ({saved.model}, trained on {saved.data})")
    if network.member:
        display.say(f"Of the population this is {network.member}.")
    for continuation in told:
        display.say(config.text + continuation)
    return [config.text + continuation for continuation in told]


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
