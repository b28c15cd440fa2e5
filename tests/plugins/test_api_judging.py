"""A jury of two services, a cascade, win rates and checklists against servers that count: nothing is asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from api_runs import api_registry
from api_servers import running
from interrupted_runs import Interrupting, artifacts_of
from recipes import numbers_recipe

from tutelage.errors import StageError
from tutelage.execution.runner import run
from tutelage.planning.judge_steps import CompareCandidates
from tutelage.planning.pipelines import make_plan
from tutelage.planning.steps import Judge, Sample
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate
from tutelage.runs.store import Store
from tutelage.services.ledger import Ledger

PIPELINES = [
    "teacher-reward",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("cascade", "win-rate", "checklist")),
]


def recipe_of(pipeline: str, url: str) -> Recipe:
    """A recipe in which services judge; for teacher-reward they are a jury of two models."""

    def bound(name: str) -> dict[str, Any]:
        settings = {"base_url": f"{url}/v1", "revision": "1", "limits": {"in_flight": 2}}
        return {"plugin": "openai", "model": name, "settings": settings}

    student = {"plugin": "numbers", "model": "numbers/novice"}
    jury = {"judges": {"one": bound("gpt-one"), "two": bound("gpt-two")}}
    values = numbers_recipe(
        models={"student": student, **(jury if pipeline == "teacher-reward" else {"teacher": bound("gpt-test")})},
        pipelines={pipeline: {"judging": {"samples": 2 if pipeline == "cascade" else 1, "temperature": 0.5}}},
        controls={},
        iterations=1,
        judging={"rubric": "additive"},
        evaluation=None,
    )
    values["data"]["prompts"]["count"] = 12
    return from_values(values)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_run_that_breaks_and_continues_asks_a_service_nothing_twice(
    pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("openai", tmp_path / "log.jsonl") as server:
        recipe, whole, broken = recipe_of(pipeline, server.url), tmp_path / "whole", tmp_path / "broken"
        run(recipe, whole, api_registry())
        asked = len(server.asked())
        stored = sum(line.answers for line in Ledger().spend(by=("stage",)))
        assert asked == stored > 0
        calling = [step for step in make_plan(recipe).steps if isinstance(step, Judge | CompareCandidates | Sample)]
        assert asked <= sum(step.count for step in calling if step.worker.role != "student")
        candidates = Store(whole).read("seed-0/M1/samples/candidates.jsonl", Candidate)
        distinct = len({(one.prompt_id, one.text) for one in candidates})  # equal answers are judged once
        by_student = len(candidates) + (2 * distinct if pipeline == "cascade" else 0)
        monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "other-ledger.db"))
        registry = api_registry()
        registry.register(Interrupting(after=by_student + asked // 2), "interrupting")
        with pytest.raises(StageError, match="the power is gone"):
            run(recipe, broken, registry)
        assert asked < len(server.asked()) < 2 * asked
        run(recipe, broken, api_registry())
        assert len(server.asked()) == 2 * asked
        assert artifacts_of(broken) == artifacts_of(whole)
