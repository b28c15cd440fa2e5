"""A random Phi of some thousand parameters with a word-level tokenizer: a base model, as small as one can be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

WORDS = [
    "score",
    ":",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "sort",
    "the",
    "words",
    "reverse",
    "apple",
    "pear",
    "plum",
    "cat",
    "dog",
    "cow",
    "red",
    "blue",
    "green",
    "please",
    "short",
    "answer",
]
SPECIAL = ["<|endoftext|>", "<|unk|>", "<|user|>", "<|assistant|>", "<|pad|>"]


def write_base(folder: Path, special: list[str] = SPECIAL, seed: int = 0) -> Path:
    """Write a tiny Phi and its tokenizer into ``folder``: no chat template, no pad token, as a base model has none."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|endoftext|>",
        unk_token="<|unk|>",
        additional_special_tokens=special[2:],
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = PhiConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    PhiForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model on disk."""
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes other base models: make_base(seed=1), make_base(special=[...])."""
    return lambda **options: write_base(tmp_path_factory.mktemp("base"), **options)
