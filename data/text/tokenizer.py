"""Text to tokens and back: bytes, characters, or subwords learned from a text, by the library `tokenizers`.

A tokenizer is a value: a run saves its JSON beside the network, since weights mean nothing without it. Four tokens are
special, whatever the kind. Texts are brought to Unicode's composed form (NFC) first, so that "é" is one letter however
it was typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from ...errors import InputError, MissingFile, unknown_name

SPECIAL = ("<pad>", "<begin>", "<end>", "<unknown>")
PAD, BEGIN, END, UNKNOWN = range(len(SPECIAL))
"""Tokens that are no text: padding behind a text, its begin and end, and a character that was not seen."""
KINDS = ("bytes", "characters", "subwords")
MOST_CHARACTERS = 10_000
"""Different characters that a tokenizer of characters can know."""


@dataclass(frozen=True)
class Tokenizer:
    """A trained tokenizer. Raises: InputError if the JSON is not one of ours."""

    json: str
    """What `tokenizers` saves of it."""

    def __post_init__(self):
        if [self._library.token_to_id(token) for token in SPECIAL] != list(range(len(SPECIAL))):
            raise InputError(f"A tokenizer's first tokens must be {', '.join(SPECIAL)}; these are others.")

    @cached_property
    def _library(self) -> Any:
        import tokenizers

        try:
            library = tokenizers.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises Exception itself
            raise InputError(f"This is not a tokenizer's JSON: {error}.") from error
        library.encode_special_tokens = True  # a text that says "<end>" does not end there
        return library

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        return self._library.get_vocab_size()

    def encode(self, texts: Sequence[str], *, begin: bool = False, end: bool = True) -> list[np.ndarray]:
        """The tokens of each text, int32 [its length].

        Args:
          texts: any texts. Of characters that a tokenizer of characters has not seen, the token is `UNKNOWN`; the other
            kinds know all.
          begin: `BEGIN` before them.
          end: `END` behind them.
        """
        before, behind = [BEGIN] * begin, [END] * end
        encodings = self._library.encode_batch(list(map(_clean, texts)), add_special_tokens=False)
        return [np.array([*before, *each.ids, *behind], np.int32) for each in encodings]

    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """The text of each sequence of tokens, up to its first `END`; other special tokens are left out."""
        return self._library.decode_batch([_until_end(each) for each in tokens], skip_special_tokens=True)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token alone, for figures; special ones by their names."""
        return [SPECIAL[i] if i < len(SPECIAL) else self._library.decode([i]) for i in map(int, tokens)]


def train_tokenizer(texts: Iterable[str], kind: str = "subwords", *, vocab_size: int = 8000) -> Tokenizer:
    """The tokenizer of a kind that fits texts; of the same texts it is the same.

    Args:
      texts: what to train on: training data alone.
      kind: "bytes" of UTF-8; "characters", those of the texts; or "subwords", pairs of bytes, merged as often as they
        occur (Sennrich et al. 2016; on bytes as in GPT-2, so that no text is unknown), but each digit alone, as in
        LLaMA: numbers are then spelled in one way.
      vocab_size: number of tokens of subwords, at most; the other kinds take what they need.
    Raises: InputError for an unknown kind, a vocabulary that has no room for 256 bytes, or too many characters.

    >>> tokenizer = train_tokenizer(["a banana", "a bandana"], "characters")
    >>> tokenizer.encode(["anna"])[0].tolist(), tokenizer.decode(tokenizer.encode(["a band"]))
    ([5, 8, 8, 5, 2], ['a band'])
    """
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Library

    if kind not in KINDS:
        raise unknown_name("tokenizer", kind, KINDS)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if kind == "characters":
        characters = sorted(set(normalize("NFC", "".join(map(_clean, texts)))))
        if len(characters) > MOST_CHARACTERS:
            raise InputError(
                f"The texts have {len(characters)} different characters; a tokenizer of characters knows at most "
                f"{MOST_CHARACTERS}. Take bytes or subwords."
            )
        vocabulary = {token: i for i, token in enumerate((*SPECIAL, *characters))}
        library = Library(models.WordLevel(vocabulary, unk_token=SPECIAL[UNKNOWN]))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        library.decoder = decoders.Fuse()
    else:
        library = Library(models.BPE({token: i for i, token in enumerate((*SPECIAL, *alphabet))}, []))
        split = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alone = pre_tokenizers.Digits(individual_digits=True)
        library.pre_tokenizer = pre_tokenizers.Sequence([alone, split]) if kind == "subwords" else split
        library.decoder = decoders.ByteLevel()
    library.normalizer = normalizers.NFC()
    library.add_special_tokens(list(SPECIAL))
    if kind == "subwords":
        least = len(SPECIAL) + len(alphabet)
        if vocab_size < least:
            raise InputError(f"vocab_size is {vocab_size}; of subwords it must be at least {least}.")
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=list(SPECIAL),
            initial_alphabet=alphabet,
            show_progress=False,
        )
        library.train_from_iterator(map(_clean, texts), trainer)
    return Tokenizer(library.to_str())


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file that holds its JSON.

    Raises: MissingFile if there is none; InputError if it holds something else.
    """
    if not path.is_file():
        raise MissingFile(f"There is no tokenizer {path}.")
    try:
        return Tokenizer(path.read_text(encoding="utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path} holds no tokenizer: {error}") from error


def _clean(text: str) -> str:
    """A text that can be encoded: half of a pair of surrogates, which is no character, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _until_end(tokens: Sequence[int]) -> list[int]:
    kept = []
    for token in map(int, tokens):
        if token == END:
            break
        kept.append(token)
    return kept
