"""The tokenizer of the tiny world: each word, number and mark is one token, and a text survives the round trip.

It has neither a chat template nor a pad token, as Phi-2 has neither: the first training step sets and saves both. The
tokens for that are in the vocabulary already, unread in pretraining, so that no embedding has to grow.
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
"""Special tokens for whoever gives the tokenizer a chat template and a pad token."""
CHAT_WORDS = "Instruct Output User Assistant with by new more like here are some examples example request reply"
"""Words that chat templates and requests are made of, beside those of the world's own text."""
_PIECE = r"[^\s,.:?]+|[,.:?\n]"


def vocabulary() -> list[str]:
    """Every token, in the order of its id."""
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
    """The tokenizer, ready to be saved beside the weights.

    For every text that is made of its tokens with single spaces between words, as all text of the world and every
    answer of a student is, ``decode(encode(text)) == text``. Anything else becomes the unknown token.
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
