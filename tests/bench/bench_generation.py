"""Tokens a second of candidate generation: the engine against ``generate`` one by one and ``generate`` in batches.

    OMP_NUM_THREADS=1 python tests/bench/bench_generation.py [MODEL] [--prompts 256] [--samples 4] [--new-tokens 32]

Without MODEL it makes random weights of the embedded student's size. All three sample at temperature 0.7, top-p 0.9,
from the same prompts; counted are the tokens that are kept, up to the end token.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.records import Model, Sampling
from tutelage_phi2.chat import question
from tutelage_phi2.engine import end_tokens, generate
from tutelage_phi2.loading import Loaded, read
from tutelage_phi2.settings import Phi2Settings

WORDS = [f"w{number}" for number in range(226)]
SPECIAL = ["<|endoftext|>", "<|unk|>", "<|user|>", "<|assistant|>", "<|pad|>"]
END_BIAS = 2.7
"""Makes random weights end an answer after 10 tokens or so, as the embedded student does."""


def write_random_student(folder: Path) -> None:
    """A Phi of 0.65M parameters and a word-level tokenizer of 231 words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=SPECIAL[0], unk_token=SPECIAL[1], extra_special_tokens=SPECIAL[2:]
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=232,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.06,
    )
    model = PhiForCausalLM(config)
    model.lm_head.bias.data[0] = END_BIAS
    model.save_pretrained(folder)


def by_engine(loaded: Loaded, prompts: list[str], n: int, sampling: Sampling, batch_size: int) -> int:
    """Kept tokens, end tokens included."""
    replies = [reply for batch in generate(loaded, prompts, n, sampling, batch_size) for reply in batch]
    return sum(reply.tokens + reply.ended for reply in replies)


def by_generate(loaded: Loaded, prompts: list[str], n: int, sampling: Sampling, batch_size: int) -> int:
    """Kept tokens of transformers' ``generate``: ``batch_size // n`` prompts at once, sorted by length."""
    import torch

    torch.manual_seed(sampling.seed)
    loaded.tokenizer.padding_side = "left"
    at_once = max(1, batch_size // n)
    prompts = sorted(prompts, key=len)
    kept = 0
    for start in range(0, len(prompts), at_once):
        inputs = loaded.tokenizer(
            prompts[start : start + at_once], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(loaded.model.device)
        output = loaded.model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=n,
        )
        kept += kept_tokens(output[:, inputs.input_ids.shape[1] :].tolist(), end_tokens(loaded))
    return kept


def kept_tokens(rows: list[list[int]], ends: frozenset[int]) -> int:
    """Tokens up to and with the first end token of each row."""
    return sum(next((place + 1 for place, token in enumerate(row) if token in ends), len(row)) for row in rows)


def speed(run: Callable[..., int], *arguments: Any) -> float:
    """Kept tokens a second."""
    started = time.perf_counter()
    return run(*arguments) / (time.perf_counter() - started)


def main() -> None:
    """Print the three speeds and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            write_random_student(Path(folder))
        loaded = read(Model("phi2", options.model or folder), Phi2Settings())
    choice = random.Random(0)
    texts = [" ".join(choice.choices(WORDS, k=choice.randint(8, 16))) for _ in range(options.prompts)]
    prompts = [question(loaded.tokenizer, text) for text in texts]
    sampling = Sampling(0.7, 0.9, options.new_tokens, 0)
    few = prompts[: max(1, len(prompts) // 8)]
    by_engine(loaded, few, 1, sampling, 8)  # warms up
    one = speed(by_generate, loaded, few, 1, sampling, 1)
    batched = speed(by_generate, loaded, prompts, options.samples, sampling, options.batch_size)
    engine = speed(by_engine, loaded, prompts, options.samples, sampling, options.batch_size)
    print(
        f"{options.prompts} prompts x {options.samples}, up to {options.new_tokens} new tokens, {loaded.model.device}"
    )
    print(f"generate, one by one    {one:10,.0f} tokens/s")
    print(f"generate, batches       {batched:10,.0f} tokens/s  {batched / one:5.1f} x")
    print(f"engine                  {engine:10,.0f} tokens/s  {engine / one:5.1f} x")


if __name__ == "__main__":
    main()
