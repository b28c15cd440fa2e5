"""``tutelage export --format gguf`` against llama.cpp: logits of small random models, and answers of Gemma 3 270M.

It needs llama-cpp-python, which is built from source (``pip install llama-cpp-python``), the folder of Gemma 3 270M in
the environment variable GEMMA_270M, and IFEval's prompts beside the checkout (``../shared/field/ifeval.jsonl``).
"""

import ctypes
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tutelage.plugin_info import Conversion
from tutelage.records import Model, Sampling
from tutelage_transformers.models.gguf_export import FILE, write
from tutelage_transformers.models.tokenizers import read_tokenizer
from tutelage_transformers.settings import TransformersSettings

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/fixtures"))
PROMPTS = ROOT.parent / "shared/field/ifeval.jsonl"
COUNT, NEW_TOKENS = 50, 48
LOGIT_GAP = 0.05
"""A first differing token is explained by rounding if our two best logits there differ by less than this: llama.cpp
looks up GELU in a table of float16."""
HARD_TEXTS = (
    *("a  b   c    d\n\n\n e\t\tf", "   leading", "trailing   ", "a\n \n  \n", "1234567 3.14159 1,000"),
    *("\u65e5\u672c\u8a9e \U0001f389", "\u00a0nbsp\u200b", "'s 'T don't WE'LL", "<|user|>x<|assistant|>", "a\r\nb"),
)
FAMILY_TOLERANCE = 2e-4
"""Maximum difference of the logits of a small random model, in standard deviations of its logits."""


def prove() -> dict[str, Any]:
    if importlib.util.find_spec("llama_cpp") is None:
        sys.exit("gguf: llama-cpp-python is not installed; run: pip install llama-cpp-python")
    folder = os.environ.get("GEMMA_270M")
    if folder is None:
        sys.exit("gguf: set GEMMA_270M to the folder of Gemma 3 270M (`tutelage recipes prepare real/gemma-270m`)")
    if not PROMPTS.is_file():
        sys.exit(f"gguf: no prompts at {PROMPTS}")
    return {"families": families(), "tokenizers": tokenizers(), "gemma-3-270m": gemma(Path(folder))}


def families() -> dict[str, float]:
    """The largest difference of the logits of each family between transformers and llama.cpp.

    It is given in standard deviations of the logits. llama.cpp looks up GELU in a table of float16. The same is done
    here, so that nothing else is hidden by it.
    """
    import numpy
    from small_models import FAMILIES, write_small_model

    found = {}
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as work:
            folder, output = Path(work) / "model", Path(work) / "gguf"
            output.mkdir()
            ids = write_small_model(name, folder)[1]
            write(folder, output, Conversion("float32", format="gguf"))
            expected = _expected_logits(folder, ids)
            theirs = numpy.stack(list(_logits(_load(output / FILE), ids)))
            difference = float(numpy.abs(theirs - expected).max() / expected.std())
            assert difference < FAMILY_TOLERANCE, f"{name}: the logits differ by {difference} standard deviations"
            found[name] = difference
    return found


def tokenizers() -> dict[str, int]:
    """The number of texts that llama.cpp splits into the same tokens, by the kind of tokenizer. It must be all."""
    from small_models import TEXTS, TOKENIZERS, write_small_model

    texts = [*TEXTS, *HARD_TEXTS]
    found = {}
    for name, core in TOKENIZERS.items():
        with tempfile.TemporaryDirectory() as work:
            folder, output = Path(work) / "model", Path(work) / "gguf"
            output.mkdir()
            write_small_model("llama", folder, core())
            write(folder, output, Conversion(format="gguf"))
            tokenizer, model = read_tokenizer(str(folder), local_only=True), _load(output / FILE)
            for text in texts:
                expected = tokenizer(text, add_special_tokens=False).input_ids
                split = model.tokenize(text.encode(), add_bos=False, special=True)
                assert split == expected, f"{name}: {text!r} is split into {split}, and not into {expected}"
            found[name] = len(texts)
    return found


def _expected_logits(folder: Path, ids: list[int]) -> Any:
    """The logits (tokens, vocabulary) of a model in transformers, with GELU as llama.cpp looks it up."""
    import torch
    from transformers import AutoModelForCausalLM

    class TableGelu(torch.nn.Module):  # type: ignore[misc]  # torch is not checked
        def forward(self, values: Any) -> Any:
            found = torch.nn.functional.gelu(values.half().float(), approximate="tanh").half().float()
            return torch.where(values <= -10, 0 * values, torch.where(values >= 10, values, found))

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for name, module in list(model.named_modules()):
        if "gelu" in type(module).__name__.lower():
            model.get_submodule(name.rpartition(".")[0]).add_module(name.rpartition(".")[2], TableGelu())
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


def gemma(folder: Path) -> dict[str, Any]:
    """Greedy answers in float32 to the same texts: by this project, and by llama.cpp with its own tokenizer."""
    from tutelage_transformers.generation.engine import stop_tokens
    from tutelage_transformers.models.chat import encode, user_prompt
    from tutelage_transformers.models.loading import read

    loaded = read(Model("transformers", str(folder)), TransformersSettings(device="cpu", dtype="float32"))
    texts = [json.loads(line)["prompt"] for line in islice(PROMPTS.open(encoding="utf-8"), COUNT)]
    prompts = [user_prompt(loaded.tokenizer, text) for text in texts]
    ids, stops = encode(loaded.tokenizer, prompts), stop_tokens(loaded)
    ours = _our_tokens(loaded, ids, stops)
    with tempfile.TemporaryDirectory() as work:
        write(folder, Path(work), Conversion("float32", format="gguf", sampling=Sampling()))
        model = _load(Path(work) / FILE)
        same_prompts = equal = 0
        gaps = []
        for prompt, expected_ids, expected in zip(prompts, ids, ours, strict=True):
            own = model.tokenize(prompt.encode(), add_bos=False, special=True)
            same_prompts += own == expected_ids
            answer = _greedy(model, own, stops)
            if answer == expected:
                equal += 1
                continue
            first = next(i for i, pair in enumerate(zip(answer, expected, strict=False)) if pair[0] != pair[1])
            gaps.append(_gap(loaded, [*expected_ids, *expected[:first]]))
    assert same_prompts == COUNT, f"llama.cpp splits {COUNT - same_prompts} of {COUNT} prompts into other tokens"
    assert all(gap < LOGIT_GAP for gap in gaps), f"answers differ where the logits differ by {max(gaps)}"
    return {
        "prompts": COUNT,
        "new_tokens": NEW_TOKENS,
        "same_prompt_tokens": same_prompts,
        "equal_answers": equal,
        "logit_gaps_of_others": gaps,
    }


def _our_tokens(loaded: Any, ids: Sequence[list[int]], stops: frozenset[int]) -> list[list[int]]:
    from tutelage_transformers.generation import padded
    from tutelage_transformers.generation.requests import GenerationRequest

    def uniforms(index: int) -> Any:
        import torch

        return torch.zeros(NEW_TOKENS, dtype=torch.float64)

    requests = [GenerationRequest(index, prompt, NEW_TOKENS) for index, prompt in enumerate(ids)]
    sampling = Sampling(temperature=0.0, max_new_tokens=NEW_TOKENS)
    found = {
        generated.index: generated.tokens
        for batch in padded.generate(loaded, requests, sampling, stops, uniforms, batch_size=4)
        for generated in batch
    }
    return [found[index] for index in range(len(ids))]


def _gap(loaded: Any, ids: list[int]) -> float:
    """The difference of our two best logits after these tokens."""
    import torch

    with torch.inference_mode():
        logits = loaded.model(torch.tensor([ids])).logits[0, -1]
    best = logits.topk(2).values
    return float(best[0] - best[1])


def _load(path: Path) -> Any:
    """Load a file into llama.cpp, with a cache in float32."""
    from llama_cpp import GGML_TYPE_F32, Llama

    return Llama(str(path), n_ctx=2048, type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32, flash_attn=False, verbose=False)


def _logits(model: Any, ids: Sequence[int]) -> Iterator[Any]:
    """Yield the logits after each token."""
    model.reset()
    for token in ids:
        model.eval([token])
        yield _last_logits(model)


def _last_logits(model: Any) -> Any:
    import llama_cpp
    import numpy

    pointer = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    array = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * model.n_vocab())).contents
    return numpy.array(array, dtype=numpy.float32)


def _greedy(model: Any, ids: list[int], stops: frozenset[int]) -> list[int]:
    model.reset()
    model.eval(ids)
    found: list[int] = []
    while len(found) < NEW_TOKENS:
        found.append(int(_last_logits(model).argmax()))
        if found[-1] in stops:
            break
        model.eval([found[-1]])
    return found
