"""``tutelage status``: the progress of a run, read without changing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tutelage.errors import InputError
from tutelage.runs.status import run_status
from tutelage.runs.store import Store

Invoke = Callable[..., Result]
VERDICTS = "evaluation/seed-0/verdicts.jsonl"


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def unfinish(golden: Path) -> None:
    """Put the run into the state after a kill during the comparisons: a journal whose last line is incomplete."""
    (golden / "summary.json").unlink()
    lines = (golden / VERDICTS).read_bytes().splitlines(keepends=True)
    (golden / VERDICTS).unlink()
    (golden / VERDICTS).with_name(".verdicts.jsonl.journal").write_bytes(b"".join(lines[:20]) + lines[20][:10])
    with (golden / "steps.jsonl").open("ab") as file:
        file.write(b'{"output": "cut')


def test_a_finished_run_is_finished(invoke: Invoke, golden: Path) -> None:
    result = invoke("status", golden)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{golden}: recipe numbers, 37 steps: 37 done, 0 in progress, 0 to come",
        "started 2026-11-24 08:23 UTC; 0.0 s of work; $0.00 of API calls",
        "the run is finished",
    ]


def test_what_is_in_progress_and_to_come_is_shown_with_its_items(invoke: Invoke, golden: Path) -> None:
    unfinish(golden)
    before = contents(golden)
    lines = [" ".join(line.split()) for line in invoke("status", golden).stdout.splitlines()]
    assert f"evaluate evaluator in progress 20 of 72 verdicts {VERDICTS}" in lines
    assert "summarise to come 0 of 1 summary summary.json" in lines
    assert lines[-1] == f"no process is working on the run; continue it with `tutelage run --run {golden}`"
    assert contents(golden) == before


def test_an_unfinished_run_has_its_time_and_cost_and_what_is_left(invoke: Invoke, golden: Path) -> None:
    unfinish(golden)
    log = golden / "steps.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()[:-1]]
    rows = [{**row, "seconds": 10.0, "cost": 0.25} for row in rows if row["output"] != VERDICTS]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = invoke("status", golden).stdout.splitlines()
    status = json.loads(invoke("status", golden, "--json").stdout)
    assert (status["seconds"], status["cost"]) == (350.0, 8.75)
    assert status["started"] == "2026-11-24T08:23:16+00:00"
    assert status["last_step_finished"][:16] in datetime.fromtimestamp(log.stat().st_mtime, UTC).isoformat()
    moment = f"{datetime.fromtimestamp(log.stat().st_mtime, UTC):%Y-%m-%d %H:%M}"
    spent = f"started 2026-11-24 08:23 UTC; last step finished {moment} UTC; 5 min 50 s of work; $8.75 of API calls"
    assert spent in lines
    assert status["left"] == {"seconds": 0.0, "unknown_steps": 2}
    assert "left: unknown time for 2 steps, because no earlier run on this machine did such work" in lines


def test_what_is_left_is_estimated_from_the_finished_steps_without_the_items_in_the_journal(
    golden: Path,
) -> None:
    log = golden / "steps.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    judged = [row for row in rows if row["output"].endswith("judgements-own.jsonl")]
    log.write_text("".join(json.dumps({**row, "seconds": 8.0}) + "\n" for row in judged[:1]))
    for row in judged[1:2]:
        path = golden / row["output"]
        lines = path.read_bytes().splitlines(keepends=True)
        path.unlink()
        path.with_name(f".{path.name}.journal").write_bytes(b"".join(lines[: len(lines) // 2]))
    left = run_status(golden).left
    assert left.seconds == pytest.approx(4.0, rel=0.1)
    assert left.unknown == 0


def test_finished_steps_are_listed_on_demand(invoke: Invoke, golden: Path) -> None:
    lines = [" ".join(line.split()) for line in invoke("status", golden, "--all").stdout.splitlines()]
    [judged] = [line for line in lines if line.endswith("seed-0/self-reward/M2/judgements.jsonl")]
    assert judged.startswith("judge M1 done 48 judgements")


def test_json_has_every_step_and_the_process(invoke: Invoke, golden: Path) -> None:
    unfinish(golden)
    status = json.loads(invoke("status", golden, "--json").stdout)
    assert status["process"] is None
    assert status["done"] == 35
    states = {step["output"]: (step["state"], step["kept"]) for step in status["steps"]}
    assert states[VERDICTS] == ("in progress", 20)
    assert states["summary.json"] == ("to come", 0)


def test_who_holds_the_lock_is_named_and_not_disturbed(golden: Path) -> None:
    with Store(golden).lock():
        assert run_status(golden).process == os.getpid()
    assert run_status(golden).process is None


def test_a_process_that_is_gone_holds_nothing(golden: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (golden / ".lock").write_bytes(gone.stdout)
    assert run_status(golden).process is None
    (golden / ".lock").write_text("no number")
    assert run_status(golden).process is None


def test_a_training_that_has_begun_is_in_progress(golden: Path) -> None:
    (golden / "seed-0/M1/checkpoint").rename(golden / "seed-0/M1/.checkpoint.tmp")
    states = {step.step.output: step.state for step in run_status(golden).steps}
    assert states["seed-0/M1/checkpoint"] == "in progress"


def test_where_no_run_is_the_error_says_how_to_make_one(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("status", "nowhere")
    assert result.exit_code == 2
    assert "nowhere: contains no run" in result.stderr
    with pytest.raises(InputError, match="tutelage run RECIPE --run"):
        run_status(tmp_path)


def test_verify_finds_a_changed_checkpoint_and_a_truncated_artifact(
    invoke: Invoke, recipe_file: Callable[..., Path], small: dict[str, Any], tmp_path: Path
) -> None:
    assert invoke("run", recipe_file(**small), "--run", "here", "--quiet").exit_code == 0
    whole = invoke("status", "here", "--verify")
    assert whole.exit_code == 0, whole.output
    assert whole.stdout.splitlines()[-1] == "all finished artifacts are as they were written"
    weights = tmp_path / "here/seed-0/M1/checkpoint/weights.json"
    weights.write_bytes(weights.read_bytes().replace(b"5", b"4"))
    verdicts = tmp_path / "here" / VERDICTS
    verdicts.write_bytes(b"".join(verdicts.read_bytes().splitlines(keepends=True)[:-3]))
    assert invoke("status", "here").exit_code == 0
    found = invoke("status", "here", "--verify")
    assert found.exit_code == 2
    assert "seed-0/M1/checkpoint/weights.json has another checksum (SHA-256)" in found.stderr
    assert "delete the folder here/seed-0/M1/checkpoint, and `tutelage run --run here` makes it again" in found.stderr
    assert f"here/{VERDICTS} has " in found.stderr
    problems = json.loads(invoke("status", "here", "--verify", "--json").stdout)["problems"]
    assert len(problems) == 2


def test_verify_accepts_a_run_of_an_earlier_version(invoke: Invoke, golden: Path) -> None:
    assert invoke("status", golden, "--verify").exit_code == 0
