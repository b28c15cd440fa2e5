"""The files of the page "Judging" work as written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tutelage import JudgeItem, Model, Outcome, Registry, Sampling, judge
from tutelage.plugins.built_in_pipelines import PIPELINES
from tutelage.plugins.files import PluginFile
from tutelage.preferences.judging import ADDITIVE_RUBRIC

PAGE = (Path(__file__).parents[2] / "docs/judging.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))


@pytest.mark.parametrize(
    ("answer", "score", "reason"),
    [
        ("It is 42.", 5.0, "right"),
        ("12 plus 30 is 41", 1.0, "41 is not 42"),
        ("I do not know.", 0.0, "no number"),
    ],
)
def test_the_verifier_compares_answers_with_the_reference(
    answer: str, score: float, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "arithmetic.py"
    file.write_text(FILES["arithmetic.py"], encoding="utf-8")
    registry = Registry.empty()
    registry.load_files([PluginFile.of(str(file))])
    [row] = re.findall(r'^    (\{"prompt".*\})$', PAGE, re.MULTILINE)
    prompt = json.loads(row)
    items = [
        JudgeItem("a", prompt["prompt"], answer, metadata=prompt["metadata"]),
        JudgeItem("b", prompt["prompt"], answer),
    ]
    found, without = judge(registry, Model("arithmetic"), items, ADDITIVE_RUBRIC, 1, Sampling())
    assert (found.score, found.reason) == (score, reason)
    assert (without.score, without.outcome) == (None, Outcome.UNPARSED)


def test_the_declaration_of_the_cascade_is_that_of_the_built_in_pipeline() -> None:
    [program] = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "CASCADE" in text]
    names: dict[str, object] = {}
    exec(program, names)
    assert names["CASCADE"] == PIPELINES["cascade"]
