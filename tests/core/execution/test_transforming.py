"""The work of a transform: its records, its errors, and a run that is stopped in the middle of a plugin's pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import critic_world
import pytest
from interrupted_runs import Interrupting, artifacts_of
from recipes import numbers_recipe

from tutelage import (
    Candidate,
    JoinStep,
    JudgeStep,
    PairStep,
    PluginInfo,
    Preference,
    Prompt,
    SampleStep,
    TrainStep,
    TransformStep,
    hookimpl,
)
from tutelage.errors import InputError, PluginError, StageError
from tutelage.execution.reporter import Silent
from tutelage.execution.runner import run
from tutelage.files.trl_format import read_preferences
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import Kind, function_name
from tutelage.planning.checks import checked_plan
from tutelage.planning.made_from import made_from
from tutelage.planning.pipelines import make_plan
from tutelage.planning.preflight import preflight
from tutelage.planning.sources import Sources
from tutelage.plugins.functions import plugin
from tutelage.plugins.registry import Registry
from tutelage.preferences.pairing import Group, PairOptions, Proposal, best_worst
from tutelage.recipe.schema import Recipe
from tutelage.records import Rubric
from tutelage.runs.run import Run

Make = Callable[..., Recipe]
SMALL = {"controls": {}, "iterations": 1, "evaluation": None}


def pairs_of(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> Iterator[Preference]:
    """Weighted pairs of which some are not valid: equal sides, and an empty one."""
    texts = {prompt.id: prompt.text for prompt in prompts}
    for one in candidates:
        right = texts[one.prompt_id].partition(" ")[2]
        chosen = "" if one.index == 0 else right
        yield Preference(one.prompt_id, texts[one.prompt_id], chosen, one.text, f"{one.id}!", one.id, weight=0.5)


def raising(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> Iterator[Preference]:
    raise KeyError("no such critique")
    yield


def nothing(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> None:
    return None


def none_valid(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> Iterator[Preference]:
    yield from (Preference(one.prompt_id, "p", "", "x", f"{one.id}!", one.id) for one in candidates)


def same_ids(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> list[Preference]:
    return [Preference("p", "p", "a", "b", "1", "2"), Preference("p", "p", "c", "d", "1", "2")]


def texts(prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> list[str]:
    return ["a pair"]


class Offering:
    """A plugin with one pipeline, whose pairs a function makes."""

    def __init__(self, function: Callable[..., Any], makes: Kind = "preferences") -> None:
        transform = TransformStep("pairs", function, reads=("prompts", "candidates"), makes=makes)
        self.pipeline = Pipeline("Pairs.", (SampleStep("candidates"), transform, TrainStep("pairs")))

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Offers.", pipelines={"own": self.pipeline})


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(critic_world, "critic")
    return numbers_registry


def test_pairs_that_are_not_valid_are_dropped_and_counted(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    registry.register(Offering(pairs_of), "mine")
    run(make_recipe(pipelines={"mine/own": None}, **SMALL), directory=tmp_path, registry=registry)
    rows = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    [counts] = [row["counts"] for row in rows if row["output"].endswith("own/M2/pairs.jsonl")]
    assert counts["empty text"] == 40
    assert counts["same text"] > 0
    assert counts["pairs"] + counts["same text"] == 120
    pairs = read_preferences(tmp_path / "seed-0/mine/own/M2/pairs.jsonl")
    assert [pair.weight for pair in pairs] == [0.5] * counts["pairs"]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (raising, StageError, "failed: KeyError: 'no such critique'"),
        (nothing, PluginError, "returned None; it must return or yield records"),
        (texts, PluginError, "yielded 'a pair'; preferences are records of the class Preference"),
        (same_ids, PluginError, "yielded two preferences with the id '1>2'"),
        (
            none_valid,
            StageError,
            "no preferences are left: .* made none that can be used; 160 were dropped: empty text",
        ),
    ],
)
def test_an_error_of_a_transform_names_the_step_the_pipeline_the_function_and_the_plugin(
    make_recipe: Make, registry: Registry, tmp_path: Path, function: Any, error: type[Exception], message: str
) -> None:
    registry.register(Offering(function), "mine")
    with pytest.raises(error, match=message) as caught:
        run(make_recipe(pipelines={"mine/own": None}, **SMALL), directory=tmp_path, registry=registry)
    name = f"transform 'pairs' of mine/own ({function_name(function)}) of plugin 'mine' (registered manually)"
    assert name in str(caught.value)


@pytest.mark.parametrize("after", [30, 170, 200])
def test_a_run_that_is_stopped_in_a_pipeline_of_a_plugin_continues_to_the_same_artifacts(
    make_recipe: Make, registry: Registry, tmp_path: Path, after: int
) -> None:
    recipe = make_recipe(pipelines={"critic/revise": None}, controls={}, iterations=2, evaluation=None)
    run(recipe, directory=tmp_path / "whole", registry=registry)
    registry.register(Interrupting(after), "interrupting")
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe, directory=tmp_path / "stopped", registry=registry)
    registry.unregister("interrupting")
    run(recipe, directory=tmp_path / "stopped", registry=registry)
    assert artifacts_of(tmp_path / "stopped") == artifacts_of(tmp_path / "whole")


def test_records_of_a_plugins_own_form_travel_from_one_transform_to_the_next(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    first, last = critic_world.REVISE.steps[0], TrainStep("pairs")
    own = Pipeline(
        "Notes.",
        (
            first,
            TransformStep("notes", notes, reads=("candidates",)),
            TransformStep("pairs", of_notes, reads=("prompts", "notes"), makes="preferences"),
            last,
        ),
    )
    offering = Offering(pairs_of)
    offering.pipeline = own
    registry.register(offering, "mine")
    run(make_recipe(pipelines={"mine/own": None}, **SMALL), directory=tmp_path, registry=registry)
    assert (tmp_path / "seed-0/mine/own/M2/checkpoint").is_dir()


def notes(candidates: Sequence[Candidate]) -> Iterator[dict[str, Any]]:
    yield from ({"prompt": one.prompt_id, "answer": one.text, "id": one.id} for one in candidates)


def of_notes(prompts: Sequence[Prompt], notes: Sequence[dict[str, Any]]) -> Iterator[Preference]:
    by_id = {prompt.id: prompt for prompt in prompts}
    for note in notes:
        text = by_id[note["prompt"]].text
        yield Preference(note["prompt"], text, text[4:], note["answer"], f"{note['id']}!", note["id"])


def proposing_nothing(group: Group, options: PairOptions) -> Iterator[Proposal]:
    yield "nothing to prefer"


def none_at_all(pairs: Sequence[Preference]) -> list[Preference]:
    return []


class Joining:
    """A plugin with pipelines that train on the pairs of several steps."""

    def __init__(self, *parts: PairStep | TransformStep) -> None:
        names = tuple(part.name for part in parts)
        steps = (SampleStep("candidates"), JudgeStep("judgements", "candidates"), *parts)
        self.pipeline = Pipeline("Joins.", (*steps, JoinStep("both", names), TrainStep("both")))

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Joins.", pipelines={"own": self.pipeline}, pair_rules={"nothing": proposing_nothing})


class Noting(Silent):
    """Keeps the messages of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


FULL = PairStep("full", "candidates", "best-worst", scores="judgements", fixed=True)
EMPTY = PairStep("empty", "candidates", "mine/nothing", scores="judgements", fixed=True)
MADE_EMPTY = TransformStep("filtered", none_at_all, reads=("full",), makes="preferences")


@pytest.mark.parametrize("empty", [EMPTY, MADE_EMPTY], ids=["pairs", "transform"])
def test_a_part_without_pairs_does_not_stop_a_run_that_trains_on_other_pairs_too(
    make_recipe: Make, registry: Registry, tmp_path: Path, empty: PairStep | TransformStep
) -> None:
    registry.register(Joining(FULL, empty), "mine")
    reporter = Noting()
    small = {**SMALL, "evaluation": numbers_recipe()["evaluation"]}
    recipe = make_recipe(pipelines={"mine/own": None}, **small)
    summary = run(recipe, directory=tmp_path, registry=registry, reporter=reporter)
    folder = tmp_path / "seed-0/mine/own/M2"
    full, both, none = (read_preferences(folder / f"{name}.jsonl") for name in ("full", "both", empty.name))
    assert none == [] and len(both) == len(full) > 0
    assert (folder / "checkpoint").is_dir()
    path = "seed-0/mine/own/M2"
    text = f"M2/mine/own, seed 0: {path}/{empty.name}.jsonl has no pairs, so {path}/both.jsonl is made without them"
    more = (
        "; most were dropped as 'nothing to prefer': set another pairs.rule (now mine/nothing), or look at its "
        "documentation"
    )
    expected = text + (more if empty is EMPTY else "")
    assert f"warning: {expected}" in reporter.notes
    assert summary is not None and expected in summary.warnings


def test_a_run_stops_if_no_part_has_pairs_and_names_the_parts(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    other = PairStep("other", "candidates", "mine/nothing", scores="judgements", fixed=True)
    registry.register(Joining(EMPTY, other), "mine")
    with pytest.raises(StageError) as found:
        run(make_recipe(pipelines={"mine/own": None}, **SMALL), directory=tmp_path, registry=registry)
    path = "seed-0/mine/own/M2"
    assert str(found.value) == (
        f"{path}/both.jsonl: no pair was left to train on: {path}/empty.jsonl and {path}/other.jsonl have none"
    )


def test_a_round_without_pairs_stops_a_run_that_joins_the_pairs_of_all_rounds(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    """Its model would be trained on the pairs of earlier rounds alone, which is another experiment."""
    seen: set[str] = set()

    def of_first_round(group: Group, options: PairOptions) -> Iterator[Proposal]:
        seen.add(group.prompt.id)
        if len(seen) > 1 + 40:  # the made-up prompt of the trial, and those of the first round
            yield "it is the second round"
        else:
            yield from best_worst(group, options)

    info = PluginInfo("Rules.", pair_rules={"first": of_first_round})
    numbers_registry.register(plugin(info=info), "rules")
    settings = {**SMALL, "preferences": "all", "iterations": 2, "pairs": {"rule": "rules/first"}}
    recipe = make_recipe(pipelines={"teacher-reward": None}, **settings)
    with pytest.raises(StageError) as found:
        run(recipe, directory=tmp_path, registry=numbers_registry)
    assert str(found.value).startswith("seed-0/teacher-reward/M3/preferences.jsonl: no pair was left to train on.")
    assert (tmp_path / "seed-0/teacher-reward/M2/checkpoint").is_dir()


TAKEN: list[tuple[PairOptions, Rubric]] = []


def with_settings(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], *, options: PairOptions, rubric: Rubric, note: str = ""
) -> Iterator[Preference]:
    TAKEN.append((options, rubric))
    yield from pairs_of(prompts, candidates)


def with_options(
    prompts: Sequence[Prompt], candidates: Sequence[Candidate], *, options: PairOptions
) -> Iterator[Preference]:
    yield from pairs_of(prompts, candidates)


def with_typo(prompts: Sequence[Prompt], candidates: Sequence[Candidate], *, rubrik: Rubric) -> None: ...


def test_a_transform_takes_the_options_of_pairs_with_the_seed_and_the_rubric_of_its_pipeline(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    registry.register(Offering(with_settings), "mine")
    own = {"judging": {"rubric": "numbers/numbers"}, "pairs": {"margin": 0.5}}
    settings = {**SMALL, "seeds": [7], "judging": {"rubric": "additive"}, "pairs": {"near_best": 0.25}}
    recipe = make_recipe(pipelines={"mine/own": own}, **settings)
    assert [line for line in preflight(Sources(recipe, registry)).notices if "margin" in line or "near" in line] == []
    TAKEN.clear()
    run(recipe, directory=tmp_path, registry=registry)
    assert [(PairOptions(7, 0.5, 0.25), registry.get("rubrics", "numbers/numbers"))] == TAKEN


@pytest.mark.parametrize(
    ("function", "changed"),
    [
        (pairs_of, set()),
        (with_options, {"pairs"}),
        (with_settings, {"pairs", "judging"}),
    ],
)
def test_only_the_settings_that_a_transform_takes_count_for_it(
    make_recipe: Make, registry: Registry, function: Any, changed: set[str]
) -> None:
    registry.register(Offering(function), "mine")

    def values(**settings: Any) -> dict[str, Any]:
        """What the step depends on, without its inputs: they depend on the rubric of the examples of M1."""
        recipe = make_recipe(pipelines={"mine/own": None}, **{**SMALL, **settings})
        sources = Sources(recipe, registry)
        plan = make_plan(recipe, sources.counts(), sources.declared)
        return dict(made_from(plan, sources, lambda artifact: None)["seed-0/mine/own/M2/pairs.jsonl"].values)

    others = {"pairs": {"margin": 0.5}, "judging": {"rubric": "additive"}}
    assert {key for key, value in others.items() if values(**{key: value}) != values()} == changed


def test_a_rubric_that_a_transform_takes_and_that_does_not_exist_is_found_before_the_run(
    make_recipe: Make, registry: Registry
) -> None:
    registry.register(Offering(with_settings), "mine")
    recipe = make_recipe(pipelines={"mine/own": {"judging": {"rubric": "additve"}}}, **SMALL)
    with pytest.raises(InputError) as found:
        checked_plan(recipe, registry)
    assert str(found.value) == ("pipelines.mine/own.judging.rubric: no rubric 'additve'; did you mean 'additive'?")


def test_an_argument_of_a_transform_that_is_never_passed_is_refused(registry: Registry) -> None:
    with pytest.raises(PluginError) as found:
        registry.register(Offering(with_typo), "mine")
    assert str(found.value) == (
        "describe(): pipelines['own']: TransformStep 'pairs': the argument 'rubrik' is never passed; did you mean "
        "'rubric'?"
    )


def test_a_run_with_such_a_transform_is_read_without_its_plugin(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    registry.register(Offering(with_settings), "mine")
    run(make_recipe(pipelines={"mine/own": None}, **SMALL), directory=tmp_path, registry=registry)
    assert Run.open(tmp_path).models().last() == "M2/mine/own"
