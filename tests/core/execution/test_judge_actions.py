"""Runs with a jury, a cascade and win rates: calls as planned, and nothing is asked twice after a kill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import echoing_world
import pytest
from interrupted_runs import artifacts_of

from tutelage.errors import StageError
from tutelage.execution.runner import run
from tutelage.files.trl_format import read_preferences
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import render
from tutelage.recipe.schema import Recipe
from tutelage.records import (
    Candidate,
    Comparison,
    JudgeItem,
    Judgement,
    Model,
    Outcome,
    Prompt,
    Rubric,
    Verdict,
)
from tutelage.runs.store import Store

Make = Callable[..., Recipe]
JURY = ("fair", "harsh", "shy")


class Judges:
    """A service that judges and compares: each answer is stored when it arrives, and every question is recorded.

    The judge ``fair`` is right, ``harsh`` gives a point less, and ``shy`` refuses short answers and cannot be read for
    some others. It fails before it begins with an item, once ``fails_at`` questions are answered.
    """

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.fails_at = fails_at

    def _begin(self) -> None:
        if self.fails_at is not None and self.asked.total() >= self.fails_at:
            raise RuntimeError("the power is gone")

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(help="Judges.", item_by_item=True)

    @hookimpl
    def judge(self, model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int) -> Iterator[Judgement]:
        for item in items:
            self._begin()
            for sample in range(samples):
                self.asked[f"{model.id} {item.id}#{sample}"] += 1
                if rubric.name == "checklist":
                    question = render(rubric, item)
                    assert f"Is it {echoing_world.right_answer(item.prompt)}?\n" in question
                score = 5.0 if echoing_world.is_right(item.prompt, item.answer) else 2.0
                if model.name == "shy" and len(item.answer) < 5:
                    yield Judgement(item.id, sample, None, Outcome.REFUSED, detail="too short")
                elif model.name == "shy" and echoing_world.chance(item.id) < 0.3:
                    yield Judgement(item.id, sample, None, Outcome.UNPARSED, raw="hm")
                else:
                    yield Judgement(item.id, sample, score - (model.name == "harsh"))

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        for prompt in prompts:
            self._begin()
            self.asked[f"{model.id} {prompt.id}"] += 1
            number = prompt.text.rpartition("say ")[2].partition("\n")[0]
            if echoing_world.chance(number) < 0.2:
                yield Candidate(prompt.id, 0, "", Outcome.REFUSED, "no checklist")
            else:
                yield Candidate(prompt.id, 0, f"Is it {number}?\n")

    @hookimpl
    def evaluate(self, comparisons: Iterable[Comparison]) -> Iterator[Verdict]:
        for one in comparisons:
            self._begin()
            self.asked[f"compare {one.id}"] += 1
            first, second = (echoing_world.is_right(one.prompt, text) for text in (one.first, one.second))
            yield Verdict(one.id, 0.5 + 0.5 * (first - second))


def registry_of(judges: Judges) -> Registry:
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    registry.register(judges, "service")
    return registry


def recipe_of(make_recipe: Make, pipeline: str, judging: dict[str, Any] | None = None, **models: Any) -> Recipe:
    return make_recipe(
        pipelines={pipeline: None},
        controls={},
        iterations=1,
        evaluation=None,
        models={"student": {"plugin": "numbers", "model": "numbers/novice"}, **models},
        judging={"rubric": "numbers/numbers", "samples": 2, "temperature": 0.7, **(judging or {})},
    )


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "jury": ("teacher-reward", {"jury": "mean"}, {"judges": {n: {"plugin": "service", "model": n} for n in JURY}}),
    "cascade": ("cascade", {"dispute_spread": 1.0}, {"judge": {"plugin": "service"}}),
    "win-rate": ("win-rate", {}, {"judge": {"plugin": "service"}}),
    "checklist": ("checklist", {"samples": 1}, {"teacher": {"plugin": "service"}}),
}


def case(name: str, make_recipe: Make, folder: Path) -> tuple[Recipe, Counter[str], Store, str]:
    """The recipe, the questions of an undisturbed run, its store, and the folder of the model's artifacts."""
    pipeline, judging, models = CASES[name]
    recipe, judges = recipe_of(make_recipe, pipeline, judging, **models), Judges()
    run(recipe, folder, registry_of(judges))
    return recipe, judges.asked, Store(folder), f"seed-0/{pipeline}/M2"


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_continues_with_the_same_artifacts_and_asks_nothing_twice(
    name: str, make_recipe: Make, tmp_path: Path
) -> None:
    recipe, asked, _, _ = case(name, make_recipe, tmp_path / "whole")
    assert set(asked.values()) == {1}
    together: Counter[str] = Counter()
    killed = tmp_path / "killed"
    for fails_at in (asked.total() // 3, asked.total() // 4):
        judges = Judges(fails_at)
        with pytest.raises(StageError, match="the power is gone"):
            run(recipe, killed, registry_of(judges))
        together += judges.asked
    judges = Judges()
    run(recipe, killed, registry_of(judges))
    assert together + judges.asked == asked
    assert artifacts_of(killed) == artifacts_of(tmp_path / "whole")


def answers_of(store: Store) -> list[Candidate]:
    return store.read("seed-0/M1/samples/candidates.jsonl", Candidate)


def test_a_jury_asks_every_judge_and_counts_its_abstentions(make_recipe: Make, tmp_path: Path) -> None:
    _, asked, store, folder = case("jury", make_recipe, tmp_path)
    texts = {(one.prompt_id, one.text) for one in answers_of(store)}
    assert asked.total() == len(JURY) * 2 * len(texts)  # equal answers are judged once
    by_judge = {name: store.read(f"{folder}/judgements.{name}.jsonl", Judgement) for name in JURY}
    combined = {one.item_id: one for one in store.read(f"{folder}/judgements.jsonl", Judgement)}
    assert combined.keys() == {one.item_id for one in by_judge["fair"]}
    counts = store.finished_steps()[f"{folder}/judgements.jsonl"].counts
    shy = Counter(str(one.outcome) for one in by_judge["shy"] if one.score is None)
    assert counts == {
        "answered": len(combined),
        "shy refused": shy["refused"] // 2,
        "shy unparsed": shy["unparsed"] // 2,
    }
    assert min(counts.values()) > 0
    for id, one in combined.items():
        fair = next(each.score for each in by_judge["fair"] if each.item_id == id)
        assert fair is not None and one.score is not None
        abstains = next(each.score for each in by_judge["shy"] if each.item_id == id) is None
        assert one.score == pytest.approx(fair - (1 / 2 if abstains else 1 / 3))


def test_a_cascade_asks_the_judge_about_disputed_answers_only(make_recipe: Make, tmp_path: Path) -> None:
    _, asked, store, folder = case("cascade", make_recipe, tmp_path)
    own: dict[str, list[float | None]] = {}
    for one in store.read(f"{folder}/own-judgements.jsonl", Judgement):
        own.setdefault(one.item_id, []).append(one.score)
    disputed = {id for id, scores in own.items() if len(set(scores)) > 1 or None in scores}
    assert 0 < len(disputed) < len(own)
    assert {one.id for one in store.read(f"{folder}/disputed.jsonl", Candidate)} == disputed
    assert asked.total() == len({(one.prompt_id, one.text) for one in answers_of(store) if one.id in disputed})
    second = {one.item_id: one.score for one in store.read(f"{folder}/second-judgements.jsonl", Judgement)}
    combined = {one.item_id: one.score for one in store.read(f"{folder}/judgements.jsonl", Judgement)}
    assert second.keys() == disputed
    assert combined == {id: second[id] if id in disputed else scores[0] for id, scores in own.items()}


def test_a_cascade_in_which_nothing_is_disputed_asks_the_judge_nothing(make_recipe: Make, tmp_path: Path) -> None:
    judges = Judges()
    recipe = recipe_of(make_recipe, "cascade", {"dispute_share": 0.001}, judge={"plugin": "service"})
    run(recipe, tmp_path, registry_of(judges))
    assert judges.asked.total() == 0
    store, folder = Store(tmp_path), "seed-0/cascade/M2"
    assert store.read(f"{folder}/second-judgements.jsonl", Judgement) == []
    assert read_preferences(store.path(f"{folder}/preferences.jsonl"))


def test_win_rates_compare_different_answers_in_both_orders(make_recipe: Make, tmp_path: Path) -> None:
    _, asked, store, folder = case("win-rate", make_recipe, tmp_path)
    texts: dict[str, list[str]] = {}
    for one in answers_of(store):
        texts.setdefault(one.prompt_id, []).append(one.text)
    assert asked.total() == sum(len(set(of)) * (len(set(of)) - 1) for of in texts.values())
    assert len(store.read(f"{folder}/judgements.verdicts.jsonl", Verdict)) == asked.total()
    pairs = read_preferences(store.path(f"{folder}/preferences.jsonl"))
    assert pairs
    for pair in pairs:
        assert echoing_world.is_right(pair.prompt, pair.chosen)
        assert not echoing_world.is_right(pair.prompt, pair.rejected)
        assert 0.0 <= (pair.score_rejected or 0.0) < (pair.score_chosen or 0.0) <= 1.0


def test_a_checklist_is_written_once_per_prompt_and_answers_are_judged_by_it(make_recipe: Make, tmp_path: Path) -> None:
    _, asked, store, folder = case("checklist", make_recipe, tmp_path)
    requests = store.read(f"{folder}/checklist-requests.jsonl", Prompt)
    written = {one.prompt_id: one for one in store.read(f"{folder}/checklists.jsonl", Candidate)}
    assert len(requests) == 40 == len(written)
    assert {f"teacher {one.id}" for one in requests} == {key for key in asked if key.endswith("-checklist")}
    refused = {id.removesuffix("-checklist") for id, one in written.items() if one.outcome is Outcome.REFUSED}
    assert 0 < len(refused) < 40
    checked = store.read(f"{folder}/checked-prompts.jsonl", Prompt)
    assert {one.id for one in checked}.isdisjoint(refused)
    for one in checked:
        assert one.metadata["checklist"] == f"Is it {echoing_world.right_answer(one.text)}?"
    judged = {(one.prompt_id, one.text) for one in answers_of(store) if one.prompt_id not in refused}
    assert asked.total() == 40 + len(judged)
    pairs = read_preferences(store.path(f"{folder}/preferences.jsonl"))
    assert pairs and refused.isdisjoint(pair.prompt_id for pair in pairs)
