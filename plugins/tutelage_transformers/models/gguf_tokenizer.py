"""A tokenizer of the library ``tokenizers`` as llama.cpp's vocabulary. One that llama.cpp does not have is refused.

llama.cpp has its own code for each way of splitting a text, which a file selects by name. The name is chosen by the
structure of the tokenizer, so that it does not depend on the model's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.errors import InputError

# The kinds of tokens in GGUF (gguf.TokenType).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

SPACE = "\u2581"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NO_SCORE = -1e6
"""The score of a token that no merge makes."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REMAINING = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REMAINING}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REMAINING}"


@frozen
class Vocabulary:
    """What GGUF stores of a tokenizer."""

    model: str
    """``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece)."""
    pre: str
    """The name of the way in which llama.cpp splits a text before it merges."""
    tokens: Sequence[str]
    kinds: Sequence[int]
    scores: Sequence[float] | None
    """For ``llama``: the higher the score of a token, the earlier it is merged."""
    merges: Sequence[str] | None
    """For ``gpt2``, in the order in which they are applied."""


def vocabulary_of(tokenizer: Any, rows: int, name: str) -> Vocabulary:
    """Return the vocabulary of a fast tokenizer for a model with ``rows`` embeddings.

    Raises ``InputError`` with the name of what llama.cpp does not have.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise _unknown(name, tokenizer, f"its model is {model['type']}")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise _unknown(name, tokenizer, f"its model has the option {key}")
    if len(tokenizer) > rows:
        raise InputError(f"{name}: the tokenizer has {len(tokenizer)} tokens, and the model {rows} embeddings")
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    is_spm = _is_sentencepiece(state)
    pre = "default" if is_spm else _pre_of(state)
    if pre is None:
        raise _unknown(name, tokenizer, f"it splits texts by {_words(state['pre_tokenizer'])}")
    tokens, kinds = _tokens(tokenizer, rows, model.get("unk_token"), is_spm)
    if is_spm:
        return Vocabulary("llama", pre, tokens, kinds, _scores(tokens, kinds, merges), None)
    return Vocabulary("gpt2", pre, tokens, kinds, None, [f"{first} {second}" for first, second in merges])


def _unknown(name: str, tokenizer: Any, what: str) -> InputError:
    return InputError(
        f"{name}: its tokenizer ({type(tokenizer).__name__}) cannot be written as GGUF: {what}, which llama.cpp does "
        "not have; export it without --format gguf"
    )


def _is_sentencepiece(state: Mapping[str, Any]) -> bool:
    """Whether it is a BPE of SentencePiece that puts no space before the text, such as Gemma's."""
    splits = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    return (
        bool(state["model"].get("byte_fallback"))
        and state["normalizer"] == {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        and state["pre_tokenizer"] in (None, splits)  # no space is left to split at
    )


def _pre_of(state: Mapping[str, Any]) -> str | None:
    """The name in llama.cpp of the way in which a byte-level BPE splits a text."""
    if state["normalizer"] not in (None, {"type": "NFC"}) or state["model"].get("byte_fallback"):
        return None
    steps = state["pre_tokenizer"] or {}
    steps = steps["pretokenizers"] if steps.get("type") == "Sequence" else [steps]
    *before, last = steps
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return None
    merges_whole = bool(state["model"].get("ignore_merges"))
    if last.get("use_regex", True):
        digits = [{"type": "Digits", "individual_digits": True}]
        return None if merges_whole else "gpt-2" if not before else "smollm" if before == digits else None
    if len(before) != 1 or before[0].get("type") != "Split" or before[0].get("behavior") != "Isolated":
        return None
    pattern = before[0]["pattern"].get("Regex")
    if pattern == _LLAMA3 and merges_whole:
        return "llama-bpe"
    return "qwen2" if pattern == _QWEN2 and not merges_whole else None


def _words(steps: Any) -> str:
    text = json.dumps(steps, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _tokens(tokenizer: Any, rows: int, unknown: str | None, is_spm: bool) -> tuple[list[str], list[int]]:
    """The text and the kind of each token. Embeddings without a token get a name that no text contains."""
    texts = {number: text for text, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for number in range(rows):
        text = texts.get(number)
        tokens.append(f"[PAD{number}]" if text is None else text)
        if text is None:
            kinds.append(UNUSED)
        elif text == unknown:
            kinds.append(UNKNOWN)
        elif number in added and not (is_spm and SPACE in text):  # such a token has to be decoded to spaces
            kinds.append(CONTROL if added[number].special else USER_DEFINED)
        else:
            kinds.append(BYTE if is_spm and _BYTE.fullmatch(text) else NORMAL)
    return tokens, kinds


def _scores(tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[tuple[str, ...]]) -> list[float]:
    """The scores by which llama.cpp merges in the order of ``merges``."""
    ranks: dict[str, int] = {}
    for rank, (first, second) in enumerate(merges):
        ranks.setdefault(first + second, rank)
    others = {NORMAL: _NO_SCORE}
    return [
        -float(ranks[text]) if kind in (NORMAL, USER_DEFINED) and text in ranks else others.get(kind, 0.0)
        for text, kind in zip(tokens, kinds, strict=True)
    ]
