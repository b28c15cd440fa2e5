"""The commands on the pages print the output that the pages show."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tutelage.cli import cli
from tutelage_tiny.sets import preferences

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RUN = "tests/fixtures/golden-run"
BLOCK = re.compile(r"```console\n\$ tutelage ([^\n]*)\n(.*?)```", re.DOTALL)
PAGES = {"evaluation": 5, "tutorial": 5, "data": 2}
"""Pages with console blocks that show real output, and the number of these blocks."""
BLOCKS = [
    pytest.param(command, printed, id=f"{page}: {command}")
    for page in PAGES
    for command, printed in BLOCK.findall((ROOT / f"docs/{page}.md").read_text(encoding="utf-8"))
]


def test_the_pages_show_what_commands_print() -> None:
    assert len(BLOCKS) == sum(PAGES.values())


@pytest.mark.parametrize(("command", "printed"), BLOCKS)
def test_a_command_prints_what_the_page_shows(command: str, printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "../shared/data" in command and not DATA.is_dir():
        pytest.skip(f"the published files do not exist at {DATA}")
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, shlex.split(command.replace("runs/demo", RUN)))
    output = result.output.replace(f"{ROOT}/", "")
    assert result.exit_code == (2 if printed.startswith("error:") else 0), output
    shown = printed.replace("runs/demo", RUN)
    if printed.endswith("...\n"):
        assert output.startswith(shown.removesuffix("...\n"))
    else:
        assert output == shown


def test_the_recipes_for_preference_pairs_of_your_own_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8").partition("## Your own preference pairs")[2]
    alone, beside = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    with Path("ranked.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("prompt", "better", "worse"))
        table.writerows((pair.prompt, pair.chosen, pair.rejected) for pair in preferences(800, 0))
    [command] = re.findall(r"^    tutelage (data import .*)$", page, re.MULTILINE)
    Path("own.yaml").write_text(yaml.safe_dump(alone))
    Path("beside.yaml").write_text(yaml.safe_dump({"extends": "embedded", **beside}))
    for arguments, printed in (
        (shlex.split(command), ""),
        (["plan", "own.yaml", "--steps", "--student", "transformers:tiny/student"], "800 pairs"),
        (["plan", "beside.yaml", "--steps", "--set", "data.decontaminate=null"], "1,312 pairs"),
    ):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        assert printed in result.output
