"""A small run of AlpacaEval: answers, verdicts from a local server, and annotations that the library can read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from api_servers import ApiServer, running
from attrs import evolve

import tutelage_openai
from tutelage.alpaca_eval.library import Annotator, importing, load_annotator, model_stands_first, parse
from tutelage.alpaca_eval.results import results, write_leaderboard
from tutelage.alpaca_eval.running import annotate, answer
from tutelage.context import Context
from tutelage.errors import BudgetError, InputError
from tutelage.evaluation.alpaca_eval import win_rates
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.records import Candidate, Model, Outcome, Sampling
from tutelage.results.alpaca_eval_files import Output, read_annotations
from tutelage.runs.durable import DurableStage
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller

REFERENCE = [Output(f"task {number}", f"the reference's answer {number}", "base", "koala") for number in range(30)]
OUTPUTS = [Output(row.instruction, f"my answer {row.instruction}", "me", "koala") for row in REFERENCE]


@pytest.fixture(scope="module", autouse=True)
def needs_the_library() -> None:
    """Importing it takes seconds, which the collection of the tests does in each process."""
    pytest.importorskip("alpaca_eval", reason="needs the extra alpacaeval", exc_type=ImportError)


@pytest.fixture(autouse=True)
def ledger_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.db"))


@pytest.fixture(scope="module")
def annotator() -> Annotator:
    return load_annotator()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with running("openai", tmp_path / "server.jsonl") as server:
        yield server


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(tutelage_openai, "openai")
    return registry


def evaluator(server: ApiServer, **settings: object) -> Model:
    return Model("openai", "gpt-test", {"base_url": f"{server.url}/v1", **settings})


def test_verdicts_are_asked_once_and_the_library_reads_the_annotations_alike(
    server: ApiServer, registry: Registry, annotator: Annotator, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    rows = annotate(DurableStage(registry, evaluator(server), Context()), annotator, OUTPUTS, REFERENCE, folder)
    assert len(server.asked()) == len(REFERENCE)
    before = (folder / "annotations.json").read_bytes()
    annotate(DurableStage(registry, evaluator(server), Context()), annotator, OUTPUTS, REFERENCE, folder)
    assert len(server.asked()) == len(REFERENCE)
    assert (folder / "annotations.json").read_bytes() == before
    made = win_rates(read_annotations(folder / "annotations.json"))
    with importing():
        from alpaca_eval.metrics import get_winrate
    theirs = get_winrate(json.loads(before))
    assert {key: getattr(made, key) for key in theirs} == pytest.approx(theirs, abs=1e-9)
    assert 0 < made.n_wins < made.n_total == len(REFERENCE)
    stands_first = model_stands_first()
    assert len(rows) == len(REFERENCE)
    for row in rows:
        read = parse(row["raw_completion"], annotator)
        assert row["preference"] == pytest.approx(3 - read if stands_first(row["instruction"]) else read)


def test_what_was_answered_before_a_stop_is_not_asked_again(
    server: ApiServer, registry: Registry, annotator: Annotator, tmp_path: Path
) -> None:
    folder, model = tmp_path / "out", evaluator(server, revision="1", price={"input": 1.0, "output": 1.0})
    with pytest.raises(BudgetError):
        context = Context(caller=Caller(budget=Budget(0.006)))
        annotate(DurableStage(registry, model, context), annotator, OUTPUTS, REFERENCE, folder)
    asked = len(server.asked())
    assert 0 < asked < len(REFERENCE)
    annotate(DurableStage(registry, model, Context()), annotator, OUTPUTS, REFERENCE, folder)
    assert len(server.asked()) == len(REFERENCE)


def test_only_a_changed_output_is_asked_about_again(
    server: ApiServer, registry: Registry, annotator: Annotator, tmp_path: Path
) -> None:
    annotate(DurableStage(registry, evaluator(server), Context()), annotator, OUTPUTS, REFERENCE, tmp_path)
    changed = [evolve(OUTPUTS[0], output="another"), *OUTPUTS[1:]]
    rows = annotate(DurableStage(registry, evaluator(server), Context()), annotator, changed, REFERENCE, tmp_path)
    assert len(server.asked()) == len(REFERENCE) + 1
    assert rows[0]["output_2"] == "another"


def test_equal_answers_are_a_draw_and_missing_ones_are_left_out(
    server: ApiServer, registry: Registry, annotator: Annotator, tmp_path: Path
) -> None:
    outputs = [evolve(REFERENCE[0], generator="me"), *OUTPUTS[1:3], Output("foreign", "x", "me")]
    rows = annotate(DurableStage(registry, evaluator(server), Context()), annotator, outputs, REFERENCE, tmp_path)
    assert len(server.asked()) == 2
    assert [row["instruction"] for row in rows] == ["task 0", "task 1", "task 2"]
    assert (rows[0]["preference"], rows[0]["raw_completion"]) == (1.5, None)


def test_a_server_without_log_probabilities_gives_no_verdicts(
    server: ApiServer, registry: Registry, annotator: Annotator, tmp_path: Path
) -> None:
    silent = evaluator(server, extra={"logprobs": None})
    rows = annotate(DurableStage(registry, silent, Context()), annotator, OUTPUTS, REFERENCE, tmp_path)
    assert {row["preference"] for row in rows} == {None}
    made = results(read_annotations(tmp_path / "annotations.json"))
    assert (made.win_rate, made.unparsed, made.n_total) == (None, len(REFERENCE), 0)


def test_the_annotator_is_named_after_who_was_asked(
    server: ApiServer, registry: Registry, annotator: Annotator, tmp_path: Path
) -> None:
    rows = annotate(DurableStage(registry, evaluator(server), Context()), annotator, OUTPUTS, REFERENCE, tmp_path)
    assert {row["annotator"] for row in rows} == {"weighted_alpaca_eval_gpt4_turbo by openai:gpt-test"}
    write_leaderboard(tmp_path / "leaderboard.csv", results(read_annotations(tmp_path / "annotations.json")))
    header, row = (tmp_path / "leaderboard.csv").read_text().splitlines()
    assert header == (
        ",win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,discrete_win_rate,mode,avg_length,"
        "length_controlled_winrate,lc_standard_error"
    )
    assert row.startswith("me,")


def test_outputs_of_another_benchmark_are_an_error(registry: Registry, annotator: Annotator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the outputs answers an instruction"):
        foreign = [Output("foreign", "x", "me")]
        annotate(DurableStage(registry, Model("openai", "m"), Context()), annotator, foreign, REFERENCE, tmp_path)


def parrot(asked: list[str], fails: str = "") -> ModuleType:
    """A student that repeats its prompts, records them, and has no answer to one prompt."""
    module = ModuleType("parrot")

    @hookimpl
    def describe() -> PluginInfo:
        return PluginInfo(help="Repeats.")

    @hookimpl
    def generate_candidates(prompts, n):  # type: ignore[no-untyped-def]
        for prompt in prompts:
            asked.append(prompt.text)
            outcome = Outcome.FAILED if prompt.text == fails else Outcome.ANSWERED
            yield Candidate(prompt.id, 0, "" if prompt.text == fails else f"you said {prompt.text}", outcome)

    module.describe, module.generate_candidates = describe, generate_candidates  # type: ignore[attr-defined]
    return module


@pytest.fixture
def parrots() -> Callable[..., Registry]:
    def make(asked: list[str], fails: str = "") -> Registry:
        registry = Registry.empty()
        registry.register(parrot(asked, fails), "parrot")
        return registry

    return make


def test_a_students_answers_are_written_for_the_leaderboard_and_not_generated_twice(
    parrots: Callable[..., Registry], tmp_path: Path
) -> None:
    asked: list[str] = []
    for _ in range(2):
        outputs = answer(
            DurableStage(parrots(asked), Model("parrot"), Context()), "my parrot", REFERENCE, Sampling(0.0), tmp_path
        )
    assert asked == [row.instruction for row in REFERENCE]
    expected = {"dataset": "koala", "instruction": "task 0", "output": "you said task 0", "generator": "my parrot"}
    assert json.loads((tmp_path / "model_outputs.json").read_text())[0] == expected
    assert outputs[-1] == Output("task 29", "you said task 29", "my parrot", "koala")


def test_an_answer_that_failed_is_left_out_and_tried_again(parrots: Callable[..., Registry], tmp_path: Path) -> None:
    asked: list[str] = []
    failing = parrots(asked, fails="task 3")
    outputs = answer(DurableStage(failing, Model("parrot"), Context()), "p", REFERENCE, Sampling(0.0), tmp_path)
    assert len(outputs) == len(REFERENCE) - 1
    outputs = answer(DurableStage(parrots(asked), Model("parrot"), Context()), "p", REFERENCE, Sampling(0.0), tmp_path)
    assert len(outputs) == len(REFERENCE)
    assert asked.count("task 3") == 2 and asked.count("task 4") == 1
