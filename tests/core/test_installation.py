"""The command that installs an extra names the place from which tutelage was installed."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tutelage.installation import install_command, plugin_of_checkout, requirement

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("origin", "arguments"),
    [
        (
            {"url": "file:///my%20work", "dir_info": {"editable": True}},
            ["--editable", "/my work[report]"],
        ),
        ({"url": "file:///home/me/tutelage", "dir_info": {}}, ["/home/me/tutelage[report]"]),
        (
            {
                "url": "https://host/o/t.git",
                "vcs_info": {"vcs": "git", "commit_id": "ab", "requested_revision": "v1"},
            },
            ["tutelage[report] @ git+https://host/o/t.git@v1"],
        ),
        (
            {"url": "https://host/o/t.git", "vcs_info": {"vcs": "git", "commit_id": "ab12"}},
            ["tutelage[report] @ git+https://host/o/t.git@ab12"],
        ),
        ({"url": "file:///tmp/t.whl", "archive_info": {}}, ["tutelage[report] @ file:///tmp/t.whl"]),
        ({}, ["tutelage[report]"]),
    ],
)
def test_the_arguments_name_the_checkout_the_file_or_the_git_address(
    origin: dict[str, object], arguments: list[str]
) -> None:
    assert shlex.split(requirement("report", origin)) == arguments
    if "@" in arguments[-1]:
        assert Requirement(arguments[-1]).extras == {"report"}


def test_the_command_of_a_checkout_names_a_folder_with_the_extra() -> None:
    *_, option, argument = shlex.split(install_command("report"))
    folder = Path(argument.removesuffix("[report]"))
    assert option == "--editable" and (folder / "pyproject.toml").is_file()


def test_the_command_runs_the_pip_of_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_command("report").startswith(f"{shlex.quote(sys.executable)} -m pip install ")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert install_command("report").startswith("pip install ") == bool(shutil.which("pip"))


def test_no_page_and_no_message_installs_tutelage_from_the_package_index() -> None:
    from_index = re.compile(r"pip install (?:-\S+ )*['\"]?tutelage(?![^'\"\n]*@ )")
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("contrib/*/*.md")]
    modules = [path for folder in ("core", "plugins", "contrib", "docs") for path in (ROOT / folder).rglob("*.py")]
    assert from_index.search("run: pip install 'tutelage[report]'")
    assert not from_index.search("pip install 'tutelage[report] @ git+ADDRESS'")
    assert [str(path) for path in (*pages, *modules) if from_index.search(path.read_text(encoding="utf-8"))] == []


def test_a_plugin_of_the_checkout_is_installed_from_its_folder() -> None:
    command = plugin_of_checkout("ifeval")
    assert command is not None
    assert Path(shlex.split(command)[-1]) == ROOT / "contrib/tutelage-ifeval"
    assert [plugin_of_checkout(name) for name in ("nothing", "", "ifeval/../../core")] == [None, None, None]
