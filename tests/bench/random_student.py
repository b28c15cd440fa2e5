"""Students of random weights for the benchmarks: speed does not depend on what the weights say."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

SPECIAL = ["<|endoftext|>", "<|unk|>", "<|user|>", "<|assistant|>", "<|pad|>"]
SIZES: dict[str, dict[str, Any]] = {
    "embedded": {
        "vocab_size": 232,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "initializer_range": 0.06,
    },
    "phi-2": {
        "vocab_size": 51200,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "partial_rotary_factor": 0.4,
    },
    "small": {
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 2048,
    },
}
"""The embedded student's, Phi-2's (2.78 billion parameters), and one with which to try a benchmark."""
END_BIAS = {"embedded": 2.7, "phi-2": 4.2, "small": 1.4}
"""Added to the end token's logit. At temperature 0.7 and top-p 0.9, replies end after 10 tokens or so; for Phi-2 after
120 of 256 on average, geometrically, every sixth not at all."""
NEVER = -1e4
"""An end bias with which no reply ends before its limit."""


def write(folder: Path, size: str, device: str, end_bias: float | None = None) -> Path:
    """Write a student with its tokenizer into ``folder``; ``end_bias`` of None is the size's own."""
    build(size, end_bias, device).save_pretrained(folder)
    tokenizer(size).save_pretrained(folder)
    return folder


def build(size: str, end_bias: float | None, device: str) -> Any:
    """The weights alone, in bfloat16 on a GPU and in float32 on a CPU."""
    import torch
    from transformers import PhiConfig, PhiForCausalLM

    torch.manual_seed(0)
    config = PhiConfig(bos_token_id=0, eos_token_id=0, **SIZES[size])
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.startswith("cuda") else torch.float32)
    try:
        with torch.device(device):
            model = PhiForCausalLM(config)
    finally:
        torch.set_default_dtype(dtype)
    model.lm_head.bias.data[0] = END_BIAS[size] if end_bias is None else end_bias
    return model.eval()


def tokenizer(size: str) -> Any:
    """A token for each of the student's words, with role markers.

    English is cut into pieces of four letters, most of them unknown: one and a half a word, about as Phi-2's does.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words(size)])}
    by_word = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    by_word.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex("[A-Za-z]{1,4}"), "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=by_word, eos_token=SPECIAL[0], unk_token=SPECIAL[1], extra_special_tokens=SPECIAL[2:]
    )


def words(size: str) -> list[str]:
    """The words that the tokenizer knows, of four letters each."""
    count = SIZES[size]["vocab_size"] - len(SPECIAL) - 1
    return ["".join(chr(ord("a") + number // 26**place % 26) for place in range(4)) for number in range(count)]


def texts(size: str, count: int, shortest: int, longest: int, seed: int = 0) -> list[str]:
    """Random texts of ``shortest`` to ``longest`` words."""
    choice = random.Random(seed)
    known = words(size)
    return [" ".join(choice.choices(known, k=choice.randint(shortest, longest))) for _ in range(count)]
