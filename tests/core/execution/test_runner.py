import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve
from interrupted_runs import Interrupting
from known import known
from recipes import numbers_recipe

from tutelage.context import Context, Tracking
from tutelage.errors import InputError, Interrupted, StageError
from tutelage.execution.reporter import EarlierStep, Silent
from tutelage.execution.runner import run
from tutelage.files.digests import sha256_of_each
from tutelage.files.trl_format import read_preferences
from tutelage.hookspecs import hookimpl
from tutelage.planning.checks import checked_plan
from tutelage.planning.steps import Step
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import average
from tutelage.recipe.schema import Recipe
from tutelage.records import Demonstration, JudgeItem, Judgement, Model, Outcome, Prompt
from tutelage.results.summarise import summarise
from tutelage.results.summary import read_summary
from tutelage.runs.run import Run
from tutelage.runs.speeds import expected_time
from tutelage.runs.started import read_live_metrics, read_started
from tutelage.runs.store import Store
from tutelage.runs.tracebacks import read_traceback
from tutelage.services.requests import Endpoint

"""A hook wrapper around a stage: it receives the results and returns the results that the caller gets."""
GOLDEN = "tests/fixtures/golden-run"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run on the echoing world, made once for this module."""
    import echoing_world

    from tutelage.plugins.registry import Registry
    from tutelage.recipe.loading import from_values

    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    run(from_values(numbers_recipe()), folder, registry)
    return folder


def artifacts(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a run, except for times and locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "recipe.yaml", "steps.jsonl", ".lock")
    }


def test_a_run_measures_every_model_and_better_teaching_gives_better_models(undisturbed: Path) -> None:
    summary = read_summary(undisturbed / "summary.json")
    score = {model.id: known(model.metrics["sampled_gold_score"].value) for model in summary.models}
    assert score["M0"] < score["M1"] < score["M3/teacher-demonstration"]
    assert score["M1"] < score["M3/teacher-reward"]
    assert {(row.left, row.right) for row in summary.differences} >= {
        ("M2/self-reward", "M1"),
        ("M2/self-reward", "M2/random-pairs"),
        ("M3/teacher-demonstration", "M2/sft-on-chosen"),
    }
    assert len(summary.comparisons) == 45
    assert all(row.wins + row.ties + row.losses + row.unparsed == row.n == 30 for row in summary.comparisons)


def test_replies_that_could_not_be_parsed_are_counted_and_never_scored(undisturbed: Path) -> None:
    summary = read_summary(undisturbed / "summary.json")
    counts = {step.output: step.counts for step in summary.steps}
    judged = counts["seed-0/self-reward/M2/judgements.jsonl"]
    assert judged["unparsed"] > 0
    assert judged["unparsed"] + judged["answered"] == 40 * 4 * 2
    parsed = {(row.model, row.answers): known(row.metrics["parsed"].value) for row in summary.agreement}
    assert 0.9 < parsed["M1", "own"] < 1


def test_no_pair_has_equal_empty_or_tied_sides(undisturbed: Path) -> None:
    files = sorted(undisturbed.rglob("preferences.jsonl"))
    assert len(files) == 7
    for file in files:
        pairs = read_preferences(file)
        assert pairs, file
        for pair in pairs:
            assert pair.chosen.strip() != pair.rejected.strip() != ""
            assert pair.score_chosen is None or pair.score_chosen > known(pair.score_rejected)


def test_equal_answers_to_a_prompt_are_judged_once_and_have_equal_scores(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    asked = []

    class Watching:
        @hookimpl
        def describe(self) -> PluginInfo:
            return numbers_registry.info("numbers")

        @hookimpl
        def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
            for item in items:
                asked.append((item.prompt, item.answer))
                yield from (Judgement(item.id, sample, len(asked) % 6) for sample in range(samples))

    numbers_registry.register(Watching(), "watching")
    models = {**numbers_recipe()["models"], "judge": {"plugin": "watching"}}
    recipe = make_recipe(models=models, pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path / "run", numbers_registry)
    assert len(asked) == len(set(asked)) < 40 * 4
    scores = average(Store(tmp_path / "run").read("seed-0/teacher-reward/M2/judgements.jsonl", Judgement))
    assert len(scores) == 40 * 4


def test_refusals_are_requested_again_only_if_the_caller_says_so(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    seen = []

    class Watching:
        @hookimpl
        def describe(self) -> PluginInfo:
            return numbers_registry.info("numbers")

        @hookimpl
        def judge(self, items: Iterable[JudgeItem], samples: int, context: Context) -> Iterator[Judgement]:
            seen.append((context.caller.ask_refused_again, context.caller.run, context.caller.stage))
            for number, item in enumerate(items):
                yield from (Judgement(item.id, sample, number % 6) for sample in range(samples))

    numbers_registry.register(Watching(), "watching")
    models = {**numbers_recipe()["models"], "judge": {"plugin": "watching"}}
    recipe = make_recipe(models=models, pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path / "first", numbers_registry)
    run(recipe, tmp_path / "second", numbers_registry, ask_refused_again=True)
    assert set(seen) == {(False, str(tmp_path / "first"), "judge"), (True, str(tmp_path / "second"), "judge")}


def test_a_run_notes_the_versions_that_began_it_and_the_warnings_of_its_steps(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    reporter = Watching()
    data = {**numbers_recipe()["data"], "prompts": {"source": "numbers/train", "count": 6}}
    recipe = make_recipe(data=data, pipelines={"self-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path / "run", numbers_registry, reporter)
    assert any(note.startswith("warning: ") for note in reporter.notes)
    description = json.loads((tmp_path / "run/run.json").read_text())
    assert description["schema"] == 1
    assert description["python"] == ".".join(map(str, sys.version_info[:3]))
    time.strptime(description["started"], "%Y-%m-%dT%H:%M:%SZ")


def test_random_pairs_have_the_prompts_of_the_mirrored_pipelines_pairs(undisturbed: Path) -> None:
    mirrored = read_preferences(undisturbed / "seed-0/self-reward/M2/preferences.jsonl")
    control = read_preferences(undisturbed / "seed-0/random-pairs/M2/preferences.jsonl")
    assert {pair.prompt_id for pair in control} == {pair.prompt_id for pair in mirrored}
    assert {pair.id for pair in control} != {pair.id for pair in mirrored}


def test_a_summary_names_variants_only_if_the_recipe_has_some(undisturbed: Path) -> None:
    """The summary of the embedded run was not byte-equal to that of the version before."""
    assert "variants" not in json.loads((undisturbed / "summary.json").read_text())


def test_a_finished_run_is_not_run_again(
    undisturbed: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    before = artifacts(undisturbed)
    summary = run(make_recipe(), undisturbed, numbers_registry)
    assert summary == read_summary(undisturbed / "summary.json")
    assert artifacts(undisturbed) == before


def test_a_journal_that_a_kill_left_beside_its_finished_artifact_is_deleted(
    undisturbed: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    before = artifacts(undisturbed)
    (undisturbed / "evaluation/seed-0/.verdicts.jsonl.journal").write_text("{}\n")
    run(make_recipe(), undisturbed, numbers_registry)
    assert artifacts(undisturbed) == before


@pytest.fixture
def renamed_registry() -> Registry:
    """A registry with the echoing world as ``numbers``, with the alias ``digits``."""
    import echoing_world

    renamed = types.ModuleType("renamed_world")
    vars(renamed).update(vars(echoing_world))
    described = evolve(echoing_world.describe(), aliases=("digits",))
    vars(renamed)["describe"] = hookimpl(lambda: described)
    registry = Registry.empty()
    registry.register(renamed, "numbers")
    return registry


@pytest.mark.parametrize(("first", "then"), [("digits", "numbers"), ("numbers", "digits")])
def test_a_run_continues_with_a_recipe_that_uses_an_alias_of_its_plugins(
    tmp_path: Path, renamed_registry: Registry, make_recipe: Callable[..., Recipe], first: str, then: str
) -> None:
    def recipe_with(name: str, model: str = "novice") -> Recipe:
        models = {"student": {"plugin": name, "model": f"{name}/{model}"}, "evaluator": {"plugin": name}}
        return make_recipe(models=models, pipelines={"self-reward": None}, controls={}, iterations=1)

    run(recipe_with(first), tmp_path / "whole", renamed_registry)
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        run(recipe_with(first), tmp_path / "stopped", renamed_registry, cancelled=lambda: next(asked) > 10)
    assert not (tmp_path / "stopped/summary.json").exists()
    assert run(recipe_with(then), tmp_path / "stopped", renamed_registry) is not None
    assert artifacts(tmp_path / "stopped") == artifacts(tmp_path / "whole")
    run(recipe_with(then), tmp_path / "whole", renamed_registry, approve=lambda changes: not changes.remaining)


def test_overrides_change_what_a_run_of_a_file_or_of_a_recipe_object_does(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    changes = {"pipelines": {"teacher-reward": None}, "controls": {}, "iterations": 1, "evaluation": None}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(numbers_recipe(**changes)))
    overrides = {"dpo.beta": 0.3, "data.prompts.count": 20}
    recipes: dict[str, Recipe | Path] = {"file": tmp_path / "mine.yaml", "object": make_recipe(**changes)}
    for name, recipe in recipes.items():
        run(recipe, tmp_path / name, numbers_registry, overrides=overrides)
        assert yaml.safe_load((tmp_path / name / "recipe.yaml").read_text())["dpo"]["beta"] == 0.3
        assert len((tmp_path / name / "seed-0/M1/samples/prompts.jsonl").read_text().splitlines()) == 20
    assert artifacts(tmp_path / "file") == artifacts(tmp_path / "object")


def test_a_wrong_recipe_makes_no_folder(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(InputError):
        run(make_recipe(pipelines={"self-rewards": None}, controls={}), tmp_path / "run", numbers_registry)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "after", [1, 700, 4000, *(pytest.param(after, marks=pytest.mark.slow) for after in (100, 1900))]
)
def test_a_run_that_broke_continues_and_ends_with_the_same_artifacts(
    tmp_path: Path, undisturbed: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe], after: int
) -> None:
    numbers_registry.register(Interrupting(after), "breaking")
    with pytest.raises(StageError, match="the power is gone"):
        run(make_recipe(), tmp_path / "run", numbers_registry)
    numbers_registry.unregister("breaking")
    run(make_recipe(), tmp_path / "run", numbers_registry)
    assert artifacts(tmp_path / "run") == artifacts(undisturbed)


class Watching(Silent):
    """Records what the runner reports."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self.earlier: list[EarlierStep] = []
        self.wanted: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.rows: dict[str, list[Mapping[str, Any]]] = {}
        self.notes: list[str] = []

    def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
        self.left, self.earlier = [step.output for step in steps], list(earlier)

    def expected(self, step: Step, total: int) -> None:
        self.wanted[step.output] = total

    def advanced(self, step: Step, items: int, cost: float = 0.0) -> None:
        self.items[step.output] = self.items.get(step.output, 0) + items

    def logged(self, step: Step, row: Mapping[str, Any]) -> None:
        self.rows.setdefault(step.output, []).append(row)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_that_continues_reports_the_steps_and_the_items_that_an_earlier_process_did(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(iterations=1, evaluation=None)
    numbers_registry.register(Interrupting(100), "breaking")
    first = Watching()
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe, tmp_path / "run", numbers_registry, first)
    numbers_registry.unregister("breaking")
    assert first.earlier == []
    broken = "seed-0/M1/samples/candidates.jsonl"
    assert 0 < first.items[broken] < first.wanted[broken] == 160
    note = known(read_started(Store(tmp_path / "run"), broken))
    assert (note.items, note.expected) == (first.items[broken], 160)
    second = Watching()
    run(recipe, tmp_path / "run", numbers_registry, second)
    assert [each.step.output for each in second.earlier] == first.left[: first.left.index(broken)]
    assert all(each.seconds is not None for each in second.earlier)
    assert second.left == first.left[first.left.index(broken) :]
    counted = {output: items for output, items in second.items.items() if output in second.wanted}
    assert counted == {output: second.wanted[output] for output in counted}
    assert counted[broken] == 160  # 64 of them were stored by the first process


def test_a_step_has_a_note_its_metrics_and_a_scratch_folder_while_it_runs_and_none_afterwards(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    store, training = Store(tmp_path / "run"), "seed-0/M1/checkpoint"
    seen: list[tuple[bool, int, bool]] = []

    def look() -> None:
        note, rows = read_started(store, training), read_live_metrics(store, training)
        seen.append((note is not None, len(rows), store.path(f".scratch/{training}").exists()))

    class Looking:
        @hookimpl(wrapper=True)
        def train_step(self, context: Context) -> Generator[None, Model, Model]:
            model = yield
            look()
            return model

        @hookimpl(wrapper=True)
        def judge(self) -> Generator[None, Iterator[Judgement], Iterator[Judgement]]:
            look()
            return (yield)

    numbers_registry.register(Looking(), "looking")
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, store.root, numbers_registry)
    assert seen[0] == (True, 16, True)
    assert set(seen[1:]) == {(False, 0, False)}


def test_the_speeds_of_the_steps_are_remembered_for_the_plans_of_other_runs(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    steps = [step for step in checked_plan(recipe, numbers_registry).steps if step.count]
    assert expected_time(steps, [], recipe).unknown == len(steps)
    run(recipe, tmp_path / "run", numbers_registry)
    assert expected_time(steps, [], recipe).unknown == 0


def test_the_metrics_of_a_training_are_reported_as_they_are_stored(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    reporter = Watching()
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path / "run", numbers_registry, reporter)
    assert len(reporter.rows) == 2
    for output, rows in reporter.rows.items():
        stored = (tmp_path / "run" / output).with_name("metrics.jsonl").read_text()
        assert rows == [json.loads(line) for line in stored.splitlines()] != []
    assert [note.partition(",")[0] for note in reporter.notes] == ["warning: M2/teacher-reward"]  # it has few pairs


def test_the_metrics_of_steps_are_reported_to_trackers_and_a_tracker_that_fails_is_a_warning(
    tmp_path: Path, make_recipe: Callable[..., Recipe]
) -> None:
    import echoing_world

    world, reported = types.ModuleType("reporting_world"), []

    def report(tracking: Tracking, metrics: Mapping[str, float]) -> None:
        reported.append((tracking.trackers, *metrics))
        raise ConnectionError("the board does not answer")

    hooks = {"check_report_to": hookimpl(lambda names: []), "report_metrics": hookimpl(report, specname="report")}
    vars(world).update(vars(echoing_world), **hooks)
    registry, reporter = Registry.empty(), Watching()
    registry.register(world, "numbers")
    changes = {"pipelines": {"teacher-reward": None}, "controls": {}, "iterations": 1, "evaluation": None}
    run(make_recipe(report_to=["board"], **changes), tmp_path / "run", registry, reporter)
    assert [metrics[:2] for metrics in reported] == [(("board",), "score_judgements"), (("board",), "pairs")]
    folder = "seed-0/teacher-reward/M2"
    warning = r"warning: report_to: the metrics of (\S+) were not reported: .*the board does not answer"
    failed = re.findall(warning, "\n".join(reporter.notes))
    assert failed == [f"{folder}/judgements.jsonl", f"{folder}/preferences.jsonl"]
    assert (tmp_path / "run" / folder / "checkpoint").is_dir()


class Serving:
    """A judge that calls a service, which refuses its key."""

    KEY = "sk-very-secret-key"

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Judges by a service.")

    @hookimpl
    def endpoint(self) -> Endpoint:
        return Endpoint("service", "https://service.invalid", "judge", secret=self.KEY)

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], context: Context) -> Iterator[Judgement]:
        context.caller.note("the service is asked")
        raise RuntimeError(f"401 for the key {self.KEY}")


def test_the_notes_of_a_plugin_are_reported_and_the_traceback_of_its_error_is_kept_without_its_key(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    numbers_registry.register(Serving(), "serving")
    models = {**numbers_recipe()["models"], "judge": {"plugin": "serving"}}
    recipe = make_recipe(models=models, pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    reporter = Watching()
    with pytest.raises(StageError, match="401 for the key"):
        run(recipe, tmp_path / "run", numbers_registry, reporter)
    assert reporter.notes == ["the service is asked"]
    assert "RuntimeError: 401 for the key [key]" in read_traceback(Store(tmp_path / "run"))


def test_only_a_run_that_asks_a_service_needs_a_ledger_and_a_wrong_one_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path))  # a folder
    numbers_registry.register(Serving(), "serving")
    changes = {"pipelines": {"teacher-reward": None}, "controls": {}, "iterations": 1, "evaluation": None}
    models = {**numbers_recipe()["models"], "judge": {"plugin": "serving"}}
    with pytest.raises(InputError, match=f"the ledger {tmp_path} can't be opened"):
        run(make_recipe(models=models, **changes), tmp_path / "run", numbers_registry)
    assert not (tmp_path / "run").exists()
    run(make_recipe(**changes), tmp_path / "run", numbers_registry)


PROGRAM = """
import sys
sys.path[:0] = ["tests/fixtures"]
import echoing_world, recipes
from tutelage.recipe.loading import from_values
from tutelage.plugins.registry import Registry
from tutelage.execution.runner import run
registry = Registry.empty()
registry.register(echoing_world, "numbers")
run(from_values(recipes.numbers_recipe()), sys.argv[1], registry)
"""


def kill_after_steps(command: list[str], steps_file: Path, steps: int) -> bool:
    """Start a run and kill it once ``steps`` more steps are recorded. Returns whether it was killed."""

    def noted() -> int:
        return steps_file.read_bytes().count(b"\n") if steps_file.exists() else 0

    with subprocess.Popen(command) as process:
        wanted = noted() + steps
        while process.poll() is None and noted() < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def test_a_run_killed_again_and_again_ends_with_the_same_artifacts(tmp_path: Path, undisturbed: Path) -> None:
    draw, kills = random.Random(7), 0
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run")]
    while kill_after_steps(command, tmp_path / "run" / "steps.jsonl", draw.randint(1, 45)):
        kills += 1
    assert kills >= 3
    assert artifacts(tmp_path / "run") == artifacts(undisturbed)


def test_a_golden_run_of_schema_1_is_still_read_and_summarised(tmp_path: Path, numbers_registry: Registry) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(GOLDEN, folder)
    kept = read_summary(folder / "summary.json")
    assert kept.schema == json.loads((folder / "run.json").read_text())["schema"] == 1
    run = Run.open(folder)
    assert run.plan == checked_plan(run.recipe, numbers_registry)
    assert summarise(run) == kept


def test_a_teachers_refusals_are_counted_and_make_no_pairs(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    class Shy:
        @hookimpl
        def describe(self) -> PluginInfo:
            return numbers_registry.info("numbers")

        @hookimpl
        def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
            for number, prompt in enumerate(prompts):
                if number % 4:
                    yield Demonstration(prompt.id, prompt.text.removeprefix("say "))
                else:
                    yield Demonstration(prompt.id, "", Outcome.REFUSED, "safety")

    numbers_registry.register(Shy(), "shy")
    models = {**numbers_recipe()["models"], "teacher": {"plugin": "shy"}}
    recipe = make_recipe(models=models, pipelines={"teacher-demonstration": None}, controls={}, iterations=1)
    summary = known(run(recipe, tmp_path / "run", numbers_registry))
    counts = {step.output: step.counts for step in summary.steps}
    assert counts["seed-0/teacher-demonstration/M2/demonstrations.jsonl"] == {"answered": 30, "refused": 10}
    pairs = counts["seed-0/teacher-demonstration/M2/preferences.jsonl"]
    assert pairs["demonstration refused"] == 10
    assert sum(n for reason, n in pairs.items() if not reason.startswith("demonstration ")) == 40
    assert 0 < pairs["pairs"] <= 30


def test_a_judge_with_equal_scores_for_all_answers_ends_the_run_with_the_reason(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    class Indifferent:
        @hookimpl
        def describe(self) -> PluginInfo:
            return numbers_registry.info("numbers")

        @hookimpl
        def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
            yield from (Judgement(item.id, sample, 3.0) for item in items for sample in range(samples))

    numbers_registry.register(Indifferent(), "indifferent")
    models = {**numbers_recipe()["models"], "judge": {"plugin": "indifferent"}}
    recipe = make_recipe(models=models, pipelines={"teacher-reward": None}, controls={}, iterations=1)
    with pytest.raises(StageError) as error:
        run(recipe, tmp_path / "run", numbers_registry)
    message, *causes, shown = str(error.value).splitlines()
    assert message == (
        "seed-0/teacher-reward/M2/preferences.jsonl: no pair was left to train on. The prompts without a pair "
        "(40 of 40), and what would change it:"
    )
    assert sum(int(cause.split()[0]) for cause in causes) == 40
    tied = next(cause for cause in causes if "because the best and the worst answer have the same score: " in cause)
    assert "judging.rubric" in tied and "generation.temperature" in tied
    assert shown == f"`tutelage data show {tmp_path / 'run'} M2/teacher-reward` shows the answers and the scores"


def test_the_checksums_of_a_checkpoint_are_computed_once_by_each_process_that_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    models: list[str] = []

    def noting(files: Sequence[Path]) -> list[str]:
        models.extend(file.parent.parent.name for file in files)
        return sha256_of_each(files)

    monkeypatch.setattr("tutelage.runs.integrity.sha256_of_each", noting)
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path / "whole", numbers_registry)
    assert models == ["M1", "M2"]
    models.clear()
    store = Store(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        run(recipe, store.root, numbers_registry, cancelled=lambda: store.has("seed-0/M1/checkpoint"))
    assert models == ["M1"]
    run(recipe, store.root, numbers_registry)
    assert models == ["M1", "M1", "M2"]


def test_several_seeds_are_summarised_separately_and_together(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(seeds=[3, 4], pipelines={"teacher-reward": None}, controls={}, iterations=1)
    summary = known(run(recipe, tmp_path / "run", numbers_registry))
    assert [(row.id, row.seed) for row in summary.models] == [
        (id, seed) for seed in (3, 4, None) for id in ("M0", "M1", "M2/teacher-reward")
    ]
    each = [summary.model("M1", seed).metrics["gold_score"] for seed in (3, 4)]
    both = summary.model("M1").metrics["gold_score"]
    assert both.n == sum(metric.n for metric in each) == 60
    assert both.value == pytest.approx(sum(known(metric.value) for metric in each) / 2)


def test_a_run_without_evaluation_trains_and_measures_nothing(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    assert run(make_recipe(evaluation=None), tmp_path / "run", numbers_registry) is None
    assert (tmp_path / "run/seed-0/self-reward/M3/checkpoint/weights.json").exists()
    assert yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["evaluation"] is None


def test_a_round_can_train_on_the_pairs_of_all_rounds_with_m1_as_reference(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    changes = {"reference": "M1", "preferences": "all", "pipelines": {"teacher-reward": None}, "controls": {}}
    run(make_recipe(evaluation=None, **changes), tmp_path / "run", numbers_registry)
    folder = tmp_path / "run/seed-0/teacher-reward"
    parts = [read_preferences(folder / model / "preferences.jsonl") for model in ("M2", "M3")]
    assert read_preferences(folder / "M3/preferences-of-all-rounds.jsonl") == parts[0] + parts[1]
    trained = (folder / "M3/metrics.jsonl").read_text().splitlines()
    assert len(trained) == len(parts[0]) + len(parts[1]) > len(parts[1])


def test_the_scratch_folder_of_a_step_survives_a_failed_attempt_and_is_deleted_after_the_run(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    seen = []

    class Interrupting:
        @hookimpl(wrapper=True)
        def train_step(self, context: Context) -> Generator[None, Model, Model]:
            seen.append([file.name for file in context.scratch.iterdir()])
            if len(seen) == 1:
                (context.scratch / "half-way").touch()
                raise OSError("no space left on device")
            return (yield)

    numbers_registry.register(Interrupting(), "interrupting")
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    with pytest.raises(StageError, match="no space left"):
        run(recipe, tmp_path / "run", numbers_registry)
    run(recipe, tmp_path / "run", numbers_registry)
    assert seen == [[], ["half-way"], []]
    assert not (tmp_path / "run" / ".scratch").exists()
