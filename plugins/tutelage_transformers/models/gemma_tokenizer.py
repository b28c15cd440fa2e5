"""Gemma's tokenizer, made from the vocabulary of a GGUF file with the library ``tokenizers``.

transformers makes one from a GGUF file too, but another one in each range of versions: 5.0 to 5.17 make one without
Gemma's merges, and 5.18 to 5.22 one that begins no text with ``<bos>``. All of them read the files written here alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tutelage_transformers.models.gguf_tokenizer import CONTROL, SPACE, USER_DEFINED

_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
"""The special tokens, by their names in transformers; the names in GGUF."""


def write_gemma_tokenizer(file: Path, output: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` of a Gemma model's GGUF file into the folder ``output``.

    Needs the package ``gguf``. Raises ``KeyError`` if the file has no vocabulary or lacks a special token.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    fields = GGUFReader(file).fields
    texts, kinds = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type"))
    # GGUF has runs of spaces as they are in a text; in the tokenizer, the normaliser has replaced them before.
    tokens = [text if text.strip(" ") else SPACE * len(text) for text in texts]
    roles = {role: tokens[fields[f"tokenizer.ggml.{name}_token_id"].contents()] for role, name in _ROLES.items()}
    begin = roles["bos_token"]

    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(numbers, _merges(tokens), unk_token=roles["unk_token"], fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, numbers[begin])]
    )
    added = [  # without runs of spaces: an added token is looked for in the text before it is normalised
        (AddedToken(token, normalized=False), kind)
        for token, kind in zip(tokens, kinds, strict=True)
        if not token.startswith(SPACE)
    ]
    tokenizer.add_special_tokens([token for token, kind in added if kind == CONTROL])
    tokenizer.add_tokens([token for token, kind in added if kind == USER_DEFINED])
    tokenizer.save(str(output / "tokenizer.json"))
    settings = {**roles, "tokenizer_class": "GemmaTokenizer"}
    (output / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _merges(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, in the order of the tokens that they make.

    GGUF does not store SentencePiece's merges. Gemma's tokens are in the order in which they were learned.
    """
    known = set(tokens)
    cuts = ((token[:cut], token[cut:]) for token in tokens for cut in range(len(token) - 1, 0, -1))
    return [(first, second) for first, second in cuts if first in known and second in known]
