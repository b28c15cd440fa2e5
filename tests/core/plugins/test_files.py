"""A plugin is loaded from a file; a run that continues loads it only if it is still the same file."""

from pathlib import Path

import pytest

from tutelage.errors import InputError, PluginError
from tutelage.plugins.files import PluginFile, as_stored, files_to_load, reload_problem, stored_files
from tutelage.plugins.registry import Registry

PLAIN = '"""Long answers."""\n\ndef judge(answer):\n    return min(5, len(answer))\n'
MARKED = "from tutelage import hookimpl\n\n@hookimpl\ndef demonstrate(prompts):\n    return iter(())\n"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "length.py"
    path.write_text(PLAIN)
    return path


def loaded(path: Path) -> Registry:
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(path))])
    return registry


def test_plain_functions_and_marked_hooks_are_loaded_from_a_file(plain: Path, tmp_path: Path) -> None:
    registry = loaded(plain)
    assert (registry.names("judge"), registry.info("length").help) == (["length"], "Long answers.")
    assert registry.label("length") == f"plugin 'length' (file {plain})"
    (tmp_path / "shown.py").write_text(MARKED)
    assert loaded(tmp_path / "shown.py").hooks("shown") == ("demonstrate",)


def test_a_module_is_loaded_by_its_name_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_loops"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "scale.py").write_text("FACTOR = 2\n")
    (package / "grader.py").write_text("from my_loops.scale import FACTOR\n\ndef judge(answer):\n    return FACTOR\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = PluginFile.of("my_loops.grader")
    registry = Registry.empty()
    registry.load_files([file])
    assert (file.path, file.module, registry.names("judge")) == (package / "grader.py", "my_loops.grader", ["grader"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("x = 1\ndef judge(:\n", "line 2: SyntaxError"),
        ("import no_such_module\n", "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit('bye')\n", "line 1: SystemExit: bye"),
        ("def jugde(answer):\n    return 0\n", "it has no function with the name of a hook"),
        ("def judge(anwser):\n    return 0\n", "judge: there is no argument 'anwser'"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(PluginError) as raised:
        loaded(path)
    assert str(raised.value).startswith(f"--plugin {path}: ") and message in str(raised.value)


def test_a_missing_file_or_module_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--plugin .*no.py: the file cannot be read \(No such file or directory\)"):
        PluginFile.of(str(tmp_path / "no.py"))
    (tmp_path / "judge").write_text(PLAIN)
    with pytest.raises(InputError, match=r"--plugin .*/judge: the name of a plugin file ends with .py"):
        PluginFile.of(str(tmp_path / "judge"))
    with pytest.raises(InputError, match="--plugin no_such_module: no such module"):
        PluginFile.of("no_such_module")


def test_a_name_that_is_taken_is_refused_before_the_file_is_imported(plain: Path, tmp_path: Path) -> None:
    registry = loaded(plain)
    other = tmp_path / "other" / "length.py"
    other.parent.mkdir()
    other.write_text("raise SystemExit\n")
    with pytest.raises(PluginError, match="the name 'length' is taken"):
        registry.load_files([PluginFile.of(str(other))])


def test_the_stored_form_is_read_again(plain: Path) -> None:
    file = PluginFile.of(str(plain))
    assert stored_files(as_stored([file])) == [file]


def test_a_file_of_a_run_is_loaded_by_itself_only_if_it_is_unchanged(plain: Path) -> None:
    kept = PluginFile.of(str(plain))
    assert (files_to_load([], [kept]), reload_problem(kept)) == ([kept], "")
    plain.write_text(PLAIN + "# another\n")
    assert reload_problem(kept) == (
        f"the plugin file {plain} has changed since the run loaded it; to load it, add --plugin {plain}"
    )
    assert files_to_load([str(plain)], [kept]) == [PluginFile.of(str(plain))] != [kept]
    plain.unlink()
    assert reload_problem(kept) == (
        f"the plugin file {plain} is missing; to load it, add --plugin FILE, named length.py; "
        "to work without it, add --no-plugin length"
    )


def test_the_plugin_of_a_file_that_is_not_loaded_cannot_be_used_and_its_error_has_the_reason(plain: Path) -> None:
    registry = Registry.empty()
    registry.refuse_file(PluginFile.of(str(plain)), "it has changed")
    with pytest.raises(PluginError) as found:
        registry.require("length", "judge")
    assert str(found.value) == f"plugin 'length' (file {plain}) cannot be used: it has changed"


def test_a_file_may_have_the_result_of_plugin_in_place_of_functions(tmp_path: Path) -> None:
    path = tmp_path / "short.py"
    one = (
        'mine = plugin("Likes short answers.", judge=lambda answer: -len(answer), measures={"n": lambda answer: 1.0})\n'
    )
    path.write_text("from tutelage import plugin\n" + one)
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(path))])
    assert registry.hooks("short") == ("describe", "judge")
    assert (registry.info("short").help, list(registry.info("short").measures)) == ("Likes short answers.", ["n"])
    path.write_text("from tutelage import plugin\n" + one + one.replace("mine", "yours"))
    with pytest.raises(PluginError, match="it has no function with the name of a hook"):
        Registry.empty().load_files([PluginFile.of(str(path))])


def test_another_process_loads_the_same_files_and_refuses_a_changed_one(plain: Path) -> None:
    stored = as_stored([PluginFile.of(str(plain))])
    assert plain.stem in Registry.for_process(stored).names("judge")
    assert plain.stem not in Registry.for_process({}).names()
    plain.write_text("raise SystemExit('imported')")
    with pytest.raises(InputError, match="has changed since the run loaded it"):
        Registry.for_process(stored)


def test_another_process_loads_a_file_in_place_of_the_installed_plugin_of_its_name(plain: Path) -> None:
    """The process that loaded the file had blocked the installed plugin."""
    file = plain.rename(plain.with_name("tiny.py"))
    found = Registry.for_process(as_stored([PluginFile.of(str(file))]))
    assert [status.path for status in found.statuses() if status.name == "tiny" and status.status == "ok"] == [file]
