"""All checks before a run are one list; each model is checked once; counts are those of the sources."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from recipes import numbers_recipe

from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Sft
from tutelage.planning import model_checks
from tutelage.planning.checks import checked_plan
from tutelage.planning.pipelines import make_plan
from tutelage.planning.preflight import preflight
from tutelage.planning.sources import Sources
from tutelage.planning.steps import BuildExamples, Compare, Judge, Plan, SelectPrompts, Step, Train
from tutelage.plugin_info import EnvironmentVariable, Finding, NamedSet, PluginInfo, RunNeeds
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import PipelineSettings, Recipe
from tutelage.records import Demonstration, Judgement, Rubric, Verdict
from tutelage.services.requests import Endpoint

Make = Callable[..., Recipe]


@frozen
class Settings:
    url: str = "https://one.invalid"
    slow: bool = False


class Service:
    """A teacher, judge and evaluator behind an API that finds what its list says, and counts the questions."""

    def __init__(self, **info: Any) -> None:
        self.asked: list[tuple[str, str]] = []
        self.findings = [Finding("endpoint", True, "there")]
        self.info = PluginInfo("A service.", settings=Settings, **info)

    @hookimpl
    def endpoint(self, settings: Settings, name: str) -> Endpoint:
        return Endpoint("service", settings.url, name or "default")

    @hookimpl
    def check(self, settings: Settings, name: str) -> Iterator[Finding]:
        self.asked.append((settings.url, name))
        if settings.slow:
            time.sleep(5)
        yield from self.findings

    @hookimpl
    def check_run(self) -> Iterator[Finding]:
        raise AssertionError("check_run is for local models")

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def judge(self) -> Iterator[Judgement]:
        return iter(())

    @hookimpl
    def demonstrate(self) -> Iterator[Demonstration]:
        return iter(())

    @hookimpl
    def evaluate(self) -> Iterator[Verdict]:
        return iter(())


class Local:
    """A student on this machine that records what it is asked."""

    def __init__(self) -> None:
        self.needs: list[RunNeeds] = []
        self.fails = False
        self.findings: list[Finding] = []

    @hookimpl
    def check_run(self, needs: RunNeeds) -> list[Finding]:
        if self.fails:
            raise IndexError("list index out of range")
        self.needs.append(needs)
        return self.findings

    @hookimpl
    def check_objective(self, objective: Any) -> Iterator[str]:
        if objective.max_length < 10:
            yield "max_length: too short"

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Local.")

    @hookimpl
    def train_step(self) -> None: ...

    @hookimpl
    def generate_candidates(self) -> None: ...

    @hookimpl
    def judge(self) -> None: ...


@pytest.fixture
def service(numbers_registry: Registry) -> Service:
    service = Service()
    numbers_registry.register(service, "service")
    return service


@pytest.fixture
def local(numbers_registry: Registry) -> Local:
    local = Local()
    numbers_registry.register(local, "local")
    return local


def bound(**roles: Any) -> dict[str, Any]:
    models = {"student": {"plugin": "numbers", "model": "numbers/novice"}, "teacher": {"plugin": "numbers"}}
    return {"models": {**models, "evaluator": {"plugin": "numbers"}, **roles}}


def count(plan: Plan | None, kind: type[Step]) -> int:
    assert plan is not None
    return next(step.count for step in plan.steps if isinstance(step, kind))


def test_a_right_recipe_has_a_plan_and_neither_problems_nor_notices(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    found = preflight(Sources(make_recipe(), numbers_registry))
    assert (found.problems, found.notices) == ((), ())
    assert found.passed() == found.planned == checked_plan(make_recipe(), numbers_registry)


def test_problems_of_every_kind_are_one_list_with_their_keys(
    make_recipe: Make, numbers_registry: Registry, service: Service, local: Local
) -> None:
    service.findings = [Finding("key", False, "no key")]
    local.findings = [Finding("weights", False, "no weights")]
    recipe = make_recipe(
        **bound(student={"plugin": "local"}, teacher={"plugin": "service"}, judge={"plugin": "numbres"}),
        pipelines={"self-reward": {"dpo": {"max_length": 9}}, "teacher-reward": None, "teacher-demonstration": None},
        judging={"rubric": "numbers/nubmers"},
        pairs={"rule": "best-wurst"},
        data={"ift": {"source": "nowhere.jsonl"}, "prompts": {"source": "numbers/train", "count": 4000}},
    )
    found = preflight(Sources(recipe, numbers_registry))
    assert found.plan is None
    assert [line.partition(": ")[0] for line in found.problems] == [
        "models.judge.plugin",
        "judging.rubric",
        "data.prompts",
        "data.ift",
        "pairs.rule",
        "pipelines.self-reward.dpo.max_length",
        "models.student",
        "models.teacher",
    ]
    with pytest.raises(InputError) as caught:
        found.passed()
    assert str(caught.value).splitlines() == list(found.problems)


def test_a_loss_that_the_student_does_not_know_is_refused_with_its_key(
    make_recipe: Make, numbers_registry: Registry, local: Local
) -> None:
    dpo = {"loss_type": "local/simpo", "loss_settings": {"gamma": 1.0}}
    pipelines = {"self-reward": {"dpo": dpo}}
    recipe = make_recipe(**bound(student={"plugin": "local"}), pipelines=pipelines, controls={})
    found = preflight(Sources(recipe, numbers_registry))
    key, label = "pipelines.self-reward.dpo.loss_type", numbers_registry.label("local")
    assert [line.partition(": these")[0] for line in found.problems] == [
        f"{key}: local/simpo; {label} does not train with losses of plugins",
        f"{key}: no pair loss 'local/simpo'",
    ]


def test_if_only_plugins_are_wrong_the_error_is_one_of_plugins(make_recipe: Make, numbers_registry: Registry) -> None:
    recipe = make_recipe(**bound(student={"plugin": "echoless"}))
    with pytest.raises(InputError, match=r"models\.student\.plugin: no plugin 'echoless'"):
        preflight(Sources(recipe, numbers_registry)).passed()
    numbers_registry.register(Service(), "service")
    recipe = make_recipe(**bound(student={"plugin": "service"}))
    with pytest.raises(PluginError) as caught:
        preflight(Sources(recipe, numbers_registry)).passed()
    assert [line.partition("does not implement")[2][:14] for line in str(caught.value).splitlines()] == [
        " 'generate_can",
        " 'train_step';",
    ]


def test_each_distinct_endpoint_is_asked_once(make_recipe: Make, numbers_registry: Registry, service: Service) -> None:
    def recipe(**evaluator: Any) -> Recipe:
        teacher = {"plugin": "service", "model": "m"}
        return make_recipe(**bound(teacher=teacher, evaluator={**teacher, **evaluator}))

    preflight(Sources(recipe(), numbers_registry))
    assert service.asked == [("https://one.invalid", "m")]
    preflight(Sources(recipe(model="n"), numbers_registry))
    assert service.asked[1:] == [("https://one.invalid", "m"), ("https://one.invalid", "n")]
    preflight(Sources(recipe(settings={"url": "https://two.invalid"}), numbers_registry))
    assert service.asked[3:] == [("https://one.invalid", "m"), ("https://two.invalid", "m")]


def test_a_problem_of_a_model_with_several_roles_names_them(
    make_recipe: Make, numbers_registry: Registry, service: Service
) -> None:
    service.findings = [Finding("key", False, "no key; set one")]
    recipe = make_recipe(**bound(teacher={"plugin": "service"}, evaluator={"plugin": "service"}))
    found = preflight(Sources(recipe, numbers_registry))
    assert found.problems == ("models.teacher, models.evaluator: no key; set one",)
    assert found.planned == make_plan(recipe)


def test_a_service_that_is_not_reached_stops_a_run_and_is_a_notice_of_a_plan(
    make_recipe: Make, numbers_registry: Registry, service: Service
) -> None:
    service.findings = [Finding("endpoint", None, "https://one.invalid: no connection")]
    recipe = make_recipe(**bound(teacher={"plugin": "service"}))
    found = preflight(Sources(recipe, numbers_registry), download=False)
    assert found.problems == ()
    assert found.notices == ("not checked: models.teacher: https://one.invalid: no connection",)
    assert preflight(Sources(recipe, numbers_registry)).problems == (
        "models.teacher: https://one.invalid: no connection",
    )


def test_a_service_that_never_answers_is_not_waited_for(
    make_recipe: Make, numbers_registry: Registry, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_checks, "CHECK_SECONDS", 0.2)
    recipe = make_recipe(**bound(teacher={"plugin": "service", "settings": {"slow": True}}))
    begun = time.monotonic()
    found = preflight(Sources(recipe, numbers_registry))
    assert time.monotonic() - begun < 4
    assert found.problems == (
        "models.teacher: plugin 'service': its check gave no answer within 0.2 s; try again later",
    )


def test_a_missing_environment_variable_is_a_problem_for_the_roles_of_its_plugin(
    make_recipe: Make, numbers_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = (EnvironmentVariable("NEEDED", "Opens it."), EnvironmentVariable("OTHER", "A help.", required=False))
    numbers_registry.register(Service(environment=variables), "service")
    monkeypatch.delenv("NEEDED", raising=False)
    recipe = make_recipe(**bound(evaluator={"plugin": "service"}))
    assert preflight(Sources(recipe, numbers_registry)).problems == (
        "models.evaluator: the environment variable NEEDED is not set; the plugin 'service' needs it (Opens it.)",
    )
    monkeypatch.setenv("NEEDED", "x")
    assert preflight(Sources(recipe, numbers_registry)).problems == ()


def test_a_local_model_gets_what_the_run_needs_of_it(
    make_recipe: Make, numbers_registry: Registry, local: Local, tmp_path: Path
) -> None:
    recipe = make_recipe(**bound(student={"plugin": "local"}), iterations=1)
    plan = preflight(Sources(recipe, numbers_registry), tmp_path, download=False).passed()
    [needs] = local.needs
    assert needs.hooks == {"train_step", "generate_candidates", "judge"}
    assert len(needs.trainings) == sum(isinstance(step, Train) for step in plan.steps)
    assert isinstance(needs.trainings[0], Sft)
    assert (needs.system, needs.several_turns, needs.directory, needs.download) == (False, False, tmp_path, False)


def test_the_kinds_of_conversations_in_the_data_reach_the_check(
    make_recipe: Make, numbers_registry: Registry, local: Local, tmp_path: Path
) -> None:
    turns = (("system", "please"), ("user", "say 1"), ("assistant", "1"), ("user", "say 2"))
    chat = {"messages": [{"role": role, "content": text} for role, text in turns], "answer": "2"}
    source = tmp_path / "ift.jsonl"
    source.write_text(json.dumps({"prompt": "say 3", "answer": "3"}) + "\n" + json.dumps(chat) + "\n")
    data = {"ift": {"source": str(source)}, "prompts": {"source": "numbers/train", "count": 4}}
    preflight(Sources(make_recipe(**bound(student={"plugin": "local"}), data=data), numbers_registry))
    assert (local.needs[0].system, local.needs[0].several_turns) == (True, True)


def test_a_step_that_is_done_needs_no_check_of_its_model(
    make_recipe: Make, numbers_registry: Registry, service: Service, local: Local, tmp_path: Path
) -> None:
    recipe = make_recipe(**bound(student={"plugin": "local"}, teacher={"plugin": "service"}), iterations=1)
    plan = preflight(Sources(recipe, numbers_registry), tmp_path).passed()
    service.asked.clear()
    local.needs.clear()
    for step in plan.steps:
        if getattr(getattr(step, "worker", None), "role", "") in ("teacher", "judge"):
            (tmp_path / step.output).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / step.output).touch()
    preflight(Sources(recipe, numbers_registry), tmp_path)
    assert service.asked == []
    assert len(local.needs) == 1
    preflight(
        Sources(recipe, numbers_registry), left=lambda plan: [one for one in plan.steps if isinstance(one, Compare)]
    )
    assert len(local.needs) == 1
    preflight(Sources(recipe, numbers_registry), left=lambda plan: [])
    assert len(local.needs) == 1


def test_an_error_of_a_plugins_check_is_a_problem_and_not_the_end_of_the_checks(
    make_recipe: Make, numbers_registry: Registry, service: Service, local: Local
) -> None:
    service.findings = [Finding("key", False, "no key")]
    local.fails = True
    numbers_registry.unregister("local")
    numbers_registry.register(local, "local")
    recipe = make_recipe(**bound(student={"plugin": "local"}, evaluator={"plugin": "service"}))
    assert preflight(Sources(recipe, numbers_registry)).problems == (
        "models.student: hook 'check_run' of plugin 'local' (registered manually), model 'student', failed: "
        f"IndexError: list index out of range (test_preflight.py, line {Local.check_run.__code__.co_firstlineno + 3})",
        "models.evaluator: no key",
    )


def test_an_error_of_a_plugins_set_is_a_problem_of_its_key(make_recipe: Make, numbers_registry: Registry) -> None:
    def load(count: int, seed: int) -> list[str]:
        raise KeyError("colour")

    class Sets:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Sets.", prompt_sets={"broken": NamedSet(load, size=10)})

    numbers_registry.register(Sets(), "sets")
    data = {"ift": {"source": "numbers/ift", "count": 8}, "prompts": {"source": "sets/broken", "count": 4}}
    found = preflight(Sources(make_recipe(data=data), numbers_registry))
    line = load.__code__.co_firstlineno + 1
    assert found.problems == (
        "data.prompts: sets/broken: its plugin failed to load it, called with (count, seed): KeyError: 'colour' "
        f"(test_preflight.py, line {line})",
    )


def test_wrong_values_of_a_recipe_that_was_changed_in_python_are_one_list(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    recipe = evolve(make_recipe(), seeds=(), iterations=0, pipelines={"self-rewards": PipelineSettings()})
    assert [line.partition(":")[0] for line in preflight(Sources(recipe, numbers_registry)).problems] == [
        "pipelines",
        "controls.random-pairs.mirrors",
        "controls.sft-on-chosen.mirrors",
        "iterations",
        "seeds",
    ]
    wrong = PipelineSettings(dpo={"bta": 1})
    recipe = evolve(make_recipe(), pipelines={"self-reward": wrong}, controls={})
    [line] = preflight(Sources(recipe, numbers_registry)).problems
    assert line.startswith("pipelines.self-reward.dpo: bta: unknown key; did you mean 'beta'?")


def test_equal_candidates_are_a_problem_where_they_are_compared(make_recipe: Make, numbers_registry: Registry) -> None:
    recipe = make_recipe(generation={"temperature": 0.0})
    [problem] = preflight(Sources(recipe, numbers_registry)).problems
    assert problem.startswith("generation.temperature: 0; the 4 candidates of a prompt would be equal")
    recipe = make_recipe(
        generation={"temperature": 0.0}, pipelines={"teacher-demonstration": None}, controls={}, iterations=1
    )
    assert preflight(Sources(recipe, numbers_registry)).problems == ()


def test_a_rubric_without_a_template_is_for_programs_only(
    make_recipe: Make, numbers_registry: Registry, service: Service
) -> None:
    class Rubrics:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Rubrics.", rubrics={"bare": Rubric("bare")})

    numbers_registry.register(Rubrics(), "rubrics")
    prompts = {"source": "numbers/train", "count": 4}
    data = {"ift": {"source": "numbers/ift", "count": 8}, "prompts": prompts}
    changes = {"judging": {"rubric": "rubrics/bare"}, "evaluation": None}
    assert preflight(Sources(make_recipe(**changes, data=data), numbers_registry)).problems == ()
    assert preflight(Sources(make_recipe(**changes), numbers_registry)).problems == (
        "judging.rubric: rubric 'bare' has no template, and data.eft needs one; use another rubric",
    )
    recipe = make_recipe(**changes, data=data, **bound(judge={"plugin": "service"}))
    assert preflight(Sources(recipe, numbers_registry)).problems == (
        "judging.rubric: rubric 'bare' has no template, and judge needs one; use another rubric",
    )


# Counts


def rows(folder: Path, name: str, number: int, **more: Any) -> dict[str, str]:
    path = folder / f"{name}.jsonl"
    lines = [{"prompt": f"say {name} {n}", "answer": f"{n}", **more} for n in range(number)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"source": str(path)}


def test_a_source_without_count_is_counted_by_its_rows(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    data = {
        "ift": {"source": "numbers/ift", "count": 400},
        "eft": rows(tmp_path, "eft", 250, score=3),
        "prompts": {"source": "numbers/train", "count": 40},
    }
    recipe = make_recipe(data=data, sft={"epochs": 2})
    plan = preflight(Sources(recipe, numbers_registry)).passed()
    assert count(plan, BuildExamples) == 650
    assert count(plan, Train) == 1300
    assert plan == checked_plan(recipe, numbers_registry)
    assert count(make_plan(recipe), BuildExamples) == 400


def test_held_out_prompts_without_count_are_counted_in_every_step_of_the_evaluation(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    evaluation = {"prompts": rows(tmp_path, "held", 30), "sampled": 4, "agreement_prompts": 100}
    plan = preflight(Sources(make_recipe(evaluation=evaluation, judging={"samples": 2}), numbers_registry)).passed()
    models = len(plan.models_of(0))
    assert [
        step.count for step in plan.steps if isinstance(step, SelectPrompts) and step.output.startswith("eval")
    ] == [30]
    assert count(plan, Compare) == 2 * 30 * models * (models - 1) // 2
    own = [
        step.count for step in plan.steps if isinstance(step, Judge) and step.output.endswith("judgements-own.jsonl")
    ]
    assert own == [30 * 4 * 2] * models


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"generation": {"top_k": 40}}, ["generation.top_k: 40"]),
        ({"judging": {"rubric": "numbers/numbers", "min_p": 0.1}}, ["judging.min_p: 0.1"]),
        (
            {"evaluation": {**numbers_recipe()["evaluation"], "top_k": 4, "min_p": 0.5}},
            ["evaluation.top_k: 4", "evaluation.min_p: 0.5"],
        ),
        (
            {
                "data": {
                    **numbers_recipe()["data"],
                    "prompts": {"source": "numbers/train", "count": 4, "self_instruct": {"top_k": 3}},
                }
            },
            ["data.prompts.self_instruct.top_k: 3"],
        ),
    ],
    ids=str,
)
def test_a_sampling_key_that_a_plugin_cannot_apply_is_found_before_the_run(
    changes: dict[str, Any], problems: list[str], numbers_registry: Registry
) -> None:
    with pytest.raises(InputError) as error:
        checked_plan(from_values(numbers_recipe(**changes)), numbers_registry)
    lines = [line.strip() for line in str(error.value).splitlines()]
    found = [line.partition(";")[0] for line in lines if "cannot apply it in" in line]
    assert sorted(set(found)) == sorted(problems)
