import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import echoing_world
import pytest
from attrs import evolve

from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.execution.runner import run
from tutelage.hookspecs import hookimpl
from tutelage.planning.checks import checked_plan
from tutelage.planning.pipelines import make_plan
from tutelage.planning.steps import WritePrompts
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Model, Outcome, Prompt, Sampling
from tutelage.runs.store import Store

SEEDS = "numbers/held-out"
Write = Callable[[Prompt, int], Candidate]


class Scribe:
    """The echoing world's student, which also continues lists of tasks: some new, some old, some unusable."""

    def __init__(self, info: PluginInfo, write: Write) -> None:
        self.info = info
        self.write = write
        self.requests: list[tuple[str, str]] = []
        self.calls: list[int] = []
        for name in ("judge", "demonstrate", "train_step", "evaluate"):
            setattr(self, name, getattr(echoing_world, name))

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def generate_candidates(
        self, model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
    ) -> Iterator[Candidate]:
        prompts = list(prompts)
        if "<task>" in prompts[0].text:
            self.calls.append(len(prompts))
        for prompt in prompts:
            if "<task>" in prompt.text:
                self.requests.append((model.id, prompt.text))
                yield self.write(prompt, context.seeds.get(prompt.id, sampling.seed))
            else:
                yield from echoing_world.generate_candidates(model, [prompt], n, sampling, Context())


def usual(prompt: Prompt, seed: int) -> Candidate:
    draw = int(echoing_world.chance(prompt.text, seed) * 10**9)
    text = f"<task>say the number {draw} twice</task><task>no</task><task>say 5001</task> <task>say <task>"
    return Candidate(prompt.id, 0, text)


@pytest.fixture
def scribe(numbers_registry: Registry) -> Callable[..., Scribe]:
    def register(write: Write = usual) -> Scribe:
        plugin = Scribe(numbers_registry.info("numbers"), write)
        numbers_registry.register(plugin, "scribe")
        return plugin

    return register


@pytest.fixture
def recipe_of(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(count: int = 40, **writing: Any) -> Recipe:
        models = {"student": {"plugin": "scribe", "model": "numbers/novice"}, "teacher": {"plugin": "numbers"}}
        data = {
            "ift": {"source": "numbers/ift", "count": 8},
            "prompts": {
                "source": "numbers/held-out",
                "count": count,
                "self_instruct": {"min_characters": 5, **writing},
            },
        }
        return make_recipe(
            models=models, data=data, pipelines={"self-reward": None}, controls={}, evaluation=None, judging={}
        )

    return make


def prompts_of(folder: Path, model: str) -> list[Prompt]:
    return Store(folder).read(f"seed-0/{model}/samples/prompts.jsonl", Prompt)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_plan_names_the_writer_and_the_prompts_that_it_must_not_repeat(recipe_of: Callable[..., Recipe]) -> None:
    writing = {s.output: s for s in make_plan(recipe_of()).steps if isinstance(s, WritePrompts)}
    second = writing["seed-0/self-reward/M2/samples/prompts.jsonl"]
    assert second.worker.id == "M2/self-reward"
    assert second.earlier == ("seed-0/M1/samples/prompts.jsonl",)
    by_teacher = [s for s in make_plan(recipe_of(writer="teacher")).steps if isinstance(s, WritePrompts)]
    assert {step.worker.role for step in by_teacher} == {"teacher"}


def test_a_model_writes_prompts_until_there_are_enough_without_repetitions(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    plugin = scribe()
    run(recipe_of(), tmp_path / "run", numbers_registry)
    first, second = prompts_of(tmp_path / "run", "M1"), prompts_of(tmp_path / "run", "self-reward/M2")
    texts = [prompt.text for prompt in first + second]
    assert len(first) == len(second) == 40
    assert len(set(texts)) == 80
    assert all(text.startswith("say the number") for text in texts)
    assert {prompt.source for prompt in first} == {"M1"}
    assert {model for model, _ in plugin.requests} == {"M1", "M2/self-reward"}
    counts = Store(tmp_path / "run").finished_steps()["seed-0/M1/samples/prompts.jsonl"].counts
    assert counts["prompts"] == 40
    assert counts["too short"] > 0
    assert counts["repeats an earlier prompt"] > 0
    assert counts["not an item of the list"] > 0


def test_every_dropped_prompt_is_listed_with_the_reason(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    scribe()
    run(recipe_of(), tmp_path / "run", numbers_registry)
    dropped = rows(tmp_path / "run/seed-0/M1/samples/prompts-dropped.jsonl")
    assert {"text": "no", "reason": "too short", "like": "", "source": "", "share": None} in dropped
    assert any(row["text"] == "say 5001" == row["like"] for row in dropped)


def test_if_max_requests_is_reached_the_missing_prompts_are_counted_and_the_others_are_used(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    scribe()
    run(recipe_of(max_requests=20), tmp_path / "run", numbers_registry)
    counts = Store(tmp_path / "run").finished_steps()["seed-0/M1/samples/prompts.jsonl"].counts
    assert counts["requests"] == 20
    assert counts["prompts"] + counts["missing when max_requests was reached"] == 40
    assert len(prompts_of(tmp_path / "run", "M1")) == counts["prompts"] <= 20


def test_a_writer_without_usable_prompts_ends_the_run_with_the_reasons(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    scribe(lambda prompt, seed: Candidate(prompt.id, 0, "I would rather not.", Outcome.REFUSED, "safety"))
    with pytest.raises(StageError) as error:
        run(recipe_of(max_requests=5), tmp_path / "run", numbers_registry)
    assert str(error.value).splitlines() == [
        "seed-0/M1/samples/prompts.jsonl: no prompt could be kept after 5 requests (at most 5).",
        "replies that were not used, 5:",
        "  5 refused: set another data.prompts.self_instruct.writer (now student) or data.prompts.source",
    ]


def test_dropped_written_prompts_are_counted_apart_from_replies(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    """Replies and written prompts are counted separately, because a reply may hold several prompts."""
    scribe(lambda prompt, seed: Candidate(prompt.id, 0, "<task>a</task><task>bb</task>"))
    with pytest.raises(StageError) as error:
        run(recipe_of(max_requests=3), tmp_path / "run", numbers_registry)
    assert str(error.value).splitlines()[1:] == [
        "written prompts that were not used, 6:",
        "  6 too short: lower data.prompts.self_instruct.min_characters (now 5)",
    ]


def test_a_run_that_broke_while_prompts_were_written_ends_with_the_same_prompts(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    plugin = scribe()
    run(recipe_of(), tmp_path / "whole", numbers_registry)

    def breaking(prompt: Prompt, seed: int) -> Candidate:
        if len(plugin.requests) % 50 == 45:
            raise RuntimeError("the power is gone")
        return usual(prompt, seed)

    plugin.write, plugin.requests = breaking, []
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe_of(), tmp_path / "broken", numbers_registry)
    plugin.write = usual
    run(recipe_of(), tmp_path / "broken", numbers_registry)
    assert prompts_of(tmp_path / "broken", "M1") == prompts_of(tmp_path / "whole", "M1")


class FastScribe(Scribe):
    """The same writer, which answers many requests in the time of one."""

    at_once = 512

    @hookimpl
    def requests_at_once(self) -> int:
        return self.at_once


def counted(folder: Path) -> dict[str, int]:
    return dict(Store(folder).finished_steps()["seed-0/M1/samples/prompts.jsonl"].counts)


def test_a_writer_that_answers_many_requests_at_once_gets_as_many_rounds_as_are_expected_to_suffice(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    """A model of Phi-2's size wrote 1,000 prompts in 18 rounds, and waited 18 times for a longest reply."""
    slow = scribe()
    recipe = recipe_of(count=200)
    run(recipe, tmp_path / "slow", numbers_registry)
    fast = FastScribe(slow.info, usual)
    numbers_registry.unregister("scribe")
    numbers_registry.register(fast, "scribe")
    run(recipe, tmp_path / "fast", numbers_registry)
    assert prompts_of(tmp_path / "fast", "M1") == prompts_of(tmp_path / "slow", "M1")
    assert counted(tmp_path / "fast") == counted(tmp_path / "slow")
    of_m1 = sum(model == "M1" for model, _ in slow.requests)
    assert slow.calls[: of_m1 // 32] == [32] * (of_m1 // 32)
    assert fast.calls[0] == 96, "200 prompts at three prompts per reply"
    assert max(fast.calls) <= 512
    assert len(fast.calls) < len(slow.calls) / 2


def test_replies_that_bring_a_little_less_than_the_first_ones_need_no_third_call(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    """Phi-2's size was asked 352, then 192, then 32 requests: the third call took seconds for a few prompts."""

    def tired(prompt: Prompt, seed: int) -> Candidate:
        number = int(prompt.id.removeprefix("request-"))
        found = usual(prompt, seed)
        return evolve(found, text="nothing") if number > 96 and number % 8 == 0 else found

    plugin = FastScribe(scribe().info, tired)
    numbers_registry.unregister("scribe")
    numbers_registry.register(plugin, "scribe")
    run(recipe_of(count=220), tmp_path / "run", numbers_registry)
    assert plugin.calls[:2] == [96, 160]
    assert counted(tmp_path / "run")["requests"] == 96 + 160, "the additional round was needed"
    assert len(plugin.calls) == 4, "two calls for each of two iterations"


def test_rounds_that_were_asked_together_are_asked_together_again_after_a_break(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    plugin = FastScribe(scribe().info, usual)
    plugin.at_once = 64
    numbers_registry.unregister("scribe")
    numbers_registry.register(plugin, "scribe")
    run(recipe_of(), tmp_path / "whole", numbers_registry)
    whole, plugin.calls, plugin.requests = plugin.calls, [], []

    def breaking(prompt: Prompt, seed: int) -> Candidate:
        if len(plugin.requests) == 80:
            raise RuntimeError("the power is gone")
        return usual(prompt, seed)

    plugin.write = breaking
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe_of(), tmp_path / "broken", numbers_registry)
    broken, plugin.calls, plugin.write = plugin.calls, [], usual
    run(recipe_of(), tmp_path / "broken", numbers_registry)
    assert prompts_of(tmp_path / "broken", "M1") == prompts_of(tmp_path / "whole", "M1")
    assert broken + plugin.calls[1:] == whole, "only the calls that were not stored are repeated"


def test_seeds_that_cannot_be_shown_as_examples_are_an_error_before_anything_runs(
    tmp_path: Path, numbers_registry: Registry, scribe: Callable[..., Scribe], recipe_of: Callable[..., Recipe]
) -> None:
    scribe()
    path = tmp_path / "seeds.jsonl"
    path.write_text(json.dumps({"prompt": "What does </task> mean?"}) + "\n")
    with pytest.raises(InputError, match="no prompt in it can be shown"):
        checked_plan(with_prompts(recipe_of(), source=str(path)), numbers_registry)


def with_prompts(recipe: Recipe, **changes: Any) -> Recipe:
    return evolve(recipe, data=evolve(recipe.data, prompts=evolve(recipe.data.fresh_prompts, **changes)))


def file_recipe(make_recipe: Callable[..., Recipe], tmp_path: Path, **data: Any) -> tuple[list[str], Recipe]:
    """A recipe with prompts from a file that contains ten evaluation prompts of seed 0, and the ten prompts."""
    held = [str(text) for text in echoing_world.describe().prompt_sets["held-out"].load(30, 0)][:10]
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps({"prompt": text}) + "\n" for text in [*held, *(f"say {n} now" for n in range(90))])
    )
    source = {"source": str(tmp_path / "mine.jsonl"), "count": 40}
    ift = {"source": "numbers/ift", "count": 8}
    return held, make_recipe(
        data={"ift": ift, "prompts": source, **data}, pipelines={"teacher-reward": None}, controls={}
    )


def test_prompts_that_contain_an_evaluation_prompt_are_replaced_by_others_and_listed(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    held, recipe = file_recipe(make_recipe, tmp_path)
    run(recipe, tmp_path / "run", numbers_registry)
    first, second = prompts_of(tmp_path / "run", "M1"), prompts_of(tmp_path / "run", "teacher-reward/M2")
    texts = [prompt.text for prompt in first + second]
    assert len(first) == len(second) == 40
    assert not set(texts) & set(held)
    assert len(set(texts)) == 80
    listed = [
        row
        for folder in ("M1", "teacher-reward/M2")
        for row in rows(tmp_path / f"run/seed-0/{folder}/samples/prompts-dropped.jsonl")
    ]
    assert {row["text"] for row in listed} <= set(held)
    assert all(row["reason"] == "holds an evaluation prompt" and row["source"] == SEEDS for row in listed)
    steps = Store(tmp_path / "run").finished_steps()
    counted = [steps[f"seed-0/{folder}/samples/prompts.jsonl"].counts for folder in ("M1", "teacher-reward/M2")]
    assert sum(counts.get("holds an evaluation prompt", 0) for counts in counted) == len(listed) > 0


def test_too_few_prompts_without_an_evaluation_prompt_are_an_error_before_anything_runs(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    _, recipe = file_recipe(make_recipe, tmp_path)
    with pytest.raises(InputError, match=r"data\.prompts: .*but there are only 100;.*contain an evaluation prompt"):
        checked_plan(with_prompts(recipe, count=48), numbers_registry)


def test_decontamination_can_be_turned_off(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    held, recipe = file_recipe(make_recipe, tmp_path, decontaminate=None)
    run(recipe, tmp_path / "run", numbers_registry)
    texts = {p.text for folder in ("M1", "teacher-reward/M2") for p in prompts_of(tmp_path / "run", folder)}
    assert texts & set(held)


def test_seed_examples_that_contain_an_evaluation_prompt_are_dropped_and_counted(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    held, _ = file_recipe(make_recipe, tmp_path)
    (tmp_path / "ift.jsonl").write_text(
        "".join(json.dumps({"prompt": text, "answer": "yes"}) + "\n" for text in [held[0], "say 1 word", "say 2 words"])
    )
    data = {"ift": {"source": str(tmp_path / "ift.jsonl")}, "prompts": {"source": "numbers/train", "count": 40}}
    recipe = make_recipe(data=data, pipelines={"teacher-reward": None}, controls={}, iterations=1)
    run(recipe, tmp_path / "run", numbers_registry)
    counts = Store(tmp_path / "run").finished_steps()["seed-0/M1/examples.jsonl"].counts
    assert counts == {"ift": 2, "holds an evaluation prompt": 1}
    assert [row["text"] for row in rows(tmp_path / "run/seed-0/M1/examples-dropped.jsonl")] == [held[0]]


def test_seed_examples_that_all_contain_an_evaluation_prompt_end_the_run_with_the_keys_to_change(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    held, _ = file_recipe(make_recipe, tmp_path)
    (tmp_path / "ift.jsonl").write_text(
        "".join(json.dumps({"prompt": text, "answer": "yes"}) + "\n" for text in held[:3])
    )
    data = {"ift": {"source": str(tmp_path / "ift.jsonl")}, "prompts": {"source": "numbers/train", "count": 40}}
    recipe = make_recipe(data=data, pipelines={"teacher-reward": None}, controls={}, iterations=1)
    with pytest.raises(StageError) as error:
        run(recipe, tmp_path / "run", numbers_registry)
    assert str(error.value) == (
        "seed-0/M1/examples.jsonl: no examples are left: all 3 examples of the sources contain an evaluation prompt; "
        "check data.ift and data.eft, which should not be the evaluation set (evaluation.prompts), or raise "
        "data.decontaminate.share (now 0.6) or data.decontaminate.n (now 3)"
    )
