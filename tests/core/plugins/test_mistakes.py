"""Mistakes in a first plugin: each message names what is wrong, where, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tutelage
from tutelage.errors import InputError, PluginError, StageError
from tutelage.hookspecs import hookimpl
from tutelage.planning.preflight import preflight
from tutelage.planning.sources import Sources
from tutelage.plugin_info import NamedSet, PluginInfo
from tutelage.plugins.files import PluginFile
from tutelage.plugins.functions import plugin
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import JudgeItem, Judgement, Model, Rubric, Sampling

Make = Callable[..., Recipe]


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write the metadata of the installed distribution tutelage-words with these entry points."""

    def write(entry_points: str) -> Path:
        folder = tmp_path / "tutelage_words-1.0.dist-info"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tutelage-words\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(entry_points)
        return tmp_path

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return write


def not_found(name: str) -> str:
    with pytest.raises(PluginError) as caught:
        Registry.discover().info(name)
    return str(caught.value)


def refused(made: object) -> str:
    with pytest.raises(PluginError) as caught:
        Registry.empty().register(made, "mine")
    return str(caught.value)


def judged(function: Callable[..., object], samples: int = 1) -> list[Judgement]:
    registry = Registry.empty()
    registry.register(plugin(judge=function), "mine")
    items = [JudgeItem("a", "say 1", "1"), JudgeItem("b", "say 2", "2")]
    return list(tutelage.judge(registry, Model("mine"), items, Rubric("r"), samples, Sampling()))


# Nothing is found


def test_a_forgotten_entry_point_is_named(distribution: Callable[[str], Path]) -> None:
    distribution("")
    for name in ("words", "tutelage-words", "tutelage_words"):
        assert not_found(name) == (
            f"plugin {name!r} is not installed; the distribution tutelage-words is installed, but registers no plugin: "
            "name its module under [project.entry-points.tutelage] in its pyproject.toml, and install it again"
        )


def test_an_entry_point_in_another_group_is_named(distribution: Callable[[str], Path]) -> None:
    distribution("[tutelage.plugins]\nwords = words\n")
    assert not_found("words") == (
        "plugin 'words' is not installed; tutelage-words registers it in the entry-point group 'tutelage.plugins': "
        "write [project.entry-points.tutelage] in its pyproject.toml, and install it again"
    )


def test_the_name_of_the_distribution_in_place_of_that_of_the_plugin(distribution: Callable[[str], Path]) -> None:
    distribution("[tutelage]\nproofreader = words\n")
    assert not_found("tutelage-words") == (
        "plugin 'tutelage-words' is not installed; the plugin of the distribution tutelage-words is named 'proofreader'"
    )


def test_an_installed_plugin_that_is_not_in_the_registry_has_no_hint(distribution: Callable[[str], Path]) -> None:
    distribution("[tutelage]\nwords = words\n")
    with pytest.raises(PluginError, match=r"^plugin 'words' is not installed$"):
        Registry.empty().info("words")


def test_an_entry_point_without_its_module(distribution: Callable[[str], Path]) -> None:
    distribution("[tutelage]\nwords = no_such_module\n")
    assert not_found("words").endswith(
        "ModuleNotFoundError: No module named 'no_such_module'; its entry point is 'no_such_module': correct it, or "
        "add the module to the package"
    )


def test_a_module_that_lacks_another_module_is_not_blamed_on_its_entry_point(
    distribution: Callable[[str], Path],
) -> None:
    folder = distribution("[tutelage]\nwords = words_that_import\n")
    (folder / "words_that_import.py").write_text("import no_such_library\n")
    assert not_found("words").endswith("cannot be used: ModuleNotFoundError: No module named 'no_such_library'")


def test_a_function_as_entry_point() -> None:
    assert refused(not_found) == (f"it is the function not_found, and not a plugin: name its module {__name__!r}")


def test_a_file_that_was_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.py").touch()
    assert not_found("words") == (
        "plugin 'words' is not installed; words.py is a file in this folder, which `--plugin words.py` loads"
    )


def test_the_key_of_a_recipe_that_binds_the_plugin_is_named(make_recipe: Make, numbers_registry: Registry) -> None:
    numbers = {"plugin": "numbers"}
    models = {"student": numbers, "teacher": {"plugin": "nmbers"}, "evaluator": numbers}
    recipe = make_recipe(models=models, pipelines={"teacher-reward": None}, controls={})
    with pytest.raises(InputError) as caught:
        preflight(Sources(recipe, numbers_registry)).passed()
    assert str(caught.value) == "models.teacher.plugin: no plugin 'nmbers' is installed; did you mean 'numbers'?"


# It is found, but not right


def described(**values: Any) -> str:
    return refused(plugin(judge=lambda answer: 1.0, info=PluginInfo("Mine.", **values)))


def test_the_values_of_a_description_have_their_types() -> None:
    assert described(models=["a"]) == "describe(): models must be a mapping, not ['a']"
    assert described(sampling="top_k") == "describe(): sampling must be a tuple, not 'top_k'"
    assert described(trains="sft") == "describe(): trains must be a tuple, not 'sft'"
    assert described(result_version="2") == "describe(): result_version must be an int, not '2'"
    assert described(prompt_sets={"a": NamedSet(["x"])}) == (  # type: ignore[arg-type]
        "describe(): prompt_sets['a'].load must be a function of (count, seed), not list"
    )


def test_a_description_without_return() -> None:
    class Forgetful:
        @hookimpl
        def describe(self) -> None:
            PluginInfo("Forgets.")

    assert refused(Forgetful()) == "describe() returned None; it must return a PluginInfo"


def test_an_exception_in_a_description_has_its_line() -> None:
    class Broken:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo(self.__dict__["help"])

    line = Broken.describe.__code__.co_firstlineno + 2
    assert refused(Broken()) == f"describe() raised KeyError: 'help' (test_mistakes.py, line {line})"


def test_a_hook_that_returns_one_result_is_no_generator() -> None:
    class Yields:
        @hookimpl
        def train_step(self, model: Model) -> Iterator[Model]:
            yield model

        @hookimpl
        def release(self, model: Model) -> Iterator[None]:
            yield

        @hookimpl
        def check(self) -> Iterator[str]:
            yield "this one may"

    assert refused(Yields()) == (
        "release: it yields, but the hook returns one result: use return; "
        "train_step: it yields, but the hook returns one result: use return"
    )


def test_names_imported_from_tutelage_are_no_functions_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from tutelage import *\n\ndef judge(answer):\n    return 1.0\n")
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(file))])
    assert registry.hooks("mine") == ("judge",)


def test_arguments_of_a_hook_and_of_a_function_of_one_item_are_not_mixed() -> None:
    with pytest.raises(PluginError, match="judge: the argument 'rubric' of the hook is mixed with those of a function"):
        plugin(judge=lambda answer, rubric: 1.0)
    with pytest.raises(PluginError, match=r"^judge: there is no argument 'question'; a function of one item has some"):
        plugin(judge=lambda question: 1.0)


# It is called


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda items: {item.id: 1.0 for item in items}, " returned a dict; it must yield its results"),
        (lambda items: [[Judgement(item.id, 0, 1.0)] for item in items], " yielded a list, not a Judgement"),
        (
            lambda items: [Judgement(item.prompt, 0, 1.0) for item in items],
            " answers 'say 1', which was not asked: a result has the id of its prompt, item or comparison",
        ),
        (
            lambda items: [Judgement(item.id, 0, 1.0) for item in items],
            " ended without answering 'a' number 1, 'b' number 1; each needs 2 results, with the numbers 0 to 1",
        ),
        (lambda items: [Judgement(item.id, 0, 9.0) for item in items], ", for 'a': the score is 9.0, outside 0 to 5"),
    ],
)
def test_a_wrong_result_is_named(function: Callable[..., object], message: str) -> None:
    with pytest.raises(PluginError) as caught:
        judged(function, samples=2)
    assert str(caught.value) == f"hook 'judge' of plugin 'mine' (registered manually){message}"


def test_a_function_of_one_answer_returns_a_number() -> None:
    for returned in ("good", (1.0,), [1.0]):
        with pytest.raises(StageError) as caught:
            judged(partial(lambda returned, answer: returned, returned))
        assert f"failed: TypeError: the function returned {returned!r}, which is no number" in str(caught.value)


def test_an_exception_in_a_hook_has_the_line_of_the_plugin(tmp_path: Path) -> None:
    file = tmp_path / "strict.py"
    file.write_text("import json\n\n\ndef judge(answer):\n    return json.loads(answer + '{')\n")
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(file))])
    with pytest.raises(StageError, match=r"failed: JSONDecodeError: .* \(strict\.py, line 5\)$"):
        list(tutelage.judge(registry, Model("strict"), [JudgeItem("a", "p", "")], Rubric("r"), 1, Sampling()))


def test_a_training_without_return(tmp_path: Path) -> None:
    class Student:
        @hookimpl
        def train_step(self, output: Path) -> None:
            (output / "weights").touch()

    registry = Registry.empty()
    registry.register(Student(), "mine")
    examples = tmp_path / "examples.jsonl"
    examples.touch()
    with pytest.raises(PluginError) as caught:
        tutelage.train_step(registry, Model("mine"), None, tutelage.Sft(), examples, tmp_path / "made")
    assert str(caught.value).endswith(
        "returned None, not the trained Model; it must `return attrs.evolve(model, name=str(output))`"
    )


# A recipe uses it


def test_the_error_of_a_student_that_cannot_judge_names_the_key_to_change(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    class Student:
        @hookimpl
        def generate_candidates(self, prompts: Iterable[Any]) -> list[Any]:
            return []

        @hookimpl
        def train_step(self, model: Model) -> Model:
            return model

    numbers_registry.register(Student(), "mine")
    models = {"student": {"plugin": "mine"}, "teacher": {"plugin": "numbers"}, "evaluator": {"plugin": "numbers"}}
    remedy = "; or do not measure how the models judge: evaluation.agreement_prompts: 0"

    def problem(pipeline: str) -> str:
        recipe = make_recipe(models=models, pipelines={pipeline: None}, controls={})
        with pytest.raises(
            PluginError, match=r"^models\.student: plugin 'mine' .* does not implement 'judge'"
        ) as caught:
            preflight(Sources(recipe, numbers_registry)).passed()
        return str(caught.value)

    assert problem("teacher-reward").endswith(remedy)
    assert not problem("self-reward").endswith(remedy)


def test_the_proposals_of_a_pair_rule_are_checked_before_a_run(make_recipe: Make, numbers_registry: Registry) -> None:
    def one_pair(group: Any, options: object) -> tuple[object, object]:
        return group.answers[0], group.answers[1]

    rules = plugin(judge=lambda answer: 1.0, info=PluginInfo("Rules.", pair_rules={"one": one_pair}))
    numbers_registry.register(rules, "mine")
    with pytest.raises(InputError) as caught:
        preflight(Sources(make_recipe(pairs={"rule": "mine/one"}), numbers_registry)).passed()
    assert (
        "pairs.rule: 'mine/one' fails on a made-up prompt with 4 answers: pair rule 'mine/one' of plugin 'mine'"
        in str(caught.value)
    )
    assert "a proposal is a tuple (chosen, rejected) of answers" in str(caught.value)
