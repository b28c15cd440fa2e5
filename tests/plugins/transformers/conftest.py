"""A random Phi of some thousand parameters with a word-level tokenizer: the smallest base model for tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import chat_templates
import pytest

from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import message, supervised_row
from tutelage.records import Model
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.settings import TransformersSettings

os.environ["OMP_NUM_THREADS"] = "1"

WORDS = "score : better first second 0 1 2 3 4 5 sort the words apple pear plum cat dog cow red blue please"
MARKED = ("<|endoftext|>", "<|unk|>", "<|user|>", "<|assistant|>", "<|pad|>")
WITH_SYSTEM = ("<|endoftext|>", "<|unk|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>")
UNMARKED = ("<|endoftext|>", "<|unk|>")


def write_base(
    folder: Path, special: Iterable[str] = MARKED, seed: int = 0, rows: int = 64, template: str | None = None
) -> Path:
    """Write a tiny Phi and its tokenizer into ``folder``.

    As a base model, it has no pad token and, without ``template``, no chat template.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    special = list(special)
    more = ["Instruct", "Output"] if "<|user|>" not in special else []
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS.split(), *more])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=special[0], unk_token="<|unk|>", extra_special_tokens=special[2:]
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = PhiConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
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
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with other weights."""
    return write_base(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture
def make_base(tmp_path: Path) -> Callable[..., Path]:
    """Writes other base models: make_base(special=[...], rows=..., template=...)."""
    return lambda **options: write_base(tmp_path / "made", **options)


@pytest.fixture
def make_grouped() -> Callable[[], Any]:
    """Makes a random Llama in memory, always with the same weights; two heads share keys and values."""

    def make() -> Any:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=4,
            initializer_range=0.3,
            attn_implementation="eager",
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture(scope="session")
def loaded(base: Path) -> LoadedModel:
    """The base model in memory, with its chat template. Tests must not train it."""
    return read(Model("transformers", str(base)), TransformersSettings(device="cpu"))


PAIRS = [(first, second) for first in ("apple", "pear", "plum", "cat") for second in ("dog", "cow", "red", "blue")]


@pytest.fixture(scope="session")
def sft_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 supervised examples of three lengths."""
    rows = [
        supervised_row(f"sort the words {a} {b}{' please' * (number % 3)}", f"{b} {a}")
        for number, (a, b) in enumerate(PAIRS)
    ]
    file = tmp_path_factory.mktemp("data") / "sft.jsonl"
    write_rows(file, rows)
    return file


@pytest.fixture(scope="session")
def dpo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 preference pairs; prompt, chosen and rejected have different lengths."""
    rows = [
        {
            "prompt": message("user", f"sort the words {a} {b}{' please' * (number % 3)}"),
            "chosen": message("assistant", f"{b} {a}"),
            "rejected": message("assistant", a if number % 2 else f"{a} {b} {a}"),
            "score_chosen": 5.0,
        }
        for number, (a, b) in enumerate(PAIRS)
    ]
    file = tmp_path_factory.mktemp("data") / "dpo.jsonl"
    write_rows(file, rows)
    return file


def conversation(number: int) -> list[dict[str, str]]:
    """A prompt of two turns, for even numbers with a system message."""
    first, second = PAIRS[number]
    turns = [
        *message("user", f"sort the words {first} {second}"),
        *message("assistant", f"{first} {second}"),
        *message("user", f"please sort {second} {first}{' please' * (number % 3)}"),
    ]
    return turns if number % 2 else [*message("system", "sort the words"), *turns]


@pytest.fixture(scope="session")
def system_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that has a token for the system role."""
    return write_base(tmp_path_factory.mktemp("system"), special=WITH_SYSTEM)


@pytest.fixture(scope="session")
def merging_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model whose chat template has no system role: system messages are merged, and a warning says so."""
    folder = tmp_path_factory.mktemp("merging")
    return write_base(folder, special=chat_templates.GEMMA_TOKENS, template=chat_templates.GEMMA)


@pytest.fixture(scope="session")
def sft_chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 supervised examples whose prompts are conversations."""
    file = tmp_path_factory.mktemp("data") / "sft.jsonl"
    rows = [
        {"prompt": conversation(number), "completion": message("assistant", " ".join([a, b, a][: 1 + number % 3]))}
        for number, (a, b) in enumerate(PAIRS)
    ]
    write_rows(file, rows)
    return file


@pytest.fixture(scope="session")
def dpo_chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 preference pairs whose prompts are conversations."""
    rows = [
        {
            "prompt": conversation(number),
            "chosen": message("assistant", f"{a} {b}"),
            "rejected": message("assistant", b if number % 2 else f"{b} {a} {b}"),
        }
        for number, (a, b) in enumerate(PAIRS)
    ]
    file = tmp_path_factory.mktemp("data") / "dpo.jsonl"
    write_rows(file, rows)
    return file
