"""A whole run: ``transformers`` trains the tiny student, and a server that the run starts and stops samples it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from serving import bodies, command, is_gone, until
from tutelage import Candidate, Judgement, Model, Store, run

VALUES: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "ift": {"source": "tiny/ift", "count": 24},
        "eft": {"source": "tiny/eft", "count": 96},
        "prompts": {"source": "tiny/train", "count": 24},
        "decontaminate": None,
    },
    "pipelines": {"self-reward": None},
    "generation": {"n": 4, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 24},
    "judging": {"rubric": "tiny/additive", "samples": 2, "temperature": 1.0, "max_new_tokens": 3},
    "sft": {"epochs": 3, "learning_rate": 5e-4, "batch_size": 16},
    "dpo": {"epochs": 1, "learning_rate": 1e-4, "batch_size": 16, "beta": 2.0},
}
CANDIDATES = "seed-0/M1/samples/candidates.jsonl"
JUDGEMENTS = "seed-0/self-reward/M2/judgements.jsonl"


def recipe(folder: Path, *options: str) -> Path:
    """A recipe file whose generator is the stand-in with these options."""
    settings = {"command": list(command("--pid", str(folder / "pids"), "--seen", str(folder / "seen"), *options))}
    generator = {"plugin": "vllm", "settings": settings}
    student = {"plugin": "transformers", "model": "tiny/student", "settings": {"threads": 1}, "generator": generator}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**VALUES, "models": {"student": student}}))
    return path


def tutelage(*arguments: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("tutelage"))
    return subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_self_reward_runs_whole_with_a_server_and_continues_after_a_kill(tmp_path: Path) -> None:
    path, folder = recipe(tmp_path, "--slow", "0.5"), tmp_path / "run"
    journal = folder / "seed-0/M1/samples"
    with tutelage("run", str(path), "--run", str(folder)) as killed:
        until(lambda: bool(partial_lines(journal)), 120)
        killed.kill()
    [server] = pids(tmp_path)
    assert is_gone(server)
    before = partial_lines(journal)
    assert 0 < len(before) < 96

    run(path, folder)
    store = Store(folder)
    candidates = store.read(CANDIDATES, Candidate)
    assert len(candidates) == 96
    assert set(before) <= {json.dumps(row, sort_keys=True) for row in rows(folder / CANDIDATES)}
    assert len(store.read(JUDGEMENTS, Judgement)) == 2 * 96
    assert (folder / "seed-0/self-reward/M2/checkpoint/model.safetensors").exists()
    assert len(pids(tmp_path)) == 2, "one server for the candidates and the judgements of M1, and the killed one"
    assert all(is_gone(pid) for pid in pids(tmp_path))
    answered = {tuple(one["body"]["prompt"]) for one in bodies(tmp_path / "seen")}
    assert answered

    from tutelage_vllm.weights import weights_of

    weights = weights_of(Model("vllm", str(folder / "seed-0/M1/checkpoint")))
    assert all(ids[-1] == weights.tokenizer.convert_tokens_to_ids("<|assistant|>") for ids in answered)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def partial_lines(folder: Path) -> list[str]:
    """The answers that a run has stored before its step is finished."""
    journals = [path for path in folder.glob("*candidates*") if path.name != "candidates.jsonl"]
    found = []
    for path in journals:
        for line in path.read_text().splitlines():
            try:
                found.append(json.dumps(json.loads(line), sort_keys=True))
            except ValueError:
                continue  # the kill may have cut it
    return found


def test_the_plan_shows_the_generator_and_its_check_names_its_key(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    with tutelage("plan", str(path), "--run", str(tmp_path / "run")) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "generator" in output
    missing = yaml.safe_load(path.read_text())
    missing["models"]["student"]["generator"]["settings"] = {"python": "/no/such/python"}
    path.write_text(yaml.safe_dump(missing))
    with tutelage("plan", str(path), "--run", str(tmp_path / "run")) as process:
        output = process.communicate()[0]
    assert process.returncode != 0
    assert "models.student.generator: settings.python: no program '/no/such/python'" in " ".join(output.split())
