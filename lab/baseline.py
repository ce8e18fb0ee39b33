"""The baseline that networks which classify texts must beat: a bag of words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.text import SPLITS, Texts

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # C of its logistic regression
NGRAMS = (1, 2)  # the most words of a feature


def bag_of_words(texts: Mapping[str, Texts]) -> dict[str, float]:
    """The baseline: logistic regression on TF-IDF of words, by scikit-learn.

    Strength of its regularization and length of its features are chosen on validation; the test is read once.

    Args:
      texts: split -> its texts, with labels.
    Returns: "baseline_accuracy" and "baseline_validation_accuracy", fractions; "baseline_c" and "baseline_ngrams", what
      was chosen.
    Raises: InputError if the texts hold no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, validation, test = (texts[split] for split in SPLITS)

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
