"""A whole AlpacaEval run that is killed and continued: a tiny student, and 805 verdicts of a local test server.

The server returns log-probabilities, as the annotator needs them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from api_servers import ApiServer, running
from known import known
from tests.prove.command import TUTELAGE

from tutelage.alpaca_eval.library import importing

DATA = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval"
REFERENCE = DATA / "gpt4_1106_preview" / "model_outputs.json"
KILL_AFTER = 250
"""Number of requests after which the first run is killed."""


def prove() -> dict[str, Any]:
    if not DATA.is_dir():
        sys.exit(f"the published outputs do not exist at {DATA}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student = write_student(folder / "student")
        with running("openai", folder / "server.jsonl", "--latency", "0.02") as server:
            return _killed_and_continued(server, student, folder)


def _killed_and_continued(server: ApiServer, student: Path, folder: Path) -> dict[str, Any]:
    command = _command(server, student, folder / "out")
    killed = _run_and_kill(command, folder, server)
    started = time.monotonic()
    first = _run(command, folder)
    seconds = time.monotonic() - started
    asked = Counter(row["question"] for row in server.asked())
    annotations = (folder / "out" / "annotations.json").read_bytes()
    second = _run(command, folder)
    with importing():
        from alpaca_eval.metrics import get_winrate
    theirs = get_winrate(json.loads(annotations))
    return {
        "killed_after_questions": killed,
        "questions": len(asked),
        "asked_twice": sum(count - 1 for count in asked.values()),
        "asked_by_the_second_run": len(server.asked()) - sum(asked.values()),
        "same_result": first == second and (folder / "out" / "annotations.json").read_bytes() == annotations,
        "largest_difference_to_the_library": max(abs(first[key] - float(theirs[key])) for key in theirs),
        "seconds_after_the_kill": round(seconds, 1),
        "result": first,
    }


def _command(server: ApiServer, student: Path, out: Path) -> list[str]:
    evaluator = ["--evaluator", "openai:gpt-test", "--set", f"base_url={server.url}/v1", "--set", "revision=test"]
    length = ["--max-new-tokens", "24", "--name", "tiny-student"]
    files = ["--reference", str(REFERENCE), "--tables", str(DATA), "--out", str(out), "--json"]
    return [TUTELAGE, "evaluate", "alpaca-eval", f"transformers:{student}", *evaluator, *length, *files]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TUTELAGE_LEDGER": str(folder / "ledger.db"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def _run_and_kill(command: list[str], folder: Path, server: ApiServer) -> int:
    with subprocess.Popen(
        command, env=_environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(server.asked()) < KILL_AFTER:
            if process.poll() is not None:
                sys.exit(f"the run exited before it could be killed: {known(process.stderr).read()}")
            time.sleep(0.05)
        process.kill()
    return len(server.asked())


def _run(command: list[str], folder: Path) -> dict[str, Any]:
    done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def write_student(folder: Path) -> Path:
    """Write a Phi model with random weights and a few thousand parameters.

    Its context holds the longest instruction, and its vocabulary has the most common words of the benchmark.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    instructions = [row["instruction"] for row in json.loads(REFERENCE.read_text())]
    counted = Counter(word for text in instructions for word in re.findall(r"\w+|[^\w\s]+", text))
    special = ["<|endoftext|>", "<|unk|>", "<|user|>", "<|assistant|>", "<|pad|>"]
    words = [word for word, _ in counted.most_common(500) if word not in special]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=special[0], unk_token="<|unk|>", extra_special_tokens=special[2:]
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    PhiForCausalLM(config).save_pretrained(folder)
    return folder
