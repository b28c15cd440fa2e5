"""Python processes that are started find the modules that this process finds, and no other ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.child_processes import _taken_over, python_command, python_environment

CORE = Path(__file__).parents[2] / "core"
PROGRAM = """
import os, random, subprocess, sys
from tutelage.child_processes import python_command, python_environment
sys.path.append("added")
print(os.pathsep.join(map(os.path.abspath, sys.path)), flush=True)
subprocess.run(python_command("probe", "argument"), env=python_environment(), cwd="..", check=True)
"""
PROBE = """
import os, random, sys
import beside
assert random.__file__ == os.__file__.replace("os.py", "random.py")
assert sys.argv[1:] == ["argument"]
print(os.pathsep.join(sys.path))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a program, and others with the modules that it runs."""
    for name in ("here", "elsewhere", "named", "here/added"):
        (tmp_path / name).mkdir()
    for name in ("here", "elsewhere"):
        (tmp_path / name / "program.py").write_text(PROGRAM)
        (tmp_path / name / "beside.py").touch()
    (tmp_path / "named/probe.py").write_text(PROBE)
    return tmp_path


def printed(folder: Path, *command: str) -> list[list[str]]:
    """What a program printed that Python ran in the folder ``here``: paths, one in each line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["../named", str(CORE)])}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder / "here", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [line.split(os.pathsep) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (("../elsewhere/program.py",), "elsewhere"),
        (("-m", "program"), "here"),
        (("-c", PROGRAM), "here"),
    ],
    ids=["a script, as the command tutelage", "-m", "-c"],
)
def test_a_child_finds_what_its_parent_finds_whichever_way_that_was_started(
    folder: Path, command: tuple[str, ...], first: str
) -> None:
    own, of_child = printed(folder, *command)
    assert own[0] == str(folder / first)
    assert own[-1] == of_child[-1] == str(folder / "here/added")
    assert sorted(of_child) == sorted(own)
    library = str(Path(os.__file__).parent)
    assert of_child.index(library) < of_child.index(own[0]), "no file of the user replaces a module of the library"


def test_a_child_of_a_safe_path_has_no_current_folder(folder: Path) -> None:
    (folder / "named/beside.py").touch()
    own, of_child = printed(folder, "-P", "../elsewhere/program.py")
    assert of_child == own
    assert not {str(folder / "here"), str(folder / "elsewhere")}.intersection(own)


@pytest.mark.parametrize("name", ["types", "contextlib", "sitecustomize"])
def test_a_file_of_the_user_that_python_imports_when_it_starts_does_not_end_the_child(folder: Path, name: str) -> None:
    """The parent has such a folder on its path when it has started; Python reads ``PYTHONPATH`` before that."""
    (folder / f"elsewhere/{name}.py").write_text("raise SystemExit('not the module of the library')")
    program = folder / "elsewhere/program.py"
    program.write_text(
        "import sys\nown = sys.path.pop(0)\nimport contextlib, os, subprocess, types\nsys.path.insert(0, own)\n"
        + PROGRAM
    )
    assert len(printed(folder, "../elsewhere/program.py")) == 2


def test_a_folder_with_the_separator_of_paths_in_its_name_is_found(folder: Path) -> None:
    (folder / "elsewhere").rename(folder / "run-05:31")
    own, of_child = (":".join(paths) for paths in printed(folder, "../run-05:31/program.py"))
    assert str(folder / "run-05:31") in own and str(folder / "run-05:31") in of_child


def test_other_interpreters_that_a_child_starts_do_not_get_this_standard_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    assert python_environment()["PYTHONPATH"] == "/of/the/user"
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in python_environment()


def test_a_program_that_a_child_starts_finds_the_modules_beside_it(folder: Path) -> None:
    (folder / "named/probe.py").write_text(
        f"import subprocess, sys; subprocess.run([sys.executable, {str(folder / 'named/tool.py')!r}])"
    )
    (folder / "named/tool.py").write_text("import helper")
    (folder / "named/helper.py").write_text("print('found')")
    assert printed(folder, "../elsewhere/program.py")[1:] == [["found"]]


def test_no_module_beside_the_script_has_the_name_of_one_of_the_library() -> None:
    """The folder of the script is first on the path until the script has imported what it needs."""
    assert not {file.stem for file in (CORE / "tutelage").iterdir()} & sys.stdlib_module_names


def test_a_script_is_run_with_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(__name__, *sys.argv[1:])")
    command = python_command(str(tmp_path / "script.py"), "one", "two")
    done = subprocess.run(command, env=python_environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("__main__ one two\n", "")


def test_a_launcher_that_passes_no_variable_on_runs_the_module_all_the_same() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TUTELAGE_SYS_PATH"}
    done = subprocess.run(python_command("json.tool", "--help"), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " " not in python_environment()["TUTELAGE_SYS_PATH"], "accelerate drops values with a space, for DeepSpeed"


def test_the_path_has_the_given_folders_first_and_only_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", Path("/not/a/text"), "relative", "/absolute"])
    path = json.loads(python_environment(["more"])["TUTELAGE_SYS_PATH"])
    assert path == [str(Path("more").absolute()), str(Path.cwd()), str(Path("relative").absolute()), "/absolute"]


def test_entries_behind_the_installed_packages_stay_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import site

    monkeypatch.setattr(site, "getsitepackages", lambda: ["/packages"])
    own, parent = ["/library", "/packages", "/of/a/pth"], ["/script", "/library", "/packages", "/of/a/pth", "/late"]
    assert _taken_over(own, parent) == ["/library", "/script", "/packages", "/of/a/pth", "/late"]


def test_the_current_folder_is_left_out_if_the_parent_does_not_have_it() -> None:
    """accelerate adds it to ``PYTHONPATH`` of a training with DeepSpeed."""
    here = str(Path.cwd())
    assert _taken_over([here, "/library"], ["/library"]) == ["/library"]
    assert _taken_over(["/named", here, "/library"], ["/library", here]) == ["/named", here, "/library"]
