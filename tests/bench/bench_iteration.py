"""One whole self-reward iteration by ``tutelage run``, with a student of random weights: seconds of every step.

python tests/bench/bench_iteration.py --size phi-2 --folder /tmp/iteration       # on a GPU python
tests/bench/bench_iteration.py --size small --folder /tmp/iteration --prompts 20

The steps are fresh prompts, four candidates of each, a judgement of each candidate, pairs, and DPO. M1 is trained on a
few random examples, because a run needs an M1. Random weights write neither tasks nor scores, so two parsers are
replaced: a completion is divided into prompts of 20 to 120 words, and a judgement's score is a hash of its text. The
lengths follow from the weights: a bias of the stop token (``random_student``) ends completions geometrically.
Everything else is as in a user's run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from pathlib import Path

import random_student

from tutelage import cli
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.preferences import prompt_listing as prompting
from tutelage.preferences import replies
from tutelage.preferences.score_parsing import ParsedScore
from tutelage.records import Rubric

PROMPT_WORDS = (20, 116)


def read_prompts(listing: prompting.Listing, reply: str, cut: bool) -> prompting.ParsedListing:
    """Replace ``Listing.read``: divide the words of the completion into prompts."""
    words, prompts = reply.split(), []
    choice = random.Random(reply)
    while len(words) >= PROMPT_WORDS[0]:
        length = choice.randint(*PROMPT_WORDS)
        prompts.append(" ".join(words[:length]))
        words = words[length:]
    return prompting.ParsedListing(tuple(prompts))


def read_score(reply: str, rubric: Rubric) -> ParsedScore:
    """Replace ``parse_score``: return a score of 0 to 5 that depends on the completion."""
    return ParsedScore(float(hashlib.sha256(reply.encode()).digest()[0] % 6), "")


def write_inputs(folder: Path, options: argparse.Namespace) -> Path:
    """Write the student, its examples and the recipe."""
    student = random_student.write(folder / "student", options.size, options.device)
    questions = random_student.texts(options.size, 64, *PROMPT_WORDS)
    answers = random_student.texts(options.size, 64, 30, 250, seed=1)
    rows = [
        {"prompt": question, "answer": answer, "score": number % 6, "reason": "so"}
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    write_rows(folder / "ift.jsonl", [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows[:32]])
    write_rows(folder / "eft.jsonl", rows[32:])
    source = f"source: {folder / 'ift.jsonl'}, count: {options.prompts}, self_instruct: {{writer: student}}"
    if options.prompts_from_file:
        texts = random_student.texts(options.size, options.prompts, *PROMPT_WORDS, seed=2)
        write_rows(folder / "prompts.jsonl", [{"prompt": text} for text in texts])
        source = f"source: {folder / 'prompts.jsonl'}, count: {options.prompts}"
    device = "cpu" if options.device == "cpu" else "auto"
    processes = "null" if options.processes is None else options.processes
    settings = f"adapter_dtype: {options.adapter_dtype}, processes: {processes}, device: {device}"
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"""
name: iteration
seeds: [0]
iterations: 1
models:
  student: {{plugin: transformers, model: {student}, settings: {{{settings}}}}}
data:
  ift: {{source: {folder / "ift.jsonl"}}}
  eft: {{source: {folder / "eft.jsonl"}}}
  prompts: {{{source}}}
pipelines:
  self-reward:
generation: {{n: 4, temperature: 0.7, top_p: 0.9, max_new_tokens: 256}}
judging: {{rubric: additive, samples: 1, temperature: 1.0, top_p: 1.0, max_new_tokens: {options.judge_tokens}}}
pairs: {{keep_cut: true}}
sft: {{epochs: 1, batch_size: 16, max_length: 2048, lora: {{r: 64, alpha: 16, dropout: 0.05}}}}
dpo: {{epochs: 1, batch_size: {options.batch_size}, max_length: 1536, lora: {{r: 16, alpha: 16, dropout: 0.05}}}}
chunk: {options.chunk or options.prompts}
""")
    return recipe


def main() -> None:
    """Write the inputs, run, and print the seconds of each step."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(random_student.SIZES), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the student and the run")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--judge-tokens", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16, help="pairs per step")
    parser.add_argument("--adapter-dtype", default="bfloat16")
    parser.add_argument("--processes", type=int, help="devices that share the work; all GPUs if left out")
    parser.add_argument("--chunk", type=int, help="items per chunk; the number of prompts if left out")
    parser.add_argument("--prompts-from-file", action="store_true", help="the student writes no prompts")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    recipe = write_inputs(options.folder, options)
    if options.device.startswith("cuda"):
        torch.cuda.empty_cache()
    prompting.Listing.read = read_prompts  # type: ignore[method-assign, assignment]
    replies.parse_score = read_score  # type: ignore[attr-defined]
    run = options.folder / "run"
    started = time.perf_counter()
    cli.cli(["run", str(recipe), "--run", str(run)], prog_name="tutelage", standalone_mode=False)
    seconds = time.perf_counter() - started
    if not (run / "seed-0/self-reward/M2/checkpoint").is_dir():
        sys.exit("the run stopped before its last step")
    steps = [row for _, row in read_rows(run / "steps.jsonl")]
    for row in steps:
        print(f"{row['seconds']:8.1f} s  {row['output']}  {row.get('counts', '')}")
    print(json.dumps({"seconds": round(seconds, 1), "steps": steps}))


if __name__ == "__main__":
    main()
