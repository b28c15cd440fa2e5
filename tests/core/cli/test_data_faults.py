"""Data files that were misread or ended in a traceback: imports, recipe sources, ``stage judge`` and evaluations.

The inputs of ``shared/cases`` are read if that folder is beside the checkout. The others are of the same kinds.
"""

from __future__ import annotations

import gzip
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import yaml
from click.testing import Result
from pyarrow import parquet
from recipes import numbers_recipe

from tutelage.data.tables import read_table
from tutelage.errors import InputError, StageError
from tutelage.files.trl_format import read_preferences
from tutelage.records import Message
from tutelage.results.summary import read_summary
from tutelage.runs.store import Store

REPOSITORY = Path(__file__).parents[3]
Invoke = Callable[..., Result]

HALF = '{"prompt": "hi \\ud83d?", "answer": "x", "score": 4, "chosen": "a", "rejected": "b", "completion": []}\n'
LINES = {
    "half of a pair": (HALF, "half of a surrogate pair"),
    "half of a pair in a key": ('{"prompt": "hi", "answer": "x", "\\ude00": 1}\n', "half of a surrogate pair"),
    "digits": ('{"prompt": "a", "x": ' + "9" * 5000 + "}\n", "too large for a float"),
    "exponent": ('{"prompt": "a", "answer": "b", "score": -1e400}\n', "too large for a float"),
    "depth": ('{"prompt": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "nested deeper than 100 levels"),
    "depth of objects": ('{"x":' * 50_000 + "1" + "}" * 50_000 + "\n", "nested deeper than 100 levels"),
    "NaN": ('{"prompt": "a", "answer": "b", "score": NaN}\n', ": NaN, column 41"),
    "Infinity": ('{"prompt": "a", "answer": "b", "score": -Infinity}\n', ": -Infinity, column 41"),
    "two values": ('{"prompt": "a", "answer": "b", "answer": "c"}\n', "a key is given twice: 'answer', column 40"),
}
"""Lines that Python's JSON parser accepts, each with a part of the message."""


@pytest.fixture
def case() -> Callable[[str], Path]:
    """Find an input of ``shared/cases/data``; the test is skipped if the folder is absent."""
    folder = REPOSITORY.parent / "shared" / "cases" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: the inputs that failed are not part of the project")
    return lambda name: folder / name


@pytest.fixture
def large(case: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that ``make_large.py`` fills."""
    monkeypatch.setattr(sys, "argv", ["make_large.py", str(tmp_path / "large")])
    runpy.run_path(str(case("make_large.py")))
    return tmp_path / "large"


def check_refused(result: Result, place: str, message: str) -> None:
    """An error of the input: exit code 2, one message with file and line, no traceback."""
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit), result.output
    assert f"{place}: " in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def recipe(path: Path, **data: Any) -> Path:
    values = numbers_recipe()
    values["data"] |= data
    path.write_text(yaml.safe_dump(values))
    return path


def check_every_reader(invoke: Invoke, source: Path, line: int, message: str, folder: Path) -> None:
    """Every command that reads a data file of the user names the line."""
    place = f"{source}, line {line}"
    for kind in ("prompts", "ift", "eft", "preferences"):
        check_refused(invoke("data", "import", kind, source, folder / "out.jsonl"), place, message)
        assert not (folder / "out.jsonl").exists()
    for key in ("ift", "eft", "prompts", "preferences"):
        join = {"join": ["self-reward"]} if key == "preferences" else {}
        file = recipe(folder / "recipe.yaml", **{key: {"source": str(source), "count": 1, **join}})
        check_refused(invoke("plan", file), place, message)
    for stage in ("judge", "generate", "demonstrate", "evaluate"):
        out = folder / f"{stage}.jsonl"
        check_refused(invoke("stage", stage, source, "--model", "numbers", "--out", out), place, message)
    scores = ("--judge", source, "--gold", source)
    for command in (("agreement", *scores), ("calibration", *scores), ("difference", source), ("head-to-head", source)):
        check_refused(invoke("evaluate", *command), place, message)


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_fails_later_is_named_by_every_command(invoke: Invoke, tmp_path: Path, name: str) -> None:
    line, message = LINES[name]
    source = tmp_path / "mine.jsonl"
    source.write_text(line)
    check_every_reader(invoke, source, 1, message, tmp_path)


@pytest.mark.parametrize("name", ["surrogate.jsonl", "surrogate_ift.jsonl"])
def test_half_a_surrogate_pair_is_named_by_every_command(
    invoke: Invoke, case: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    check_every_reader(invoke, case(name), 1, "half of a surrogate pair", tmp_path)


def test_lines_with_refused_values_are_dropped_if_it_is_asked_for(invoke: Invoke, tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text('{"prompt": "a", "answer": "b"}\n' + "".join(line for line, _ in LINES.values()))
    arguments = ("data", "import", "ift", source, tmp_path / "out.jsonl")
    refused = invoke(*arguments)
    check_refused(refused, f"{source}, line 2", "half of a surrogate pair")
    assert refused.stderr.endswith("correct the row or use --drop-faulty\n")
    assert invoke(*arguments, "--drop-faulty").exit_code == 0
    assert rows(tmp_path / "out.jsonl") == [{"prompt": "a", "answer": "b"}]
    dropped = rows(tmp_path / "out-dropped.jsonl")
    assert [row["place"] for row in dropped] == [f"{source}, line {number}" for number in range(2, 2 + len(LINES))]


@pytest.mark.parametrize("name", LINES)
def test_summaries_journals_annotations_and_gzipped_files_are_read_as_strictly(tmp_path: Path, name: str) -> None:
    line, message = LINES[name]
    path = tmp_path / "summary.json"
    path.write_text('{"schema": 1,\n"rows": ' + line + "}")
    with pytest.raises(InputError, match=rf"summary\.json, line 2: .*{re.escape(message).partition(',')[0]}"):
        read_summary(path)
    journal = Store(tmp_path).journal("rows.jsonl", dict)
    journal.append([{"a": 1}])
    journal.close()
    with journal.path.open("a") as file:
        file.write(line)
    with pytest.raises(StageError, match=rf"\.rows\.jsonl\.journal, line 2: .*{re.escape(message)}"):
        list(journal)
    with gzip.open(tmp_path / "mine.jsonl.gz", "wt") as packed:
        packed.write(line)
    with pytest.raises(InputError, match=rf"mine\.jsonl\.gz, line 1: .*{re.escape(message)}"):
        list(read_table(str(tmp_path / "mine.jsonl.gz")))


def test_a_missing_summary_says_how_to_see_whether_the_run_is_finished(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; check with `tutelage status` whether the run is finished"):
        read_summary(tmp_path / "summary.json")


def test_a_text_of_parquet_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    offsets = pyarrow.py_buffer((0).to_bytes(4, "little") + (2).to_bytes(4, "little"))
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, pyarrow.py_buffer(b"a\xff")])
    parquet.write_table(pyarrow.table({"prompt": texts}), tmp_path / "mine.parquet")
    with pytest.raises(InputError, match=r"mine\.parquet, after row 0: a text is not UTF-8"):
        list(read_table(str(tmp_path / "mine.parquet")))


def test_a_file_in_another_encoding_is_not_dropped_line_by_line(invoke: Invoke, tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_bytes(b'{"prompt": "a", "answer": "b"}\n{"prompt": "\xe9", "answer": "b"}\n')
    result = invoke("data", "import", "ift", source, tmp_path / "out.jsonl", "--drop-faulty")
    check_refused(result, f"{source}, line 2", "not UTF-8")


def test_large_numbers_and_deep_nesting_are_named_by_every_command(invoke: Invoke, large: Path, tmp_path: Path) -> None:
    messages = {"deep": "nested deeper than 100 levels", "bigint": "5,000 characters", "huge_float": "401 characters"}
    for name, message in messages.items():
        check_every_reader(invoke, large / f"{name}.jsonl", 1, message, tmp_path)


@pytest.mark.parametrize("name", ["bom.json", "bom.jsonl"])
def test_a_byte_order_mark_is_accepted(invoke: Invoke, case: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    result = invoke("data", "import", "ift", case(name), tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "out.jsonl") == [{"prompt": "a?", "answer": "b"}]


def test_a_byte_order_mark_is_accepted_in_recipes_csv_and_sources(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\ufeffprompt,answer\na,b\n", encoding="utf-8")
    assert invoke("data", "import", "ift", tmp_path / "mine.csv", tmp_path / "out.jsonl").exit_code == 0
    (tmp_path / "ift.jsonl").write_text('\ufeff{"prompt": "a", "answer": "b"}\n', encoding="utf-8")
    file = recipe(tmp_path / "recipe.yaml", ift={"source": str(tmp_path / "ift.jsonl"), "count": 1})
    file.write_text(f"\ufeff{file.read_text()}", encoding="utf-8")
    result = invoke("plan", file)
    assert result.exit_code == 0, result.output


def test_json_lines_that_are_named_json_are_read(invoke: Invoke, case: Callable[[str], Path], tmp_path: Path) -> None:
    result = invoke("data", "import", "ift", case("jsonl_named.json"), tmp_path / "out.jsonl")
    assert result.exit_code == 0, result.output
    assert rows(tmp_path / "out.jsonl") == [{"prompt": "a?", "answer": "b"}, {"prompt": "c?", "answer": "d"}]


def test_a_key_that_a_recipe_has_twice_is_named_with_its_line(invoke: Invoke, case: Callable[[str], Path]) -> None:
    path = case("dup.yaml")
    for command in ("plan", "run"):
        check_refused(invoke(command, path), f"{path}, line 3", "the key 'dpo' is given twice, first in line 2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: a, name: b}", "the key 'name' is given twice"),
        ('name: "\\ud83d"', "half of a surrogate pair"),
        ("budget: .inf", ".inf is not a finite number"),
    ],
)
def test_a_recipe_that_fails_later_is_refused_with_its_line(
    invoke: Invoke, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"\n{text}\n")
    check_refused(invoke("plan", path), f"{path}, line 2", message)
    result = invoke("plan", recipe(tmp_path / "recipe.yaml"), "--set", "dpo={beta: 0.1, beta: 0.5}")
    assert (result.exit_code, "the key 'beta' is given twice" in result.stderr) == (2, True), result.output


@pytest.mark.parametrize("name", ["assistantfirst.jsonl", "useronly.jsonl", "strmessages.jsonl"])
def test_a_conversation_without_a_turn_is_a_fault(
    invoke: Invoke, case: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    result = invoke("data", "import", "ift", case(name), tmp_path / "out.jsonl", "--messages", "messages")
    check_refused(result, f"{case(name)}, line 1", "messages is not a conversation that can be used: ")
    assert "user, assistant" in result.stderr or "a text instead of a conversation" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_sides_of_other_conversations_are_a_fault(invoke: Invoke, case: Callable[[str], Path], tmp_path: Path) -> None:
    path = case("mismatch.jsonl")
    result = invoke("data", "import", "preferences", path, tmp_path / "out.jsonl")
    check_refused(result, f"{path}, line 1", "chosen belongs to another conversation")


def test_the_system_message_is_kept(invoke: Invoke, case: Callable[[str], Path], tmp_path: Path) -> None:
    result = invoke("data", "import", "ift", case("sys.jsonl"), tmp_path / "ift.jsonl", "--messages", "messages")
    assert result.exit_code == 0, result.output
    asked = [{"role": "system", "content": "Answer only in French."}, {"role": "user", "content": "hi?"}]
    assert rows(tmp_path / "ift.jsonl") == [{"messages": asked, "answer": "salut"}]
    result = invoke("data", "import", "preferences", case("prefsys.jsonl"), tmp_path / "pairs.jsonl")
    assert result.exit_code == 0, result.output
    (pair,) = read_preferences(tmp_path / "pairs.jsonl")
    assert pair.turns == (Message("system", "Be rude."), Message("user", "hi?"))
    assert (pair.chosen, pair.rejected) == ("go away", "hello dear")


def test_imported_conversations_are_sources_of_a_recipe(
    invoke: Invoke, case: Callable[[str], Path], tmp_path: Path
) -> None:
    ift, pairs = tmp_path / "ift.jsonl", tmp_path / "pairs.jsonl"
    assert invoke("data", "import", "ift", case("sys.jsonl"), ift, "--messages", "messages").exit_code == 0
    assert invoke("data", "import", "preferences", case("prefsys.jsonl"), pairs).exit_code == 0
    preferences = {"source": str(pairs), "count": 1, "join": ["self-reward"]}
    file = recipe(tmp_path / "recipe.yaml", ift={"source": str(ift), "count": 1}, preferences=preferences)
    result = invoke("plan", file)
    assert result.exit_code == 0, result.output


def test_capitalised_roles_are_read(invoke: Invoke, case: Callable[[str], Path], tmp_path: Path) -> None:
    arguments = ("data", "import", "ift", case("rolecase.jsonl"), tmp_path / "out.jsonl", "--messages", "messages")
    assert invoke(*arguments).exit_code == 0
    assert rows(tmp_path / "out.jsonl") == [{"prompt": "hi?", "answer": "hello"}]


def test_scores_outside_the_scale_stop_plan_and_run_and_are_mapped_by_the_import(
    invoke: Invoke, case: Callable[[str], Path], tmp_path: Path
) -> None:
    path = case("eft10.jsonl")
    for command in ("plan", "run"):
        file = recipe(tmp_path / "recipe.yaml", eft={"source": str(path), "count": 2})
        result = invoke(command, file, "--set", "judging.rubric=additive")
        check_refused(
            result, f"data.eft: {path}, line 1", "the score 9 is outside the scale 0-5 of the rubric 'additive'"
        )
    assert not (tmp_path / "runs").exists()
    mapped = tmp_path / "eft.jsonl"
    result = invoke("data", "import", "eft", path, mapped, "--scale", "1-10")
    assert result.exit_code == 0, result.output
    assert [row["score"] for row in rows(mapped)] == pytest.approx([8 / 9 * 5, 6 / 9 * 5])
    file = recipe(tmp_path / "recipe.yaml", eft={"source": str(mapped), "count": 2})
    assert invoke("plan", file, "--set", "judging.rubric=additive").exit_code == 0


@pytest.mark.parametrize("score", [5.5, -0.5])
def test_one_score_outside_the_scale_is_found_in_a_row_that_is_not_drawn(
    invoke: Invoke, tmp_path: Path, score: float
) -> None:
    source = tmp_path / "eft.jsonl"
    source.write_text(
        "".join(json.dumps({"prompt": "a", "answer": "b", "score": each}) + "\n" for each in (5, 0, score))
    )
    file = recipe(tmp_path / "recipe.yaml", eft={"source": str(source), "count": 1})
    result = invoke("plan", file, "--set", "judging.rubric=additive")
    check_refused(result, f"data.eft: {source}, line 3", f"the score {score:g} is outside the scale 0-5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eft", "--scale", "10"), "expected the lowest and the highest score, such as 1-10"),
        (("eft", "--scale", "10-1"), "expected the lowest and the highest score, such as 1-10"),
        (("eft", "--to-scale", "1-5"), "--to-scale: give the scale of the scores in SOURCE too, with --scale"),
        (("ift", "--scale", "1-10"), "--scale: only the scores of eft are mapped; leave it out for ift"),
        (("eft", "--scale", "1-5"), "line 1: the score is outside the scale 1 to 5: 10"),
    ],
)
def test_a_scale_that_does_not_fit_is_an_error(
    invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    kind, *options = arguments
    source = tmp_path / "eft.jsonl"
    source.write_text('{"prompt": "a", "answer": "b", "score": 10}\n')
    result = invoke("data", "import", kind, source, tmp_path / "out.jsonl", *options)
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
    result = invoke("data", "import", "eft", source, tmp_path / "out.jsonl", "--scale", "-10-10", "--to-scale", "1-7")
    assert (result.exit_code, rows(tmp_path / "out.jsonl")[0]["score"]) == (0, 7.0), result.output
