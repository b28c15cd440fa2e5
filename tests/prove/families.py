"""A tiny random model of each family of causal language models: what works, and which engine it gets and why."""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from family_checks import (
    DPO,
    SFT,
    Answers,
    compare_engine,
    compare_saved,
    compare_training,
    engine_reason,
    lora_targets,
    packing_reason,
)
from model_families import FAMILIES, Family, write_family
from stock_training import write_ragged_examples, write_ragged_pairs

from tutelage.errors import TutelageError


def prove() -> dict[str, Any]:
    """Examine all families, in as many processes as the machine has cores."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_ragged_examples(work / "sft.jsonl")
        write_ragged_pairs(work / "dpo.jsonl")
        with get_context("spawn").Pool(os.cpu_count()) as pool:
            rows = pool.map(partial(examine_number, work), range(len(FAMILIES)), chunksize=1)
    return {"families": rows}


def examine_number(work: Path, number: int) -> dict[str, Any]:
    import torch

    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    family = FAMILIES[number]
    started = time.monotonic()
    row = examine(family, work / str(number), work / "sft.jsonl", work / "dpo.jsonl")
    print(f"   {family.model_type}: {family.models}: {time.monotonic() - started:.0f} s", flush=True)
    return row


def examine(family: Family, work: Path, sft: Path, dpo: Path) -> dict[str, Any]:
    """Return all that is checked of one family. A check that fails with an error has the error in place of a result."""
    from tutelage_transformers.models.quiet import quiet

    row: dict[str, Any] = {"type": family.model_type, "models": family.models}
    with quiet():
        folder = write_family(family, work / "base")
        try:
            row["engine"], row["packing"] = engine_reason(folder), packing_reason(folder)
        except TutelageError as error:
            return {**row, "refused": str(error).replace(f"model {folder}: ", "")}
        row["generation"] = {
            which: attempt(lambda which=which: answers(compare_engine(folder, which)))  # type: ignore[misc]
            for which in (["padded"] if row["engine"] else ["padded", "paged"])
        }
        row["training"] = {}
        for name, objective, file in (("sft", SFT, sft), ("dpo", DPO, dpo)):
            for kind in ["padded"] if row["packing"] else ["padded", "packed"]:
                step = partial(compare_training, folder, objective, file, work / f"{name}-{kind}", kind == "packed")
                row["training"][f"{name} {kind}"] = attempt(lambda step=step: step().same)  # type: ignore[misc]
        row["adapter"] = attempt(lambda: lora_targets(folder))
        row["saved"] = {
            "full": attempt(lambda: answers(compare_saved(folder, SFT, sft, work / "saved-full"))),
            "lora": attempt(lambda: answers(compare_saved(folder, DPO, dpo, work / "saved-lora"))),
        }
    return row


def attempt(check: Callable[[], Any]) -> Any:
    try:
        return check()
    except Exception as error:  # the table shows it
        return f"{type(error).__name__}: {error}"[:300]


def answers(compared: Answers) -> dict[str, int]:
    return {"prompts": len(compared.found), "different": compared.different, "distinct": compared.distinct}
