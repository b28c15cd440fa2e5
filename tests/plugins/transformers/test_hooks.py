from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pluggy
import pytest

import tutelage_transformers
from tutelage import helper_specs, hookspecs
from tutelage.context import Context
from tutelage.files.jsonl import converter, dump, write_rows
from tutelage.files.trl_format import supervised_row
from tutelage.objectives import Sft
from tutelage.records import Comparison, JudgeItem, Model, Outcome, Prompt, Rubric, Sampling
from tutelage_transformers.generation import dispatch, engine
from tutelage_transformers.generation.engine import Completion
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.step import train

PROMPTS = [Prompt("sort the words cat dog"), Prompt("sort the words apple"), Prompt("cow")]
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=6, seed=1)
RUBRIC = Rubric("short", "score the words {prompt} {answer}")
SCORED = "score: 4"


@pytest.fixture(scope="session")
def judging_student(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A student that was trained to answer every prompt with a score, and ``cow`` with a verdict."""
    folder = tmp_path_factory.mktemp("judge")
    rows = [
        supervised_row(f"score the words {a} {b}", SCORED) for a in ("cat", "dog", "red") for b in ("apple", "pear")
    ]
    rows += [supervised_row("cow cat dog", "better: first")] * 6
    file = folder / "examples.jsonl"
    write_rows(file, rows)
    (folder / "M1").mkdir()
    objective = Sft(epochs=20, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
    return train(Model("transformers", str(base)), None, objective, file, folder / "M1", Context())


@pytest.fixture
def hooks() -> Any:
    """The plugin as pluggy calls it."""
    manager = pluggy.PluginManager("tutelage")
    manager.add_hookspecs(hookspecs)
    manager.add_hookspecs(helper_specs)
    manager.register(tutelage_transformers, "transformers")
    manager.check_pending()
    return manager.hook


def test_every_hook_is_implemented(hooks: Any) -> None:
    (info,) = hooks.describe()
    assert info.settings is TransformersSettings
    assert info.models["phi-2"].location == "microsoft/phi-2"
    assert not info.item_by_item
    assert all(getattr(hooks, stage).get_hookimpls() for stage in (*hookspecs.STAGES, "release"))
    assert [name for name in helper_specs.HELPERS if not getattr(hooks, name).get_hookimpls()] == [
        "endpoint",
        "check_prompts",
    ]


def test_candidates_are_complete_and_typed(hooks: Any, base: Path) -> None:
    advanced: list[int] = []
    context = Context(advance=advanced.append)
    model = Model("transformers", str(base))
    answers = list(
        hooks.generate_candidates(model=model, prompts=iter(PROMPTS), n=4, sampling=SAMPLING, context=context)
    )
    assert {answer.id for answer in answers} == {f"{prompt.id}/{index}" for prompt in PROMPTS for index in range(4)}
    assert sum(advanced) == len(answers) == 12
    assert {answer.outcome for answer in answers} == {Outcome.ANSWERED, Outcome.CUT}
    for answer in answers:
        assert answer.tokens is not None and (answer.tokens == 6) == (answer.outcome is Outcome.CUT)
        assert bool(answer.detail) == (answer.outcome is Outcome.CUT)
        assert "<|" not in answer.text and answer.text == answer.text.strip()


def test_the_same_call_gives_the_same_candidates(hooks: Any, base: Path) -> None:
    call = {"model": Model("transformers", str(base)), "n": 3, "sampling": SAMPLING, "context": Context()}
    whole = list(hooks.generate_candidates(prompts=PROMPTS, **call))
    assert whole == list(hooks.generate_candidates(prompts=PROMPTS, **call))
    single = Context(settings=TransformersSettings(batch_size=1))
    parts = [
        answer
        for prompt in reversed(PROMPTS)
        for answer in hooks.generate_candidates(prompts=[prompt], **{**call, "context": single})
    ]
    assert sorted(whole, key=lambda answer: answer.id) == sorted(parts, key=lambda answer: answer.id)


def test_a_local_model_can_be_the_teacher(hooks: Any, judging_student: Model) -> None:
    prompts = [Prompt("score the words cat apple"), Prompt("score the words dog pear")]
    answers = list(hooks.demonstrate(model=judging_student, prompts=prompts, sampling=Sampling(0), context=Context()))
    assert {answer.prompt_id: answer.text for answer in answers} == {prompt.id: "score : 4" for prompt in prompts}


def test_each_item_is_judged_as_often_as_requested_and_every_text_is_kept(hooks: Any, judging_student: Model) -> None:
    items = [JudgeItem("one", "cat", "apple"), JudgeItem("two", "dog", "pear")]
    judgements = list(
        hooks.judge(
            model=judging_student,
            items=iter(items),
            rubric=RUBRIC,
            samples=3,
            sampling=SAMPLING,
            score="parsed",
            context=Context(),
        )
    )
    assert {judgement.id for judgement in judgements} == {f"{name}#{n}" for name in ("one", "two") for n in range(3)}
    assert {(judgement.score, judgement.outcome, judgement.raw) for judgement in judgements} == {
        (4.0, Outcome.ANSWERED, "score : 4")
    }


def test_the_same_answers_to_a_prompt_are_judged_once_and_each_gets_the_judgements(
    hooks: Any, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated: list[int] = []

    def generate(loaded: LoadedModel, prompts: Sequence[str], *arguments: Any) -> Any:
        generated.append(len(prompts))
        return engine.generate(loaded, prompts, *arguments)

    monkeypatch.setattr(dispatch, "generate", generate)
    answers = {"one": "apple", "two": "pear", "three": "apple", "other seed": "apple"}
    advanced: list[int] = []
    found = hooks.judge(
        model=Model("transformers", str(base)),
        items=[JudgeItem(name, "cat", answer) for name, answer in answers.items()],
        rubric=RUBRIC,
        samples=4,
        sampling=SAMPLING,
        score="parsed",
        context=Context(seeds={"other seed": 5}, advance=advanced.append),
    )
    raw = {judgement.id: judgement.raw for judgement in found}
    replies = {name: [raw[f"{name}#{sample}"] for sample in range(4)] for name in answers}
    assert len(raw) == sum(advanced) == 16
    assert replies["one"] == replies["three"] != replies["two"]
    assert replies["other seed"] != replies["one"]
    assert generated == [3]


def test_a_completion_without_a_score_never_becomes_a_number(hooks: Any, base: Path) -> None:
    judgements = list(
        hooks.judge(
            model=Model("transformers", str(base)),
            items=[JudgeItem("one", "cat", "apple")],
            rubric=RUBRIC,
            samples=8,
            sampling=SAMPLING,
            score="parsed",
            context=Context(),
        )
    )
    assert {(judgement.score, judgement.outcome) for judgement in judgements} == {(None, Outcome.UNPARSED)}
    assert all(judgement.detail for judgement in judgements)
    assert any("limit of 6 new tokens" in judgement.detail for judgement in judgements)


def test_an_item_that_does_not_fit_has_failed(hooks: Any, base: Path) -> None:
    (judgement,) = hooks.judge(
        model=Model("transformers", str(base)),
        items=[JudgeItem("long", "cat " * 200, "dog")],
        rubric=RUBRIC,
        samples=1,
        sampling=SAMPLING,
        score="parsed",
        context=Context(),
    )
    assert (judgement.score, judgement.outcome) == (None, Outcome.FAILED)
    assert "context" in judgement.detail


def test_two_answers_are_compared_in_the_given_order(hooks: Any, judging_student: Model) -> None:
    rubric = Rubric("pairwise", "{prompt} {first} {second}")
    (verdict,) = hooks.evaluate(
        model=judging_student,
        comparisons=[Comparison("c", "cow", "cat", "dog")],
        rubric=rubric,
        sampling=Sampling(0),
        context=Context(),
    )
    assert (verdict.comparison_id, verdict.preference, verdict.outcome) == ("c", 1.0, Outcome.ANSWERED)


def test_generation_stops_if_the_user_cancels(hooks: Any, base: Path) -> None:
    context = Context(settings=TransformersSettings(batch_size=2), cancelled=lambda: True)
    answers = hooks.generate_candidates(
        model=Model("transformers", str(base)), prompts=PROMPTS, n=2, sampling=SAMPLING, context=context
    )
    assert len(list(answers)) == 2


def test_a_completion_is_the_same_after_it_was_sent_between_processes() -> None:
    for completion in (Completion(3, 1, "cat", 2, True), Completion(0, 0, "", 0, False, fits=False)):
        assert converter().structure(json.loads(dump(completion)), Completion) == completion


def modules_after(code: str) -> set[str]:
    """The heavy packages that a new process has imported after it ran ``code``."""
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "numpy")
    program = f"import sys\n{code}\nprint(*[name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_describing_the_plugin_imports_nothing_heavy() -> None:
    assert modules_after("import tutelage_transformers; tutelage_transformers.describe()") == set()


def test_generation_imports_no_training_library(base: Path) -> None:
    code = (
        "import tutelage_transformers\n"
        "from tutelage.records import *\n"
        "from tutelage.context import Context\n"
        f"model = Model('transformers', {str(base)!r})\n"
        "sampling = Sampling(max_new_tokens=2)\n"
        "list(tutelage_transformers.generate_candidates(model, [Prompt('cat')], 1, sampling, Context()))"
    )
    assert modules_after(code).isdisjoint({"trl", "peft", "datasets"})


def test_the_plugin_keeps_the_promises_of_every_hook(base: Path) -> None:
    from tutelage.testing import check_plugin

    check_plugin("transformers", model=Model("transformers", str(base))).raise_for_problems()
