"""The commands of docs/evaluation.md print what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tutelage.cli import cli

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
BLOCKS = re.findall(r"```console\n\$ tutelage ([^\n]*)\n(.*?)```", (ROOT / "docs/evaluation.md").read_text(), re.DOTALL)
RUN = "tests/fixtures/golden-run"


def test_the_page_shows_what_commands_print() -> None:
    assert len(BLOCKS) == 5


@pytest.mark.parametrize(("command", "printed"), BLOCKS)
def test_a_command_prints_what_the_page_shows(command: str, printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "../shared/data" in command and not DATA.is_dir():
        pytest.skip(f"the published files are not at {DATA}")
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(cli, shlex.split(command.replace("runs/demo", RUN)))
    assert result.exit_code == 0, result.output
    if printed.endswith("...\n"):
        assert result.stdout.startswith(printed.removesuffix("...\n"))
    else:
        assert result.stdout == printed
