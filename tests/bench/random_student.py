"""Students of random weights for the benchmarks: the speed does not depend on the values of the weights."""

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
"""The sizes of the embedded student, of Phi-2 (2.78 billion parameters), and a small one for trying a benchmark."""
END_BIAS = {"embedded": 2.7, "phi-2": 4.2, "small": 1.4}
"""Added to the logit of the stop token. At temperature 0.7 and top-p 0.9 completions then end after about 10 tokens,
for Phi-2 after 120 of 256 on average, with a geometric distribution, and one in six not at all."""
NEVER = -1e4
"""A bias with which no completion ends before its limit."""


def write(folder: Path, size: str, device: str, end_bias: float | None = None) -> Path:
    """Write a student with its tokenizer into ``folder``. If ``end_bias`` is None, it is that of the size."""
    build(size, end_bias, device).save_pretrained(folder)
    tokenizer(size).save_pretrained(folder)
    return folder


def build(size: str, end_bias: float | None, device: str) -> Any:
    """Return the model alone, in bfloat16 on a GPU and in float32 on a CPU."""
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
    """Return a tokenizer with a token for each of the student's words, and role markers.

    English is divided into pieces of four letters, most of them unknown: about 1.5 tokens per word, as with Phi-2's.
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
    """Return the words that the tokenizer knows, of four letters each."""
    count = SIZES[size]["vocab_size"] - len(SPECIAL) - 1
    return ["".join(chr(ord("a") + number // 26**place % 26) for place in range(4)) for number in range(count)]


def texts(size: str, count: int, shortest: int, longest: int, seed: int = 0) -> list[str]:
    """Return random texts of ``shortest`` to ``longest`` words."""
    choice = random.Random(seed)
    known = words(size)
    return [" ".join(choice.choices(known, k=choice.randint(shortest, longest))) for _ in range(count)]
