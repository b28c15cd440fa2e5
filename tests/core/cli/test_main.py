"""The command line starts fast, lists its commands, and converts errors to exit codes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tutelage import errors
from tutelage.cli import COMMANDS, EXIT_CODES, cli, main
from tutelage.errors import TutelageError

HEAVY = ("torch", "transformers", "numpy", "scipy", "rich", "yaml", "cattrs", "pluggy", "importlib.metadata")


def imported_for(*arguments: str, printing: str) -> set[str]:
    """Return the modules that a command imports, after a check of what it prints."""
    program = f"import json, sys\nfrom tutelage.cli import cli\ncli({list(arguments)}, standalone_mode=False)\n"
    program += "print(json.dumps(list(sys.modules)), file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert printing in found.stdout
    return set(json.loads(found.stderr))


def test_help_imports_nothing_heavy() -> None:
    assert not set(HEAVY) & imported_for("--help", printing="Align a small language model")


def test_a_command_without_results_imports_neither_the_statistics_nor_the_readers_of_results() -> None:
    """The option --metric once imported both for every command, which took a tenth of a second."""
    heavy = {"numpy", "scipy", "tutelage.results.summarise", "tutelage.evaluation.head_to_head"}
    assert not heavy & imported_for("status", "--help", printing="--verify")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_line_of_a_command_is_its_own(name: str) -> None:
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=200) == COMMANDS[name]


def test_every_exit_code_is_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TutelageError)]
    documented = {int(line.split()[0]) for line in EXIT_CODES.splitlines() if line.split()[0].isdigit()}
    assert documented == {0, *(kind.exit_code for kind in kinds)}


def test_an_unknown_command_and_an_unknown_option_are_usage_errors() -> None:
    assert CliRunner().invoke(cli, ["runn"]).exit_code == 2
    assert CliRunner().invoke(cli, ["run", "--nothing"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stauts"], "no command 'stauts'; did you mean 'status'? See `tutelage --help`"),
        (
            ["evaluate", "diference"],
            "no command 'diference'; did you mean 'difference'? See `tutelage evaluate --help`",
        ),
        (["ledger", "prun"], "no command 'prun'; did you mean 'prune'? See `tutelage ledger --help`"),
        (["run", "--budgt", "1"], "no option '--budgt'; did you mean '--budget'? See `tutelage run --help`"),
        (["status"], "missing argument 'RUN'; see `tutelage status --help`"),
        (["--nothing"], "no option '--nothing'; see `tutelage --help`"),
        (["evaluate", "head-to-head", "x.json", "--budget", "-1"], "invalid value for '--budget': "),
    ],
)
def test_a_wrong_argument_is_one_error_of_the_style_of_all_errors(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, arguments, prog_name="tutelage")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_a_group_without_a_command_shows_its_help() -> None:
    result = CliRunner().invoke(cli, ["evaluate"])
    assert result.exit_code == 2
    assert "head-to-head" in result.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert version("tutelage") in CliRunner().invoke(cli, ["--version"]).stdout


def test_an_error_is_one_message_on_stderr_and_no_traceback() -> None:
    result = CliRunner().invoke(cli, ["run", "embeded"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: no recipe 'embeded': neither a file nor a built-in recipe; did you mean 'embedded'?\n"
    )


def test_python_minus_m_is_the_same_command() -> None:
    found = subprocess.run([sys.executable, "-m", "tutelage", "--help"], check=True, capture_output=True, text=True)
    assert found.stdout.startswith("Usage: tutelage ")


def test_the_command_collects_garbage_less_often_than_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training imports half a million objects. With Python's own thresholds, they are visited many times."""
    before = gc.get_threshold()
    monkeypatch.setattr(sys, "argv", ["tutelage", "--version"])
    try:
        with pytest.raises(SystemExit):
            main()
        assert gc.isenabled()
        assert gc.get_threshold()[0] >= 10 * before[0]
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("set_by_the_user", [None, "7"])
def test_threads_of_torch_do_not_keep_a_core_busy_while_they_wait(
    set_by_the_user: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another program on one of two cores, `tutelage run embedded` took more than twice as long."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    if set_by_the_user is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setattr(sys, "argv", ["tutelage", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["GOMP_SPINCOUNT"] == (set_by_the_user or "1000")
