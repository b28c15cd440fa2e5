"""The page that compares models shows their differences, the recipes, and the answers to shared prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from html_elements import HOSTILE, Elements
from known import known

from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.significance import Separation
from tutelage.report.compared import ComparedContents, read_compared, sentences
from tutelage.report.page import comparison_page, missing_libraries, write_comparison
from tutelage.results.comparing import ComparedModel, ModelsCompared, compare_models
from tutelage.results.selecting import select_models

needs_libraries = pytest.mark.skipif(bool(missing_libraries()), reason="the page needs the extra `report`")


@pytest.fixture
def two(finished: Path) -> list[Path]:
    """Two runs with the same prompts; the second has another beta and, of M1, other answers to all but one prompt."""
    other = Path(shutil.copytree(finished, finished.with_name("other")))
    recipe = other / "recipe.yaml"
    changed = recipe.read_text().replace("beta: 0.1", "beta: 0.3")
    assert changed != recipe.read_text()
    recipe.write_text(changed)
    return [finished, other]


def contents_of(*runs: Path, metric: str = "gold_score") -> ComparedContents:
    models = select_models([(run, "") for run in runs])
    return read_compared(models, compare_models(models, metric))


def test_the_answers_of_all_runs_to_a_shared_prompt_are_side_by_side(two: list[Path]) -> None:
    contents = contents_of(*two)
    assert contents.answers.models[:2] == ("golden:M0", "golden:M1") and len(contents.answers.models) == 8
    assert len(contents.answers.prompts) == 6
    for prompt in contents.answers.prompts:
        texts = [known(answer).text for answer in prompt.answers]
        assert (prompt.seed, texts[:4]) == (0, texts[4:])
    assert contents.answers.files[0][5] == str(two[1] / "seed-0/M1/samples/held-out-greedy.jsonl")


def test_prompts_that_one_model_alone_answered_are_not_shown(two: list[Path]) -> None:
    path = two[1] / "seed-0/M1/samples/held-out-greedy.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[2:]:
        row["prompt_id"] = f"other-{row['prompt_id']}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = select_models([(run, "M1") for run in two])
    contents = read_compared(models, compare_models(models, "answer_words", first=True))
    assert len(contents.answers.prompts) == 2


def test_models_without_a_common_seed_are_shown_by_prompt_alone(two: list[Path]) -> None:
    other = two[1]
    for seed in (other / "seed-0", other / "evaluation/seed-0"):
        seed.rename(seed.with_name("seed-1"))
    recipe = other / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seeds:\n- 0", "seeds:\n- 1"))
    contents = contents_of(*two)
    assert {prompt.seed for prompt in contents.answers.prompts} == {None}
    assert all(None not in prompt.answers for prompt in contents.answers.prompts)
    assert contents.answers.files.keys() == {None}


def compared(*p_values: float) -> ModelsCompared:
    names = [f"b:M{number}" for number in range(len(p_values))]
    metric = Metric(0.25, 0.05, 0.45, 40)
    models = [ComparedModel("a:M0", "a", "base", "M0", None, {"gold_score": metric})]
    for name, p_value in zip(names, p_values, strict=True):
        separation = Separation(metric, 0.1, p_value, 100)
        models.append(ComparedModel(name, "b", "base", "M0", None, {"gold_score": metric}, "a:M0", separation, p_value))
    return ModelsCompared("gold_score", tuple(models), {}, ())


def test_the_first_sentence_claims_only_measurable_differences() -> None:
    assert next(iter(sentences(compared(0.2)))) == (
        "Whether b:M0 differs from a:M0 in gold score is open: +0.250 [+0.050, +0.450]."
    )
    assert next(iter(sentences(compared(0.2, 0.06)))) == "None of the 2 differences in gold score is measurable."
    first, second, *_ = sentences(compared(0.2, 0.01))
    assert first == "1 of 2 differences in gold score is measurable."
    assert second == "b:M1 has a higher gold score than a:M0: +0.250 [+0.050, +0.450]."
    assert list(sentences(compared())) == ["No model is compared: the other runs have no model of the same name."]


@needs_libraries
def test_the_page_has_its_parts_and_requests_nothing(two: list[Path], tmp_path: Path) -> None:
    models = select_models([(run, "") for run in two])
    path = tmp_path / "compared.html"
    write_comparison(models, compare_models(models, "gold_score"), path)
    text = path.read_text(encoding="utf-8")
    elements = Elements(text)
    assert elements.open == [] and text.startswith("<!DOCTYPE html>")
    ids = {attributes.get("id") for _, attributes in elements.found}
    assert {"differences", "models", "recipes", "reader"} <= ids
    for tag, attributes in elements.found:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form", "audio", "video", "image", "use"}
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "style", "srcdoc")}
        assert (attributes.get("href") or "#").startswith("#")
    targets = {attributes["href"] for tag, attributes in elements.found if tag == "a"}
    assert "#read?a=5&b=1&sort=gain&show=all" in targets
    assert {target for target in targets if target and not target.startswith("#read?")} <= {f"#{id}" for id in ids}
    assert "dpo.beta" in text and 'value="won"' not in text


@needs_libraries
def test_hostile_text_is_text_everywhere(two: list[Path], rewrite: Callable[..., None]) -> None:
    rewrite("evaluation/seed-0/prompts.jsonl", lambda row: row.update(text=HOSTILE))
    rewrite("seed-0/M1/samples/held-out-greedy.jsonl", lambda row: row.update(text=HOSTILE, detail=HOSTILE))
    usual = contents_of(*two)
    names = [f"{number}{HOSTILE}" for number in range(8)]
    renamed = dict(zip(usual.answers.models, names, strict=True))
    models = tuple(
        evolve(one, name=renamed[one.name], run=HOSTILE, variant=HOSTILE, against=one.against and renamed[one.against])
        for one in usual.compared.models
    )
    hostile = evolve(
        usual,
        compared=evolve(usual.compared, models=models, notes=(HOSTILE,), recipes={HOSTILE: {HOSTILE: HOSTILE}}),
        sentences=(HOSTILE, HOSTILE),
        answers=evolve(usual.answers, models=tuple(names)),
    )
    text = comparison_page(hostile)
    tags = [tag for tag, _ in Elements(text).found]
    assert [tag for tag in tags if tag in ("script", "title", "img")] == ["title", "script", "script"]
    assert "alert(1)&lt;/script&gt;" in text and "U+202E" in text
    assert not set(text) & set("\u202e\x00\x1b\x07")


@needs_libraries
def test_a_difference_in_words_is_drawn_and_named(two: list[Path]) -> None:
    text = comparison_page(contents_of(*two, metric="answer_words"))
    assert "Difference in number of words to the model of the same name in the first run" in text
