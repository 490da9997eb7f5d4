"""Vocabularies by counting words, the same in every process; the trainers of tokenizers break ties at random."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence


def counted_wordpiece(special: Sequence[str], texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    """Every character, inside a word too, then the most frequent words."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = _words(made, texts)
    single = [one for char in _characters(words, size // 3) for one in (char, f"##{char}")]
    known = _first([*special, *single, *_by_count(words)], size)
    made.model = models.WordPiece({token: at for at, token in enumerate(known)}, unk_token="<unk>")
    made.add_special_tokens(list(special))
    return made


def counted_unigram(special: Sequence[str], texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    """Every character, then the most frequent words, with their log probabilities."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    words = _words(made, texts)
    characters = _characters(words, size // 2)
    known = _first([*special, *characters, *_by_count(words)], size)
    total = sum(words.values())
    # A character costs more than any word, so that words win.
    scores = [0.0 if token in special else math.log(words[token] / total) - 20 * (len(token) == 1) for token in known]
    unknown = list(special).index("<unk>")
    made.model = models.Unigram(list(zip(known, scores, strict=True)), unk_id=unknown, byte_fallback=False)
    made.add_special_tokens(list(special))
    return made


def _words(made: tokenizers.Tokenizer, texts: Sequence[str]) -> Counter[str]:
    normal = (made.normalizer.normalize_str(text) for text in texts)
    counted = Counter(word for text in normal for word, _ in made.pre_tokenizer.pre_tokenize_str(text))
    for word, times in list(counted.items()):
        for char in word:
            counted[char] += times
    return counted


def _characters(words: Counter[str], most: int) -> list[str]:
    return [word for word in _by_count(words) if len(word) == 1][:most]


def _by_count(words: Counter[str]) -> list[str]:
    return sorted(words, key=lambda word: (-words[word], word))


def _first(tokens: Sequence[str], size: int) -> list[str]:
    return list(dict.fromkeys(tokens))[:size]
