"""The plugin passes tutelage's contract checks, and its scores follow from the instructions that an answer follows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tutelage_ifeval
from click.testing import CliRunner
from if_verifiable import IFEvalSample, evaluate_output_for_sample
from tutelage_ifeval import sets
from tutelage_ifeval.measures import MEASURES, of_instructions, of_prompt
from tutelage_ifeval.sets import Split
from tutelage_ifeval.verifying import verify

import tutelage
from tutelage import (
    Candidate,
    Comparison,
    Context,
    Demonstration,
    InputError,
    JudgeItem,
    Judgement,
    Model,
    Outcome,
    Prompt,
    Registry,
    Rubric,
    Sampling,
    StageError,
    checked_plan,
    hookimpl,
    load_recipe,
    parse_score,
    render,
    reply,
)
from tutelage.cli import cli
from tutelage.files.prepared import prepared_folder
from tutelage.planning.preparations import preparations
from tutelage.testing import check_plugin

RUBRIC = Rubric("short", lowest=0, highest=5)
PROMPT = "Name three fruits. Use no commas. Begin with a title in double angular brackets. Use the word pear."
INSTRUCTIONS: dict[str, Any] = {
    "instruction_id_list": ["punctuation:no_comma", "detectable_format:title", "keywords:existence"],
    "kwargs": [{}, {}, {"keywords": ["pear"]}],
}
SENTENCES = {"instruction_id_list": ["length_constraints:number_sentences"], "kwargs": [{}]}
FIELD = Path(__file__).parents[4] / "shared" / "field"


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(tutelage_ifeval, "ifeval")
    return registry


def judged(
    registry: Registry, answers: Mapping[str, str], metadata: Mapping[str, Any] = INSTRUCTIONS, **settings: object
) -> dict[str, Judgement]:
    items = [JudgeItem(id, PROMPT, answer, metadata=metadata) for id, answer in answers.items()]
    model = Model("ifeval", settings=settings)
    return {one.item_id: one for one in tutelage.judge(registry, model, items, RUBRIC, 1, Sampling(), Context())}


def test_the_contract_is_kept() -> None:
    check_plugin("ifeval").raise_for_problems()


def test_the_score_is_the_share_of_followed_instructions_on_the_rubrics_scale(registry: Registry) -> None:
    answers = {
        "all": "<<Fruits>>\npear and fig and plum",
        "two": "<<Fruits>>\npear, fig, plum",
        "one": "pear, fig, plum",
        "none": "fig, plum, kiwi",
        "empty": "",
    }
    scores = {id: one.score for id, one in judged(registry, answers).items()}
    assert scores == {"all": 5, "two": pytest.approx(10 / 3), "one": pytest.approx(5 / 3), "none": 0, "empty": 0}


def test_the_reason_names_what_is_followed_and_what_is_not(registry: Registry) -> None:
    assert judged(registry, {"one": "pear, fig"})["one"].reason == "Followed: existence. Not followed: no comma, title."


@pytest.mark.parametrize(
    ("metadata", "detail"),
    [
        ({}, "the prompt has no metadata instruction_id_list"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "one mapping for each instruction"),
        ({"instruction_id_list": ["punctuation:no_dots"], "kwargs": [{}]}, "no verifier has this name"),
        ({"instruction_id_list": 5, "kwargs": [{}]}, "must be a list of names"),
        ({"instruction_id_list": "punctuation:no_comma", "kwargs": [{}]}, "must be a list of names"),
        ({"instruction_id_list": [{}], "kwargs": [{}]}, "must be a list of names"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["none"]}, "one mapping for each instruction"),
        ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": "x"}, "one mapping for each instruction"),
        (SENTENCES, "its kwargs lack num_sentences, relation"),
        (
            {
                "instruction_id_list": ["keywords:letter_frequency"],
                "kwargs": [{"letter": "#", "let_frequency": 4, "let_relation": "at least"}],
            },
            "does not accept the value of letter",
        ),
        ({"instruction_id_list": ["keywords:forbidden_words"], "kwargs": [{"forbidden_words": [7]}]}, "failed"),
    ],
)
def test_an_instruction_that_cannot_be_checked_has_no_score_and_a_reason(
    metadata: dict[str, Any], detail: str, registry: Registry
) -> None:
    [judgement] = judged(registry, {"answer": "A pear."}, metadata).values()
    assert (judgement.score, judgement.outcome) == (None, Outcome.REFUSED)
    assert detail in judgement.detail


def test_an_answer_is_unscored_as_a_whole_if_one_instruction_cannot_be_checked(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nltk.data.path", [])  # as on a machine without NLTK's data
    number = {"num_sentences": 1, "relation": "at least"}
    names = ["punctuation:no_comma", "length_constraints:number_sentences"]
    [judgement] = judged(registry, {"a": "A pear."}, {"instruction_id_list": names, "kwargs": [{}, number]}).values()
    assert (judgement.score, judgement.outcome) == (None, Outcome.REFUSED)
    assert judgement.detail.startswith("length_constraints:number_sentences: NLTK's data punkt")


def test_loose_accuracy_forgives_a_first_line(registry: Registry) -> None:
    metadata = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    answers = {"answer": "Sure, here it is:\npear"}
    assert judged(registry, answers, metadata)["answer"].score == 0
    assert judged(registry, answers, metadata, loose=True)["answer"].score == 5


def test_the_answer_that_follows_more_is_preferred_and_none_without_a_score(registry: Registry) -> None:
    texts = {"first": ("<<F>> pear", "pear"), "second": ("a, b", "pear"), "neither": ("pear", "a pear")}
    comparisons = [Comparison(id, PROMPT, *pair, metadata=INSTRUCTIONS) for id, pair in texts.items()]
    comparisons.append(Comparison("unknown", PROMPT, "a", "b"))
    found = tutelage.evaluate(registry, Model("ifeval"), comparisons, RUBRIC, Sampling(), Context())
    verdicts = {one.comparison_id: (one.preference, one.outcome) for one in found}
    assert verdicts == {
        "first": (1.0, Outcome.ANSWERED),
        "second": (0.0, Outcome.ANSWERED),
        "neither": (0.5, Outcome.ANSWERED),
        "unknown": (None, Outcome.REFUSED),
    }


def test_the_language_of_a_short_text_is_always_the_same() -> None:
    """langdetect samples at random; without a seed, short texts had other languages from call to call."""
    metadata = {"instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]}
    for text in ("no no no", "the pear is red", "a in an on"):
        assert len({verify("", text, metadata).share for _ in range(20)}) == 1


def test_example_answers_follow_every_instruction() -> None:
    rows = sets.ift(150, 3)
    drawn = {(one.prompt.text, answer): one.prompt.metadata for one, answer in islice(sets.composed("ift/3"), 400)}
    assert len({row.prompt for row in rows}) == 150
    assert {verify(row.prompt, row.answer, drawn[row.prompt, row.answer]).share for row in rows} == {1.0}


def test_most_composed_answers_follow_their_instructions_at_once() -> None:
    """Otherwise the selection would leave out the hard kinds of instructions."""
    drawn = list(islice(sets.composed("share"), 300))
    followed = [verify(one.prompt.text, answer, one.prompt.metadata).share == 1 for one, answer in drawn]
    assert sum(followed) / len(followed) > 0.9
    kinds = {instruction.id for one, _ in drawn for instruction in one.instructions}
    assert len(kinds) == 21


def test_rated_answers_have_all_kinds_of_scores_and_can_be_learned() -> None:
    rows = sets.eft(90, 0)
    scores = [row.score for row in rows]
    assert len(rows) == 90
    assert scores.count(0) == scores.count(5) == 30
    rubric = tutelage_ifeval.describe().rubrics["instructions"]
    for row in rows:
        assert parse_score(reply(row.score, row.reason), rubric).score == row.score
        assert row.answer in render(rubric, JudgeItem("", row.prompt, row.answer))


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_prompts_are_distinct_follow_the_seed_and_can_be_checked(split: Split) -> None:
    rows = sets.prompts(split, 200, 0)
    assert len({row.id for row in rows}) == 200
    assert rows == sets.prompts(split, 200, 0) != sets.prompts(split, 200, 1)
    assert {verify(row.text, "A pear.", row.metadata).detail for row in rows} == {""}
    assert json.loads(json.dumps(dict(rows[0].metadata))) == rows[0].metadata


def test_no_prompt_is_in_two_splits() -> None:
    splits: tuple[Split, ...] = ("seed", "train", "held-out")
    texts = [{one.text for one in sets.prompts(split, 500, 0)} for split in splits]
    assert len(set.union(*texts)) == 1500


def test_the_prompts_of_ifeval_are_refused_if_the_package_has_other_ones(tmp_path: Path) -> None:
    data = tmp_path / "eval_framework/tasks/ifeval/data/input_data.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text('{"prompt": "Another one."}\n')
    with pytest.raises(StageError, match=r"input_data\.jsonl is not the one that was measured"):
        sets.IFEVAL.make(tmp_path, tmp_path, print)


def test_of_ifevals_prompts_all_but_three_kinds_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    file = FIELD / "ifeval.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is not there: IFEval's prompts are no part of the project")
    monkeypatch.setattr("nltk.data.path", [])
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    results = [verify(row["prompt"], "A text, with a comma.", row) for row in rows]
    unchecked = [one.instruction for result in results for one in result.checked if one.followed is None]
    assert len(rows) == 541
    assert sum(result.share is None for result in results) == 66
    assert {name: unchecked.count(name) for name in set(unchecked)} == {
        "length_constraints:number_sentences": 52,
        "change_case:capital_word_frequency": 25,
        "keywords:letter_frequency": 2,
    }


def test_the_files_of_a_model_that_only_an_option_names_are_those_of_a_recipe_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    result = CliRunner().invoke(cli, ["plan", "embedded", "--student", "transformers:transformers/gemma-3-270m"])
    assert result.stderr.endswith("get the missing files with: tutelage recipes prepare real/gemma-270m\n")


@pytest.mark.parametrize("name", ["real/gemma-270m", "real/gemma-270m-cpu"])
def test_the_recipes_can_be_planned_once_their_files_are_prepared(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    registry, recipe = Registry.discover(), load_recipe(name)
    with pytest.raises(InputError) as raised:
        checked_plan(recipe, registry)
    missing = [line.split(": ")[1] for line in str(raised.value).splitlines() if "recipes prepare" in line]
    assert missing == ["transformers/gemma-3-270m", "ifeval/ifeval"]
    for one in preparations(recipe, registry).values():
        prepared_folder(one.folder).mkdir(parents=True)
        (prepared_folder(one.folder) / "config.json").touch()
    rows = [{"prompt": f"Write about {n}.", "instruction_id_list": [], "kwargs": []} for n in range(541)]
    file = prepared_folder(sets.IFEVAL.folder) / "ifeval.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = checked_plan(recipe, registry)
    assert {step.stage for step in plan.steps} >= {"train", "generate", "judge", "evaluate"}


def _drawn(split: Split, seed: str, count: int) -> list[sets.Generated]:
    generator = sets.generate(split, random.Random(seed))
    return [next(generator) for _ in range(count)]


def test_a_generated_prompt_states_each_of_its_instructions() -> None:
    for one in _drawn("train", "words", 50):
        assert isinstance(one.prompt, Prompt)
        assert all(instruction.text in one.prompt.text for instruction in one.instructions)
        assert len(one.instructions) in (1, 2, 3)


ANSWERS = (
    "<<Fruits>>\npear and fig and plum",
    "Sure, here it is:\n<<Fruits>>\npear and fig",
    "*pear*, fig, plum",
    "HELLO. P.S. I like pears.",
    "",
)


def test_the_measures_are_the_accuracies_of_the_verifiers_package() -> None:
    """The package's own figures: of all instructions, and whether all are followed, for each answer."""
    drawn = [one.prompt for one in _drawn("train", "measures", 40)]
    for prompt in [Prompt(PROMPT, metadata=INSTRUCTIONS), *drawn]:
        names, values = prompt.metadata["instruction_id_list"], prompt.metadata["kwargs"]
        sample = IFEvalSample(key=0, prompt=prompt.text, instruction_id_list=names, kwargs=values)
        for answer in ANSWERS:
            _, wanted = evaluate_output_for_sample("ifeval", sample, answer)
            found = {
                name: measure.function(prompt=prompt.text, answer=answer, metadata=prompt.metadata)
                for name, measure in MEASURES.items()
            }
            assert [one.value for one in found.values()] == [
                wanted.binary_strict,
                wanted.binary_loose,
                pytest.approx(wanted.partial_strict),
                pytest.approx(wanted.partial_loose),
            ]
            assert {name: one.weight for name, one in found.items() if name.startswith("instruction")} == dict.fromkeys(
                ("instruction-strict", "instruction-loose"), len(names)
            )


def test_an_instruction_that_cannot_be_checked_counts_in_the_coverage_only() -> None:
    names = ["punctuation:no_comma", "detectable_format:title", "no:verifier"]
    metadata = {"instruction_id_list": names, "kwargs": [{}, {}, {}]}
    both, neither = "<<F>> pear", "pear, fig"
    found = [of_instructions(PROMPT, answer, metadata) for answer in (both, neither)]
    assert [(one.value, one.weight, one.unmeasured) for one in found] == [(1.0, 2, 1), (0.0, 2, 1)]
    assert "no verifier has this name" in found[0].detail
    assert [of_prompt(PROMPT, answer, metadata).value for answer in (both, neither)] == [None, None]
    unknown = of_instructions(PROMPT, both, {"instruction_id_list": ["no:verifier"] * 3, "kwargs": [{}] * 3})
    assert (unknown.value, unknown.weight) == (None, 3)
    assert (of_instructions(PROMPT, both, {}).value, of_prompt(PROMPT, both, {}).value) == (None, None)


class Parrot:
    """A student that repeats the prompt, and after a preference training does so without commas."""

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        for prompt in prompts:
            for index in range(n):
                text = prompt.text.replace(",", "") if model.id.startswith("M2") else f"{prompt.text}, yes"
                yield Candidate(prompt.id, index, text)

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        yield from (Demonstration(prompt.id, "A pear.") for prompt in prompts)

    @hookimpl
    def train_step(self, model: Model, output: Path) -> Model:
        (output / "weights").write_text("none")
        return Model("parrot", str(output), id=model.id)


def test_a_run_has_the_accuracies_of_each_model_with_coverage_and_intervals(registry: Registry, tmp_path: Path) -> None:
    prompts = [one.prompt for one in _drawn("held-out", "run", 8)]
    unchecked = Prompt("Name a fruit.", metadata={"instruction_id_list": ["no:verifier"] * 2, "kwargs": [{}, {}]})
    rows = [{"prompt": one.text, "metadata": dict(one.metadata)} for one in (*prompts, unchecked)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    registry.register(Parrot(), "parrot")
    evaluation = {"prompts": {"source": str(tmp_path / "prompts.jsonl")}, "sampled": 0, "agreement_prompts": 0}
    measures = {name: {"measure": f"ifeval/{name}"} for name in MEASURES}
    (tmp_path / "recipe.yaml").write_text(
        json.dumps(
            {
                "models": {role: {"plugin": "parrot"} for role in ("student", "teacher")}
                | {"evaluator": {"plugin": "ifeval"}},
                "data": {
                    "ift": {"source": "ifeval/ift", "count": 4},
                    "prompts": {"source": "ifeval/train", "count": 8},
                },
                "pipelines": {"teacher-demonstration": None},
                "evaluation": {**evaluation, "measures": measures},
            }
        )
    )
    summary = tutelage.run(tmp_path / "recipe.yaml", tmp_path / "run", registry)
    assert summary is not None
    counts = [len(one.metadata["instruction_id_list"]) for one in prompts]
    for model, answer in (
        ("M1", lambda text: f"{text}, yes"),
        ("M2/teacher-demonstration", lambda text: text.replace(",", "")),
    ):
        results = [verify(one.text, answer(one.text), one.metadata) for one in prompts]
        metrics = summary.model(model).metrics
        followed = sum(bool(one.followed) for result in results for one in result.checked)
        assert metrics["instruction-strict"].value == pytest.approx(followed / sum(counts))
        assert metrics["instruction-strict"].n == sum(counts)
        assert metrics["prompt-strict"].value == sum(result.share == 1 for result in results) / 8
        assert metrics["instruction-strict_measured"].value == pytest.approx(sum(counts) / (sum(counts) + 2))
        assert metrics["prompt-strict_measured"].value == pytest.approx(8 / 9)
        assert metrics["instruction-strict"].low is not None
    [difference] = [one.metrics for one in summary.differences if one.left.startswith("M2") and one.right == "M1"]
    assert (difference["instruction-strict"].value or 0) >= 0 and difference["instruction-strict"].n == 8
