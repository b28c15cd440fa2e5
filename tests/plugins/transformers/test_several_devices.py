"""Trainings by two processes on a CPU (gloo), compared with trainings by one."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ranks import train_together

from tutelage.child_processes import python_script
from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.devices.parallel import share_of_objective, training_processes
from tutelage_transformers.models import chat
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.processes.child import last_lines
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.arguments import trainer_arguments
from tutelage_transformers.training.fitting import divide_step
from tutelage_transformers.training.launching import accelerate, running
from tutelage_transformers.training.request import STOP, TrainingRequest, failures
from tutelage_transformers.training.step import train

SFT = Sft(epochs=2, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
DPO = Dpo(epochs=2, learning_rate=1e-3, batch_size=4, warmup_ratio=0.0)
LORA = Lora(r=4, alpha=8, dropout=0.0)
TWO = TransformersSettings(processes=2, device="cpu")


class Both:
    """The same training by one process and by two."""

    def __init__(self, start: Path, objective: Objective, examples: Path, folder: Path) -> None:
        self.model, self.objective, self.examples, self.folder = (
            Model("transformers", str(start)),
            objective,
            examples,
            folder,
        )

    def context(self, **given: Any) -> Context:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return Context(scratch=scratch, **given)

    def output(self, name: str) -> Path:
        output = self.folder / name
        output.mkdir()
        return output

    def by_one(self, settings: TransformersSettings) -> list[dict[str, Any]]:
        rows: list[Any] = []
        context = self.context(settings=evolve(settings, processes=1), log=rows.append)
        train(self.model, None, self.objective, self.examples, self.output("one"), context)
        return rows

    def request(self, settings: TransformersSettings, output: str = "two") -> TrainingRequest:
        scratch = self.context().scratch
        return TrainingRequest(self.model, None, self.objective, self.examples, self.output(output), scratch, settings)

    def by_two(self, settings: TransformersSettings = TWO) -> list[dict[str, Any]]:
        statuses, rows = train_together(self.request(settings), self.folder / "request")
        assert statuses == [0, 0], failures(self.folder / "request")
        return rows


@pytest.mark.parametrize(
    "objective",
    [SFT, DPO, evolve(SFT, lora=LORA), evolve(DPO, lora=LORA, loss_type={"sigmoid": 1.0, "sft": 0.2})],
    ids=["sft", "dpo", "sft-lora", "dpo-summed-losses"],
)
def test_a_request_is_read_as_it_was_written_with_absolute_paths(tmp_path: Path, objective: Objective) -> None:
    start, near = Model("transformers", "start", {"threads": 1}, "M1"), Model("transformers", "near")
    request = TrainingRequest(start, near, objective, Path("data.jsonl"), Path("out"), Path("scratch"), TWO)
    request.write(tmp_path)
    absolute = {name: Path.cwd() / getattr(request, name) for name in ("examples", "output", "scratch")}
    assert TrainingRequest.read(tmp_path) == evolve(request, **absolute)


def assert_close(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {"rewards/accuracies"}:  # at the start all rewards are equal except for rounding
            assert math.isclose(row[key], other[key], rel_tol=1e-5, abs_tol=1e-5), (row["step"], key)


def assert_close_weights(one: Path, two: Path) -> None:
    from safetensors.torch import load_file

    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        if "k_proj.bias" not in name:  # attention does not depend on it: its gradient is rounding, which Adam amplifies
            assert (weights[0][name] - weights[1][name]).abs().max() < 1e-5, name


@pytest.mark.parametrize(
    ("kind", "change", "settings"),
    [
        ("sft", {}, TWO),
        ("sft", {"micro_batch_size": 1, "lora": LORA}, TWO),
        ("dpo", {}, TWO),
        ("dpo", {"lora": LORA, "loss_type": "ipo"}, evolve(TWO, packing=True)),
    ],
    ids=["sft", "sft-lora-accumulated", "dpo", "dpo-lora-packed"],
)
def test_two_processes_learn_what_one_learns(
    base: Path,
    sft_file: Path,
    dpo_file: Path,
    tmp_path: Path,
    kind: str,
    change: dict[str, Any],
    settings: TransformersSettings,
) -> None:
    objective: Objective = evolve(SFT if kind == "sft" else DPO, **change)
    both = Both(base, objective, sft_file if kind == "sft" else dpo_file, tmp_path)
    assert_close(both.by_two(settings), both.by_one(settings))
    assert_close_weights(tmp_path / "one", tmp_path / "two")
    files, expected = ({file.name for file in (tmp_path / name).iterdir()} for name in ("two", "one"))
    assert files == expected


def test_two_processes_learn_the_same_from_an_epoch_with_a_short_last_step(
    base: Path, dpo_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "ten.jsonl"
    file.write_text("".join(dpo_file.read_text().splitlines(keepends=True)[:10]))
    both = Both(base, DPO, file, tmp_path)
    assert_close(both.by_two(), both.by_one(TWO))


def test_a_training_by_two_processes_continues_after_it_was_cancelled(
    base: Path, sft_file: Path, tmp_path: Path
) -> None:
    kept = evolve(TWO, checkpoint_minutes=0)
    both = Both(base, evolve(SFT, lora=evolve(LORA, dropout=0.2)), sft_file, tmp_path)
    expected = both.by_two(kept)
    request = both.request(kept, "stopped")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / STOP).touch()
    (tmp_path / "first").rename(tmp_path / "stop")
    statuses, rows = train_together(request, tmp_path / "stop", exist_ok=True)
    assert statuses == [StageError.exit_code] * 2 and len(rows) == 1
    assert {failure.message for failure in failures(tmp_path / "stop")} == {
        "training was cancelled after 1 of 8 steps; the same command continues after step 1"
    }
    statuses, rows = train_together(request, tmp_path / "again")
    assert (statuses, rows) == ([0, 0], expected)


@pytest.mark.parametrize(("micro", "expected"), [(None, (4, 1)), (1, (1, 4)), (2, (2, 2)), (8, (4, 1))])
def test_two_processes_keep_the_batch_size_of_a_step(
    loaded: LoadedModel, tmp_path: Path, micro: int | None, expected: tuple[int, int]
) -> None:
    objective = evolve(SFT, batch_size=8, micro_batch_size=micro)
    division = divide_step(share_of_objective(objective, TWO), loaded.model, [10] * 9, False, TWO)
    with quiet():
        arguments = trainer_arguments(objective, loaded.model, tmp_path, TWO, False, division)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == expected


def test_a_batch_that_the_processes_cannot_share_equally_is_refused(base: Path, sft_file: Path, tmp_path: Path) -> None:
    settings = evolve(TWO, processes=3)
    with pytest.raises(InputError, match="batch_size 4: 3 processes cannot share it equally"):
        train(
            Model("transformers", str(base)),
            None,
            SFT,
            sft_file,
            tmp_path,
            Context(settings=settings, scratch=tmp_path),
        )


def test_on_a_cpu_one_process_trains_unless_more_are_requested() -> None:
    assert training_processes(TransformersSettings(device="cpu"), 4) == 1
    assert training_processes(TWO, 4) == 2


def test_a_missing_accelerate_config_is_refused(base: Path, sft_file: Path, tmp_path: Path) -> None:
    context = Context(settings=TransformersSettings(accelerate_config=str(tmp_path / "none.yaml")), scratch=tmp_path)
    with pytest.raises(
        InputError, match=r"accelerate_config: .*none.yaml: no such file; `accelerate config` makes one"
    ):
        train(Model("transformers", str(base)), None, SFT, sft_file, tmp_path, context)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """Logger, level and text of the warnings of the plugin; libraries log warnings, too."""
    return [warning for warning in caplog.record_tuples if warning[0].startswith("tutelage_transformers")]


# Tests with a real launcher, or with new processes, which take ten seconds each time


def test_a_users_accelerate_config_launches_the_training_in_which_a_further_machine_takes_part(
    merging_base: Path,
    sft_chats: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = [tmp_path / f"machine-{rank}.yaml" for rank in range(2)]
    for rank, config in enumerate(machines):
        config.write_text(
            "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 2\nnum_machines: 2\n"
            f"machine_rank: {rank}\nmain_process_ip: 127.0.0.1\nmain_process_port: {port}\nsame_network: true\n"
        )
    scratch = tmp_path / "run" / ".scratch" / "seed-0" / "M1"
    scratch.mkdir(parents=True)
    rows: list[Any] = []
    reported: list[int] = []
    settings = TransformersSettings(device="cpu", accelerate_config=str(machines[0]))
    both = Both(merging_base, SFT, sft_chats, tmp_path)
    monkeypatch.setattr(chat, "_reported", set())
    expected = both.by_one(TWO)
    [warning] = warnings_of(caplog)
    caplog.clear()
    monkeypatch.setattr(chat, "_reported", set())
    command = [sys.executable, "-m", "tutelage_transformers.join", str(tmp_path / "run"), str(machines[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as joining:
        context = Context(
            settings=settings, scratch=scratch, log=rows.append, expect=reported.append, advance=reported.append
        )
        trained = train(both.model, None, SFT, sft_chats, both.output("two"), context)
        assert joining.stdout is not None
        assert [joining.stdout.readline().split()[0] for _ in range(2)] == ["waiting", "taking"]
        assert joining.stdout.readline() == "ended with status 0\n"
        joining.send_signal(signal.SIGINT)
    assert joining.returncode == 0
    assert trained.name == str(tmp_path / "two")
    assert reported == [8] + [1] * 8
    assert_close(rows, expected)
    assert warnings_of(caplog) == [warning], "of two processes, as of one"
    assert not list(scratch.iterdir())


def test_launched_processes_import_nothing_from_the_current_folder(tmp_path: Path, shadowing_folder: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n")
    command = [*accelerate(str(config)), *python_script("json.tool", "--help")]
    with (tmp_path / "log").open("w+b") as log, running(command, log) as launcher:
        assert launcher.wait() == 0, last_lines(log)


@pytest.mark.slow  # test_together.py has an error of the request that is raised in the kept processes
def test_an_error_of_the_data_is_the_error_that_one_process_gives(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"prompt": "text"}\n')
    both = Both(base, SFT, file, tmp_path)
    with pytest.raises(InputError, match=r"broken.jsonl, line 1: 'prompt' is not a list of messages"):
        train(both.model, None, SFT, file, both.output("two"), both.context(settings=TWO))
    assert not list((tmp_path / "scratch").iterdir()) and not list((tmp_path / "two").iterdir())


@pytest.mark.slow  # test_pool.py has processes that import no libraries
def test_training_processes_end_with_their_parent(base: Path, sft_file: Path, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tutelage.context import Context
from tutelage.objectives import Sft
from tutelage.records import Model
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.step import train
folder = Path({str(tmp_path)!r})
settings = TransformersSettings(processes=2, device="cpu")
context = Context(settings=settings, scratch=folder, log=lambda row: print(row, flush=True))
start, objective = Model("transformers", {str(base)!r}), Sft(epochs=10_000, batch_size=4)
examples = Path({str(sft_file)!r})
train(start, None, objective, examples, folder / "M1", context)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and b"'step': 1" in parent.stdout.readline()
        workers = children(parent.pid)
        assert len(workers) == 2
        parent.kill()
    while any(Path("/proc", str(worker)).exists() for worker in workers):  # else this test does not end
        time.sleep(0.1)


def children(parent: int) -> set[int]:
    """The ids of the child processes of a process."""
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                found.add(int(entry.name))
    return found
