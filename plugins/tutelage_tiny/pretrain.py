"""Makes the weights that ship with the tiny world: M0, a small Phi that has read the world's text and nothing else.

    python -m tutelage_tiny.pretrain OUT

One stage: next-token prediction over documents that are packed into rows, as GPT-2 was trained (Radford et al., 2019).
The text follows from the seed alone; the weights follow from it up to the arithmetic of the machine that trains. The
shipped ones took four minutes on half of an H100; two CPU cores need the better part of a day.
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
    """Everything that the weights depend on."""

    seed: int = 0
    mix: Mix = field(factory=Mix)
    documents: int = 1_200_000
    """About 33 tokens each."""
    chunk: int = 10_000
    """Documents that follow from one seed, and that one process writes."""
    epochs: int = 8
    learning_rate: float = 2e-3
    row_length: int = 128
    rows_a_step: int = 256
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4


def pretrain(output: Path, settings: Pretraining) -> None:
    """Train the tiny Phi and save weights and tokenizer.

    Args:
        output: The folder to write.
        settings: What to train, on which text.
    """
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
        hidden_act="gelu_pytorch_tanh",  # the same function as Phi's gelu_new, in one kernel
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    return PhiForCausalLM(configuration)


def _rows(tokenizer: PreTrainedTokenizerFast, settings: Pretraining) -> torch.Tensor:
    """All the text as token ids, (rows, row length); a document may run from one row into the next."""
    import torch

    tokens: list[int] = []
    end = tokenizer.convert_tokens_to_ids(END)
    for texts in _chunks(settings):
        for ids in tokenizer(texts)["input_ids"]:
            tokens += [*ids, end]
    whole = len(tokens) // settings.row_length * settings.row_length
    return torch.tensor(tokens[:whole]).view(-1, settings.row_length)


def _chunks(settings: Pretraining) -> Iterator[list[str]]:
    """The documents, chunk by chunk; each chunk follows from its own seed, whichever process writes it."""
    count = settings.documents // settings.chunk
    with get_context("spawn").Pool() as pool:
        yield from pool.imap(partial(_chunk, settings), range(count))


def _chunk(settings: Pretraining, number: int) -> list[str]:
    generator = random.Random(f"text/{settings.seed}/{number}")
    return [document(settings.mix, generator) for _ in range(settings.chunk)]


def _train(model: PhiForCausalLM, rows: torch.Tensor, settings: Pretraining) -> None:
    """AdamW with a linear warm-up and decay over ``epochs`` shuffled passes."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    torch.set_float32_matmul_precision("high")
    steps_an_epoch = len(rows) // settings.rows_a_step
    steps = steps_an_epoch * settings.epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 50, steps)
    # On a GPU so small a model is bound by launches and memory traffic: compiled, in bfloat16, it is thrice as fast.
    on_gpu = rows.device.type == "cuda"
    forward = torch.compile(model) if on_gpu else model
    model.train()
    for epoch in range(settings.epochs):
        order = torch.randperm(len(rows), device=rows.device)
        for step in range(steps_an_epoch):
            batch = rows[order[step * settings.rows_a_step : (step + 1) * settings.rows_a_step]]
            with torch.autocast(rows.device.type, torch.bfloat16, enabled=on_gpu):
                loss = forward(input_ids=batch, labels=batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step % 100 == 0:
                print(f"epoch {epoch} step {step}/{steps_an_epoch} loss {loss.item():.4f}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``python -m tutelage_tiny.pretrain OUT``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUT", help="the folder to write weights and tokenizer to")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    pretrain(chosen.output, Pretraining(seed=chosen.seed))


if __name__ == "__main__":
    main()
