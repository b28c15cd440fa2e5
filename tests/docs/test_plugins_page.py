"""The files and programs of the page "Plugins of your own" work as written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tutelage.cli import cli
from tutelage.execution.runner import run
from tutelage.files.trl_format import read_preferences
from tutelage.objectives import Dpo, PairBatch
from tutelage.planning.roles import bound_model
from tutelage.planning.wrapping import wrapped_hooks, wrapped_words
from tutelage.plugins.files import PluginFile
from tutelage.plugins.pair_losses import bound_pair_losses
from tutelage.plugins.registry import Registry
from tutelage.plugins.stages import judge
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.schema import Recipe
from tutelage.records import JudgeItem, Model, Rubric, Sampling

PAGE = (Path(__file__).parents[2] / "docs/plugins.md").read_text(encoding="utf-8")
FILES = re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files of the page."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES:
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_file_is_a_judge_and_the_command_loads_it(folder: Path) -> None:
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(folder / "length.py"))])
    assert registry.names("judge") == ["length"]
    [command] = re.findall(r"^    tutelage run (.*--plugin length.py)$", PAGE, re.MULTILINE)
    plan = ["plan", *shlex.split(command)]
    assert CliRunner().invoke(cli, plan).exit_code == 0
    without = CliRunner().invoke(cli, plan[: plan.index("--plugin")])
    assert "no plugin 'length' is installed" in without.output


def test_the_wrapper_is_planned_and_rounds_the_scores_of_its_roles(folder: Path) -> None:
    [command] = re.findall(r"^    tutelage run (.*--plugin coarse.py)$", PAGE, re.MULTILINE)
    planned = CliRunner().invoke(cli, ["plan", *shlex.split(command)])
    assert planned.exit_code == 0, planned.output
    assert "\ncoarse wraps judge of student, judge\n" in planned.output
    [section] = re.findall(r"```yaml\n(wrappers:.*?)```", PAGE, re.DOTALL)
    recipe = load_recipe("embedded", yaml.safe_load(section))
    registry = Registry.discover()
    registry.load_files([PluginFile.of(str(folder / "coarse.py"))])
    assert wrapped_words(wrapped_hooks(recipe, registry)) == ["coarse wraps judge of judge, evaluator"]
    item, rubric = JudgeItem("a", "Say 3.", "3"), Rubric("of-tests")
    registry.register({"judge": lambda answer: 3.2}, "fixed")
    for wrappers, score in ((bound_model(recipe, "judge", registry).wrappers, 4.0), ({}, 3.2), (None, 3.0)):
        model = Model("fixed", wrappers=wrappers)
        [judgement] = judge(registry, model, [item], rubric, 1, Sampling())
        assert judgement.score == score


def test_the_pipeline_is_planned_by_the_command(folder: Path) -> None:
    [command] = re.findall(r"^    tutelage run (.*--plugin mine.py)$", PAGE, re.MULTILINE)
    [setting] = re.findall(r"`(--set pipelines.mine/[^`]*)`", PAGE)
    planned = CliRunner().invoke(cli, ["plan", "--json", *shlex.split(command), *shlex.split(setting)])
    assert planned.exit_code == 0, planned.output
    assert "mine/not-longer/M3/pairs.jsonl" in planned.output


def test_the_pipeline_trains_on_the_pairs_that_its_function_keeps(
    folder: Path, make_recipe: Callable[..., Recipe], numbers_registry: Registry
) -> None:
    numbers_registry.load_files([PluginFile.of(str(folder / "mine.py"))])
    recipe = make_recipe(pipelines={"mine/not-longer": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, directory=folder / "run", registry=numbers_registry)
    made = folder / "run/seed-0/mine/not-longer/M2"
    every, kept = (read_preferences(made / f"{name}.jsonl") for name in ("all-pairs", "pairs"))
    assert kept == [pair for pair in every if len(pair.chosen) <= len(pair.rejected)]
    assert 0 < len(kept) < len(every)
    assert (made / "checkpoint").is_dir()


def test_the_loss_of_the_page_is_found_and_is_sppo(folder: Path) -> None:
    import torch

    [command] = re.findall(r"^    tutelage run (.*--plugin sppo.py)$", PAGE, re.MULTILINE)
    planned = CliRunner().invoke(cli, ["plan", *shlex.split(command)])
    assert planned.exit_code == 0, planned.output
    registry = Registry.discover()
    registry.load_files([PluginFile.of(str(folder / "sppo.py"))])
    [loss] = bound_pair_losses(Dpo(loss_type="sppo/soft"), "transformers", registry).values()
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    logps = dict(zip(names, map(torch.tensor, ([-3.0], [-5.0], [-4.0], [-4.5])), strict=True))
    counts = dict.fromkeys(("chosen_tokens", "rejected_tokens"), torch.tensor([2]))
    hard, soft = (
        loss.function(PairBatch(**logps, **counts, probability=torch.tensor([p]), beta=0.5)) for p in (1, 0.5)
    )
    assert hard.tolist() == [(1.0 - 1.0) ** 2 + (-0.5 + 1.0) ** 2]  # TRL's sppo_hard
    assert soft.tolist() == [1.0**2 + 0.5**2]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_what_the_page_says(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(program, {})
    assert f"It prints `{capsys.readouterr().out.strip()}`." in PAGE
