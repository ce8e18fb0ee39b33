"""Networks that classify texts, as a `Training`, and the baseline that each must beat: a bag of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import numpy as np

from .. import data, tasks
from ..data.text import Texts, Tokenizer
from .options import BatchOptions, LabeledTextOptions, LayoutOptions, OptimizerOptions, UpdateOptions
from .saved_network import SavedNetwork
from .texts import labeled_texts, trained_tokenizer
from .training import Training, load, make_training, named_network

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the baseline: C of its logistic regression
NGRAMS = (1, 2)  # of the baseline: the most words of a feature


@dataclass(frozen=True)
class LabeledCorpus:
    """Texts with labels, as tokens, one text to a row."""

    tokenizer: Tokenizer
    """Taught by the training split."""
    length: int
    """The most tokens of a text that are read."""
    train: data.Source
    """The training split."""
    validation: data.Source
    """The split to choose on."""
    test: data.Source
    """The split to report on, once."""


def labeled_corpus(options: LabeledTextOptions) -> LabeledCorpus:
    """Reads all splits.

    Args:
      options: name the texts, the kind of tokens and the most that are read of each text.
    Raises: InputError if there are no such texts, or the tokenizer can't be trained.
    """
    texts = {split: load(options, split) for split in ("train", "validation", "test")}
    tokenizer = trained_tokenizer(options, texts["train"])
    sources = {split: labeled_texts(each, tokenizer, options.row_tokens) for split, each in texts.items()}
    return LabeledCorpus(tokenizer, options.row_tokens, **sources)


def text_classification(
    corpus: LabeledCorpus,
    *,
    model: str | nn.Module,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    label_smoothing: float = 0.0,
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
) -> tuple[Training, nn.Module]:
    """The training of the network that options name, and the network.

    Args:
      corpus: texts with labels, as tokens.
      model: a name of `models.names(role="text_classifier")`, or a module: tokens [batch, length] -> logits.
      batch, optimizer, update, layout: groups of options.
      label_smoothing: probability that the training target moves from the label to all classes alike.
      seed: seed of the training.
      fields: fields of the named network, such as {"width": 64}.
      dtype: data type of activations and gradients.
      accumulate: number of parts of a batch.
    Raises: InputError for a name, field or number that is not valid.
    """
    name, network = None, model
    if isinstance(model, str):
        name = model
        sizes = {"num_classes": len(corpus.train.classes), "vocab_size": corpus.tokenizer.vocab_size}
        network = named_network(model, "text_classifier", dtype, None, **sizes, **(fields or {}))
    assert isinstance(network, nn.Module)
    task = tasks.classification(network, (corpus.length,), reads="text", label_smoothing=label_smoothing)
    training = make_training(
        task,
        corpus.train,
        corpus.validation,
        batch=batch,
        optimizer=optimizer,
        update=update,
        seed=seed,
        layout=layout,
        accumulate=accumulate,
    )
    saved = SavedNetwork.of_texts(network, name, corpus.train, "text_classifier", corpus.tokenizer, (corpus.length,))
    return replace(training, saved=saved), network


def bag_of_words(options: LabeledTextOptions) -> dict[str, float]:
    """The baseline: logistic regression on TF-IDF of words, by scikit-learn.

    Strength of its regularization and length of its features are chosen on validation; the test is read once.

    Args:
      options: name the texts.
    Returns: "baseline_accuracy" and "baseline_validation_accuracy", fractions; "baseline_c" and "baseline_ngrams", what
      was chosen.
    Raises: InputError if the texts hold no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, validation, test = (load(options, split) for split in ("train", "validation", "test"))

    def right(fitted: Any, texts: Texts) -> float:
        return float(np.mean(fitted.predict(texts.columns["text"]) == np.asarray(texts.labels)))

    best, chosen, fitted = -1.0, (0.0, 0), None
    for ngrams in NGRAMS:
        for strength in STRENGTHS:
            words = TfidfVectorizer(ngram_range=(1, ngrams), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
            made = make_pipeline(words, LogisticRegression(C=strength, max_iter=1000))
            made.fit(train.columns["text"], np.asarray(train.labels))
            accuracy = right(made, validation)
            if accuracy > best:
                best, chosen, fitted = accuracy, (strength, ngrams), made
    return {
        "baseline_accuracy": right(fitted, test),
        "baseline_validation_accuracy": best,
        "baseline_c": chosen[0],
        "baseline_ngrams": chosen[1],
    }
