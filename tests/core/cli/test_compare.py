"""``tutelage compare``: models, variants and seeds of one or several runs, paired by prompt."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from known import known

from tutelage.execution.runner import run
from tutelage.installation import install_command
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.report.page import missing_libraries
from tutelage.results.selecting import select_models
from tutelage.results.summary import read_summary

GOLDEN = Path(__file__).parents[2] / "fixtures/golden-run"
Invoke = Callable[..., Result]
Make = Callable[..., Recipe]
SMALL: dict[str, Any] = {"iterations": 1, "pipelines": {"self-reward": None}, "controls": {}}
EVALUATION: dict[str, Any] = {"sampled": 4, "agreement_prompts": 10, "rubric": "numbers/numbers"}


@pytest.fixture
def values(invoke: Invoke) -> Callable[..., Any]:
    """Call the command with ``--json`` and return the parsed output."""

    def values(*arguments: object) -> Any:
        result = invoke("compare", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return values


@pytest.fixture
def make_run(make_recipe: Make, numbers_registry: Registry, tmp_path: Path) -> Callable[..., Path]:
    """Run a small recipe in a folder; keyword arguments replace top-level keys."""

    def make(name: str, **changes: Any) -> Path:
        run(make_recipe(**{**SMALL, **changes}), tmp_path / name, numbers_registry)
        return tmp_path / name

    return make


@pytest.fixture
def same_prompts(tmp_path: Path) -> dict[str, Any]:
    """An evaluation whose held-out prompts do not depend on the seed."""
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"say {number}"}) + "\n" for number in range(5000, 5030)))
    return {"prompts": {"source": str(path)}, **EVALUATION}


def differences(found: Any) -> dict[str, tuple[Any, Any]]:
    return {
        one["name"]: (one["against"], one["separation"] and one["separation"]["difference"]["value"])
        for one in found["models"]
    }


def test_the_models_of_one_run_are_compared_with_its_first(values: Callable[..., Any], golden: Path) -> None:
    found = values(golden)
    by_name = differences(found)
    stored = next(
        one for one in read_summary(golden / "summary.json").differences if (one.left, one.right) == ("M1", "M0")
    )
    assert by_name["M0"] == (None, None)
    assert by_name["M1"] == ("M0", pytest.approx(known(stored.metrics["gold_score"].value)))
    assert found["recipes"] == {}
    of_m1 = differences(values(golden, "--against", "M1"))
    assert of_m1["M0"] == ("M1", pytest.approx(-known(stored.metrics["gold_score"].value)))


def test_two_runs_are_compared_model_by_model_and_the_keys_that_differ_are_named(
    values: Callable[..., Any], invoke: Invoke, make_run: Callable[..., Path]
) -> None:
    one, two = make_run("one"), make_run("two", dpo={"beta": 0.3})
    found = values(one, two)
    against = {name: other for name, (other, _) in differences(found).items()}
    assert against == {
        "one:M0": None, "one:M1": None, "one:M2/self-reward": None,
        "two:M0": "one:M0", "two:M1": "one:M1", "two:M2/self-reward": "one:M2/self-reward",
    }  # fmt: skip
    assert found["recipes"] == {"dpo.beta": {"one": 0.1, "two": 0.3}}
    assert {model["separation"]["difference"]["n"] for model in found["models"][3:]} == {30}
    shown = invoke("compare", one, two).stdout
    assert "dpo.beta    0.1  0.3" in shown


def test_models_that_are_named_are_compared_with_the_first_of_them(
    values: Callable[..., Any], make_run: Callable[..., Path]
) -> None:
    one, two = make_run("one"), make_run("two", dpo={"beta": 0.3})
    found = values(f"{one}:M1", f"{two}:M2/self-reward", f"{two}:M0")
    against = {name: other for name, (other, _) in differences(found).items()}
    assert against == {"M1": None, "M2/self-reward": "M1", "M0": "M1"}


def test_runs_of_different_seeds_are_paired_by_prompt_and_the_limit_is_named(
    values: Callable[..., Any], make_run: Callable[..., Path], same_prompts: dict[str, Any]
) -> None:
    runs = [make_run(f"seed-{seed}", seeds=[seed], evaluation=same_prompts) for seed in (0, 1, 2)]
    found = values(*runs, "--metric", "answer_words")
    assert {one["separation"]["difference"]["n"] for one in found["models"][3:]} == {30}
    assert found["recipes"] == {"seeds": {"seed-0": [0], "seed-1": [1], "seed-2": [2]}}
    assert [note for note in found["notes"] if "do not contain the variation between seeds" in note] == found["notes"]


def test_one_common_prompt_has_no_interval_and_few_prompts_are_a_warning(
    values: Callable[..., Any], make_run: Callable[..., Path]
) -> None:
    both = []
    for name, texts in (("left", ("say 5000", "say 5001")), ("right", ("say 5001", "say 5002"))):
        path = Path(f"{name}.jsonl")
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        evaluation = {**EVALUATION, "agreement_prompts": 1, "prompts": {"source": str(path.resolve())}}
        both.append(make_run(name, evaluation=evaluation))
    found = values(f"{both[0]}:M1", f"{both[1]}:M1")
    separation = found["models"][1]["separation"]
    assert (separation["difference"]["n"], separation["difference"]["low"], separation["p_value"]) == (1, None, None)
    assert found["notes"][0] == "a difference has no interval, because there are fewer than 6 prompts"


def test_runs_without_a_common_prompt_are_an_error_that_names_the_key(
    invoke: Invoke, make_run: Callable[..., Path]
) -> None:
    both = []
    for name, text in (("left", "say 5000"), ("right", "say 5001")):
        path = Path(f"{name}.jsonl").resolve()
        path.write_text(json.dumps({"prompt": text}) + "\n")
        both.append(make_run(name, evaluation={**EVALUATION, "agreement_prompts": 1, "prompts": {"source": str(path)}}))
    result = invoke("compare", *both)
    assert result.exit_code == 2
    assert "give their recipes the same file as evaluation.prompts.source" in result.stderr


def test_the_seeds_of_one_run_are_pooled_or_compared(values: Callable[..., Any], make_run: Callable[..., Path]) -> None:
    folder = make_run("run", seeds=[0, 1])
    assert {one["separation"]["difference"]["n"] for one in values(folder)["models"][1:]} == {60}
    found = differences(values(folder, "--seeds"))
    assert found["M1 seed 0"][0] is None
    assert found["M1 seed 1"][0] == "M1 seed 0"


def test_a_run_in_a_folder_that_is_named_variants_is_no_variant_unless_another_run_is_around_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN, tmp_path / "variants" / "golden"))
    (model,) = select_models([(folder, "M1")])
    assert (model.name, model.run, model.variant) == ("M1", str(folder), "base")
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    (model,) = select_models([(folder, "M1")])
    assert (model.name, model.run, model.variant) == ("M1@golden", str(tmp_path), "golden")
    (model,) = select_models([(folder.rename(tmp_path / "others"), "M1")])
    assert (model.name, model.variant) == ("M1", "base")


def test_the_variants_of_a_sweep_are_compared_with_the_recipe_itself(
    values: Callable[..., Any], make_run: Callable[..., Path]
) -> None:
    sweep = make_run("sweep", grid={"dpo.beta": [0.1, 0.3]})
    found = values(sweep)
    ranked = {
        f"{one.model}@{one.variant}": one.difference
        for one in read_summary(sweep / "summary.json").variants
        if one.difference is not None
    }
    by_name = differences(found)
    assert list(ranked) == ["M2/self-reward@dpo.beta=0.3"]
    for name, difference in ranked.items():
        assert by_name[name] == ("M2/self-reward", difference.value)
    assert found["recipes"] == {"dpo.beta": {"sweep": 0.1, "sweep@dpo.beta=0.3": 0.3}}
    assert (
        differences(values(f"{sweep}:M1", f"{sweep}:M2/self-reward@dpo.beta=0.3"))["M2/self-reward@dpo.beta=0.3"][0]
        == "M1"
    )


def test_prompts_that_only_one_run_has_are_ignored_and_counted(
    values: Callable[..., Any], make_run: Callable[..., Path]
) -> None:
    half = {**EVALUATION, "prompts": {"source": "numbers/held-out", "count": 12}}
    found = values(f"{make_run('whole')}:M1", f"{make_run('half', evaluation=half)}:M1")
    assert found["models"][1]["separation"]["difference"]["n"] == 12
    assert found["notes"] == [
        "a difference has no interval, because it is the same on all prompts",
        "half:M1 and whole:M1: 18 prompts are ignored, because only one of them answered it",
    ]
    assert found["recipes"]["evaluation.prompts.count"] == {"whole": 30, "half": 12}


def test_models_without_scores_are_left_out_and_named(values: Callable[..., Any], golden: Path) -> None:
    (golden / "evaluation/seed-0/M1/gold-greedy.jsonl").unlink()
    found = values(golden)
    assert "M1" not in differences(found)
    assert found["notes"][0] == "M1 is left out: its answers are not scored yet"


def test_scores_of_different_evaluators_are_a_warning(values: Callable[..., Any], golden: Path) -> None:
    other = Path(shutil.copytree(golden, golden.with_name("other")))
    recipe = (other / "recipe.yaml").read_text()
    changed = recipe.replace(
        "evaluator:\n    plugin: numbers\n    model: ''", "evaluator:\n    plugin: numbers\n    model: x"
    )
    assert changed != recipe
    (other / "recipe.yaml").write_text(changed)
    warning = "the gold scores are of different evaluators: a difference may be one of the evaluators"
    assert warning in values(golden, other)["notes"]
    assert warning not in values(golden)["notes"]


def test_runs_in_folders_of_the_same_name_are_named_by_their_paths(values: Callable[..., Any], golden: Path) -> None:
    shutil.copytree(golden, golden.parent / "x/run")
    shutil.copytree(golden, golden.parent / "y/run")
    assert "y/run:M1" in differences(values("x/run", "y/run"))


def test_a_page_is_written_beside_the_table(invoke: Invoke, make_run: Callable[..., Path], tmp_path: Path) -> None:
    if missing_libraries():
        pytest.skip("the page needs the extra `report`")
    one, two = make_run("one"), make_run("two", dpo={"beta": 0.3})
    result = invoke("compare", one, two, "--page", tmp_path / "compared.html")
    assert result.exit_code == 0, result.output
    assert "dpo.beta    0.1  0.3" in result.stdout
    assert result.stderr == f"A page with plots and all answers: {tmp_path / 'compared.html'}\n"
    assert "two:M2/self-reward" in (tmp_path / "compared.html").read_text(encoding="utf-8")


def test_without_the_libraries_of_the_page_the_error_names_the_extra(
    invoke: Invoke, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # an import of it fails
    result = invoke("compare", golden, "--page", "compared.html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert install_command("report") in result.stderr


def test_what_cannot_be_compared_is_one_message(invoke: Invoke, golden: Path) -> None:
    for arguments, message in (
        (("nowhere",), "nowhere: contains no run"),
        ((f"{golden}:M1",), "at least two models with scored answers are required"),
        ((golden, golden), "is selected 2 times; name it once"),
        (
            (golden, "--against", "M2/self-rewad"),
            "--against M2/self-rewad: no such model; did you mean 'M2/self-reward'?",
        ),
        ((f"{golden}:M9",), "no model 'M9'"),
    ):
        result = invoke("compare", *arguments)
        assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
        assert message in result.stderr
