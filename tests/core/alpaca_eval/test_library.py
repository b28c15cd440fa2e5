"""The use of the library alpaca_eval, and the prevention of its side effects."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from known import known

from tutelage.alpaca_eval.library import GAMED, fit, load_annotator, model_stands_first
from tutelage.errors import InputError, PluginError
from tutelage.evaluation.alpaca_eval import percent
from tutelage.evaluation.length_control import predicted_shares
from tutelage.installation import install_command
from tutelage.results.alpaca_eval_files import read_annotations, read_tables

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"
MODELS = ("phi-2", "alpaca-7b")

needs_the_library = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("alpaca_eval"), reason="needs the extra alpacaeval"
)
needs_the_published_annotations = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the published annotations are not at {DATA}"
)


@needs_the_library
def test_the_leaderboards_annotator_is_a_rubric_of_two_tokens() -> None:
    annotator = load_annotator()
    rubric = annotator.rubric
    assert (annotator.model, rubric.tokens) == ("gpt-4-1106-preview", ("m", "M"))
    assert rubric.system.startswith("You are a highly efficient assistant")
    assert rubric.template.index("{prompt}") < rubric.template.index("{first}") < rubric.template.index("{second}")
    assert "<|im_" not in rubric.template


@needs_the_library
@needs_the_published_annotations
def test_published_weights_give_the_length_controlled_win_rates_of_the_leaderboard() -> None:
    """The weights of two models are not those of their rows on the leaderboard of the package."""
    package = Path(str(known(importlib.util.find_spec("alpaca_eval")).origin)).parent
    table = package / "leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    with table.open() as file:
        stated = {row[""]: row for row in csv.DictReader(file) if row["n_total"] == "805"}
    tables = read_tables(DATA)
    models = tables.weights.keys() & stated.keys()
    assert len(models) == 188
    differences = {
        model: abs(
            known(percent(predicted_shares(tables.weights[model], tables.difficulty)))
            - float(stated[model]["length_controlled_winrate"])
        )
        for model in models
    }
    assert {model for model in models if differences[model] > 1e-4} == {"dbrx-instruct", "NullModel"}


@needs_the_library
def test_an_annotator_that_retired_is_replaced_by_its_name() -> None:
    assert load_annotator("weighted_alpaca_eval_gpt-4o-mini-2024-07-18").model == "gpt-4o-mini-2024-07-18"
    with pytest.raises(InputError, match="alpaca_eval has no log-probability annotator 'weighted_gpt4_turbo'"):
        load_annotator("weighted_gpt4_turbo")


@needs_the_library
@needs_the_published_annotations
@pytest.mark.parametrize("model", MODELS)
def test_the_order_of_a_pair_is_the_one_in_which_the_leaderboards_annotations_were_asked(model: str) -> None:
    is_first = model_stands_first()
    rows = json.loads((DATA / model / "weighted_alpaca_eval_gpt4_turbo.json").read_text())
    asked = [row for row in rows if (row["raw_completion"] or {}).get("logprobs")]
    assert len(asked) >= 800
    for row in asked:
        top = row["raw_completion"]["logprobs"]["content"][0]["top_logprobs"]
        named = next(one["token"] for one in top if one["token"] in "mM")
        assert (named == ("m" if is_first(row["instruction"]) else "M")) == (row["preference"] > 1.5)


@needs_the_library
@needs_the_published_annotations
def test_a_new_model_is_fitted_from_local_tables_alone(tmp_path: Path) -> None:
    """The fitted win rate of a model with short answers rises with the length bias of the artificial baseline variants.

    The leaderboard's win rate (5.875), fitted with the real variants, is between the two fitted ones.
    """
    rows = read_annotations(DATA / "alpaca-7b" / "weighted_alpaca_eval_gpt4_turbo.json")
    rates = []
    for preference in (0.5, 0.8):
        write_gamed(tmp_path, preference)
        made = fit(rows, tmp_path)
        assert known(made.standard_error) > 0
        rates.append(known(made.win_rate))
    assert 2.59 < rates[0] < 5.875 < rates[1] < 12
    assert [path.name for path in tmp_path.iterdir()] == [GAMED]


def write_gamed(folder: Path, preference: float) -> None:
    """Write a verbose and a concise variant of the baseline; the longer answer wins with this probability."""
    lines = ["model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline"]
    for name, length, won in (("verbose", -0.8, preference), ("concise", 0.8, 1 - preference)):
        lines += [f"{name},{n},{won},{length},{hard},False" for n, hard in enumerate(read_tables(DATA).difficulty)]
    (folder / GAMED).write_text("\n".join(lines) + "\n")


@needs_the_library
def test_importing_it_leaves_environment_logging_and_folders_as_they_were(tmp_path: Path) -> None:
    script = """
import logging, os
before = dict(os.environ)
from tutelage.alpaca_eval.library import load_annotator
load_annotator()
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
assert logging.getLogger().level == logging.WARNING
assert not os.listdir(), os.listdir()
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("LOGNAME", "USER", "USERNAME")}
    environment["IS_ALPACA_EVAL_2"] = "False"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_library_there_is_one_error_with_the_install_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alpaca_eval", "alpaca_eval.utils", "alpaca_eval.constants"):
        monkeypatch.setitem(sys.modules, name, None)
    before = logging.getLogger().level, dict(os.environ)
    with pytest.raises(PluginError, match=re.escape(install_command("alpacaeval"))):
        load_annotator()
    assert (logging.getLogger().level, dict(os.environ)) == before
