"""Real tokens per second of DPO and SFT: packed below TRL, TRL with its defaults, and TRL with its best settings.

    python tests/bench/bench_training.py                                   # the embedded student's size, all arms
    python tests/bench/bench_training.py --size phi-2 --arms dpo-packed,dpo-best --pairs 1000 --slow-pairs 256
    python tests/bench/bench_training.py --size phi-2 --arms sft-packed --memory-cap 16 --quantization 4bit

Weights are random and pairs have different lengths: prompts of 20 to 120 tokens, answers of 30 to 256. Each arm starts
from a model of its own. Its time starts with the construction of its trainer and includes the reference's pass. Before,
two steps with a model of two layers load the kernels. Counted are TRL's tokens: a pair's prompt twice, no padding.
``default`` and ``best`` arms are stock TRL and PEFT with this adapter's rank and dropout. ``best`` also has this
adapter's dtype, ``--trl-batch`` rows, the reference once before training and no gradient checkpointing. TFLOP/s count,
per weight and token, two operations forward, two backward to the activations, two more for weights that are trained,
and two for a reference.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import random_student
from attrs import asdict, frozen

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.files.trl_format import message, supervised_row
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.models import quantizing
from tutelage_transformers.models.chat import ensure_chat
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import adapters, fitting
from tutelage_transformers.training.batching import tokens_held
from tutelage_transformers.training.examples import dpo_rows, sft_rows
from tutelage_transformers.training.request import TrainingRequest
from tutelage_transformers.training.step import build
from tutelage_transformers.training.trainers import disable_dropout

ARMS = (
    *("dpo-packed", "dpo-padded", "dpo-default", "dpo-best"),
    *("sft-packed", "sft-padded", "sft-default", "sft-best", "sft-trl-packing"),
)
OURS = ("packed", "padded")
LENGTHS = {"embedded": ((4, 24), (6, 50)), "phi-2": ((18, 118), (29, 255))}
"""Minimum and maximum number of words of a prompt and of an answer. The template adds two tokens to a prompt and the
end token to an answer."""
PEAK_TFLOPS = 795
"""Measured for a bf16 matrix product on an H200."""
GIB = 2**30


@frozen
class Result:
    """The result of one arm."""

    tokens: int
    """Number of real tokens."""
    seconds: float
    before: float
    """Seconds before the first step: preparation and, for DPO, the reference."""
    tflops: float
    peak_gib: float
    """Maximum of the GPU memory that torch had reserved."""
    rows: int
    """Number of rows that the device held at once."""
    checkpointing: bool
    estimate_gib: float
    """The estimate of ``fitting``, for the plugin's own arms."""
    loss: float

    @property
    def rate(self) -> float:
        """Real tokens per second."""
        return self.tokens / self.seconds


def write_pairs(file: Path, size: str, count: int, kind: str, seed: int = 0) -> Path:
    """Write random examples of different lengths."""
    draw = random.Random(seed)
    words = random_student.words(size)
    prompts, answers = LENGTHS[size]

    def text(shortest: int, longest: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(shortest, longest)))

    if kind == "sft":
        write_rows(file, [supervised_row(text(*prompts), text(*answers)) for _ in range(count)])
        return file
    sides = ("chosen", "rejected")
    pairs = (
        {"prompt": message("user", text(*prompts))} | {side: message("assistant", text(*answers)) for side in sides}
        for _ in range(count)
    )
    write_rows(file, list(pairs))
    return file


def student(size: str, options: argparse.Namespace) -> LoadedModel:
    """Return a student of random weights, ready for training."""
    import torch

    if options.quantization != "none":
        with tempfile.TemporaryDirectory() as folder:
            random_student.write(Path(folder), size, options.device)
            return quantizing.read(Model("transformers", folder), settings_of(options, packed=True), None)
    tokenizer = random_student.tokenizer(size)
    ensure_chat(tokenizer)
    model = random_student.build(size, None, options.device)
    if options.dtype != "auto":
        model.to(getattr(torch, options.dtype))
    model.set_attn_implementation("sdpa")
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
    if options.full:
        model.float()
    return LoadedModel(model, tokenizer)


def settings_of(options: argparse.Namespace, packed: bool) -> TransformersSettings:
    """Return the settings of the plugin's own arms."""
    return TransformersSettings(
        device="auto" if options.device == "cuda" else options.device,
        packing=packed,
        dtype=options.dtype,
        adapter_dtype=options.adapter_dtype,
        quantization=options.quantization,
        gradient_checkpointing={"auto": None, "on": True, "off": False}[options.checkpointing],
        cuda_graphs=options.cuda_graphs == "on",
    )


def objective_of(kind: str, options: argparse.Namespace) -> Objective:
    """Return the paper's objective, for one epoch."""
    rank = options.rank or (64 if kind == "sft" else 16)
    lora = None if options.full else Lora(r=rank, alpha=2 * rank, dropout=options.dropout)
    objective = Sft if kind == "sft" else Dpo
    return objective(epochs=1, batch_size=options.batch, micro_batch_size=options.micro, lora=lora)


def our_trainer(
    kind: str, loaded: LoadedModel, file: Path, output: Path, options: argparse.Namespace, packed: bool
) -> Any:
    """Return the trainer that ``train_step`` builds."""
    objective, settings = objective_of(kind, options), settings_of(options, packed)
    request = TrainingRequest(Model("transformers"), None, objective, file, output, output, settings)
    return build(request, loaded, None, output, Context())


def stock_trainer(
    kind: str, loaded: LoadedModel, file: Path, output: Path, options: argparse.Namespace, arm: str
) -> Any:
    """Return TRL's own trainer on the same texts."""
    from datasets import Dataset, disable_caching, disable_progress_bars
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    disable_caching()
    disable_progress_bars()
    best = arm != "default"
    on_cpu = options.device == "cpu"
    common: dict[str, Any] = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}
    common |= {"use_cpu": on_cpu, "bf16": not on_cpu, "dataloader_pin_memory": not on_cpu, "num_train_epochs": 1}
    if best:
        common |= {"gradient_checkpointing": options.checkpointing == "on"}
        common |= {"per_device_train_batch_size": 8 if arm == "trl-packing" else options.trl_batch}
    if arm == "trl-packing":
        common |= {"packing": True, "max_length": 1024}
    if kind == "dpo" and best:
        common |= {"precompute_ref_log_probs": True, "precompute_ref_batch_size": options.trl_batch}
    trainer, config = (SFTTrainer, SFTConfig) if kind == "sft" else (DPOTrainer, DPOConfig)
    if kind == "dpo":
        disable_dropout(loaded.model)
        common |= {"disable_dropout": False}  # that of the adapter, which trains with its dropout in all arms
    made = trainer(
        loaded.model,
        args=config(str(output), **common),
        train_dataset=Dataset.from_list([dict(row) for _, row in read_rows(file)]),
        processing_class=loaded.tokenizer,
        peft_config=stock_adapter(kind, options),
    )
    if best and not options.full:
        adapters.cast_adapters(made.model, adapters.adapter_dtype(settings_of(options, packed=False)))
    return made


def stock_adapter(kind: str, options: argparse.Namespace) -> Any:
    """Return PEFT's configuration of the same adapter, or None."""
    from peft import LoraConfig

    lora = objective_of(kind, options).lora
    if lora is None:
        return None
    layers = ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=layers)


def measure(arm: str, size: str, pairs: int, options: argparse.Namespace) -> Result:
    """Train one arm from a new model."""
    kind, way = arm.split("-", 1)
    with tempfile.TemporaryDirectory() as folder, quiet(), emptied(options.device):
        file = write_pairs(Path(folder) / "examples.jsonl", options.size, pairs, kind)
        loaded = student(size, options)
        weights = loaded.model.num_parameters()
        rows = (sft_rows if kind == "sft" else dpo_rows)(file, loaded.tokenizer, 4096)
        forget_peak(options.device)
        expected = estimate(kind, way, loaded.model, rows, options)
        started = time.perf_counter()
        if way in OURS:
            trainer = our_trainer(kind, loaded, file, Path(folder), options, way == "packed")
        else:
            trainer = stock_trainer(kind, loaded, file, Path(folder), options, way)
        synchronize(options.device)
        before = time.perf_counter() - started
        trainer.train()
        synchronize(options.device)
        seconds = time.perf_counter() - started
        tokens = sum(real_tokens(row) for row in rows)
        return Result(
            tokens=tokens,
            seconds=seconds,
            before=before,
            tflops=operations(kind, options.full) * weights * tokens / seconds / 1e12,
            peak_gib=peak(options.device) / GIB,
            estimate_gib=expected / GIB,
            rows=trainer.args.per_device_train_batch_size,
            checkpointing=trainer.args.gradient_checkpointing,
            loss=[row["loss"] for row in trainer.state.log_history if "loss" in row][-1],
        )


def estimate(kind: str, way: str, model: Any, rows: list[dict[str, list[int]]], options: argparse.Namespace) -> int:
    """Return the bytes that ``fitting`` estimates for one of the plugin's own arms; 0 for others."""
    if way not in OURS:
        return 0
    packed = way == "packed"
    objective = objective_of(kind, options)
    lengths = sorted((tokens_held(row, packed) for row in rows), reverse=True)
    division = fitting.divide_step(objective, model, lengths, packed, settings_of(options, packed))
    held = sum(lengths[: division.rows])
    longest = fitting.longest_sequence(objective, lengths)
    return fitting.training_bytes(objective, model, held, longest, packed, division.checkpointing)


def real_tokens(row: dict[str, list[int]]) -> int:
    """Return the number of tokens without padding, a pair's prompt counted twice."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def operations(kind: str, full: bool) -> int:
    """Return the number of operations per weight and token."""
    return (6 if full else 4) + (2 if kind == "dpo" else 0)


@contextmanager
def emptied(device: str) -> Iterator[None]:
    """Free the device's memory at the end."""
    try:
        yield
    finally:
        forget_peak(device)


def forget_peak(device: str) -> None:
    """Free unused memory and count the peak from here on."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def synchronize(device: str) -> None:
    """Wait for the device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak(device: str) -> int:
    """Return the maximum of the bytes that torch has reserved on the GPU since ``forget_peak``."""
    import torch

    return torch.cuda.max_memory_reserved() if device.startswith("cuda") else 0


def warm_up(arm: str, options: argparse.Namespace) -> None:
    """Train two steps with a model of the same width and two layers."""
    short = random_student.SIZES[options.size] | {"num_hidden_layers": 2}
    random_student.SIZES["warm-up"] = short
    random_student.END_BIAS["warm-up"] = 0.0
    measure(arm, "warm-up", 2 * max(options.batch, options.trl_batch), options)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line, or ``arguments`` in its place."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(LENGTHS), default="embedded")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated: " + ",".join(ARMS))
    parser.add_argument(
        "--pairs", type=int, default=128, help="pairs or examples of the plugin's arms and of TRL's best"
    )
    parser.add_argument(
        "--slow-pairs", type=int, default=None, help="pairs or examples of TRL's defaults; the same number if left out"
    )
    parser.add_argument("--batch", type=int, default=32, help="rows per step of the plugin's arms")
    parser.add_argument(
        "--micro", type=int, default=None, help="rows at once of the plugin's arms; as many as fit if left out"
    )
    parser.add_argument("--trl-batch", type=int, default=16, help="rows per step of TRL's best")
    parser.add_argument(
        "--rank", type=int, default=None, help="rank of the adapter; 16 for DPO and 64 for SFT if left out"
    )
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--full", action="store_true", help="full fine-tuning in place of an adapter")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    parser.add_argument("--adapter-dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--checkpointing", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--cuda-graphs", choices=["on", "off"], default="on")
    parser.add_argument("--quantization", choices=["none", "4bit"], default="none")
    parser.add_argument("--memory-cap", type=float, default=None, help="usable GPU memory in GB")
    options = parser.parse_args(arguments)
    for arm in options.arms.split(","):
        if arm not in ARMS:
            sys.exit(f"no arm {arm!r}; there are: {', '.join(ARMS)}")
    if options.memory_cap is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(options.memory_cap * 1e9 / total)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure the arms, print the speed of each and the ratios, and everything as JSON."""
    import torch

    options = parsed(arguments)
    print(torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{torch.get_num_threads()} threads")
    print(f"adapter dtype {options.adapter_dtype}, dropout {options.dropout}, {options.quantization} quantization")
    results: dict[str, Result] = {}
    for arm in options.arms.split(","):
        pairs = options.slow_pairs if arm.endswith("default") and options.slow_pairs else options.pairs
        try:
            warm_up(arm, options)
            result = results[arm] = measure(arm, options.size, pairs, options)
        except (torch.cuda.OutOfMemoryError, InputError) as error:
            print(f"{arm:15} does not fit: {str(error).splitlines()[0]}", flush=True)
            continue
        print(
            f"{arm:15} {result.rate:9,.0f} tokens/s  {pairs / result.seconds:6.1f} rows/s  {result.seconds:6.1f} s "
            f"(of them {result.before:.1f} before the first step)  {result.tflops:6.1f} TFLOP/s = "
            f"{result.tflops / PEAK_TFLOPS:5.1%}  {result.rows} at once, checkpointing {result.checkpointing}, "
            f"peak {result.peak_gib:.1f} GiB (estimate {result.estimate_gib:.1f})",
            flush=True,
        )
    for kind in ("dpo", "sft"):
        for other in ("default", "best", "trl-packing", "padded"):
            if f"{kind}-packed" in results and f"{kind}-{other}" in results:
                ratio = results[f"{kind}-packed"].rate / results[f"{kind}-{other}"].rate
                print(f"{kind}: packed / {other} = {ratio:.2f}")
    rows = {arm: asdict(result) | {"tokens_per_second": result.rate} for arm, result in results.items()}
    print(json.dumps({"options": vars(options), "results": rows}))


if __name__ == "__main__":
    main()
