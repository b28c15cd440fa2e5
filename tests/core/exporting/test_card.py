"""The card of an exported model has the facts of the run, and no local information."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tutelage.execution.runner import run
from tutelage.exporting.card import Published, publishable, whole_card
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values, load_recipe, to_yaml
from tutelage.runs.run import RunModels

GOLDEN = Path(__file__).parents[2] / "fixtures/golden-run"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def card_of(root: Path, id: str = "M2/self-reward", seed: int | None = None, **published: Any) -> ModelCard:
    models = RunModels.open(root, seed)
    return ModelCard(whole_card(models, models.planned(id), Published("me/my-model", **published)))


def make_transformers(root: Path) -> Path:
    """Make the checkpoints of a run folders that transformers can load, as the card sees them."""
    for checkpoint in root.rglob("checkpoint"):
        (checkpoint / "config.json").write_text("{}")
    return root


def test_the_card_of_another_student_says_nothing_of_transformers(golden: Path) -> None:
    description = json.loads((golden / "run.json").read_text())
    description["plugins"] |= {"transformers": "0.1.0", "unused": "2.0"}
    (golden / "run.json").write_text(json.dumps(description))
    card = card_of(golden)
    assert not re.search("transformers|trl|peft|torch|tokenizer|adapter|chat template|causal", card.content, re.I)
    assert yaml.safe_load(card.data.to_yaml()) == {
        "pipeline_tag": "text-generation",
        "tags": ["tutelage", "dpo", "self-reward"],
    }
    assert "```sh\ntutelage chat numbers:me/my-model 'Why is the sky blue?'\n```\n" in card.text
    assert "\nA model, aligned by `self-reward`" in card.text
    assert card.text.endswith("| tutelage | 0.1.0 |\n| Python | 3.11.7 |\n| plugin numbers | ? |\n")


def test_the_card_names_an_adapter_only_if_the_checkpoint_has_one(golden: Path) -> None:
    make_transformers(golden)
    assert "PeftModel" not in card_of(golden).text
    (golden / "seed-0/self-reward/M2/checkpoint/adapter").mkdir()
    assert "PeftModel.from_pretrained(model" in card_of(golden).text


def test_the_metadata_is_what_the_hub_reads(golden: Path) -> None:
    make_transformers(golden)
    card = card_of(golden, license="mit")
    assert card.data.get("library_name") == "transformers"
    assert card.data.get("pipeline_tag") == "text-generation"
    assert card.data.get("tags") == ["tutelage", "trl", "dpo", "self-reward"]
    assert card.data.get("license") == "mit"
    assert card.data.get("base_model") is None
    assert card_of(golden, "M1").data.get("tags") == ["tutelage", "trl", "sft"]


def test_base_model_and_licence_are_those_of_the_checkpoints_own_card(golden: Path) -> None:
    checkpoint = golden / "seed-0/self-reward/M2/checkpoint"
    (checkpoint / "README.md").write_text("---\nbase_model: microsoft/phi-2\nlicense: mit\n---\n# Own\n")
    data = card_of(golden).data
    keys = ("base_model", "license", "base_model_relation")
    assert [data.get(key) for key in keys] == ["microsoft/phi-2", "mit", "finetune"]
    changed = card_of(golden, license="apache-2.0").data
    assert (changed.get("base_model"), changed.get("license")) == ("microsoft/phi-2", "apache-2.0")


def test_lineage_and_data_carry_the_runs_own_counts(golden: Path) -> None:
    text = card_of(golden).text
    assert "| M0 | numbers/novice | the base model |  |  |" in text
    assert "| M1 | M0 | SFT | 16 examples | 16 |" in text
    assert "| M2/self-reward | M1 | DPO, reference M1 | 2 pairs | 2 |" in text
    assert "| judge M1 | 48 judgements (3 unparsed) | seed-0/self-reward/M2/judgements.jsonl |" in text
    assert "| pair | 2 pairs (2 same text, 2 tied) | seed-0/self-reward/M2/preferences.jsonl |" in text
    assert "random-pairs/M2" not in text.partition("## Results")[0]


def test_each_measured_figure_has_its_interval_as_in_the_summary(golden: Path) -> None:
    text = card_of(golden).text
    summary = json.loads((golden / "summary.json").read_text())
    [model] = [row for row in summary["models"] if row["id"] == "M2/self-reward"]
    score = model["metrics"]["gold_score"]
    assert f"| gold_score | {score['value']:.3f} | {score['low']:.3f} to {score['high']:.3f} | {score['n']} |" in text
    [gain] = [
        row["metrics"]["gold_score"]
        for row in summary["differences"]
        if (row["left"], row["right"]) == ("M2/self-reward", "M1")
    ]
    assert "`M2/self-reward` minus `M1`, paired by prompt:" in text
    assert f"| gold_score | {gain['value']:+.3f} | {gain['low']:+.3f} to {gain['high']:+.3f} | {gain['n']} |" in text
    [contest] = [row for row in summary["comparisons"] if (row["left"], row["right"]) == ("M2/self-reward", "M1")]
    assert f"| M1 | {contest['wins']} | {contest['ties']} | {contest['losses']} | {contest['unparsed']} |" in text
    assert "Scores and verdicts are by `numbers`, with the rubric `numbers/numbers`" in text


def test_the_self_preference_of_the_model_is_in_the_card_if_the_summary_has_it(golden: Path) -> None:
    assert "Self-preference" not in card_of(golden).text
    summary = json.loads((golden / "summary.json").read_text())
    value = {"value": 0.31, "low": 0.1, "high": 0.52, "n": 40}
    [row] = [one for one in summary["agreement"] if (one["model"], one["answers"]) == ("M2/self-reward", "mixed")]
    row["metrics"] |= dict.fromkeys(("self_preference", "own_overrating", "others_overrating"), value)
    (golden / "summary.json").write_text(json.dumps(summary))
    text = card_of(golden).text
    assert text.count("Self-preference of the model as a judge, in points of the scale:") == 1
    assert "| self_preference | +0.310 | +0.100 to +0.520 | 40 |" in text


def test_the_recipe_in_the_card_is_the_runs_own(golden: Path) -> None:
    text = card_of(make_transformers(golden)).text
    block = text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(block) == yaml.safe_load(to_yaml(load_recipe(golden / "recipe.yaml")))
    assert "| transformers | 5.23.0 |" in text


def test_a_run_that_is_not_finished_says_that_nothing_is_measured_yet(golden: Path) -> None:
    (golden / "summary.json").unlink()
    assert "Nothing has been measured yet" in card_of(golden).text


def test_a_converted_model_says_that_it_was_measured_before(golden: Path) -> None:
    text = card_of(golden, changed="in bfloat16").text
    assert "The weights are in bfloat16; the results below were measured before the conversion." in text


def test_the_figures_are_those_of_the_exported_seed(tmp_path: Path, numbers_registry: Registry) -> None:
    from recipes import numbers_recipe

    values = numbers_recipe(seeds=[3, 4], pipelines={"teacher-reward": None}, controls={}, iterations=2)
    summary = run(from_values(values), tmp_path / "run", numbers_registry)
    assert summary is not None
    scores = []
    for seed in (3, 4):
        text = card_of(tmp_path / "run", "M3/teacher-reward", seed).text
        assert f"seed {seed}." in text
        score = summary.model("M3/teacher-reward", seed).metrics["gold_score"]
        assert f"| gold_score | {score.value:.3f} | {score.low:.3f} to {score.high:.3f} |" in text
        assert f"seed-{seed}/teacher-reward/M3/preferences.jsonl" in text and f"seed-{7 - seed}" not in text
        scores.append(score.value)
    assert scores[0] != scores[1]


def test_what_a_model_wrote_is_not_in_the_card(golden: Path) -> None:
    for path in golden.rglob("*.jsonl"):
        if path.name in ("candidates.jsonl", "judgements.jsonl", "preferences.jsonl", "examples.jsonl"):
            path.write_text(path.read_text().replace("or so", "CANARY"))
    assert "CANARY" not in card_of(golden).content


def test_a_hostile_name_opens_no_markup(golden: Path) -> None:
    recipe = golden / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: numbers\n", 'name: "<script>x</script> ``` | [a](b)"\n'))
    before, block, after = card_of(golden).text.partition("````yaml\n")
    assert block and "</details>" in after.partition("````")[2]
    assert "# &lt;script&gt;x&lt;/script&gt; \\`\\`\\` \\| \\[a\\](b): M2/self-reward\n" in before
    assert "of the run `<script>x</script> | [a](b)`, seed" in before
    assert before.count("<script>") == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/me/data/ift.jsonl", "ift.jsonl"),
        ("~/weights/phi", "phi"),
        ("C:\\Users\\me\\ift.jsonl", "ift.jsonl"),
        ("data/ift.jsonl", "data/ift.jsonl"),
        ("microsoft/phi-2", "microsoft/phi-2"),
        ("https://me:secret@host.example/v1", "https://host.example/v1"),
        ({"settings": {"base_url": ["http://key@localhost"]}}, {"settings": {"base_url": ["http://localhost"]}}),
        (0.1, 0.1),
    ],
)
def test_local_paths_and_credentials_are_not_published(value: Any, expected: Any) -> None:
    assert publishable(value) == expected
