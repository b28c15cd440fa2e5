"""Kept tokens per second of the paged engine and of vLLM, for the shapes of four models, with random weights.

    python tests/bench/bench_rivals.py --folder /tmp/rivals                            # on a GPU with vLLM
    python tests/bench/bench_rivals.py --folder /tmp/rivals --shapes small --arms tutelage --device cpu --prompts 4

Both get the same token ids, four completions of each prompt, temperature 0.7 and top-p 0.9. Random weights end no
answer at a sensible length, so each request has a limit of its own: geometric lengths with a mean of 125 tokens, at
most 256, and no stop token. With ``--full``, all have 256. Each arm runs in a process of its own. ``ready`` is the time
until the first request can be sent: imports, weights, compiling, graphs. The last line has the ratios, with and without
it.

vLLM is used in this process, with 512 sequences and prefix caching. Modules of grammars that it imports and does not
need here are replaced by empty ones if they are not installed.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.records import Sampling
from tutelage_transformers.generation import paged
from tutelage_transformers.generation.requests import GenerationRequest
from tutelage_transformers.generation.sampling import uniforms
from tutelage_transformers.models.loading import LoadedModel

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "phi-2": (
        "Phi",
        {
            "vocab_size": 51200,
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "partial_rotary_factor": 0.4,
        },
    ),
    "llama-3.2-1b": (
        "Llama",
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "tie_word_embeddings": True,
        },
    ),
    "qwen2.5-0.5b": (
        "Qwen2",
        {
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
    ),
    "gemma-3-270m": (
        "Gemma3Text",
        {
            "vocab_size": 262144,
            "hidden_size": 640,
            "intermediate_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 512,
            "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
            "tie_word_embeddings": True,
        },
    ),
    "small": (
        "Llama",
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
}
"""For each shape the family by the name of transformers' configuration, and its values."""
ARMS = ("tutelage", "vllm")
SAMPLES = 4
MEAN, LIMIT = 125, 256
_NOT_NEEDED = ("xgrammar", "llguidance")


def write_student(folder: Path, shape: str, device: str) -> Path:
    """Write a model of random weights, in bfloat16 on a GPU and in float32 on a CPU."""
    import torch
    import transformers

    family, values = SHAPES[shape]
    config = getattr(transformers, f"{family}Config")(
        max_position_embeddings=2048, bos_token_id=0, eos_token_id=0, pad_token_id=0, **values
    )
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    return folder


def write_requests(folder: Path, shape: str, prompts: int, full: bool) -> Path:
    """Write the token ids of each prompt, and the limits of its completions."""
    choice = random.Random(0)
    vocabulary = SHAPES[shape][1]["vocab_size"]
    rows = [
        {
            "ids": [choice.randrange(5, vocabulary) for _ in range(choice.randint(20, 180))],
            "limits": [LIMIT if full else min(LIMIT, 1 + int(choice.expovariate(1 / MEAN))) for _ in range(SAMPLES)],
        }
        for _ in range(prompts)
    ]
    file = folder / "requests.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def by_tutelage(folder: Path, requests: Sequence[dict[str, Any]], device: str) -> dict[str, float]:
    """Complete all requests by the paged engine. Returns when it was ready, when it had ended, and the tokens."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), dtype="auto", device_map={"": device}, use_safetensors=True
    ).eval()
    loaded = LoadedModel(model, None)
    never = frozenset({int(model.config.vocab_size)})
    sampling = Sampling(0.7, 0.9, LIMIT, 0)

    def complete(rows: Sequence[dict[str, Any]]) -> int:
        flat = [
            GenerationRequest(index * SAMPLES + sample, row["ids"], limit)
            for index, row in enumerate(rows)
            for sample, limit in enumerate(row["limits"])
        ]

        def uniforms_of(index: int) -> Any:
            return uniforms(0, str(index // SAMPLES), index % SAMPLES, flat[index].max_new_tokens)

        batches = paged.generate(loaded, flat, sampling, never, uniforms_of)
        return sum(len(one.tokens) for batch in batches for one in batch)

    complete([{"ids": row["ids"], "limits": [2] * SAMPLES} for row in requests[:128]])
    ready = time.time()
    tokens = complete(requests)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return {"ready": ready, "ended": time.time(), "tokens": tokens}


def by_vllm(folder: Path, requests: Sequence[dict[str, Any]], device: str) -> dict[str, float]:
    """Complete all requests by vLLM, in this process."""
    os.environ |= {"VLLM_USE_FLASHINFER_SAMPLER": "0", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    sys.meta_path.append(_EmptyModules())
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]  # not installed with tutelage

    engine = LLM(
        str(folder),
        skip_tokenizer_init=True,
        max_num_seqs=512,
        max_model_len=1024,
        enable_prefix_caching=True,
        gpu_memory_utilization=0.85,
    )

    def complete(rows: Sequence[dict[str, Any]]) -> int:
        prompts = [{"prompt_token_ids": row["ids"]} for row in rows for _ in range(SAMPLES)]
        wanted = [
            SamplingParams(temperature=0.7, top_p=0.9, max_tokens=limit, ignore_eos=True, detokenize=False, seed=None)
            for row in rows
            for limit in row["limits"]
        ]
        return sum(len(one.outputs[0].token_ids) for one in engine.generate(prompts, wanted, use_tqdm=False))

    complete([{"ids": row["ids"], "limits": [2] * SAMPLES} for row in requests[:128]])
    ready = time.time()
    tokens = complete(requests)
    return {"ready": ready, "ended": time.time(), "tokens": tokens}


def _empty_class(name: str) -> type:
    if name.startswith("__"):  # inspect reads __file__ of every module
        raise AttributeError(name)
    return type(name, (), {})


class _EmptyModules:
    """Finds an empty module, with an empty class for each name, for packages that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in _NOT_NEEDED:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = _empty_class  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        return None


def measure(arm: str, folder: Path, device: str) -> dict[str, float]:
    """Run an arm in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--device", device, "--run", arm]
    started = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    seconds = found["ended"] - found["ready"]
    return {
        "tokens": found["tokens"],
        "ready_seconds": round(found["ready"] - started, 1),
        "seconds": round(seconds, 2),
        "tokens_per_second": round(found["tokens"] / seconds),
        "tokens_per_second_with_start": round(found["tokens"] / (found["ended"] - started)),
    }


def main() -> None:
    """Measure each shape by each arm, one after the other."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shapes", default="phi-2,llama-3.2-1b,qwen2.5-0.5b,gemma-3-270m", help=", ".join(SHAPES))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--full", action="store_true", help="all completions have 256 tokens")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--run", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        requests = json.loads((options.folder / "requests.json").read_text(encoding="utf-8"))
        arm = {"tutelage": by_tutelage, "vllm": by_vllm}[options.run]
        print(json.dumps(arm(options.folder, requests, options.device)))
        return
    results: dict[str, Any] = {}
    for shape in options.shapes.split(","):
        folder = options.folder / shape
        folder.mkdir(parents=True, exist_ok=True)
        write_student(folder, shape, options.device)
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
        write_requests(folder, shape, options.prompts, options.full)
        found = results[shape] = {arm: measure(arm, folder, options.device) for arm in options.arms.split(",")}
        if len(found) == len(ARMS):
            ours, other = (found[arm] for arm in ARMS)
            for key in ("tokens_per_second", "tokens_per_second_with_start"):
                found[f"ratio of {key}"] = round(ours[key] / other[key], 2)
        print(shape, json.dumps(found), flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
