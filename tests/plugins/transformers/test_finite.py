"""Trainings and generation on real weights that overflow: the work is stopped, and no artifact holds NaN."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ranks import train_together
from safetensors.torch import load_file

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.execution.runner import run
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.files.trl_format import message, supervised_row
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.recipe.loading import find_recipe, load_recipe
from tutelage.records import JudgeItem, Model, Prompt, Rubric, Sampling
from tutelage_transformers.generation.answering import candidates
from tutelage_transformers.generation.judging import judgements
from tutelage_transformers.models import checkpoint
from tutelage_transformers.models.finite import weights_not_finite
from tutelage_transformers.models.loading import read
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.request import TrainingRequest, failures
from tutelage_transformers.training.step import train

SFT = Sft(epochs=2, learning_rate=1e-2, batch_size=4, micro_batch_size=2, warmup_ratio=0.5)
DPO = Dpo(epochs=2, learning_rate=1e-3, batch_size=4, micro_batch_size=2, warmup_ratio=0.5)
LORA = Lora(r=4, alpha=8, dropout=0.0)
STEPS = 8
OBJECTIVES = [SFT, DPO, evolve(SFT, lora=LORA), evolve(DPO, lora=LORA)]
NAMES = ["sft", "dpo", "sft-lora", "dpo-lora"]
EVERY_STEP = TransformersSettings(checkpoint_minutes=0)
PLANTED = "score"
"""A word that only the planted example contains."""


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The base model with an embedding of ``PLANTED`` that is finite, and overflows in the first layer."""
    folder = tmp_path_factory.mktemp("poisoned")
    loaded = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    token = loaded.tokenizer.convert_tokens_to_ids(PLANTED)
    loaded.model.get_input_embeddings().weight.data[token] = 1e38
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def with_planted(tmp_path: Path, sft_file: Path, dpo_file: Path) -> Callable[[Objective], Path]:
    """The examples of an objective with a planted one in line 6."""

    def write(objective: Objective) -> Path:
        prompt = f"sort the words {PLANTED} cow"
        if isinstance(objective, Sft):
            planted: dict[str, Any] = supervised_row(prompt, f"cow {PLANTED}")
        else:
            planted = {"prompt": message("user", prompt), "prompt_id": "p-planted"} | {
                side: message("assistant", text) for side, text in (("chosen", "cow"), ("rejected", "red blue"))
            }
        rows = [row for _, row in read_rows(sft_file if isinstance(objective, Sft) else dpo_file)]
        rows[5] = planted
        file = tmp_path / "planted.jsonl"
        write_rows(file, rows)
        return file

    return write


class Training:
    """A training in a folder of its own, repeated with other settings."""

    def __init__(self, start: Path, folder: Path) -> None:
        self.start, self.folder = start, folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.rows: list[Any] = []
        self.output = folder

    def run(
        self,
        objective: Objective,
        examples: Path,
        settings: TransformersSettings = EVERY_STEP,
        reference: Path | None = None,
    ) -> None:
        self.output = self.folder / f"output-{len(list(self.folder.iterdir()))}"
        self.output.mkdir()
        self.rows.clear()
        other = Model("transformers", str(reference)) if reference else None
        context = Context(settings=settings, scratch=self.scratch, log=self.rows.append)
        train(Model("transformers", str(self.start)), other, objective, examples, self.output, context)

    def stop(self, *arguments: Any, **options: Any) -> str:
        with pytest.raises(StageError) as stopped:
            self.run(*arguments, **options)
        assert list(self.output.iterdir()) == []
        self.assert_finite()
        return str(stopped.value)

    def assert_finite(self) -> None:
        """Assert that metrics, checkpoints and training checkpoints hold finite numbers only."""
        json.dumps(self.rows, allow_nan=False)
        for file in (*self.scratch.rglob("*.safetensors"), *self.output.rglob("*.safetensors")):
            assert weights_not_finite(load_file(file).items()) == [], file
        for state in self.scratch.rglob("trainer_state.json"):
            assert "NaN" not in state.read_text() and "Infinity" not in state.read_text()


COMBINATIONS = [
    pytest.param(objective, packing, id=f"{name}-{kind}", marks=[pytest.mark.slow] * (packing is not tested))
    for name, objective, tested in zip(NAMES, OBJECTIVES, (False, True, True, False), strict=True)
    for kind, packing in (("padded", False), ("packed", True))
]
"""Those that are slow tests combine what the others have: each two of objective, adapter and packing are
tested together."""


@pytest.mark.parametrize(("objective", "packing"), COMBINATIONS)
def test_a_learning_rate_that_overflows_stops_the_training_and_a_lower_one_trains(
    base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path, objective: Objective, packing: bool
) -> None:
    examples = sft_file if isinstance(objective, Sft) else dpo_file
    settings = evolve(EVERY_STEP, packing=packing)
    training = Training(base, tmp_path)
    error = training.stop(evolve(objective, learning_rate=1e30), examples, settings)
    # The warm-up starts at 0, so the second step is the first that changes weights, and the third one overflows.
    assert f"training stopped at step 3 of {STEPS}: the loss is nan" in error
    assert f"{examples}, lines " in error and len(error.split("lines ")[1].split(". ")[0].split(",")) == 4
    kind = "sft" if isinstance(objective, Sft) else "dpo"
    assert f"lower {kind}.learning_rate (now 1e+30); raise {kind}.warmup_ratio (now 0.5)" in error
    assert [row["step"] for row in training.rows] == [1, 2]
    assert [path.name for path in training.scratch.glob("training-*/checkpoint-*")] == ["checkpoint-2"]
    assert training.stop(evolve(objective, learning_rate=1e30), examples, settings) == error, "not repeated in silence"
    assert [row["step"] for row in training.rows] == [1, 2]

    training.run(objective, examples, settings)
    assert len(training.rows) == STEPS
    assert [path for path in training.output.iterdir() if path.name == "model.safetensors"]
    training.assert_finite()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_an_example_that_overflows_is_named_by_its_line_and_training_continues_without_it(
    poisoned: Path, with_planted: Callable[[Objective], Path], tmp_path: Path, objective: Objective
) -> None:
    examples = with_planted(objective)
    training = Training(poisoned, tmp_path)
    alone = evolve(objective, micro_batch_size=1)
    if isinstance(objective, Dpo):  # the reference, which is computed first, overflows
        error = training.stop(alone, examples)
        assert "training stopped before the first step: the reference model's log-probability" in error
        assert f"examples: {examples}, line 6 (p-planted). " in error
        assert f"check that the weights of {poisoned} are whole" in error and "learning_rate" not in error
    else:
        error = training.stop(alone, examples)
        assert "the loss is not finite in line 6. " in error
        lines = [int(line) for line in error.split("planted.jsonl, lines ")[1].split(";")[0].split(", ")]
        assert len(lines) == 4 and 6 in lines
        assert error == training.stop(alone, examples)  # continued from the last finite step, if there was one
    rows = [row for line, row in read_rows(examples) if line != 6]
    write_rows(examples, rows)
    training.run(alone, examples)
    training.assert_finite()


@pytest.mark.parametrize("objective", [SFT, DPO], ids=["sft", "dpo"])
def test_two_processes_stop_together_and_name_the_examples_of_both(
    base: Path, sft_file: Path, dpo_file: Path, tmp_path: Path, objective: Objective
) -> None:
    examples = sft_file if isinstance(objective, Sft) else dpo_file
    (tmp_path / "scratch").mkdir()
    (tmp_path / "output").mkdir()
    request = TrainingRequest(
        Model("transformers", str(base)),
        None,
        evolve(objective, learning_rate=1e30),
        examples,
        tmp_path / "output",
        tmp_path / "scratch",
        TransformersSettings(processes=2, device="cpu", checkpoint_minutes=0),
    )
    statuses, rows = train_together(request, tmp_path / "request")
    assert statuses == [StageError.exit_code] * 2
    errors = {failure.message for failure in failures(tmp_path / "request")}
    assert len(errors) == 1
    error = errors.pop()
    assert f"training stopped at step 3 of {STEPS}: the loss is nan" in error
    assert len(error.split("lines ")[1].split(". ")[0].split(",")) == 4
    assert [row["step"] for row in rows] == [1, 2]
    assert not list((tmp_path / "output").iterdir())


def test_a_run_stops_at_the_step_keeps_what_was_made_and_trains_with_another_learning_rate(tmp_path: Path) -> None:
    """The embedded student. M1 is trained; the preference training overflows in the third of its steps."""
    changes = {"data.preferences.count": 64, "evaluation": None, "dpo.epochs": 1, "dpo.batch_size": 16}
    recipe = load_recipe(find_recipe("own-preferences"), {**changes, "dpo.learning_rate": 1e30})
    with pytest.raises(StageError) as stopped:
        run(recipe, tmp_path / "run")
    pairs = tmp_path / "run/seed-0/own-preferences/M2/preferences.jsonl"
    error = str(stopped.value)
    assert "training stopped at step 3 of 4: the loss is nan" in error
    assert f"{pairs}, lines " in error
    assert "lower dpo.learning_rate (now 1e+30)" in error
    m2 = pairs.parent
    assert sorted(path.name for path in m2.iterdir() if not path.name.startswith(".")) == [
        "preferences-dropped.jsonl",
        "preferences.jsonl",
    ]
    # The same run continues with the same step and ends the same way; the next one has another learning rate.
    with pytest.raises(StageError, match="training stopped at step 3 of 4"):
        run(recipe, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "changed")
    text = (tmp_path / "changed/recipe.yaml").read_text().replace("learning_rate: 1.0e+30", "learning_rate: 0.0001")
    (tmp_path / "changed/recipe.yaml").write_text(text)
    run(load_recipe(find_recipe("own-preferences"), {**changes, "dpo.learning_rate": 1e-4}), tmp_path / "changed")
    for file in (tmp_path / "changed").rglob("*.safetensors"):
        assert weights_not_finite(load_file(file).items()) == []
    rows = [row for _, row in read_rows(tmp_path / "changed/seed-0/own-preferences/M2/metrics.jsonl")]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_weights_that_overflow_in_the_last_step_are_not_saved(base: Path, sft_file: Path, tmp_path: Path) -> None:
    once = Sft(epochs=1, learning_rate=1e39, batch_size=16, warmup_ratio=0.0)
    error = Training(base, tmp_path).stop(once, sft_file)
    assert "training stopped at step 1 of 1: these weights are not finite: " in error
    assert "lm_head" in error and "lower sft.learning_rate (now 1e+39)" in error


def test_a_reference_that_overflows_is_named_before_training(
    base: Path, poisoned: Path, with_planted: Callable[[Objective], Path], tmp_path: Path
) -> None:
    error = Training(base, tmp_path).stop(DPO, with_planted(DPO), reference=poisoned)
    assert "the reference model's log-probability of an answer is not finite" in error


def test_weights_that_are_finite_only_in_float32_are_not_saved_in_float16(base: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    loaded = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    adapted = get_peft_model(loaded.model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    loaded.model.get_input_embeddings().weight.data[3] = 1e5
    with pytest.raises(StageError, match=r"not finite in float16: model\.embed_tokens\.weight\. .*bfloat16 or float32"):
        checkpoint.save(adapted, loaded.tokenizer, tmp_path, torch.float16, str(base))
    assert list(tmp_path.iterdir()) == []


def test_a_weight_is_found_by_its_extremes() -> None:
    import torch

    def weight(*values: float, dtype: Any = torch.float32) -> Any:
        return torch.tensor(values, dtype=dtype)

    named = {
        "whole": weight(1.0, -2.0),
        "nan": weight(0.0, math.nan),
        "inf": weight(math.inf, 0.0, dtype=torch.float16),
        "minus": weight(1.0, -math.inf, dtype=torch.bfloat16),
        "large": weight(3e38, -3e38),
        "integers": torch.tensor([1]),
        "empty": weight(),
    }
    assert weights_not_finite(named.items()) == ["nan", "inf", "minus"]
    assert weights_not_finite([]) == []


SOUND, BAD = Prompt("sort the words apple dog"), Prompt(f"sort the words {PLANTED} dog")


@pytest.mark.parametrize("engine", ["padded", "paged"])
@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["greedy", "sampled"])
def test_logits_that_are_nan_are_an_error_with_model_and_prompt(
    poisoned: Path, base: Path, engine: Any, temperature: float
) -> None:
    model, sampling = Model("transformers", str(poisoned)), Sampling(temperature, 1.0, 6)
    context = Context(settings=TransformersSettings(device="cpu", engine=engine))
    with pytest.raises(StageError) as error:
        list(candidates(model, [SOUND, BAD], 2, sampling, context))
    assert f"model {poisoned}: its logits are NaN or infinite after 0 new tokens for {BAD.id}" in str(error.value)
    sound = list(candidates(model, [SOUND], 2, sampling, context))
    expected = list(candidates(Model("transformers", str(base)), [SOUND], 2, sampling, context))
    assert [one.text for one in sound] == [one.text for one in expected]


def test_logits_that_become_nan_while_a_judge_answers_are_an_error_with_its_item(tmp_path: Path, base: Path) -> None:
    """The prompt is sound; the first new token is the one that overflows."""
    loaded = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    loaded.model.get_output_embeddings().bias.data[9] = 1e6  # always the next token
    loaded.model.get_input_embeddings().weight.data[9] = 1e38
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    rubric = Rubric("mine", "sort the words {prompt} {answer}", 0, 5)
    judged = judgements(
        Model("transformers", str(tmp_path)),
        [JudgeItem("item-7", "apple dog", "dog apple")],
        rubric,
        1,
        Sampling(0.0, 1.0, 4),
        Context(settings=TransformersSettings(device="cpu")),
    )
    with pytest.raises(StageError, match=r"after 1 new tokens for item-7 \(sample 0\)"):
        list(judged)
