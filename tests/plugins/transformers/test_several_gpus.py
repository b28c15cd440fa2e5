"""Tests that need two GPUs: training by kept processes and by FSDP, and answers that two GPUs share. Skipped without.

On a machine with two: ``python -m pytest tests/plugins/transformers/test_several_gpus.py``. A test with FSDP starts
accelerate's launcher, which takes about ten seconds.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two GPUs here")

from tutelage.context import Context  # noqa: E402
from tutelage.objectives import Dpo, Lora, Objective, Sft  # noqa: E402
from tutelage.records import Model, Prompt, Sampling  # noqa: E402
from tutelage_transformers.generation import dispatch  # noqa: E402
from tutelage_transformers.generation.answering import candidates  # noqa: E402
from tutelage_transformers.models.loading import read  # noqa: E402
from tutelage_transformers.processes import pool  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402
from tutelage_transformers.training.step import train  # noqa: E402

ONE = TransformersSettings(device="cuda", dtype="float32", processes=1)
TWO = evolve(ONE, device="auto", processes=2)
LORA = Lora(r=4, alpha=8, dropout=0.0)
SFT = Sft(epochs=2, learning_rate=1e-2, batch_size=4, warmup_ratio=0.0)
DPO = Dpo(epochs=2, learning_rate=1e-3, batch_size=4, warmup_ratio=0.0)
TOLERANCE = 1e-3
"""Relative difference, in float32, of each step's loss and of the checkpoint's loss from those of one process: sums
over two GPUs are rounded in another order, and Adam amplifies the rounding of gradients that are almost 0."""

BFLOAT16_TOLERANCE = 0.03
"""The same for the loss of each step in bfloat16, whose numbers have 8 bits."""


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    dispatch.release_all()
    pool.end_all()


@pytest.fixture(params=["sft", "sft-lora", "dpo", "dpo-lora"])
def training(request: pytest.FixtureRequest, sft_file: Path, dpo_file: Path) -> tuple[Objective, Path]:
    """An objective, and a file of its examples."""
    kind, _, adapter = request.param.partition("-")
    objective: Objective = SFT if kind == "sft" else DPO
    return evolve(objective, lora=LORA if adapter else None), sft_file if kind == "sft" else dpo_file


class Trainings:
    """Trainings from one base model, each into a folder of its own."""

    def __init__(self, base: Path, folder: Path, training: tuple[Objective, Path]) -> None:
        self.base, self.folder = base, folder
        self.objective, self.examples = training

    def train(self, name: str, settings: TransformersSettings, reference: Path | None = None) -> list[dict[str, Any]]:
        rows: list[Any] = []
        output, scratch = self.folder / name, self.folder / f"{name}-scratch"
        for folder in (output, scratch):
            folder.mkdir()
        near = Model("transformers", str(reference)) if reference else None
        context = Context(settings=settings, scratch=scratch, log=rows.append)
        train(Model("transformers", str(self.base)), near, self.objective, self.examples, output, context)
        return rows

    def assert_equal(self, rows: list[dict[str, Any]], expected: list[dict[str, Any]], name: str) -> None:
        """Compare a training, in the folder ``name``, with that of one process, in the folder ``one``."""
        assert [row["step"] for row in rows] == [row["step"] for row in expected]
        for row, other in zip(rows, expected, strict=True):
            assert math.isclose(row["loss"], other["loss"], rel_tol=TOLERANCE), row["step"]
        start, one, trained = (loss_of(folder) for folder in (self.base, self.folder / "one", self.folder / name))
        assert one != start, "the training changed the model"
        assert math.isclose(trained, one, rel_tol=TOLERANCE)
        assert abs(trained - one) < 0.1 * abs(one - start) + 1e-5, "by much more than the two checkpoints differ"
        files, others = ({file.name for file in (self.folder / folder).iterdir()} for folder in (name, "one"))
        assert files == others


def loss_of(folder: Path) -> float:
    """The mean loss per token of a checkpoint on answers of the training data, in float32 on the CPU."""
    loaded = read(Model("transformers", str(folder)), TransformersSettings(device="cpu"))
    ids = loaded.tokenizer("sort the words apple dog dog apple pear cow cow pear", return_tensors="pt").input_ids
    with torch.no_grad():
        return float(loaded.model(input_ids=ids, labels=ids).loss)


@pytest.fixture
def trainings(base: Path, tmp_path: Path, training: tuple[Objective, Path]) -> Trainings:
    return Trainings(base, tmp_path, training)


def accelerate_config(folder: Path, version: int) -> str:
    """Write a user's accelerate config for FSDP on two GPUs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sharding = "fsdp_reshard_after_forward: true" if version == 2 else "fsdp_sharding_strategy: FULL_SHARD"
    config = folder / "fsdp.yaml"
    config.write_text(f"""
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: 'no'
num_machines: 1
num_processes: 2
machine_rank: 0
main_process_port: {port}
fsdp_config:
  fsdp_version: {version}
  {sharding}
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_use_orig_params: true
  fsdp_cpu_ram_efficient_loading: false
""")
    return str(config)


def test_kept_processes_on_two_gpus_learn_what_one_learns(trainings: Trainings) -> None:
    expected = trainings.train("one", ONE)
    trainings.assert_equal(trainings.train("two", TWO), expected, "two")
    kept = pool.current()
    assert kept is not None
    processes = kept.process_ids
    again = trainings.train("again", TWO)
    trainings.assert_equal(again, expected, "again")
    assert kept.process_ids == processes


@pytest.mark.parametrize("training", ["sft-lora", "dpo-lora"], indirect=True)
def test_lora_layers_in_bfloat16_which_use_kernels_learn_on_two_gpus_what_they_learn_on_one(
    trainings: Trainings,
) -> None:
    one, two = (
        trainings.train(name, evolve(settings, dtype="bfloat16")) for name, settings in (("one", ONE), ("two", TWO))
    )
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for row, other in zip(one, two, strict=True):
        assert math.isclose(row["loss"], other["loss"], rel_tol=BFLOAT16_TOLERANCE), row["step"]
    assert one[-1]["loss"] < one[0]["loss"]


@pytest.mark.parametrize("version", [1, 2])
def test_fsdp_on_two_gpus_learns_what_one_process_learns(trainings: Trainings, tmp_path: Path, version: int) -> None:
    expected = trainings.train("one", ONE)
    sharded = evolve(ONE, device="auto", processes=None, accelerate_config=accelerate_config(tmp_path, version))
    trainings.assert_equal(trainings.train("fsdp", sharded), expected, "fsdp")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_dpo_by_fsdp_stays_near_a_reference_that_is_another_model(
    base: Path, other_base: Path, dpo_file: Path, tmp_path: Path, version: int, lora: Lora | None
) -> None:
    trainings = Trainings(base, tmp_path, (evolve(DPO, lora=lora), dpo_file))
    expected = trainings.train("one", ONE, other_base)
    sharded = evolve(ONE, device="auto", processes=None, accelerate_config=accelerate_config(tmp_path, version))
    trainings.assert_equal(trainings.train("fsdp", sharded, other_base), expected, "fsdp")


@pytest.mark.parametrize("engine", ["paged", "padded"])
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "drawn"])
def test_two_gpus_give_the_answers_of_one(base: Path, engine: Any, temperature: float) -> None:
    prompts = [Prompt(f"sort the words cat dog{' red' * (number % 5)}{' please' * number}") for number in range(40)]
    sampling = Sampling(temperature=temperature, max_new_tokens=16, seed=3)
    found = []
    for settings in (ONE, TWO):
        context = Context(settings=evolve(settings, engine=engine))
        answers = candidates(Model("transformers", str(base)), iter(prompts), 4, sampling, context)
        found.append({answer.id: answer for answer in answers})
    assert found[0] == found[1]


def test_released_processes_hold_no_memory_of_their_gpus(base: Path) -> None:
    pool.end_all()
    model, prompts = Model("transformers", str(base)), [Prompt("sort the words"), Prompt("sort the cat")]
    list(candidates(model, prompts, 1, Sampling(max_new_tokens=2), Context(settings=TWO)))
    kept = pool.current()
    assert kept is not None

    def reserved() -> dict[int, int]:
        assert kept is not None
        return dict(kept.run("worker_probe:reserved_bytes", {0: None, 1: None}, "probing"))

    before = reserved()
    dispatch.release(model)
    assert dict(kept.run("worker_probe:models_in_memory", {0: None, 1: None}, "probing")) == {0: [], 1: []}
    assert all(after < min(before[number], 128 * 2**20) for number, after in reserved().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_read_onto_a_gpu_equal_those_that_are_moved_there(base: Path, dtype: Any) -> None:
    model = Model("transformers", str(base))
    on_gpu = read(model, evolve(ONE, device="cuda:1", dtype=dtype)).model
    moved = read(model, evolve(ONE, device="cpu", dtype=dtype, attention="sdpa")).model.to("cuda:1")
    weights, expected = on_gpu.state_dict(), moved.state_dict()
    assert weights.keys() == expected.keys()
    assert all(weights[name].device == torch.device("cuda:1") for name in weights)
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    for buffer, other in zip(on_gpu.buffers(), moved.buffers(), strict=True):  # computed on each device
        assert buffer.device == other.device and torch.allclose(buffer, other, rtol=1e-6)


def test_tied_weights_that_are_read_onto_a_gpu_stay_tied(make_grouped: Any, base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tied = make_grouped()
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    tied.save_pretrained(tmp_path / "tied")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "tied")
    model = read(Model("transformers", str(tmp_path / "tied")), ONE).model
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert model.get_input_embeddings().weight.device.type == "cuda"
