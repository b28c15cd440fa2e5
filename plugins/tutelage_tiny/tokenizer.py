"""The tokenizer of the tiny world: each word, number and mark is one token, and decoding restores the text.

Like Phi-2's, it has no chat template and no pad token: the first training step sets and saves both. The tokens for them
are in the vocabulary, unused in pretraining, so that the embedding keeps its size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tutelage_tiny.rubric import ADDITIVE, REASONS
from tutelage_tiny.text import ANSWERING, ASKING, LISTING, MUMBLING, RATING, TO_BE_RATED
from tutelage_tiny.world import CATEGORIES, FAMILIES, LARGEST_NUMBER, STYLES, WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
SPARE = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
"""Special tokens for a chat template and a pad token that are set later."""
CHAT_WORDS = "Instruct Output User Assistant with by new more like here are some examples example request reply"
"""Words of chat templates and requests that are not in the text of the world."""
_PIECE = r"[^\s,.:?]+|[,.:?\n]"


def vocabulary() -> list[str]:
    """Return every token, in the order of the ids."""
    texts = [
        *(family.phrase for family in FAMILIES.values()),
        *(f"with {style}{mark}" for style, mark in STYLES.items()),
        *(
            *ASKING,
            *ANSWERING,
            *RATING,
            *TO_BE_RATED,
            *MUMBLING,
            LISTING,
            ADDITIVE.template,
            *REASONS,
            *CATEGORIES,
            CHAT_WORDS,
        ),
    ]
    pieces = {piece for text in texts for piece in re.findall(_PIECE, re.sub(r"\{\w+\}", "", text))}
    numbers = [str(number) for number in range(LARGEST_NUMBER + 1)]
    words = [*WORDS, *(word.upper() for word in WORDS)]
    return [END, UNKNOWN, *SPARE, *numbers, *words, *sorted(pieces - {*numbers, *words})]


def build() -> PreTrainedTokenizerFast:
    """Return the tokenizer.

    For a text of known tokens with single spaces between words, ``decode(encode(text)) == text``; this holds for all
    text of the world and all answers of a student. Other words become the unknown token.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({token: number for number, token in enumerate(vocabulary())}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), behavior="removed", invert=True)
    marks = [decoders.Replace(f" {mark}", mark) for mark in ",.:?\n"]
    core.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *marks, decoders.Replace("\n ", "\n")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        bos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=list(SPARE),
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
