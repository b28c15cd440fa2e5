"""The plugin ``tiny``: teacher, judge and evaluator give the right results, and its prompt and example sets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

import tutelage_tiny as tiny
from tutelage.cli import cli
from tutelage.context import Context
from tutelage.data.preference_rows import check_preference
from tutelage.preferences.score_parsing import parse_score
from tutelage.records import Comparison, JudgeItem, Outcome, Prompt
from tutelage_tiny.rubric import ADDITIVE, grade
from tutelage_tiny.world import parse, prompts, solve, split_of

PROMPT = "sort these words with dashes: pear cat fig"
FOREIGN = "Write a poem about the sea."


def test_the_judge_gives_the_gold_score_in_every_sample_and_says_why() -> None:
    item = JudgeItem("a", PROMPT, "pear - cat - fig")
    judgements = list(tiny.judge(items=[item], samples=3, context=Context()))
    assert [(each.sample, each.score, each.reason) for each in judgements] == [
        (n, 3.0, "wrong order.") for n in range(3)
    ]
    assert parse_score(judgements[0].raw, ADDITIVE).score == 3.0


def test_the_teacher_demonstrates_the_right_answer() -> None:
    (shown,) = tiny.demonstrate(prompts=[Prompt(PROMPT)], context=Context())
    assert (shown.text, shown.outcome) == ("cat - fig - pear", Outcome.ANSWERED)


@pytest.mark.parametrize(
    ("first", "second", "preference"),
    [
        ("cat - fig - pear", "cat, fig, pear", 1.0),
        ("cat, fig, pear", "cat - fig - pear", 0.0),
        ("cat - fig - pear", "cat - fig - pear", 0.5),
        ("pear - cat - fig", "fig - pear - cat", 0.5),
    ],
)
def test_the_evaluator_prefers_the_higher_score(first: str, second: str, preference: float) -> None:
    (verdict,) = tiny.evaluate(comparisons=[Comparison("x", PROMPT, first, second)], context=Context())
    assert verdict.preference == preference


def test_an_instruction_of_another_world_is_refused_and_never_scored() -> None:
    judged = tiny.judge(items=[JudgeItem("a", FOREIGN, "waves")], samples=1, context=Context())
    shown = tiny.demonstrate(prompts=[Prompt(FOREIGN)], context=Context())
    compared = tiny.evaluate(comparisons=[Comparison("x", FOREIGN, "a", "b")], context=Context())
    (judgement,), (demonstration,), (verdict,) = judged, shown, compared
    assert (judgement.score, demonstration.text, verdict.preference) == (None, "", None)
    for result in (judgement, demonstration, verdict):
        assert result.outcome is Outcome.REFUSED
        assert "tiny world" in result.detail


def test_progress_counts_judgements() -> None:
    done: list[int] = []
    list(tiny.judge(items=[JudgeItem("a", PROMPT, "cat")], samples=4, context=Context(advance=done.append)))
    assert sum(done) == 4


def test_seed_examples_are_right_and_of_the_seed_split() -> None:
    examples = list(tiny.describe().example_sets["ift"].load(40, 2))
    assert len(examples) == 40
    for example in examples:
        assert example.answer == solve(example.prompt)
        assert split_of(example.prompt) == "seed"


@pytest.mark.parametrize("seed", range(5))
def test_rated_examples_are_rated_right_and_no_score_is_rare(seed: int) -> None:
    examples = list(tiny.describe().rated_sets["eft"].load(288, seed))
    assert Counter(example.score for example in examples) == {float(score): 48 for score in range(6)}
    for example in examples:
        task = parse(example.prompt)
        assert task is not None
        assert split_of(example.prompt) == "seed"
        assert (grade(task, example.answer).score, grade(task, example.answer).reason) == (
            example.score,
            example.reason,
        )


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_set_gives_as_many_rated_examples_as_are_asked_for(count: int) -> None:
    assert len(list(tiny.describe().rated_sets["eft"].load(count, 0))) == count


def test_preference_pairs_prefer_the_right_answer_to_one_with_mistakes() -> None:
    pairs = list(tiny.describe().preference_sets["preferences"].load(60, 3))
    assert len({pair.prompt for pair in pairs}) == 60
    for pair in pairs:
        task = parse(pair.prompt)
        assert task is not None
        assert split_of(pair.prompt) == "train"
        assert pair.chosen == solve(pair.prompt)
        assert (pair.score_chosen, pair.score_rejected) == (5.0, grade(task, pair.rejected).score)
        check_preference(pair)


def test_held_out_prompts_are_in_no_set_to_learn_from() -> None:
    info = tiny.describe()
    held_out = set(info.prompt_sets["held-out"].load(1000, 0))
    learned = {prompt for name in ("seed", "train") for prompt in info.prompt_sets[name].load(1000, 0)}
    learned |= {example.prompt for example in info.rated_sets["eft"].load(500, 0)}
    learned |= {pair.prompt for pair in info.preference_sets["preferences"].load(500, 0)}
    assert len(held_out) == 1000
    assert not held_out & learned


def test_the_weights_are_where_the_plugin_says() -> None:
    folder = Path(tiny.describe().models["student"].location)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert (folder / "model.safetensors").stat().st_size < 6_000_000


def test_teacher_judge_and_sets_need_no_torch() -> None:
    program = (
        "import sys, tutelage_tiny as t; t.describe().rated_sets['eft'].load(6, 0);"
        "print({'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_prompts_are_those_of_the_world() -> None:
    assert list(tiny.describe().prompt_sets["train"].load(5, 7)) == prompts("train", 5, 7)


def test_texts_outside_the_world_are_a_problem_before_work() -> None:
    check = tiny.check_prompts
    assert "none of 2 prompts is one, such as 'Write a poem about the sea.'" in check([FOREIGN, "Why is the sky blue?"])
    assert check([FOREIGN, PROMPT]) == ""


@pytest.mark.parametrize("command", ["judge", "demonstrate", "evaluate", "head-to-head"])
def test_a_command_with_tiny_as_the_judge_of_other_texts_is_one_error_and_writes_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"prompt": FOREIGN, "answer": "waves", "first": "waves", "second": "sand"}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    Path("other.jsonl").write_text(json.dumps({**row, "answer": "sand"}) + "\n")
    arguments = ["stage", command, "rows.jsonl", "--model", "tiny", "--out", "out"]
    if command == "head-to-head":
        arguments = ["evaluate", command, "rows.jsonl", "other.jsonl", "--evaluator", "tiny", "--out", "out"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(
        "error: plugin 'tiny': the programs of the tiny world know its own instructions only"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("data.prompts", {"data.prompts.source": "rows.jsonl"}),
        ("evaluation.prompts", {"evaluation.prompts.source": "rows.jsonl"}),
    ],
)
def test_a_recipe_with_tiny_as_the_judge_of_other_texts_is_a_problem_of_the_plan(
    key: str, section: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Write a poem of {number} lines about the sea."} for number in range(2, 2000)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [part for item in section.items() for part in ("--set", "=".join(item))]
    result = CliRunner().invoke(cli, ["plan", "embedded", *changes, "--set", "data.prompts.self_instruct=null"])
    assert result.exit_code == 2
    assert f": {key}: the programs of the tiny world know its own instructions only" in result.output
