"""A changed recipe makes again what depends on the change, keeps the rest, and ends as a fresh run of it does."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from interrupted_runs import Interrupting, artifacts_of
from recipes import numbers_recipe

from tutelage.errors import InputError, Interrupted, RunLockedError, StageError
from tutelage.execution.runner import run
from tutelage.hookspecs import hookimpl
from tutelage.planning.pipelines import make_plan
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Plan
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values, to_yaml
from tutelage.recipe.schema import Recipe
from tutelage.records import Prompt
from tutelage.results.changes_words import changes_words
from tutelage.runs.changes import Changes, changes
from tutelage.runs.run import Run
from tutelage.runs.store import Store

GOLDEN = Path("tests/fixtures/golden-run")


@frozen
class NumbersSettings:
    """Settings of the world: one changes its answers, one does not."""

    accent: str = ""
    """Text after each wrong answer."""
    threads: int = 1
    """Changes nothing."""


class AccentedWorld:
    """The echoing world with settings."""

    @hookimpl
    def describe(self) -> PluginInfo:
        import echoing_world

        return evolve(echoing_world.describe(), settings=NumbersSettings, neutral_settings=("threads",))

    @hookimpl
    def generate_candidates(self, model: Any, prompts: Iterable[Prompt], n: int, sampling: Any, context: Any) -> Any:
        import echoing_world

        for one in echoing_world.generate_candidates(model, prompts, n, sampling, context):
            is_wrong = one.text.endswith("so")
            yield evolve(one, text=one.text + context.settings.accent) if is_wrong else one


def world(result_version: int = 1) -> Registry:
    import echoing_world

    class World(AccentedWorld):
        @hookimpl
        def describe(self) -> PluginInfo:
            return evolve(super().describe(), result_version=result_version)

    for hook in ("judge", "demonstrate", "evaluate", "train_step"):
        setattr(World, hook, staticmethod(getattr(echoing_world, hook)))
    registry = Registry.empty()
    registry.register(World(), "numbers")
    return registry


SMALL = {
    "data": {"prompts": {"count": 16}},
    "evaluation": {"prompts": {"count": 12}, "sampled": 2, "agreement_prompts": 6, "compare": "parent"},
}


def recipe(**changed: Any) -> Recipe:
    """A small recipe of the numbers with nested changes: ``dpo={"beta": 0.3}``."""
    return from_values(_merged(_merged(numbers_recipe(), SMALL), changed))


def _merged(base: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changed.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


class Announced:
    """Approves every change and keeps what was announced."""

    def __init__(self) -> None:
        self.changes: list[Changes] = []

    def __call__(self, found: Changes) -> bool:
        self.changes.append(found)
        return True


def made(folder: Path) -> dict[str, bytes]:
    """The files of a run without what was set aside."""
    return {path: data for path, data in artifacts_of(folder).items() if not path.startswith(".replaced/")}


def inodes(folder: Path) -> dict[str, int]:
    return {step.output: folder.joinpath(step.output).stat().st_ino for step in make_plan(recipe()).steps}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the unchanged recipe."""
    folder = tmp_path_factory.mktemp("base") / "run"
    run(recipe(), folder, world())
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(base, tmp_path / "run")


M1 = {"seed-0/M1/examples.jsonl", "seed-0/M1/checkpoint"}
ROUND_1 = {"seed-0/M1/samples/prompts.jsonl", "seed-0/M1/samples/candidates.jsonl"}
JUDGED = {f"seed-0/{name}/M2/judgements.jsonl" for name in ("self-reward", "teacher-reward")}
DEMONSTRATED = {"seed-0/teacher-demonstration/M2/demonstrations.jsonl"}
PAIRS = {
    f"seed-0/{name}/M2/preferences.jsonl"
    for name in ("self-reward", "teacher-reward", "teacher-demonstration", "random-pairs")
}
MODELS = {"student": {"settings": {"accent": "!"}}}
CHANGES: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "another beta": (
        {"dpo": {"beta": 0.05}},
        M1 | ROUND_1 | JUDGED | DEMONSTRATED | PAIRS,
        {"seed-0/self-reward/M2/checkpoint", "seed-0/self-reward/M3/judgements.jsonl", "summary.json"},
    ),
    "another temperature of the judge": (
        {"judging": {"temperature": 0.5}},
        M1 | ROUND_1 | DEMONSTRATED | {"seed-0/teacher-demonstration/M3/checkpoint"},
        JUDGED | {"seed-0/self-reward/M2/checkpoint"},
    ),
    "another pair rule": (
        {"pipelines": {"self-reward": {"pairs": {"rule": "all-ordered"}}}},
        M1 | ROUND_1 | JUDGED | DEMONSTRATED | {"seed-0/teacher-reward/M3/checkpoint"},
        {"seed-0/self-reward/M2/preferences.jsonl", "seed-0/random-pairs/M2/preferences.jsonl"},
    ),
    "one more seed": ({"seeds": [0, 1]}, M1 | ROUND_1 | JUDGED, {"summary.json"}),
    "one pipeline less": (
        {"pipelines": {"teacher-reward": ...}},
        M1 | ROUND_1 | DEMONSTRATED | {"seed-0/self-reward/M3/checkpoint"},
        {"evaluation/seed-0/mixed.jsonl", "evaluation/seed-0/verdicts.jsonl"},
    ),
    "one more round": ({"iterations": 3}, M1 | ROUND_1 | JUDGED | PAIRS, {"evaluation/seed-0/mixed.jsonl"}),
    "one round less": ({"iterations": 1}, M1 | ROUND_1 | JUDGED | PAIRS, {"evaluation/seed-0/mixed.jsonl"}),
    "another evaluation set": (
        {"evaluation": {"prompts": {"count": 10}}},
        M1 | ROUND_1 | JUDGED | {"seed-0/self-reward/M3/checkpoint"},
        {"evaluation/seed-0/prompts.jsonl", "seed-0/M0/samples/held-out-greedy.jsonl"},
    ),
    "a setting of the student that changes its answers": (
        {"models": MODELS},
        {"seed-0/M1/examples.jsonl", "seed-0/M1/samples/prompts.jsonl"},
        {"seed-0/M1/checkpoint", "seed-0/M1/samples/candidates.jsonl"},
    ),
    "another chunk": (
        {"chunk": 20},
        M1 | {"seed-0/M1/samples/prompts.jsonl"},
        ROUND_1 - {"seed-0/M1/samples/prompts.jsonl"},
    ),
}


def changed_recipe(changed: dict[str, Any]) -> Recipe:
    """The small recipe with nested changes. ``...`` as the value of a pipeline or control removes it."""
    values = _merged(_merged(numbers_recipe(), SMALL), changed)
    for section in ("pipelines", "controls"):
        values[section] = {name: value for name, value in values[section].items() if value is not ...}
    return from_values(values)


FURTHER = {"another temperature of the judge", "one more seed", "one more round", "another chunk"}
"""Changes that are slow tests. By default, the chains below change the temperature and the seeds, ``one round less`` is
a change of the rounds, and ``test_made_from.py`` has the chunk."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in FURTHER)) for name in CHANGES])
def test_a_change_keeps_what_does_not_depend_on_it_and_ends_as_a_fresh_run(
    folder: Path, tmp_path: Path, name: str
) -> None:
    changed, kept, again = CHANGES[name]
    before = inodes(folder)
    announced = Announced()
    run(changed_recipe(changed), folder, world(), approve=announced)
    run(changed_recipe(changed), tmp_path / "fresh", world())
    assert made(folder) == made(tmp_path / "fresh")
    after = {output: folder.joinpath(output).stat().st_ino for output in before if folder.joinpath(output).exists()}
    assert {output for output in kept if after[output] == before[output]} == kept
    assert {output for output in again if after[output] != before[output]} == again
    [found] = announced.changes
    assert {change.step.output for change in found.of("kept")} >= kept
    assert {change.step.output for change in found.of("again")} >= again


def test_a_setting_that_changes_no_result_keeps_everything(folder: Path) -> None:
    before = made(folder)
    models = {"student": {"settings": {"threads": 4}}}
    run(recipe(models=models, budget=5.0), folder, world(), approve=lambda found: not found.remaining)
    after = made(folder)
    assert {path for path in after if after[path] != before[path]} == {"recipe.yaml"}


def test_the_micro_batch_size_changes_nothing_and_the_batch_size_makes_m1_again(folder: Path) -> None:
    store = Store(folder)
    for key, remaining in (("micro_batch_size", False), ("batch_size", True)):
        changed = recipe(sft={key: 1})
        found = changes(store, make_plan(changed), Sources(changed, world()))
        assert bool(found.remaining) is remaining
    assert next(change.why for change in found.steps if change.step.output in M1 and change.why) == (
        "batch_size: 16 -> 1",
    )


def test_a_release_of_a_plugin_with_other_results_makes_again_what_the_plugin_made(folder: Path) -> None:
    found = changes(Store(folder), make_plan(recipe()), Sources(recipe(), world(result_version=2)))
    again = {change.step.output: change.why for change in found.of("again")}
    assert again["seed-0/M1/checkpoint"] == ("student.plugin.result_version: none -> 2",)
    assert "seed-0/M1/samples/prompts.jsonl" in {change.step.output for change in found.of("kept")}


def test_the_artifacts_of_the_old_recipe_are_taken_back_when_the_recipe_changes_back(folder: Path) -> None:
    before = made(folder)
    run(recipe(dpo={"beta": 0.05}), folder, world())
    assert made(folder) != before
    run(recipe(), folder, world(), approve=lambda found: not found.remaining)
    assert made(folder) == before


def test_nothing_changes_if_the_change_is_not_approved(folder: Path) -> None:
    before = artifacts_of(folder)
    with pytest.raises(Interrupted, match="nothing was changed"):
        run(recipe(dpo={"beta": 0.05}), folder, world(), approve=lambda found: False)
    assert artifacts_of(folder) == before


def test_the_changes_are_named_by_the_keys_of_the_recipe_with_both_values(folder: Path) -> None:
    changed = recipe(dpo={"beta": 0.3}, pipelines={"self-reward": {"pairs": {"margin": 1.0}}})
    found = changes(Store(folder), make_plan(changed), Sources(changed, world()))
    assert found.recipe == ("pipelines.self-reward.pairs.margin: 0.0 -> 1.0", "dpo.beta: 0.1 -> 0.3")


def test_a_file_whose_rows_change_makes_again_what_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "ift.jsonl"
    rows = [f'{{"prompt": "say {n}", "answer": "{n}"}}\n' for n in range(10)]
    file.write_text("".join(rows))
    small = recipe(data={"ift": {"source": str(file), "count": None}}, evaluation=None, iterations=1)
    run(small, tmp_path / "run", world())
    store, plan = Store(tmp_path / "run"), make_plan(small)
    file.write_text("\n" + "".join(rows))  # the same rows
    assert not changes(store, plan, Sources(small, world())).remaining
    file.write_text("".join([*rows, '{"prompt": "say 70", "answer": "70"}\n']))
    found = changes(store, plan, Sources(small, world()))
    first = next(iter(found.of("again")))
    assert first.step.output == "seed-0/M1/examples.jsonl"
    assert any(reason.startswith("data.ift.content: ") for reason in first.why)
    assert "seed-0/M1/samples/prompts.jsonl" in {change.step.output for change in found.of("kept")}


def test_a_run_of_an_earlier_version_is_adopted(tmp_path: Path) -> None:
    """Its artifacts have no records; they are those of the recipe that is stored beside them."""
    import echoing_world

    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    folder = shutil.copytree(GOLDEN, tmp_path / "golden")
    stored = Store(folder)
    before = artifacts_of(folder)
    golden = changes(stored, *_plan_and_sources(folder, registry))
    assert not golden.remaining
    run(Run.open(folder).recipe, folder, registry)
    after = artifacts_of(folder)
    assert {path for path in after if path not in before} == {
        f"made/{Path(path).with_suffix('.json')}" for path in golden.adopted
    }


def _plan_and_sources(folder: Path, registry: Registry) -> tuple[Plan, Sources]:
    opened = Run.open(folder)
    return opened.plan, Sources(opened.recipe, registry)


def test_an_adopted_artifact_that_is_not_what_its_source_gives_is_made_again(tmp_path: Path) -> None:
    import echoing_world

    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    folder = shutil.copytree(GOLDEN, tmp_path / "golden")
    examples = folder / "seed-0/M1/examples.jsonl"
    lines = examples.read_text().splitlines(keepends=True)
    examples.write_text("".join(reversed(lines)))
    found = changes(Store(folder), *_plan_and_sources(folder, registry))
    again = {change.step.output for change in found.of("again")}
    assert again >= M1, "the model was trained on the other rows"
    assert "evaluation/seed-0/prompts.jsonl" in {change.step.output for change in found.of("kept")}
    run(Run.open(folder).recipe, folder, registry)
    assert not changes(Store(folder), *_plan_and_sources(folder, registry)).remaining


def test_an_artifact_that_the_plan_does_not_have_is_set_aside_without_its_record_too(folder: Path) -> None:
    shutil.rmtree(folder / "made")
    (folder / "recipe.yaml").write_text(to_yaml(recipe(iterations=1)))  # the folder has M3, its recipe has not
    run(recipe(iterations=1), folder, world())
    assert not (folder / "seed-0/self-reward/M3").exists()
    assert list((folder / ".replaced").rglob("seed-0/self-reward/M3/checkpoint"))


def test_a_damaged_record_is_named_with_what_to_do(folder: Path) -> None:
    record = folder / "made/seed-0/M1/checkpoint.json"
    record.write_text("{")
    with pytest.raises(InputError, match=r"M1/checkpoint\.json: not a record of an artifact; delete this file, and"):
        run(recipe(), folder, world())
    record.unlink()
    before = made(folder)
    run(recipe(), folder, world(), approve=lambda found: not found.remaining)
    assert made(folder).items() > before.items()


def test_what_is_replaced_is_counted_also_if_the_other_artifact_exists_already(folder: Path) -> None:
    run(recipe(dpo={"beta": 0.05}), folder, world())
    announced = Announced()
    run(recipe(), folder, world(), approve=announced)
    [back] = announced.changes
    assert not back.of("again")
    assert back.replaced == len(back.of("reused")) > 0
    assert back.replaced_seconds > 0
    assert f"set aside: {back.replaced} artifacts" in "\n".join(changes_words(back))


@pytest.mark.parametrize(
    ("changed", "reused"),
    [({}, 64 + 32), ({"judging": {"temperature": 0.1}}, 64), ({"generation": {"temperature": 0.1}}, 0)],
    ids=str,
)
def test_an_unfinished_run_of_an_earlier_version_continues_with_its_journal_if_the_step_is_the_same(
    tmp_path: Path, changed: dict[str, Any], reused: int
) -> None:
    folder, registry = tmp_path / "run", world()
    registry.register(Interrupting(64 + 40), "breaking")  # the candidates, and more than a chunk of their judgements
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe(), folder, registry)
    assert len((folder / "seed-0/self-reward/M2/.judgements.jsonl.journal").read_bytes().splitlines()) == 32
    for name in ("made", ".scratch"):  # earlier versions have neither records nor notes
        shutil.rmtree(folder / name)
    needed = {}
    for name in ("run", "fresh"):
        counter, registry = Interrupting(10**6), world()
        registry.register(counter, "counter")
        run(recipe(**changed), tmp_path / name, registry)
        needed[name] = 10**6 - counter.left
    assert made(folder) == made(tmp_path / "fresh")
    assert needed["fresh"] - needed["run"] == reused


STEPS: list[dict[str, Any]] = [
    {"dpo": {"beta": 0.05}},
    {"dpo": {"beta": 0.1}},
    {"judging": {"temperature": 0.5}},
    {"judging": {"samples": 1}},
    {"iterations": 1},
    {"iterations": 3},
    {"seeds": [0, 3]},
    {"seeds": [3]},
    {"evaluation": {"prompts": {"count": 9}}},
    {"evaluation": {"sampled": 0}},
    {"pairs": {"margin": 1.0}},
    {"generation": {"n": 3}},
    {"data": {"prompts": {"count": 14}}},
    {"models": MODELS},
    {"controls": {"random-pairs": ..., "sft-on-chosen": ...}},
    {"preferences": "all"},
    {"reference": "M1"},
]


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 2, 3))])
def test_random_chains_of_changes_each_with_a_crash_end_as_a_fresh_run_of_the_last_recipe(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    values: dict[str, Any] = {"iterations": 1}
    for _ in range(4):
        values = _merged(values, draw.choice(STEPS)) if draw.random() < 0.8 else {"iterations": 2}
        registry = world()
        registry.register(Interrupting(draw.randrange(900)), "breaking")
        try:
            run(changed_recipe(values), tmp_path / "run", registry)
        except Exception as error:
            assert "the power is gone" in str(error)
    run(changed_recipe(values), tmp_path / "run", world())
    run(changed_recipe(values), tmp_path / "fresh", world())
    assert made(tmp_path / "run") == made(tmp_path / "fresh")


PROGRAM = """
import json, sys
sys.path[:0] = ["tests/fixtures", "tests/core/execution"]
import test_changes
test_changes.run(test_changes.changed_recipe(json.loads(sys.argv[1])), sys.argv[2], test_changes.world())
"""


def test_a_chain_of_changes_each_with_a_kill_ends_as_a_fresh_run(tmp_path: Path) -> None:
    draw, kills, log = random.Random(3), 0, tmp_path / "run/steps.jsonl"
    values: dict[str, Any] = {"iterations": 1}
    for change in ({}, {"dpo": {"beta": 0.05}}, {"seeds": [0, 3]}, {"judging": {"temperature": 0.5}}):
        values = _merged(values, change)
        before = log.read_bytes().count(b"\n") if log.exists() else 0
        wanted = before + draw.randint(5, 30)
        with subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(values), str(tmp_path / "run")]) as process:
            while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < wanted):
                time.sleep(0.001)
            process.kill()
        kills += process.returncode < 0
    assert kills >= 3
    run(changed_recipe(values), tmp_path / "run", world())
    run(changed_recipe(values), tmp_path / "fresh", world())
    assert made(tmp_path / "run") == made(tmp_path / "fresh")


def test_runs_in_different_folders_share_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(recipe(), tmp_path / "first", world(), cache=cache)
    announced = Announced()
    changed = recipe(dpo={"beta": 0.05})
    run(changed, tmp_path / "second", world(), cache=cache, approve=announced)
    taken = {change.step.output for change in announced.changes[0].of("reused")}
    assert taken >= M1 | ROUND_1 | JUDGED | DEMONSTRATED | PAIRS
    weights = [tmp_path / name / "seed-0/M1/checkpoint/weights.json" for name in ("first", "second")]
    assert weights[0].stat().st_ino == weights[1].stat().st_ino  # on the disk once
    run(changed, tmp_path / "fresh", world())
    assert made(tmp_path / "second") == made(tmp_path / "fresh")


def test_a_cache_that_cannot_be_written_is_found_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        run(recipe(), tmp_path / "run", world(), cache=tmp_path / "file")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_adds_its_artifacts_to_a_cache(folder: Path, tmp_path: Path) -> None:
    run(recipe(), folder, world(), cache=tmp_path / "cache")
    run(recipe(), tmp_path / "second", world(), cache=tmp_path / "cache", approve=lambda found: not found.remaining)
    assert made(tmp_path / "second") == made(folder)


def test_a_damaged_artifact_in_a_cache_is_made_again(folder: Path, tmp_path: Path) -> None:
    run(recipe(), folder, world(), cache=tmp_path / "cache")
    [weights] = (tmp_path / "cache").glob("*/seed-0/M1/checkpoint/weights.json")
    weights.unlink()
    weights.write_text('{"skill": 0.7}')
    run(recipe(), tmp_path / "second", world(), cache=tmp_path / "cache")
    assert made(tmp_path / "second") == made(folder)


def test_another_process_that_changed_the_run_while_the_user_was_asked_is_found(folder: Path) -> None:
    def approve(found: Changes) -> bool:
        run(recipe(dpo={"beta": 0.3}), folder, world())
        return True

    with pytest.raises(RunLockedError, match=r"another process changed .* run it again"):
        run(recipe(dpo={"beta": 0.05}), folder, world(), approve=approve)
    before = made(folder)
    run(recipe(dpo={"beta": 0.3}), folder, world(), approve=lambda found: not found.remaining)
    assert made(folder) == before


def test_another_process_on_the_run_is_found_before_anything_is_set_aside(folder: Path) -> None:
    before = artifacts_of(folder)
    with Store(folder).lock(), pytest.raises(RunLockedError):
        run(recipe(dpo={"beta": 0.05}), folder, world())
    assert artifacts_of(folder) == before
