"""``tutelage evaluate``: metrics of a run, of published files, and of outputs that the command compares."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_servers import running
from click.testing import Result
from known import known

from tutelage.installation import install_command
from tutelage.results.summary import read_summary

Invoke = Callable[..., Result]

DATA = Path(__file__).parents[4] / "shared" / "data"
SCORES = ("--judge", DATA / "seed_paper/m1_scores.jsonl", "--gold", DATA / "seed_paper/gpt4_scores.jsonl")
ANNOTATIONS = DATA / "alpaca_eval/phi-2/weighted_alpaca_eval_gpt4_turbo.json"

needs_the_published_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published files are not at {DATA}")


@pytest.fixture
def values(invoke: Invoke) -> Callable[..., Any]:
    """Call a command with ``--json`` and return the parsed output."""

    def values(*arguments: object) -> Any:
        result = invoke("evaluate", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return values


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@needs_the_published_data
def test_agreement_reads_the_published_score_files_as_they_are(values: Callable[..., Any]) -> None:
    found = values("agreement", *SCORES, "--as-published")
    names = ("pairwise_accuracy", "five_best", "exact_match", "spearman", "kendall_tau")
    assert [round(found[name]["value"], 4) for name in names] == [0.3825, 0.5711, 0.03, 0.103, 0.0898]
    assert found["as_published"] is True
    found = values("agreement", *SCORES)
    assert round(found["pairwise_accuracy"]["value"], 3) == 0.344
    assert found["pairwise_accuracy"].keys() == {"value", "low", "high", "n"}
    assert (found["pairwise_accuracy"]["n"], found["five_best"]["value"], found["parsed"]["n"]) == (575, 0.645, 800)
    assert (found["items"], found["unmatched"]) == (798, 0)


@needs_the_published_data
def test_stored_annotations_give_the_leaderboards_figures(values: Callable[..., Any]) -> None:
    found = values("alpaca-eval", "--annotations", ANNOTATIONS)
    assert found["win_rate"] == pytest.approx(2.350209543026152, abs=1e-6)
    assert found["standard_error"] == pytest.approx(0.4496590405673333, abs=1e-6)
    assert found["discrete_win_rate"] == pytest.approx(2.054794520547945, abs=1e-6)
    assert (found["n_total"], found["length_controlled_winrate"]) == (803, None)
    tables = DATA / "alpaca_eval"
    reference = tables / "gpt4_1106_preview/model_outputs.json"
    found = values("alpaca-eval", "--annotations", ANNOTATIONS, "--tables", tables, "--reference", reference)
    assert found["length_controlled_winrate"] == pytest.approx(4.398682270862682, abs=1e-6)
    assert found["length_controlled_by_instruction"] == pytest.approx(4.387917, abs=1e-6)


@needs_the_published_data
def test_the_figures_are_shown_as_tables(invoke: Invoke) -> None:
    shown = invoke("evaluate", "agreement", *SCORES).stdout
    assert "pairwise_accuracy   0.344 [0.294, 0.398]  575" in shown
    assert "798 answers are in both files; 0 are in only one" in shown
    assert "constant 0%, -; length -; random 33%, 0.00" in shown
    shown = invoke("evaluate", "alpaca-eval", "--annotations", ANNOTATIONS).stdout
    assert "phi-2 against gpt4_1106_preview" in shown
    assert "no tables of length control were given" in shown
    answers = ("--answers", DATA / "seed_paper/responses.jsonl")
    shown = invoke("evaluate", "calibration", *SCORES, *answers).stdout
    assert "length_correlation          0.105 [0.033, 0.180]    799" in shown
    both = [ANNOTATIONS, str(ANNOTATIONS).replace("phi-2", "alpaca-7b")]
    assert "phi-2 - alpaca-7b" in invoke("evaluate", "difference", *both).stdout


def test_a_run_is_summarised_from_its_stored_verdicts_as_its_summary_says(
    values: Callable[..., Any], invoke: Invoke, golden: Path
) -> None:
    found = values("head-to-head", golden)
    summary = read_summary(golden / "summary.json")
    assert {(pair["left"], pair["right"]): pair["wins"] for pair in found["pairs"]} == {
        (result.left, result.right): result.wins for result in summary.comparisons
    }
    assert found["position_bias"]["value"] == known(summary.evaluator).position_bias.value
    shown = invoke("evaluate", "head-to-head", golden).stdout
    assert "Bradley-Terry ranking" in shown
    agreement = values("agreement", golden)
    assert {(one["model"], one["answers"]) for one in agreement} == {
        (result.model, result.answers) for result in summary.agreement
    }
    assert "M1, judging its own answers" in invoke("evaluate", "agreement", golden).stdout


def test_the_self_preference_of_the_models_of_a_run_is_shown_without_a_key_of_the_recipe(
    values: Callable[..., Any], invoke: Invoke, golden: Path
) -> None:
    rows = values("agreement", golden)
    assert all(("self_preference" in row["metrics"]) is (row["answers"] == "mixed") for row in rows)
    shown = invoke("evaluate", "agreement", golden).stdout
    assert shown.count("self_preference") == len({row["model"] for row in rows})


def test_the_self_preference_of_a_judge_is_measured_from_files(
    values: Callable[..., Any], invoke: Invoke, tmp_path: Path
) -> None:
    models = ("mine", "yours")
    ids = [f"p{prompt}/{number}" for prompt in range(8) for number in range(2)]
    answers = write(tmp_path / "answers.jsonl", *({"id": id, "model": models[int(id[-1])]} for id in ids))
    gold = write(tmp_path / "gold.jsonl", *({"id": id, "score": 3.0} for id in ids))
    scores = [3.5 + 0.1 * (int(id[1]) % 2) if id.endswith("0") else 3.0 for id in ids]
    judge = write(tmp_path / "judge.jsonl", *({"id": id, "score": s} for id, s in zip(ids, scores, strict=True)))
    files = ("agreement", "--judge", judge, "--gold", gold, "--answers", answers)
    found = values(*files, "--own", "mine")
    assert found["self_preference"]["value"] == 0.55
    assert 0.5 <= found["self_preference"]["low"] < found["self_preference"]["high"] <= 0.6
    assert (found["self_preference"]["n"], found["own_overrating"]["n"]) == (8, 8)
    assert values(*files, "--own", "yours")["self_preference"]["value"] == -0.55
    assert "self_preference" in invoke("evaluate", *files, "--own", "mine").stdout
    assert "self_preference" not in values(*files[:5])
    candidates = [{"prompt_id": id[:2], "index": int(id[-1]), "text": "x", "model": models[int(id[-1])]} for id in ids]
    write(answers, *candidates)
    assert values(*files, "--own", "mine") == found


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"id": "p/0", "model": "mine"}],
            ("--own", "mine"),
            "no prompt has an answer of 'mine' and one of another model that both files score; it names the models of "
            "1 of the 1 answers",
        ),
        ([{"id": "q/0", "model": "mine"}], ("--own", "mine"), "it names the models of 0 of the 1 answers"),
        ([{"id": "p/0", "model": "mine"}], ("--own", "mien"), "no answer is of the model 'mien'; did you mean 'mine'?"),
        ([{"id": "p/0"}], ("--own", "mine"), "line 1: `model` must be a text; the row has id"),
        ([{"id": "p/0", "model": ""}], ("--own", "mine"), "line 1: the answer 'p/0' has no `model`"),
        (
            [{"id": "p/0", "model": "mine"}, {"id": "p/0", "model": "yours"}],
            ("--own", "mine"),
            "line 2: the answer 'p/0' is of 'yours' and of 'mine'; give each an id",
        ),
        ([{"id": "p/0", "model": "mine"}], (), "give --own and --answers together"),
    ],
    ids=["one-kind", "other-answers", "unknown", "missing", "empty", "twice", "alone"],
)
def test_files_from_which_no_self_preference_can_be_measured_are_refused(
    invoke: Invoke, tmp_path: Path, rows: list[dict[str, Any]], options: tuple[str, ...], message: str
) -> None:
    answers = write(tmp_path / "answers.jsonl", *rows)
    scores = write(tmp_path / "scores.jsonl", {"id": "p/0", "score": 3.0})
    result = invoke("evaluate", "agreement", "--judge", scores, "--gold", scores, "--answers", answers, *options)
    assert (result.exit_code, message in result.output) == (2, True), result.output


def test_answers_whose_model_is_not_given_are_left_out_of_self_preference_with_a_note(
    invoke: Invoke, tmp_path: Path
) -> None:
    rows = [{"id": f"p/{number}", "model": "mine" if number else "yours", "score": 3.0} for number in range(3)]
    answers, scores = write(tmp_path / "answers.jsonl", *rows[:2]), write(tmp_path / "scores.jsonl", *rows)
    files = ("--judge", scores, "--gold", scores, "--answers", answers)
    result = invoke("evaluate", "agreement", *files, "--own", "mine")
    note = f"self-preference: {answers} has no model for 1 of 3 answers; they are left out\n"
    assert (result.exit_code, result.stderr) == (0, note), result.output


def test_models_of_several_runs_are_named_after_their_run(values: Callable[..., Any], golden: Path) -> None:
    other = Path(shutil.copytree(golden, golden.with_name("other")))
    found = values("head-to-head", golden, other)
    assert {pair["left"].partition(":")[0] for pair in found["pairs"]} == {"golden", "other"}
    assert found["ranking"] == []


def test_models_of_one_run_are_compared_by_its_stored_verdicts(values: Callable[..., Any], golden: Path) -> None:
    of_run = {(pair["left"], pair["right"]): pair for pair in values("head-to-head", golden)["pairs"]}
    found = values("head-to-head", f"{golden}:M2/self-reward", f"{golden}:M0")
    assert found["pairs"] == [of_run["M2/self-reward", "M0"]]
    assert found["without_verdicts"] == []


def test_pairs_of_different_runs_have_no_stored_verdicts_and_are_named(
    values: Callable[..., Any], invoke: Invoke, golden: Path
) -> None:
    other = Path(shutil.copytree(golden, golden.with_name("other")))
    found = values("head-to-head", f"{golden}:M0", f"{golden}:M1", f"{other}:M1")
    assert [(pair["left"], pair["right"]) for pair in found["pairs"]] == [("golden:M0", "golden:M1")]
    assert found["without_verdicts"] == [["golden:M0", "other:M1"], ["golden:M1", "other:M1"]]
    alone = invoke("evaluate", "head-to-head", f"{golden}:M1", f"{other}:M1")
    assert alone.exit_code == 2
    assert "no verdicts between golden:M1, other:M1 are stored" in alone.stderr
    asked = values(
        "head-to-head", f"{golden}:M1", f"{other}:M1", "--evaluator", "numbers", "--out", "compared"
    )  # fmt: skip
    assert asked["pairs"][0]["ties"] == asked["pairs"][0]["n"]


def test_differences_of_several_runs_name_the_run_only_where_names_clash(
    values: Callable[..., Any], golden: Path
) -> None:
    other = Path(shutil.copytree(golden, golden.with_name("other")))

    def pairs(*sources: object) -> list[tuple[str, str]]:
        return [(one["left"], one["right"]) for one in values("difference", *sources)["comparisons"]]

    assert pairs(f"{golden}:M1", f"{other}:M1") == [("golden:M1", "other:M1")]
    assert pairs(f"{golden}:M1", f"{other}:M0") == [("M1", "M0")]
    assert len(pairs(golden, other)) == 8 * 7 // 2


def test_a_model_that_is_given_twice_is_one_message(invoke: Invoke, golden: Path) -> None:
    for command in ("difference", "head-to-head"):
        result = invoke("evaluate", command, golden, f"{golden}:M1")
        assert result.exit_code == 2
        assert "the model M1 is selected 2 times; name it once" in result.stderr


def test_a_runs_judges_are_calibrated_and_its_models_told_apart(
    values: Callable[..., Any], invoke: Invoke, golden: Path
) -> None:
    calibration = values("calibration", golden)
    assert calibration["M1"]["parsed"]["n"] == sum(calibration["M1"]["distribution"].values())
    assert "Distribution of scores" in invoke("evaluate", "calibration", golden).stdout
    found = values("difference", golden)
    summary = read_summary(golden / "summary.json")
    ours = {(one["left"], one["right"]): one["separation"]["difference"]["value"] for one in found["comparisons"]}
    stored = next(one for one in summary.differences if (one.left, one.right) == ("M1", "M0"))
    assert ours["M0", "M1"] == pytest.approx(-known(stored.metrics["gold_score"].value))
    found = values("difference", f"{golden}:M0", f"{golden}:M1", "--metric", "answer_words")
    assert len(found["comparisons"]) == 1


def test_models_of_a_run_and_files_are_compared_by_an_evaluator_and_a_second_call_asks_nothing(
    values: Callable[..., Any], golden: Path, tmp_path: Path
) -> None:
    prompts = [json.loads(line) for line in (golden / "evaluation/seed-0/prompts.jsonl").read_text().splitlines()]
    rows = [{"instruction": prompt["text"], "output": "no idea", "generator": "lazy"} for prompt in prompts]
    (tmp_path / "lazy.json").write_text(json.dumps(rows))
    sources = (f"{golden}:M0", f"{golden}:M1", "lazy.json", "--evaluator", "numbers", "--out", "compared")
    first = values("head-to-head", *sources)
    before = (tmp_path / "compared/verdicts.jsonl").read_bytes()
    assert {(pair["left"], pair["right"]) for pair in first["pairs"]} == {
        ("M0", "M1"), ("M0", "lazy"), ("M1", "lazy")
    }  # fmt: skip
    assert values("head-to-head", *sources) == first
    stored = values("head-to-head", "compared/verdicts.jsonl")
    assert {pair["n"] for pair in stored["pairs"]} == {len(prompts)}
    assert (tmp_path / "compared/verdicts.jsonl").read_bytes() == before
    bias = values("calibration", "--judge", write(tmp_path / "j.jsonl", {"id": "p/0", "score": 1}),
                  "--verdicts", "compared/verdicts.jsonl")["position_bias"]  # fmt: skip
    assert bias == stored["position_bias"]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.json"
    path.write_text(json.dumps([{"instruction": f"say {n}", "output": "well", "generator": "base"} for n in range(8)]))
    return path


def test_alpaca_eval_runs_whole_and_a_second_call_asks_nothing(
    values: Callable[..., Any], invoke: Invoke, golden: Path, reference: Path, tmp_path: Path
) -> None:
    pytest.importorskip("alpaca_eval", reason="needs the extra alpacaeval", exc_type=ImportError)
    with running("openai", tmp_path / "server.jsonl") as server:
        options = ("--reference", reference, "--evaluator", "openai:gpt-test", "--set", f"base_url={server.url}/v1")
        first = values("alpaca-eval", f"{golden}:M1", *options, "--out", "out", "--name", "mine")
        assert (first["model"], first["baseline"], first["n_total"], len(server.asked())) == ("mine", "base", 8, 8)
        assert values("alpaca-eval", f"{golden}:M1", *options, "--out", "out", "--name", "mine") == first
        assert values("alpaca-eval", "out/model_outputs.json", *options, "--out", "out") == first
        assert len(server.asked()) == 8
        assert values("alpaca-eval", "--annotations", "out/annotations.json") == first
        wrong = invoke("evaluate", "alpaca-eval", f"{golden}:M1", *options, "--set", "colour=red", "--out", "other")
        assert (wrong.exit_code, Path("other").exists()) == (2, False)
    names = {"model_outputs.json", "verdicts.jsonl", "annotations.json", "leaderboard.csv"}
    assert names <= {path.name for path in Path("out").iterdir()}


def test_only_a_whole_run_needs_the_library(invoke: Invoke, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alpaca_eval", "alpaca_eval.utils", "alpaca_eval.constants"):
        monkeypatch.setitem(sys.modules, name, None)
    result = invoke("evaluate", "alpaca-eval", reference, "--reference", reference, "--out", "out")
    assert result.exit_code == 3
    assert install_command("alpacaeval") in result.stderr
    row = {"instruction": "x", "output_1": "a", "output_2": "b", "generator_1": "base", "generator_2": "me"}
    write(Path("annotations.jsonl"), {**row, "preference": 2.0})
    assert invoke("evaluate", "alpaca-eval", "--annotations", "annotations.jsonl").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("agreement", "--judge", "a.jsonl"), "give a RUN, or --judge FILE and --gold FILE"),
        (("agreement", "--judge", "a.jsonl", "--gold", "none.jsonl"), "none.jsonl: cannot be read"),
        (("agreement", "--judge", "a.jsonl", "--gold", "b.jsonl"), "have no item in common"),
        (("agreement", "--judge", "a.jsonl", "--gold", "a.jsonl", "--highest", "3"), "score 4.0, outside 0 to 3"),
        (("agreement", "--judge", "twice.jsonl", "--gold", "a.jsonl"), "item p/0 occurs twice"),
        (("agreement", "nowhere"), "nowhere: contains no run"),
        (("calibration",), "give a RUN, or --judge FILE"),
        (("difference", "a.jsonl"), "at least two models are required"),
        (("difference", "a.jsonl", "a.jsonl"), "two models have the same name"),
        (("difference", "a.jsonl", "b.jsonl"), "have no prompt in common"),
        (("head-to-head", "o.json", "p.json"), "--out is required"),
        (("head-to-head", "o.json", "p.json", "--out", "d"), "--evaluator is required"),
        (("head-to-head", "o.json", "--out", "d"), "at least two models are required"),
        (("head-to-head", "v.jsonl", "o.json"), "stored verdicts and outputs can't be mixed"),
        (("head-to-head", "v.jsonl"), "the other order of its two answers is missing; give both orders"),
        (("alpaca-eval",), "give OUTPUTS with --reference FILE and --out DIR, or --annotations FILE"),
        (("alpaca-eval", "o.json"), "give OUTPUTS with --reference FILE"),
        (("alpaca-eval", "--annotations", "o.json"), "row 1: `output_1` must be a text"),
    ],
)
def test_what_is_wrong_is_one_message(invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write(tmp_path / "a.jsonl", {"id": "p/0", "score": 4})
    write(tmp_path / "b.jsonl", {"id": "q/0", "score": 4})
    write(tmp_path / "twice.jsonl", {"id": "p/0", "score": 4}, {"id": "p/0", "score": 4})
    for name in "op":
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "x", "output": name, "generator": name}]))
    write(tmp_path / "v.jsonl", {"prompt_id": "p", "first": "a", "second": "b", "preference": 1})
    result = invoke("evaluate", *arguments)
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
    assert message in result.stderr
    assert "Traceback" not in result.output
