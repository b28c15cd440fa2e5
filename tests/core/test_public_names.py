"""Everything public is in ``tutelage`` itself, and importing it costs next to nothing."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tutelage


@pytest.mark.parametrize("name", tutelage.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(tutelage, name) is not None
    assert name in dir(tutelage)


def test_what_the_type_checker_sees_is_what_is_there() -> None:
    source = ast.parse(Path(inspect.getfile(tutelage)).read_text(encoding="utf-8"))
    [block] = [node for node in source.body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert seen == tutelage._PLACES
    assert sorted(seen) == sorted(tutelage.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Candidat'"):
        tutelage.Candidat  # noqa: B018


def test_a_submodule_is_no_less_importable_for_it() -> None:
    from tutelage.plugins import stages

    assert stages.judge is tutelage.judge


def test_importing_tutelage_imports_nothing_heavy() -> None:
    program = "import sys, json, tutelage; print(json.dumps(list(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(json.loads(found.stdout))
    assert "tutelage" in loaded
    assert not loaded & {"attr", "attrs", "cattrs", "click", "numpy", "pluggy", "rich", "torch", "yaml"}
