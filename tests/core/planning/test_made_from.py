"""What the result of a step depends on: every setting that changes it, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields
from recipes import numbers_recipe

from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo, Lora, Sft
from tutelage.planning.made_from import MadeFrom, made_from
from tutelage.planning.pipelines import make_plan
from tutelage.planning.sources import Sources
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.data_section import SelfInstruct
from tutelage.recipe.loading import find_recipe, from_values, load_recipe
from tutelage.recipe.schema import Evaluation, Generation, Judging, Recipe
from tutelage.records import ADDED_KEY, Rubric, Sampling

CHECKPOINT = "seed-0/M1/checkpoint"
JUDGEMENTS = "seed-0/self-reward/M2/judgements.jsonl"


def of(recipe: Recipe, registry: Registry) -> dict[str, MadeFrom]:
    return made_from(make_plan(recipe), Sources(recipe, registry), lambda artifact: None)


def changed_by(registry: Registry, **changed: Any) -> set[str]:
    """The artifacts that exist before and after a change, and differ."""
    before, after = (of(from_values(numbers_recipe(**one)), registry) for one in ({}, changed))
    return {path for path in before if path in after and before[path].fingerprint != after[path].fingerprint}


@pytest.fixture(scope="module")
def installed() -> Registry:
    """A registry with the plugins that are installed."""
    return Registry.discover()


@pytest.fixture(scope="module")
def embedded(installed: Registry) -> dict[str, MadeFrom]:
    """What each artifact of the embedded recipe is made from."""
    return of(load_recipe("embedded"), installed)


@pytest.mark.parametrize(
    "changed",
    [
        {"budget": 3.0},
        {"dpo": {"micro_batch_size": 1}},
        {"sft": {"micro_batch_size": 1}},
        {"judging": numbers_recipe()["judging"]},
    ],
    ids=str,
)
def test_settings_without_influence_change_nothing(numbers_registry: Registry, changed: Mapping[str, Any]) -> None:
    assert changed_by(numbers_registry, **changed) == set()


def test_the_name_of_a_run_is_in_its_summary_alone(numbers_registry: Registry) -> None:
    assert changed_by(numbers_registry, name="other") == {"summary.json"}


def test_keys_that_were_added_later_are_in_no_fingerprint_at_their_defaults(embedded: Mapping[str, MadeFrom]) -> None:
    """It keeps away an upgrade after which every finished run is made again."""
    classes = (Sampling, Sft, Dpo, Lora, Generation, Judging, Evaluation, SelfInstruct)
    added = {field.name for one in classes for field in fields(one) if field.metadata.get(ADDED_KEY)}
    assert {"top_k", "min_p", "weight_decay", "label_smoothing", "target_modules"} <= added
    made = embedded.values()
    leaves = {key.rpartition(".")[2] for one in made for key in (*one.values, *one.sources)}
    assert {"temperature", "beta", "warmup_ratio"} <= leaves
    assert added & leaves == set()


@pytest.mark.parametrize(
    ("changed", "artifact", "key"),
    [
        ({"sft": {"weight_decay": 0.1}}, CHECKPOINT, "weight_decay"),
        ({"sft": {"lora": {"target_modules": ["q_proj"]}}}, CHECKPOINT, "lora.target_modules"),
        ({"dpo": {"ld_alpha": 0.5}}, "seed-0/self-reward/M2/checkpoint", "ld_alpha"),
        (
            {"dpo": {"loss_type": "transformers/simpo", "loss_settings": {"gamma": 1.0}}},
            "seed-0/self-reward/M2/checkpoint",
            "loss_settings.gamma",
        ),
        ({"generation": {"top_k": 5}}, "seed-0/M1/samples/candidates.jsonl", "sampling.top_k"),
        ({"judging": {**numbers_recipe()["judging"], "min_p": 0.1}}, JUDGEMENTS, "sampling.min_p"),
    ],
    ids=str,
)
def test_a_key_that_was_added_later_counts_once_it_is_set(
    numbers_registry: Registry, changed: Mapping[str, Any], artifact: str, key: str
) -> None:
    before, after = (of(from_values(numbers_recipe(**one)), numbers_registry)[artifact] for one in ({}, changed))
    assert key not in before.values and key in after.values
    assert before.fingerprint != after.fingerprint


def test_a_change_reaches_everything_after_it_and_nothing_before_it(numbers_registry: Registry) -> None:
    changed = changed_by(numbers_registry, dpo={"beta": 0.3})
    assert CHECKPOINT not in changed
    assert "seed-0/self-reward/M2/preferences.jsonl" not in changed
    assert "seed-0/sft-on-chosen/M2/checkpoint" not in changed, "SFT has no beta"
    assert {"seed-0/self-reward/M2/checkpoint", "seed-0/self-reward/M3/preferences.jsonl", "summary.json"} <= changed


def test_every_step_of_every_type_depends_on_its_inputs(numbers_registry: Registry) -> None:
    made = of(from_values(numbers_recipe()), numbers_registry)
    for step in make_plan(from_values(numbers_recipe())).steps:
        assert set(step.inputs) <= set(made[step.output].inputs) or "content" in made[step.output].values


def test_the_content_of_a_rubric_counts_and_not_its_name_alone(numbers_registry: Registry) -> None:
    output = "seed-0/self-reward/M2/judgements.jsonl"

    class Wider:
        @hookimpl
        def describe(self) -> PluginInfo:
            rubric = Rubric("numbers", "Rate {answer} to {prompt}", highest=10.0)
            return evolve(numbers_registry.info("numbers"), rubrics={"numbers": rubric})

    other = Registry.empty()
    other.register(Wider(), "numbers")
    recipe = from_values(numbers_recipe())
    assert of(recipe, other)[output].fingerprint != of(recipe, numbers_registry)[output].fingerprint


def test_a_file_of_weights_counts_by_its_content(tmp_path: Path, numbers_registry: Registry) -> None:
    files = [tmp_path / name for name in ("one.gguf", "two.gguf")]

    def fingerprints() -> set[str]:
        bound = [numbers_recipe(models={**numbers_recipe()["models"], "student": student(file)}) for file in files]
        return {of(from_values(values), numbers_registry)[CHECKPOINT].fingerprint for values in bound}

    def student(file: Path) -> dict[str, str]:
        return {"plugin": "numbers", "model": str(file)}

    for file in files:
        file.write_bytes(b"weights")
    assert len(fingerprints()) == 1
    files[1].write_bytes(b"other")
    assert len(fingerprints()) == 2


class Wrapper:
    """Wraps the judge; ``result_version`` 0 says that it changes no result."""

    def __init__(self, result_version: int) -> None:
        self.result_version = result_version

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(help="Wraps.", result_version=self.result_version)

    @hookimpl(wrapper=True)
    def judge(self) -> Any:
        return (yield)


@pytest.mark.parametrize(("result_version", "counts"), [(1, True), (2, True), (0, False)])
def test_a_plugin_that_wraps_a_stage_counts_for_the_steps_of_this_stage(
    numbers_registry: Registry, result_version: int, counts: bool
) -> None:
    recipe = from_values(numbers_recipe())
    before = of(recipe, numbers_registry)
    numbers_registry.register(Wrapper(result_version), "wrapper")
    after = of(recipe, numbers_registry)
    changed = {path for path in before if before[path].fingerprint != after[path].fingerprint}
    assert ("seed-0/self-reward/M2/judgements.jsonl" in changed) is counts
    assert not {CHECKPOINT, "seed-0/M1/samples/candidates.jsonl"} & changed


WRITTEN = "seed-0/M1/samples/prompts.jsonl"


def self_instruct(source: str) -> dict[str, Any]:
    values = numbers_recipe()
    values["data"]["prompts"] |= {"source": source, "self_instruct": {"writer": "teacher"}}
    return values


def test_written_prompts_do_not_depend_on_the_chunk_of_other_steps(numbers_registry: Registry) -> None:
    values = self_instruct("numbers/train")
    before, after = (of(from_values({**values, "chunk": chunk}), numbers_registry) for chunk in (16, 8))
    assert before[WRITTEN].fingerprint == after[WRITTEN].fingerprint
    candidates = "seed-0/M1/samples/candidates.jsonl"
    assert before[candidates].fingerprint != after[candidates].fingerprint


def test_a_file_of_seed_prompts_counts_by_its_content_and_not_by_its_path(
    tmp_path: Path, numbers_registry: Registry
) -> None:
    files = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for file in files:
        file.write_text('{"prompt": "say 1"}\n')

    def written() -> list[str]:
        made = [of(from_values(self_instruct(str(file))), numbers_registry) for file in files]
        return [one[WRITTEN].fingerprint for one in made]

    assert len(set(written())) == 1
    files[1].write_text('{"prompt": "say 2"}\n')
    assert len(set(written())) == 2


def test_an_option_that_a_built_in_pair_rule_does_not_use_changes_nothing(numbers_registry: Registry) -> None:
    pairs = "seed-0/self-reward/M2/preferences.jsonl"
    unused = changed_by(numbers_registry, pairs={"near_best": 0.1, "length_ratio": 2.0})
    assert unused == set()
    values = [numbers_recipe(pairs={"rule": "length-controlled", "near_best": near}) for near in (0.1, 0.2)]
    first, second = (of(from_values(one), numbers_registry)[pairs] for one in values)
    assert first.fingerprint != second.fingerprint


def test_another_path_of_a_file_of_prompts_changes_its_copy_in_the_run_and_nothing_that_is_made_from_it(
    tmp_path: Path, numbers_registry: Registry
) -> None:
    made = []
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text("".join(f'{{"prompt": "say {n}"}}\n' for n in range(5000, 5050)))
        values = self_instruct("numbers/train")
        values["data"]["decontaminate"] = {"against": [str(tmp_path / name)]}
        values["evaluation"]["prompts"]["source"] = str(tmp_path / name)
        made.append(of(from_values(values), numbers_registry))
    changed = {path for path in made[0] if made[0][path].fingerprint != made[1][path].fingerprint}
    assert changed == {"evaluation/seed-0/prompts.jsonl", "summary.json"}


def test_a_folder_of_weights_counts_by_its_content(tmp_path: Path, installed: Registry) -> None:
    tiny = installed.get("models", "tiny/student").location
    for name in ("here", "there"):
        shutil.copytree(tiny, tmp_path / name)

    def with_student(folder: Path) -> str:
        recipe = load_recipe(find_recipe("embedded"), roles={"student": f"transformers:{folder}"})
        return of(recipe, installed)[CHECKPOINT].fingerprint

    here = with_student(tmp_path / "here")
    assert here == with_student(tmp_path / "there")
    (tmp_path / "there/config.json").write_text((tmp_path / "there/config.json").read_text() + " ")
    assert here != with_student(tmp_path / "there")


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"device": "cpu"}, True),
        ({"threads": 1, "batch_size": 4, "checkpoint_minutes": None, "processes": 1}, True),
        ({"dtype": "auto"}, True),  # the default
        ({"dtype": "bfloat16"}, False),
        ({"engine": "padded"}, False),
    ],
    ids=str,
)
def test_the_student_says_which_of_its_settings_change_results(
    installed: Registry, embedded: Mapping[str, MadeFrom], settings: dict[str, Any], same: bool
) -> None:
    recipe = load_recipe(find_recipe("embedded"))
    student = evolve(recipe.models.student, settings=settings)
    other = evolve(recipe, models=evolve(recipe.models, student=student))
    assert (of(other, installed)[CHECKPOINT].fingerprint == embedded[CHECKPOINT].fingerprint) is same


def test_unchanged_sources_are_not_read_again(numbers_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = from_values(numbers_recipe())
    made = of(recipe, numbers_registry)

    def unexpected(step: object, sources: object) -> None:
        raise AssertionError(f"{step} is read again")

    monkeypatch.setattr("tutelage.planning.made_from.rows_of", unexpected)
    assert made_from(make_plan(recipe), Sources(recipe, numbers_registry), made.get) == made
