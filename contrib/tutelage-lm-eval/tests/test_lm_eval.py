"""Tasks of a folder are measures of a tiny student's checkpoints: values, errors, a kill, and a whole run."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tutelage_lm_eval
from tutelage_lm_eval import TaskSettings, files, problems, tasks_in

import tutelage
import tutelage_tiny
from tutelage import (
    Candidate,
    Comparison,
    Context,
    Demonstration,
    Example,
    InputError,
    Interrupted,
    JudgeItem,
    Judgement,
    Measurement,
    Model,
    NamedSet,
    PluginInfo,
    Prompt,
    Registry,
    StageError,
    Verdict,
    hookimpl,
)
from tutelage.testing import check_plugin

WEIGHTS = Path(tutelage_tiny.__file__).parent / "weights"
QUESTIONS = [
    ("Add 2 and 3.", "5", "9"),
    ("Add 1 and 1.", "2", "7"),
    ("Add 4 and 4.", "3", "8"),
    ("Add 6 and 1.", "7", "1"),
]
TASK = """
dataset_path: json
dataset_kwargs: {data_files: {test: data/items.jsonl}}
test_split: test
"""
CHOICE = """
task: choice
doc_to_text: "{{question}}"
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
WRITTEN = """
task: written
doc_to_text: "{{question}}"
output_type: generate_until
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["."], max_gen_toks: 4}
metric_list: [{metric: exact_match}]
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - {name: number, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
"""
TEXT = """
task: text
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}]
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a request to the hub at once."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three tasks on the same data."""
    made = tmp_path / "tasks"
    (made / "data").mkdir(parents=True)
    rows = [{"question": text, "choices": [first, second], "answer": 0} for text, first, second in QUESTIONS]
    (made / "data/items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, own in (("choice", CHOICE), ("written", WRITTEN), ("text", TEXT)):
        (made / f"{name}.yaml").write_text(own + TASK)
    return made


def measured(name: str, context: Context, **settings: Any) -> list[Measurement]:
    measure = tutelage_lm_eval.describe().measures[name]
    model = Model("transformers", str(WEIGHTS), id="M0")
    return list(measure.function(model=model, settings=TaskSettings(device="cpu", **settings), context=context))


def test_the_contract_is_kept() -> None:
    check_plugin("lm-eval").raise_for_problems()


def test_wrong_settings_are_found_before_the_run(folder: Path) -> None:
    assert tasks_in(folder) == ["choice", "text", "written"]
    assert list(problems(TaskSettings("choice", folder))) == []
    assert list(problems(TaskSettings("arc_easy"))) == []
    assert list(problems(TaskSettings("choise", folder, batch_size=0, limit=0))) == [
        "batch_size: 0; it must be at least 1",
        "limit: 0; it must be at least 1",
        f"task: no YAML file in {folder} has the task 'choise'; it has choice, text, written",
    ]
    [problem] = problems(TaskSettings("choice", folder / "choice.yaml"))
    assert problem.startswith(f"folder: {folder}/choice.yaml is not a folder")
    assert files(TaskSettings("choice", folder)) == [folder]
    (folder / "group.yaml").write_text("group: both\ntask:\n  - choice\n  - !function own.task\ntag: [small, tiny]\n")
    assert tasks_in(folder) == ["both", "choice", "small", "text", "tiny", "written"]
    (folder / "broken.yaml").write_text("task: [")
    with pytest.raises(InputError, match=r"broken\.yaml: not a YAML file of a task"):
        list(problems(TaskSettings("choice", folder)))


def test_each_document_has_the_value_that_lm_eval_gives_it(folder: Path, tmp_path: Path) -> None:
    """Calculated with transformers: the choice with the larger log-likelihood is the model's answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = (one.from_pretrained(WEIGHTS) for one in (AutoTokenizer, AutoModelForCausalLM))

    def likelihood(question: str, choice: str) -> float:
        start, whole = (tokenizer(text).input_ids for text in (question, f"{question} {choice}"))
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        return float(sum(logits[at - 1, whole[at]] for at in range(len(start), len(whole))))

    wanted = [float(likelihood(text, first) > likelihood(text, second)) for text, first, second in QUESTIONS]
    found = measured("share", Context(scratch=tmp_path / "scratch"), task="choice", folder=folder)
    assert [one.value for one in found] == wanted
    assert [one.prompt_id for one in found] == [f"choice/{number}" for number in range(4)]


def test_a_filter_selects_the_answers_that_a_value_is_of(folder: Path, tmp_path: Path) -> None:
    """The answers are generated with transformers, too: greedy, up to a full stop, at most 4 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = (one.from_pretrained(WEIGHTS) for one in (AutoTokenizer, AutoModelForCausalLM))

    def answer(question: str) -> str:
        ids = torch.tensor([tokenizer(question).input_ids])
        made = model.generate(ids, max_new_tokens=4, do_sample=False, attention_mask=torch.ones_like(ids))
        return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)).partition(".")[0]

    numbers = [(re.findall("[0-9]+", answer(text)) or [""])[0] for text, *_ in QUESTIONS]
    context = Context(scratch=tmp_path / "scratch")
    of_answers = {"task": "written", "folder": folder, "metric": "exact_match"}
    found = measured("share", context, filter="number", **of_answers)
    assert [one.value for one in found] == [
        number == right for number, (_, right, _) in zip(numbers, QUESTIONS, strict=True)
    ]
    assert {one.value for one in found} == {0, 1}
    with pytest.raises(InputError, match="written: filter: written has no filter 'none'; it has whole, number"):
        measured("share", context, **of_answers)


def test_a_perplexity_is_a_mean_over_words_and_wrong_names_are_named(folder: Path, tmp_path: Path) -> None:
    context = Context(scratch=tmp_path / "scratch")
    found = measured("log-loss", context, task="text", folder=folder, metric="word_perplexity")
    assert [one.weight for one in found] == [4, 4, 4, 4]
    assert all(one.value is not None and one.value > 0 for one in found)
    for name, settings, problem in (
        ("share", {"metric": "word_perplexity"}, "word_perplexity of text is one for the measure lm-eval/log-loss"),
        ("share", {"metric": "accuracy"}, "text: metric: text has no metric 'accuracy'; it has word_perplexity"),
    ):
        with pytest.raises(InputError, match=problem):
            measured(name, context, task="text", folder=folder, **settings)


def test_answers_are_kept_when_the_process_is_killed_and_not_asked_for_again(folder: Path, tmp_path: Path) -> None:
    """The worker is killed at its first answers. The next attempt has the values of an undisturbed one."""
    rows = [{"question": f"Add {n} and {n}.", "choices": [str(n), str(2 * n)], "answer": 1} for n in range(1, 401)]
    (folder / "data/items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = tmp_path / "scratch/answers_rank0.db"
    killed = Context(scratch=tmp_path / "scratch", cancelled=lambda: answers.exists() and _rows(answers) > 100)
    with pytest.raises(Interrupted, match="stopped while lm_eval was at work"):
        measured("share", killed, task="choice", folder=folder, limit=400)
    kept = _rows(answers)
    assert 100 < kept < 800
    found = measured("share", Context(scratch=tmp_path / "scratch"), task="choice", folder=folder, limit=400)
    log = (tmp_path / "scratch/lm_eval.log").read_text()
    assert len(found) == 400 and _rows(answers) == 800
    assert f"Running loglikelihood requests: 100%|██████████| {800 - kept}/{800 - kept}" in log
    assert found == measured("share", Context(scratch=tmp_path / "other"), task="choice", folder=folder, limit=400)


def _rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as answers:
        exists = answers.execute("SELECT count(*) FROM sqlite_master WHERE name = 'unnamed'").fetchone()[0]
        return int(answers.execute("SELECT count(*) FROM unnamed").fetchone()[0]) if exists else 0


def test_the_error_of_lm_eval_is_shown(folder: Path, tmp_path: Path) -> None:
    (folder / "data/items.jsonl").unlink()
    with pytest.raises(StageError, match=r"lm_eval failed on choice \(exit code 1\):[\s\S]*items\.jsonl"):
        measured("share", Context(scratch=tmp_path / "scratch"), task="choice", folder=folder)
    with pytest.raises(InputError, match="bind a folder of weights or a hub name to the student"):
        measure = tutelage_lm_eval.describe().measures["share"]
        list(measure.function(model=Model("echo"), settings=TaskSettings("choice", folder), context=Context()))


class Noisy:
    """A student whose trainings add noise to the weights, and which answers and judges without them."""

    @hookimpl
    def describe(self) -> PluginInfo:
        prompts = NamedSet(lambda count, seed: [f"Add {n} and 1." for n in range(count)])
        examples = NamedSet(lambda count, seed: [Example(f"Say {n}.", str(n)) for n in range(count)])
        held_out = NamedSet(lambda count, seed: [f"Take 1 from {n}." for n in range(count)])
        sets = {"train": prompts, "held-out": held_out}
        return PluginInfo("Adds noise.", prompt_sets=sets, example_sets={"ift": examples})

    @hookimpl
    def generate_candidates(self, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        yield from (Candidate(prompt.id, index, prompt.text) for prompt in prompts for index in range(n))

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        yield from (Demonstration(prompt.id, "3") for prompt in prompts)

    @hookimpl
    def judge(self, items: Iterable[JudgeItem]) -> Iterator[Judgement]:
        yield from (Judgement(item.id, 0, 1.0) for item in items)

    @hookimpl
    def evaluate(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        yield from (Verdict(one.id, 0.5) for one in comparisons)

    @hookimpl
    def train_step(self, model: Model, output: Path) -> Model:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_pretrained(model.name)
        for weights in made.parameters():
            weights.data += 0.02 * torch.randn_like(weights)
        made.save_pretrained(output)
        AutoTokenizer.from_pretrained(model.name).save_pretrained(output)
        return Model(model.plugin, str(output), id=model.id)


def test_a_run_has_the_figures_of_each_checkpoint_and_is_read_without_the_plugin(folder: Path, tmp_path: Path) -> None:
    registry = Registry.empty()
    registry.register(tutelage_lm_eval, "lm-eval")
    registry.register(Noisy(), "noisy")
    settings = {"task": "text", "folder": str(folder), "device": "cpu", "metric": "word_perplexity"}
    evaluation = {
        "prompts": {"source": "noisy/held-out", "count": 4},
        "sampled": 0,
        "agreement_prompts": 0,
        "measures": {"text": {"measure": "lm-eval/log-loss", "settings": settings}},
    }
    recipe = {
        "models": {role: {"plugin": "noisy"} for role in ("teacher", "evaluator")}
        | {"student": {"plugin": "noisy", "model": str(WEIGHTS)}},
        "data": {"ift": {"source": "noisy/ift", "count": 2}, "prompts": {"source": "noisy/train", "count": 4}},
        "pipelines": {"teacher-demonstration": None},
        "evaluation": evaluation,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    summary = tutelage.run(tmp_path / "recipe.yaml", tmp_path / "run", registry)
    assert summary is not None
    models = ("M0", "M1", "M2/teacher-demonstration")
    losses = [summary.model(model).metrics["text"] for model in models]
    assert len({one.value for one in losses}) == 3 and {one.n for one in losses} == {16}
    direct = measured("log-loss", Context(scratch=tmp_path / "x"), task="text", folder=folder, metric="word_perplexity")
    assert losses[0].value == pytest.approx(sum((one.value or 0) * one.weight for one in direct) / 16)
    before = (tmp_path / "run/summary.json").read_bytes()
    assert tutelage.run(tmp_path / "recipe.yaml", tmp_path / "run", registry) is not None
    assert (tmp_path / "run/summary.json").read_bytes() == before
    status = subprocess.run(
        [sys.executable, "-m", "tutelage", "compare", tmp_path / "run", "--metric", "text"],
        env={**os.environ, "TUTELAGE_NO_PLUGINS": "lm-eval"},
        capture_output=True,
        text=True,
    )
    assert "M2/teacher-demonstration" in status.stdout and "lower is better" in status.stdout, status.stderr
