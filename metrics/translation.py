"""How good translations are: exact matches, and BLEU and chrF by their official implementation, sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError


def translation_scores(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Numbers of a whole split.

    Args:
      hypotheses: translations, one for each reference.
      references: what they should be, one each.
    Returns: "exact_match", the fraction of translations that are their reference, blanks at both ends apart; "bleu" and
      "chrf", of all together, 0 to 100, as `signatures` says.
    Raises: InputError if there are none, or not as many of one as of the other.
    Source: Papineni et al. 2002 (BLEU); Popović 2015 (chrF2); Post 2018 (sacrebleu).

    >>> scores = translation_scores(["the cat sat on a mat"], ["the cat sat on the mat"])
    >>> scores["exact_match"], round(scores["bleu"], 1), round(scores["chrf"], 1)
    (0.0, 53.7, 66.0)
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if not references or len(hypotheses) != len(references):
        raise InputError(f"{len(hypotheses)} translations were given for {len(references)} references.")
    exact = sum(ours.strip() == theirs.strip() for ours, theirs in zip(hypotheses, references, strict=True))
    every, wanted = list(hypotheses), [list(references)]
    return {
        "exact_match": exact / len(references),
        "bleu": BLEU().corpus_score(every, wanted).score,
        "chrf": CHRF().corpus_score(every, wanted).score,
    }


def signatures() -> dict[str, str]:
    """What "bleu" and "chrf" stand for in full: sacrebleu's signatures, to be cited beside them."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    found = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.corpus_score(["one"], [["one"]])  # counts the references, which the signature states
        found[name] = str(metric.get_signature())
    return found
