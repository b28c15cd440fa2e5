"""Complete runs of the two teacher pipelines that differ only in the teacher.

A local run with the teacher of the plugin ``tiny`` is the reference. Then ``transformers serve`` serves its M1, called
with the plugin ``openai``, and a server with Gemini's protocol serves the teacher of ``tiny``, called with ``gemini``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from api_servers import running
from click.testing import CliRunner
from transformers_server import serving

from tutelage.cli import cli
from tutelage.examples import Preference
from tutelage.files.trl_format import read_preferences
from tutelage.records import Demonstration, Judgement, Outcome
from tutelage.results.summary import read_summary
from tutelage.runs.store import Store
from tutelage.services.ledger import Ledger

ASKED_FOR = {"teacher-reward": "judgements.jsonl", "teacher-demonstration": "demonstrations.jsonl"}
"""The artifact that the teacher writes in each pipeline."""
STAGES = ("judge", "demonstrate")
"""In which the teacher answers."""
RECIPE = {
    "name": "small",
    "seeds": [0],
    "iterations": 1,
    "models": {
        "student": {"plugin": "transformers", "model": "tiny/student", "settings": {"threads": 1}},
        "teacher": {"plugin": "tiny"},
        "evaluator": {"plugin": "tiny"},
    },
    "data": {
        "ift": {"source": "tiny/ift", "count": 24},
        "eft": {"source": "tiny/eft", "count": 96},
        "prompts": {"source": "tiny/train", "count": 24},
        "decontaminate": {"share": 1},
    },
    "generation": {"n": 2, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 24},
    "judging": {"rubric": "tiny/additive", "samples": 1, "temperature": 0.0, "max_new_tokens": 3},
    "sft": {"epochs": 3, "learning_rate": 5e-4, "batch_size": 16},
    "dpo": {"epochs": 1, "learning_rate": 1e-4, "batch_size": 16, "beta": 2.0},
    "evaluation": {
        "prompts": {"source": "tiny/held-out", "count": 8},
        "sampled": 1,
        "max_new_tokens": 24,
        "agreement_prompts": 0,
        "rubric": "tiny/additive",
    },
}
"""A small version of the embedded recipe. As in that recipe, judgements end after "score: 4"."""


def tutelage_run(directory: Path, pipelines: Sequence[str], *options: str) -> Store:
    """Run ``tutelage run`` and return the store of the run."""
    recipe = directory.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump({**RECIPE, "pipelines": dict.fromkeys(pipelines)}), encoding="utf-8")
    result = CliRunner().invoke(cli, ["run", str(recipe), "--run", str(directory), "--quiet", *options])
    assert result.exit_code == 0, result.output
    return Store(directory)


def taught_by(plugin: str, model: str, base_url: str) -> list[str]:
    """The command-line options that bind the teacher to a service."""
    settings = {"base_url": base_url, "revision": "first"}
    changes = [f"models.teacher.settings.{key}={value}" for key, value in settings.items()]
    return ["--teacher", f"{plugin}:{model}", *(word for change in changes for word in ("--set", change))]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run with the teacher of ``tiny``, and with M1 as its own judge."""
    return tutelage_run(tmp_path_factory.mktemp("local") / "run", ("self-reward", *ASKED_FOR))


@pytest.fixture(scope="module")
def first_model(local: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options for a teacher that is the local run's M1, served by ``transformers serve``."""
    checkpoint = local.path("seed-0/M1/checkpoint")
    with serving(checkpoint, tmp_path_factory.mktemp("served") / "server.log") as url:
        yield taught_by("openai", str(checkpoint), url)


def assert_whole(store: Store, *pipelines: str) -> None:
    for pipeline in pipelines:
        for artifact in ("demonstrations.jsonl", "judgements.jsonl"):
            assert store.has(f"seed-0/{pipeline}/M2/{artifact}") is (artifact == ASKED_FOR[pipeline])
        assert pairs_of(store, pipeline)
        assert store.has(f"seed-0/{pipeline}/M2/checkpoint/model.safetensors")
    models = [model.id for model in read_summary(store.path("summary.json")).models]
    assert models == ["M0", "M1", *sorted(f"M2/{pipeline}" for pipeline in pipelines)]


def pairs_of(store: Store, pipeline: str) -> list[Preference]:
    return read_preferences(store.path(f"seed-0/{pipeline}/M2/preferences.jsonl"))


def kept_answers(ledger: Path) -> dict[tuple[str, str], int]:
    """The number of answers in the ledger, by stage and outcome."""
    return {(line.group[0], line.group[1]): line.answers for line in Ledger(ledger).spend(by=("stage", "outcome"))}


def test_m1_judges_through_transformers_serve_as_it_judges_itself(
    first_model: list[str], local: Store, tmp_path: Path
) -> None:
    store = tutelage_run(tmp_path / "run", ["teacher-reward"], *first_model)
    assert_whole(store, "teacher-reward")
    served = store.read("seed-0/teacher-reward/M2/judgements.jsonl", Judgement)
    own = local.read("seed-0/self-reward/M2/judgements.jsonl", Judgement)
    assert [(row.id, row.raw, row.score) for row in served] == [(row.id, row.raw, row.score) for row in own]
    parsed = [row for row in served if row.score is not None]
    assert len(served) == 48
    assert len(parsed) > 40  # 45 when this was written: three tokens are enough for "score: 4"
    assert {row.outcome for row in parsed} == {Outcome.ANSWERED}
    assert {row.outcome for row in served} <= {Outcome.ANSWERED, Outcome.CUT, Outcome.UNPARSED}


@pytest.mark.slow
def test_m1_demonstrates_through_transformers_serve(first_model: list[str], tmp_path: Path, ledger_path: Path) -> None:
    store = tutelage_run(tmp_path / "run", ["teacher-demonstration"], *first_model)
    assert_whole(store, "teacher-demonstration")
    shown = store.read("seed-0/teacher-demonstration/M2/demonstrations.jsonl", Demonstration)
    assert [one.outcome for one in shown] == [Outcome.ANSWERED] * 24
    assert kept_answers(ledger_path) == {("demonstrate", "answered"): 24}
    chosen = {pair.prompt_id: pair.chosen for pair in pairs_of(store, "teacher-demonstration")}
    assert chosen.items() <= {one.prompt_id: one.text for one in shown}.items()


def test_the_local_teacher_behind_gemini_s_protocol_ends_with_the_local_run_s_artifacts(
    local: Store, tmp_path: Path, ledger_path: Path
) -> None:
    with running("gemini", tmp_path / "log.jsonl", "--speaker", "tiny") as server:
        store = tutelage_run(tmp_path / "run", list(ASKED_FOR), *taught_by("gemini", "gemini-test", server.url))
        asked = len(server.asked())
    assert_whole(store, *ASKED_FOR)
    for pipeline, answers in ASKED_FOR.items():
        for name in (answers, "preferences.jsonl", "checkpoint/model.safetensors"):
            artifact = f"seed-0/{pipeline}/M2/{name}"
            assert store.path(artifact).read_bytes() == local.path(artifact).read_bytes(), artifact
    kept = kept_answers(ledger_path)
    assert kept.keys() == {(stage, "answered") for stage in STAGES}
    assert sum(kept.values()) == asked
