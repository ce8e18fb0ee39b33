"""Figures of translations: how good they are by the length of the sentence, and where attention looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .names import drawable
from .style import figure, legend, line, of_seeds

CELL = 0.17  # inches of a token in a map of attention


def quality_by_length(lengths: np.ndarray, scores: Mapping[str, Mapping[str, np.ndarray]], seeds: int) -> Figure:
    """Scores of several networks against the length of the sentence, a panel for each kind of score.

    Args:
      lengths: mean length of each group of sentences in tokens, [groups].
      scores: label of a score -> network -> [groups, seeds].
      seeds: number of seeds.
    """
    with figure(3.1 * len(scores) + 1.5, 2.8) as fig:
        row = fig.subplots(1, len(scores), squeeze=False)[0]
        for axes, (label, of_network) in zip(row, scores.items(), strict=True):
            for i, (name, values) in enumerate(of_network.items()):
                style = line(i, len(lengths))
                axes.plot(lengths, values.mean(1), **style, label=name.replace("_", " "))
                low, high = values.min(1), values.max(1)
                axes.fill_between(lengths, low, high, color=style["color"], alpha=0.15, linewidth=0)
            axes.set(xlabel="length of the source (tokens)", ylabel=label)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        legend(fig, *row, title=of_seeds(seeds, "mean and range"))
    return fig


def attention_maps(maps: Mapping[str, tuple[Sequence[str], Sequence[str], np.ndarray]]) -> Figure:
    """Where networks look in the source while they write each token of the translation.

    Args:
      maps: network -> (tokens of the source, tokens of the translation, weights [translation, source]).
    """
    shown = {name: ([*map(_visible, ours)], [*map(_visible, theirs)], w) for name, (ours, theirs, w) in maps.items()}
    widths = [len(ours) for ours, _, _ in shown.values()]
    tallest = max(len(theirs) for _, theirs, _ in shown.values())
    tokens = list(dict.fromkeys(token for ours, theirs, _ in shown.values() for token in (*ours, *theirs)))
    names, fonts = drawable(tokens)
    written = dict(zip(tokens, names, strict=True))
    with figure(CELL * sum(widths) + 1.2 * len(shown) + 0.8, CELL * tallest + 1.3, fonts) as fig:
        row = fig.subplots(1, len(shown), squeeze=False, width_ratios=widths)[0]
        image = None
        for axes, (name, (ours, theirs, weights)) in zip(row, shown.items(), strict=True):
            image = axes.imshow(weights, cmap="gray_r", vmin=0, vmax=1, aspect="equal")
            axes.set_xticks(range(len(ours)), [written[token] for token in ours], rotation=90)
            axes.set_yticks(range(len(theirs)), [written[token] for token in theirs])
            axes.set(title=name.replace("_", " "), xlabel="source", ylabel="translation")
            axes.spines[:].set_visible(True)
        assert image is not None
        fig.colorbar(image, ax=row.tolist(), label="attention weight", shrink=0.7)
    return fig


def _visible(token: str) -> str:
    """A token with its blanks marked, so that a reader sees where words begin."""
    return token.replace(" ", "·").replace("\n", "⏎")
