"""The results of a model on AlpacaEval 2.0."""

from pathlib import Path

import pytest

from tutelage.alpaca_eval.results import results
from tutelage.evaluation.alpaca_eval import Annotation
from tutelage.results.alpaca_eval_files import Output, read_annotations, read_outputs

DATA = Path(__file__).parents[4] / "shared" / "data" / "alpaca_eval"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published annotations are not at {DATA}")
@pytest.mark.parametrize(("model", "length"), [("phi-2", 626), ("alpaca-7b", 396)])
def test_the_mean_length_is_that_of_the_leaderboard(model: str, length: int) -> None:
    """Two empty outputs of phi-2 have no annotation, and the leaderboard's mean includes them: 626, not 628."""
    annotations = read_annotations(DATA / model / "weighted_alpaca_eval_gpt4_turbo.json")
    reference = read_outputs(DATA / "gpt4_1106_preview" / "model_outputs.json")
    assert results(annotations, reference=reference).avg_length == length


def test_the_mean_length_is_that_of_all_outputs_if_they_are_known() -> None:
    annotations = [Annotation("a", "baseline", "four", 1.5)]
    outputs = [Output("a", "four", "m"), Output("b", "", "m")]
    reference = [Output(name, "baseline", "b") for name in "abcd"]
    assert results(annotations).avg_length == 4
    assert results(annotations, reference=reference).avg_length == 1
    assert results(annotations, reference=reference, outputs=outputs).avg_length == 2
    assert results([]).avg_length is None
