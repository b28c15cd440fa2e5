"""The program of the page "One round by hand" runs, and its round improves the model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from tutelage import Context, JudgeItem, Model, Registry, Sampling, find_rubric, judge

PAGE = (Path(__file__).parents[2] / "docs/one-round.md").read_text(encoding="utf-8")
PROGRAM = "\n\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
PRINTED = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which the page's program ran, and its output."""
    folder = tmp_path_factory.mktemp("one-round")
    (folder / "one_round.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "one_round.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_program_prints_what_the_page_shows_except_for_the_figures(finished: tuple[Path, str]) -> None:
    assert _without_figures(finished[1]) == _without_figures(PRINTED)


def test_the_round_writes_pairs_and_a_checkpoint(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    assert (folder / "M2" / "model.safetensors").is_file()
    pairs = _preferences(folder)
    assert len(pairs) == int(printed.split()[0]) > 40
    assert all(chosen != rejected for _, chosen, rejected in pairs)


def test_the_chosen_answers_are_better_than_the_rejected_ones(finished: tuple[Path, str]) -> None:
    pairs = _preferences(finished[0])
    chosen = _mean_gold_score([(prompt, chosen) for prompt, chosen, _ in pairs])
    rejected = _mean_gold_score([(prompt, rejected) for prompt, _, rejected in pairs])
    assert chosen > rejected + 0.5


def test_the_new_model_has_the_higher_gold_score(finished: tuple[Path, str]) -> None:
    scores = dict(re.findall(r"(M[12]): gold score ([\d.]+)", finished[1]))
    assert float(scores["M2"]) > float(scores["M1"])


def _without_figures(text: str) -> str:
    """The text with a mark in place of each number and of the dropped pairs by reason."""
    return re.sub(r"\{.*\}|\b\d+(\.\d+)?", "#", text)


def _preferences(folder: Path) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected text of each row of preferences.jsonl."""
    rows = map(json.loads, (folder / "preferences.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def _mean_gold_score(answers: list[tuple[str, str]]) -> float:
    """Mean score that the plugin ``tiny`` gives to (prompt, answer)."""
    registry = Registry.discover()
    items = [JudgeItem(str(number), prompt, answer) for number, (prompt, answer) in enumerate(answers)]
    rubric = find_rubric("tiny/additive", registry)
    judgements = judge(registry, Model("tiny"), items, rubric, 1, Sampling(), Context())
    return fmean(judgement.score for judgement in judgements if judgement.score is not None)
