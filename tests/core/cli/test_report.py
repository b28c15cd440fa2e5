"""``tutelage report``, and the page at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tutelage.installation import install_command
from tutelage.planning.artifacts import SUMMARY
from tutelage.report.page import missing_libraries

Invoke = Callable[..., Result]
needs_libraries = pytest.mark.skipif(bool(missing_libraries()), reason="the page needs the extra `report`")


@needs_libraries
def test_the_page_of_a_finished_run_is_written_to_the_run_or_to_a_file(invoke: Invoke, golden: Path) -> None:
    done = invoke("report", golden)
    assert done.exit_code == 0 and done.stdout == f"{golden / 'report.html'}\n"
    assert invoke("report", golden, "--output", "here.html").stdout == "here.html\n"
    assert Path("here.html").read_bytes() == (golden / "report.html").read_bytes()


@needs_libraries
def test_a_run_that_is_not_finished_exits_with_2(invoke: Invoke, golden: Path) -> None:
    (golden / SUMMARY).unlink()
    done = invoke("report", golden)
    assert done.exit_code == 2 and "not finished" in done.stderr
    assert not (golden / "report.html").exists()


@needs_libraries
def test_a_run_ends_with_its_page(invoke: Invoke, recipe_file: Callable[..., Path], small: dict[str, Any]) -> None:
    done = invoke("run", recipe_file(**small), "--run", "run")
    assert done.exit_code == 0, done.output
    assert f"A page with plots and all answers: {Path('run/report.html')}" in done.stdout
    assert Path("run/report.html").stat().st_size > 10_000
    written = Path("run/report.html").stat().st_mtime_ns
    again = invoke("run", "--run", "run")
    assert again.exit_code == 0
    assert "A page with plots and all answers: " in again.stdout
    assert Path("run/report.html").stat().st_mtime_ns == written, "a finished run has no work left"
    assert "is not" not in invoke("status", "run").stdout


def test_without_the_libraries_a_run_ends_well_and_says_how_to_get_the_page(
    invoke: Invoke, recipe_file: Callable[..., Path], small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)  # an import of it fails
    done = invoke("run", recipe_file(**small), "--run", "run")
    assert done.exit_code == 0, done.output
    assert f"{install_command('report')}, then: tutelage report run\n" in done.stdout
    assert not Path("run/report.html").exists()
    refused = invoke("report", "run")
    assert refused.exit_code == 2 and install_command("report") in refused.stderr


@needs_libraries
def test_a_page_that_cannot_be_written_does_not_fail_the_run(
    invoke: Invoke, recipe_file: Callable[..., Path], small: dict[str, Any]
) -> None:
    Path("run/report.html/taken").mkdir(parents=True)
    done = invoke("run", recipe_file(**small), "--run", "run", "--json")
    assert done.exit_code == 0, done.output
    assert "the report was not written" in done.stderr
    assert done.stdout == Path("run", SUMMARY).read_text(encoding="utf-8")
