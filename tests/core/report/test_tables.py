"""Rows of tables, and the links from figures to the answers behind them."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from tutelage.evaluation.intervals import Metric
from tutelage.report import tables
from tutelage.report.contents import read_contents


def test_the_matrix_has_every_comparison_once(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.summary is not None
    columns, rows = tables.matrix(contents.summary)
    assert columns == ["M0", "M1", "M2/self-reward"]
    assert [id for id, _ in rows] == ["M1", "M2/self-reward", "M2/random-pairs"]
    cells = [cell for _, row in rows for cell in row if cell]
    assert len(cells) == len(contents.summary.comparisons) == 6


def test_links_name_the_models_by_their_position_in_the_reader(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.summary is not None
    assert tables.gain_link(contents, "M2/self-reward", "M1") == "#read?a=2&b=1&sort=gain&show=all"
    assert tables.answers_link(contents, "M0") == "#read?a=0&b=1&sort=gain&show=all"
    [result] = [one for one in contents.summary.comparisons if (one.left, one.right) == ("M1", "M0")]
    assert tables.verdict_link(contents, result, "lost") == "#read?a=1&b=0&sort=order&show=lost"


def test_nested_versions_become_dotted_keys() -> None:
    assert list(tables.flat({"python": "3.11", "libraries": {"torch": "2"}})) == [
        ("python", "3.11"),
        ("libraries.torch", "2"),
    ]


def test_the_confusion_table_counts_every_answer_once(finished: Path) -> None:
    calibration = read_contents(finished).calibration["M1"]
    columns, rows = tables.confusion(calibration)
    total = sum(sum(counts.values()) for counts in calibration.confusion.values())
    assert sum(sum(counts) for _, counts in rows) == total > 0 and columns


def test_a_row_of_agreement_ends_with_what_judges_without_skill_reach(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.summary is not None
    for answers in ("own", "mixed"):
        for result in tables.agreement(contents.summary, answers):
            cells = tables.agreement_cells(result)
            assert len(cells) == len(tables.AGREEMENT) + len(tables.JUDGES)
            constant, length, random = cells[-3:]
            assert constant == "0%, -"
            assert length.count("%") == random.count("%") == 1


def test_figures_of_four_prompts_have_no_interval(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.summary is not None
    result = tables.agreement(contents.summary, "own")[0]
    cells = dict(zip(tables.AGREEMENT.values(), tables.agreement_cells(result), strict=False))
    assert cells["Spearman"].endswith(" [cannot tell]")
    assert "[cannot tell]" not in cells["exact %"]


def test_self_preference_is_a_column_of_agreement_only_if_it_was_measured(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.summary is not None
    without = tables.agreement(contents.summary, "mixed")
    assert tables.agreement_columns(without) == tables.AGREEMENT
    metric = Metric(0.31, 0.1, 0.52, 40)
    measured = [evolve(one, metrics={**one.metrics, "self_preference": metric}) for one in without[:1]]
    columns = tables.agreement_columns([*measured, *without[1:]])
    assert columns == {**tables.AGREEMENT, "self_preference": "self-preference"}
    assert tables.agreement_cells(measured[0], columns)[len(tables.AGREEMENT)] == "+0.31 [+0.10, +0.52]"
    assert tables.agreement_cells(without[1], columns)[len(tables.AGREEMENT)] == "-"
