"""The pairs that each loop makes, manually computed, and runs of all loops in two worlds with known answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import echoing_world
import pytest
import tutelage_loops
from attrs import evolve
from click.testing import CliRunner
from recipes import numbers_recipe
from tutelage_loops import cream, critique, iterative_rpo, meta_rewarding, spin, tiny_critic, west_of_n

import tutelage
from tutelage import (
    ADDITIVE_RUBRIC,
    Candidate,
    Context,
    Demonstration,
    Example,
    JudgeItem,
    Judgement,
    Message,
    Model,
    Outcome,
    PairOptions,
    Preference,
    Prompt,
    Registry,
    Rubric,
    Sampling,
    checked_plan,
    hookimpl,
    load_recipe,
    pair,
    render,
    reply,
)
from tutelage.cli import cli
from tutelage.files.trl_format import read_preferences
from tutelage.recipe.loading import from_values
from tutelage.testing import check_plugin
from tutelage_tiny import world

PACKAGE = Path(tutelage_loops.__file__).parent
RECIPE = PACKAGE / "embedded.yaml"
BY_TEACHER = ("spin", "spin-on-preferences", "critique-and-revise", "iterative-rpo", "west-of-n", "sppo")
LOOPS = sorted(tutelage_loops.describe().pipelines)
NOT_IN_RECIPE = ("cream", "spin", "meta-rewarding")
PROMPT = Prompt("say 12")


@pytest.fixture(autouse=True)
def user_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the ledger or the cache of the user."""
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def sides(pairs: Iterable[Preference]) -> list[tuple[str, str, str]]:
    return [(one.prompt, one.chosen, one.rejected) for one in pairs]


def scored_pair(id: str, chosen: float, rejected: float) -> Preference:
    return Preference(id, f"say {id}", "good", "bad", f"{id}/0", f"{id}/1", chosen, rejected)


def judged(answer: str, *scores: float | None, reason: str = "") -> list[Judgement]:
    outcome = {True: Outcome.ANSWERED, False: Outcome.UNPARSED}
    return [
        Judgement(answer, sample, score, outcome[score is not None], raw="what?" if score is None else f"{score:g}")
        for sample, score in enumerate(scores)
    ]


@pytest.mark.parametrize("plugin", ["loops", "tiny-critic"])
def test_the_plugins_fulfil_the_contract(plugin: str) -> None:
    prompts = world.prompts("train", 3, 0)
    check_plugin(plugin, prompts=prompts).raise_for_problems()


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_each_module_has_at_most_150_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 150


def test_the_readme_states_the_lines_of_each_loop_and_names_every_pipeline() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`loops/.*) \| (\d+) \|$", readme, re.MULTILINE)
    names = {name: int(lines) for text, lines in rows for name in re.findall(r"`loops/([\w-]+)`", text)}
    modules = {"critique-and-revise": "critique", "cream-filter": "cream", "spin-on-preferences": "spin"}
    modules["meta-rewarding-tiny"] = "meta_rewarding"
    files = {name: PACKAGE / f"{modules.get(name, name.replace('-', '_'))}.py" for name in LOOPS}
    assert names == {name: len(file.read_text().splitlines()) for name, file in files.items()}


def test_spin_asks_each_instruction_once_and_keeps_conversations() -> None:
    turns = (Message("system", "Be brief."), Message("user", "say 7"))
    examples = [Example("say 5", "5"), Example("say 5", "five"), Example("unused", "7", turns)]
    questions = list(spin.questions(examples))
    assert [(one.text, one.source) for one in questions] == [
        ("say 5", "ift"),
        ("System: Be brief.\n\nUser: say 7", "ift"),
    ]
    assert questions[1].messages == turns
    assert list(spin.answers(examples)) == [Demonstration(questions[0].id, "five"), Demonstration(questions[1].id, "7")]


def test_critique_and_revise_prefers_the_revision_of_the_first_complete_answer() -> None:
    prompts = [PROMPT, Prompt("say 7"), Prompt("say 8")]
    first, second, third = (one.id for one in prompts)
    candidates = [
        Candidate(first, 0, "1", Outcome.CUT),
        Candidate(first, 1, "21"),
        Candidate(first, 2, "22"),
        Candidate(second, 0, "6"),
        Candidate(third, 0, " "),
    ]
    asked = list(critique.critique_requests(prompts, candidates))
    assert [
        one.text.endswith(f"{answer}\n\nThe request:\n{text}")
        for one, answer, text in zip(asked, ("21", "6"), ("say 12", "say 7"), strict=True)
    ] == [True, True]
    critiques = [Demonstration(asked[0].id, "Swapped."), Demonstration(asked[1].id, "", Outcome.REFUSED)]
    [request] = critique.revision_requests(prompts, candidates, critiques)
    assert "The answer:\n21\n\nThe critique:\nSwapped.\n\nThe request:\nsay 12" in request.text
    [made] = critique.pairs(prompts, candidates, critiques, [Demonstration(request.id, "12")])
    assert sides([made]) == [("say 12", "12", "21")]
    assert made.rejected_id == f"{first}/1"
    assert not list(critique.pairs(prompts, candidates, critiques, [Demonstration(request.id, "1", Outcome.CUT)]))


def test_iterative_rpo_goes_through_winners_and_losers_at_once() -> None:
    texts = {"12": 5.0, "12.": 5.0, "a": 1.0, "b": 2.0, "c": 1.0}
    candidates = [Candidate(PROMPT.id, index, text) for index, text in enumerate([*texts, "a"])]
    scores = {one.id: texts[one.text] for one in candidates}
    found = pair(iterative_rpo.winners_losers, {PROMPT.id: PROMPT}, candidates, scores).preferences
    pairs = {(one.chosen, one.rejected) for one in found}
    assert {chosen for chosen, _ in pairs} == {"12", "12."}
    assert {rejected for _, rejected in pairs} == {"a", "b", "c"}
    assert len(pairs) == len(found) == 6, "ten pairs, of which four are repeated"
    assert {one.score_chosen for one in found} == {5.0}


def test_iterative_rpo_needs_a_loser() -> None:
    candidates = [Candidate(PROMPT.id, 0, "12"), Candidate(PROMPT.id, 1, "21"), Candidate(PROMPT.id, 2, "12")]
    options = PairOptions(seed=1)
    tied = pair(iterative_rpo.winners_losers, {PROMPT.id: PROMPT}, candidates, {one.id: 3 for one in candidates})
    assert tied.dropped == {"tied": 1}
    single = pair(iterative_rpo.winners_losers, {PROMPT.id: PROMPT}, candidates[::2], {}, options=options)
    assert single.dropped == {"fewer than two scored answers": 1}


def test_meta_rewarding_takes_the_answer_whose_judgements_vary_most() -> None:
    candidates = [Candidate(PROMPT.id, index, text) for index, text in enumerate(["12", "21", "13", "14"])]
    judgements = [
        *judged(f"{PROMPT.id}/0", 5, 5, 4),
        *judged(f"{PROMPT.id}/1", 1, 4, None),
        *judged(f"{PROMPT.id}/2", 3, 3, 3),
        *judged(f"{PROMPT.id}/3", None, 5, None),
    ]
    [asked] = meta_rewarding.judge_prompts([PROMPT, Prompt("say 7")], candidates, judgements)
    assert asked.text == render(ADDITIVE_RUBRIC, JudgeItem("", "say 12", "21"))
    replies = list(meta_rewarding.judge_replies([asked], judgements))
    assert replies == [Candidate(asked.id, 0, "1"), Candidate(asked.id, 1, "4")]


def test_west_of_n_keeps_the_half_with_the_largest_differences() -> None:
    pairs = [scored_pair("a", 5, 4), scored_pair("b", 5, 1), scored_pair("c", 3, 1), scored_pair("d", 2, 1)]
    assert [one.prompt_id for one in west_of_n.confident(pairs)] == ["b", "c"]
    assert west_of_n.confident(pairs[:1]) == pairs[:1]


def test_the_filter_of_cream_drops_the_pairs_that_the_earlier_model_does_not_confirm() -> None:
    pairs = [scored_pair(id, 5, 1) for id in ("confirmed", "reversed", "tied", "unknown")]
    earlier = [
        *judged("confirmed/0", 3, 2),
        *judged("confirmed/1", 2, 2),
        *judged("reversed/0", 1, 1),
        *judged("reversed/1", 1, 2),
        *judged("tied/0", 3, 1),
        *judged("tied/1", 2, 2),
        *judged("unknown/0", 1, 1),
        *judged("unknown/1", None, None),
    ]
    assert [one.prompt_id for one in cream.consistent(pairs, earlier)] == ["confirmed", "unknown"]


def test_cream_gives_all_pairs_the_consistency_rate_as_soft_label() -> None:
    pairs = [scored_pair("same", 5, 1), scored_pair("reversed", 5, 1)]
    now = [*judged("same/0", 5), *judged("same/1", 1), *judged("same/2", 3), *judged("reversed/0", 5)]
    now += judged("reversed/1", 1)
    before = [*judged("same/0", 4), *judged("same/1", 0), *judged("same/2", 0), *judged("reversed/0", 1)]
    before += judged("reversed/1", 2)
    # tau of "same" is 2 of 3, as one pair of answers is tied; that of "reversed" is -1
    same = (2 / 3 + 1) / 2
    assert [one.probability for one in cream.softened(pairs, now, before)] == [0.5, 0.5], "the mean is below 0.5"
    [one] = cream.softened(pairs[:1], now, before[:3])
    assert one == evolve(pairs[0], probability=one.probability)
    assert one.probability == pytest.approx(same)
    unknown = [*judged("same/0", None), *judged("same/1", None)]
    assert cream.softened(pairs, now, unknown) == pairs


def test_the_tiny_critic_answers_criticises_and_revises() -> None:
    request = Prompt("reverse these words with dashes: pear cat blue owl")
    wrong = Candidate(request.id, 0, "pear - cat - blue - owl")
    right = evolve(wrong, text="owl - blue - cat - pear")
    found = {}
    for one in (wrong, right):
        criticised = asked([*critique.critique_requests([request], [one])])
        revised = asked([*critique.revision_requests([request], [one], criticised)])
        found[one.text] = (criticised[0].text, revised[0].text)
    assert found == {wrong.text: ("wrong order.", right.text), right.text: ("right.", right.text)}
    answer, unknown = asked([request, Prompt("say 12")])
    assert (answer.text, unknown.outcome) == (right.text, Outcome.REFUSED)


def asked(prompts: list[Prompt]) -> list[Demonstration]:
    registry = Registry.empty()
    registry.register(tiny_critic, "tiny-critic")
    return list(tutelage.demonstrate(registry, Model("tiny-critic"), prompts, Sampling(), Context()))


class Rating:
    """The echoing world with judges that write their replies."""

    describe = staticmethod(echoing_world.describe)
    generate_candidates = staticmethod(echoing_world.generate_candidates)
    demonstrate = staticmethod(echoing_world.demonstrate)
    evaluate = staticmethod(echoing_world.evaluate)
    train_step = staticmethod(echoing_world.train_step)

    @hookimpl
    def judge(
        self, model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling
    ) -> Iterator[Judgement]:
        for one in echoing_world.judge(model, items, rubric, samples, sampling):
            yield one if one.score is None else evolve(one, raw=reply(one.score, f"draw {one.sample}"))


def echoing_recipe(**changes: Any) -> Any:
    pipelines = {f"loops/{name}": None for name in LOOPS}
    values = numbers_recipe(pipelines=pipelines, controls={}, evaluation=None, **changes)
    values["data"]["preferences"] = {"source": "numbers/pairs", "count": 30}
    return from_values(values)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all loops in the echoing world, with the pairs of its rounds."""
    registry = Registry.discover()
    registry.register(Rating(), "numbers")
    folder = tmp_path_factory.mktemp("loops")
    tutelage.run(echoing_recipe(), directory=folder, registry=registry)
    return folder / "seed-0/loops"


@pytest.mark.parametrize("loop", LOOPS)
def test_each_loop_trains_two_models(finished: Path, loop: str) -> None:
    for number in (2, 3):
        assert (finished / loop / f"M{number}/checkpoint/weights.json").is_file()


@pytest.mark.parametrize(
    "loop", ["spin", "spin-on-preferences", "critique-and-revise", "iterative-rpo", "west-of-n", "sppo"]
)
def test_where_a_teacher_or_data_decides_the_chosen_answer_is_right_and_the_rejected_one_wrong(
    finished: Path, loop: str
) -> None:
    name = "preferences" if loop in ("iterative-rpo", "west-of-n", "sppo") else "pairs"
    pairs = read_preferences(finished / loop / f"M2/{name}.jsonl")
    assert len(pairs) > 2
    for one in pairs:
        assert echoing_world.is_right(one.prompt, one.chosen)
        assert not echoing_world.is_right(one.prompt, one.rejected)


def test_meta_rewarding_joins_the_pairs_of_answers_and_of_judgements(finished: Path) -> None:
    folder = finished / "meta-rewarding/M2"
    actor, judge = (read_preferences(folder / f"{name}-pairs.jsonl") for name in ("actor", "judge"))
    assert read_preferences(folder / "pairs.jsonl") == [*actor, *judge]
    assert {one.prompt.partition(" ")[0] for one in actor} == {"say"}
    assert {one.prompt.partition(" ")[0] for one in judge} == {"Grade"}
    assert all({one.chosen[:7], one.rejected[:7]} <= {"score: ", "score:"} for one in judge)


def test_the_filter_of_cream_leaves_some_of_the_pairs(finished: Path) -> None:
    folder = finished / "cream-filter/M3"
    ranked, kept = (read_preferences(folder / f"{name}.jsonl") for name in ("ranked", "preferences"))
    assert 0 < len(kept) < len(ranked)
    assert set(kept) < set(ranked)


def test_cream_trains_on_one_soft_label_for_all_pairs(finished: Path) -> None:
    [label] = {one.probability for one in read_preferences(finished / "cream/M3/preferences.jsonl")}
    assert 0.5 <= label < 1


def test_the_losses_are_those_of_the_papers() -> None:
    registry = Registry.discover()
    registry.register(Rating(), "numbers")
    steps = checked_plan(echoing_recipe(iterations=1), registry).steps
    losses = {
        step.model.removeprefix("M2/loops/"): step.objective.loss_type
        for step in steps
        if isinstance(step, tutelage.planning.steps.Train) and isinstance(step.objective, tutelage.Dpo)
    }
    assert losses == {
        **dict.fromkeys(LOOPS, "sigmoid"),
        "iterative-rpo": {"sigmoid": 1.0, "sft": 1.0},
        "sppo": "sppo_hard",
    }


def test_the_recipe_runs_all_loops_beside_the_pipelines_and_both_controls() -> None:
    recipe = load_recipe(str(RECIPE))
    loops = {f"loops/{name}" for name in LOOPS if name not in NOT_IN_RECIPE}
    assert set(recipe.pipelines) == {"self-reward", "teacher-reward", "teacher-demonstration", *loops}
    assert set(recipe.controls) == {"random-pairs", "sft-on-chosen"}
    plan = checked_plan(evolve(recipe, seeds=(11,)), Registry.discover())
    assert len(plan.models) == 24


SMALL = """
extends: {recipe}
seeds: [0]
iterations: 1
data:
  prompts: {{count: 24}}
generation: {{max_new_tokens: 12}}
evaluation: {{prompts: {{count: 8}}}}
"""


@pytest.mark.slow
def test_the_command_plans_the_recipe() -> None:
    done = CliRunner().invoke(cli, ["plan", str(RECIPE), "--set", "seeds=[11]"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("loops-embedded: 166 steps, 24 models")


@pytest.mark.slow
def test_all_loops_run_in_the_embedded_world(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.format(recipe=RECIPE))
    summary = tutelage.run(load_recipe(str(tmp_path / "small.yaml")), directory=tmp_path / "run")
    assert summary is not None
    trained = {model.id for model in summary.models}
    assert {f"M2/loops/{name}" for name in LOOPS if name not in NOT_IN_RECIPE} < trained
