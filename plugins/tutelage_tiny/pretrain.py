"""Train the weights of M0: a small Phi, pretrained on the text of the tiny world only.

    python -m tutelage_tiny.pretrain OUT

Training is next-token prediction over documents that are packed into rows, as for GPT-2 (Radford et al., 2019). The
text depends on the seed only; the weights also depend on the floating-point arithmetic of the machine. The included
weights took four minutes on half of an H100; two CPU cores need most of a day.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from tutelage_tiny.text import Mix, document
from tutelage_tiny.tokenizer import END, build

if TYPE_CHECKING:
    import torch
    from transformers import PhiForCausalLM, PreTrainedTokenizerFast


@frozen
class Pretraining:
    """The settings that determine the weights."""

    seed: int = 0
    mix: Mix = field(factory=Mix)
    documents: int = 1_200_000
    """About 33 tokens each."""
    chunk: int = 10_000
    """Number of documents that one process generates from one seed."""
    epochs: int = 8
    learning_rate: float = 2e-3
    row_length: int = 128
    rows_per_step: int = 256
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4


def pretrain(output: Path, settings: Pretraining) -> None:
    """Train the tiny Phi and save weights and tokenizer to the folder ``output``."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(settings.seed)
    tokenizer = build()
    model = _new_model(len(tokenizer), settings).to(device)
    rows = _rows(tokenizer, settings).to(device)
    _train(model, rows, settings)
    model.cpu().save_pretrained(output)
    tokenizer.save_pretrained(output)


def _new_model(vocabulary_size: int, settings: Pretraining) -> PhiForCausalLM:
    from transformers import PhiConfig, PhiForCausalLM

    configuration = PhiConfig(
        vocab_size=vocabulary_size,
        hidden_size=settings.hidden_size,
        intermediate_size=4 * settings.hidden_size,
        hidden_act="gelu_pytorch_tanh",  # equal to Phi's gelu_new, in one kernel
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    return PhiForCausalLM(configuration)


def _rows(tokenizer: PreTrainedTokenizerFast, settings: Pretraining) -> torch.Tensor:
    """All text as token ids, (rows, row length). A document may continue in the next row."""
    import torch

    tokens: list[int] = []
    end = tokenizer.convert_tokens_to_ids(END)
    for texts in _chunks(settings):
        for ids in tokenizer(texts)["input_ids"]:
            tokens += [*ids, end]
    used = len(tokens) // settings.row_length * settings.row_length
    return torch.tensor(tokens[:used]).view(-1, settings.row_length)


def _chunks(settings: Pretraining) -> Iterator[list[str]]:
    """The documents in chunks. Each chunk has its own seed, so the text does not depend on the number of processes."""
    count = settings.documents // settings.chunk
    with get_context("spawn").Pool() as pool:
        yield from pool.imap(partial(_chunk, settings), range(count))


def _chunk(settings: Pretraining, number: int) -> list[str]:
    generator = random.Random(f"text/{settings.seed}/{number}")
    return [document(settings.mix, generator) for _ in range(settings.chunk)]


def _train(model: PhiForCausalLM, rows: torch.Tensor, settings: Pretraining) -> None:
    """Train with AdamW and a linear warm-up and decay, over ``epochs`` shuffled passes."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    torch.set_float32_matmul_precision("high")
    steps_per_epoch = len(rows) // settings.rows_per_step
    steps = steps_per_epoch * settings.epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 50, steps)
    # On a GPU, such a small model is bound by kernel launches and memory traffic: compiled, in bfloat16, it is three
    # times as fast.
    on_gpu = rows.device.type == "cuda"
    forward = torch.compile(model) if on_gpu else model
    model.train()
    for epoch in range(settings.epochs):
        order = torch.randperm(len(rows), device=rows.device)
        for step in range(steps_per_epoch):
            batch = rows[order[step * settings.rows_per_step : (step + 1) * settings.rows_per_step]]
            with torch.autocast(rows.device.type, torch.bfloat16, enabled=on_gpu):
                loss = forward(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % 100 == 0:
                print(
                    f"epoch {epoch} step {step}/{steps_per_epoch} loss {loss.item():.4f}", file=sys.stderr, flush=True
                )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: ``python -m tutelage_tiny.pretrain OUT``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUT", help="folder for weights and tokenizer")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pretrain(options.output, Pretraining(seed=options.seed))


if __name__ == "__main__":
    main()
