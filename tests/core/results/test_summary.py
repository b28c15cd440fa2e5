"""A summary is read from its file, and shown as tables in notebooks."""

import sys
from pathlib import Path

import pytest

from tutelage.errors import InputError
from tutelage.results.summary import Summary, read_summary

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden-run" / "summary.json"


@pytest.fixture
def summary() -> Summary:
    return read_summary(GOLDEN)


def test_a_frame_has_one_row_per_model_and_the_interval_of_each_metric(summary: Summary) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    frame = summary.frame().set_index("id")
    m1 = summary.model("M1")
    assert list(frame.index) == [row.id for row in summary.models]
    gold = m1.metrics["gold_score"]
    columns = ["gold_score", "gold_score_low", "gold_score_high", "gold_score_n"]
    assert frame.loc["M1", columns].tolist() == [gold.value, gold.low, gold.high, gold.n]


@pytest.mark.parametrize("table", ["differences", "comparisons", "agreement", "training"])
def test_each_table_is_a_frame(summary: Summary, table: str) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    assert len(summary.frame(table)) == len(getattr(summary, table)) > 0  # type: ignore[arg-type]


def test_a_notebook_shows_a_table_and_without_pandas_the_text(
    summary: Summary, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    assert "<td>M1</td>" in (summary._repr_html_() or "")
    monkeypatch.setitem(sys.modules, "pandas", None)  # an import of it fails
    assert summary._repr_html_() is None
    with pytest.raises(InputError, match="data frames need pandas; run: pip install pandas"):
        summary.frame()


def test_an_unfinished_run_has_no_summary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; check with `tutelage status` whether the run is finished"):
        read_summary(tmp_path / "summary.json")
