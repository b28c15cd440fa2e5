"""The files of the page "Write a plugin" work as written. ``tests/prove/write_a_plugin.py`` follows the whole page.

Here the package is not installed by pip: its metadata is written beside it. Only the student of the page is run; the
other runs are planned.
"""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.prove.commands_of_pages import PLUGIN_PAGE, ROOT, Followed, followed

from tutelage.cli import cli
from tutelage.preferences.pairing import Group, PairOptions, ScoredAnswer
from tutelage.records import Prompt
from tutelage.results.summary import read_summary
from tutelage.testing import check_plugin

STEPS = followed(PLUGIN_PAGE)
FILES = {one.name: one.text for one in STEPS if one.kind == "file"}
RUN = "tutelage run table.yaml --plugin lookup.py"
PLANS = [one.text for one in STEPS if one.text.startswith("tutelage run table.yaml ") and one.text != RUN]
SHOWN = [one for one in STEPS if one.text.startswith(("tutelage plugins ", "tutelage plan "))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the files of the page, which is the working folder, and in which Python finds the package."""
    path = tmp_path_factory.mktemp("plugin")
    for name, text in FILES.items():
        (path / name).write_text(text, encoding="utf-8")
    _write_metadata(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.syspath_prepend(path)
        yield path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def _write_metadata(folder: Path) -> None:
    """Write what an installation of the package would write."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    (folder / stem).mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in project["dependencies"])
    (folder / stem / "METADATA").write_text(metadata)
    entries = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["tutelage"].items())
    (folder / stem / "entry_points.txt").write_text(f"[tutelage]\n{entries}")


def output_of(command: str) -> str:
    result = CliRunner().invoke(cli, shlex.split(command)[1:])
    assert result.exit_code == 0, f"{command}: {result.output}"
    return result.stdout


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.text)
def test_a_command_prints_what_the_page_shows(one: Followed, folder: Path) -> None:
    assert one.output and one.prints(output_of(one.text))


@pytest.mark.parametrize("command", PLANS)
def test_every_run_of_the_page_is_planned(command: str, folder: Path) -> None:
    assert "M2/teacher-reward" in output_of(f"{command.replace('tutelage run', 'tutelage plan')} --json")


def test_the_time_that_the_page_shows_is_that_of_all_its_commands() -> None:
    measured = json.loads((ROOT / "docs/proof.json").read_text(encoding="utf-8"))["write-a-plugin"]["commands"]
    assert [one["command"] for one in measured] == [one.title for one in STEPS], "python -m tests.prove write-a-plugin"


def test_the_package_of_the_page_fulfils_the_contract(folder: Path) -> None:
    check_plugin("words").raise_for_problems()


@pytest.mark.parametrize("module", ["lookup", "closest", "imitate", "rightness"])
def test_every_plugin_of_the_page_fulfils_the_contract(folder: Path, module: str) -> None:
    check_plugin(import_module(module)).raise_for_problems()


def test_the_student_of_the_page_learns_by_both_objectives(folder: Path) -> None:
    output_of(RUN)
    summary = read_summary(folder / "runs/table/summary.json")
    by_model = {model.id: model.metrics["sampled_gold_score"].value or 0.0 for model in summary.overall()}
    assert by_model["M0"] < by_model["M1"] < by_model["M2/teacher-reward"]


def test_the_pair_rule_of_the_page_proposes_the_best_answer_and_the_next_worse_one(folder: Path) -> None:
    rule = import_module("closest").closest
    answers = tuple(ScoredAnswer(f"{score}", f"scores {score}", score) for score in (1.0, 5.0, 3.0, 5.0))
    [(chosen, rejected)] = rule(Group(Prompt("say it"), answers), PairOptions())
    assert (chosen.score, rejected.score) == (5.0, 3.0)
    assert list(rule(Group(Prompt("say it"), answers[1:2]), PairOptions())) == ["no worse answer"]


def test_the_measure_of_the_page_is_a_figure_of_every_model(folder: Path) -> None:
    [command] = [command for command in PLANS if "rightness.py" in command]
    output_of(command)
    figures = [model.metrics["right"] for model in read_summary(folder / "runs/measured/summary.json").overall()]
    assert len(figures) == 3
    assert all(0 <= (figure.low or 0) <= (figure.value or 0) <= 1 for figure in figures)
    assert figures[0].value != figures[-1].value
