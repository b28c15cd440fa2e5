"""Training steps in CUDA graphs: the same losses as without. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_captured_training_gpu.py``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from attrs import evolve  # noqa: E402
from model_families import FAMILIES, config_of  # noqa: E402
from stock_training import write_ragged_examples, write_ragged_pairs  # noqa: E402

from tutelage.context import Context  # noqa: E402
from tutelage.objectives import Dpo, Lora, Objective, Sft  # noqa: E402
from tutelage.records import Model  # noqa: E402
from tutelage_transformers.models.loading import read  # noqa: E402
from tutelage_transformers.models.quiet import quiet  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402
from tutelage_transformers.training.capturing import CapturedBackbone  # noqa: E402
from tutelage_transformers.training.request import TrainingRequest  # noqa: E402
from tutelage_transformers.training.step import build, training_dtype  # noqa: E402

LORA = Lora(r=8, alpha=16, dropout=0.0)
SFT = Sft(epochs=10, learning_rate=1e-3, batch_size=4)
DPO = Dpo(epochs=10, learning_rate=1e-3, batch_size=4)
TOLERANCE = 2e-2
"""Of a loss in bfloat16, relative. A filled batch is multiplied in other pieces, and attention backward adds in any
order."""


def built(
    start: Path,
    objective: Objective,
    folder: Path,
    rows: list[str] | None = None,
    prepare: Callable[[Any], None] | None = None,
    **changes: Any,
) -> Any:
    """The trainer of ``rows``, or of twelve ragged ones. ``prepare`` gets the model first."""
    folder.mkdir()
    file = (write_ragged_examples if isinstance(objective, Sft) else write_ragged_pairs)(folder / "rows.jsonl")
    if rows is not None:
        file.write_text("\n".join(rows) + "\n")
    settings = evolve(TransformersSettings(device="cuda"), **changes)
    loaded = read(Model("transformers", str(start)), settings, training_dtype(objective, settings))
    if prepare is not None:
        prepare(loaded.model)
    request = TrainingRequest(Model("transformers", str(start)), None, objective, file, folder, folder, settings)
    with quiet():
        return build(request, loaded, None, folder, Context())


def trained(*arguments: Any, **changes: Any) -> Any:
    """The trainer after a whole training."""
    trainer = built(*arguments, **changes)
    with quiet():
        trainer.train()
    return trainer


def captured_steps(trainer: Any) -> int:
    found = [
        vars(module)["tutelage_captured"] for module in trainer.model.modules() if "tutelage_captured" in vars(module)
    ]
    assert all(isinstance(one, CapturedBackbone) for one in found)
    return sum(len(one._passes) for one in found)


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize("objective", [SFT, DPO, evolve(SFT, lora=LORA), evolve(DPO, lora=LORA)])
def test_captured_training_has_the_losses_of_training_without_graphs(
    base: Path, tmp_path: Path, objective: Objective, micro: int | None
) -> None:
    objective = evolve(objective, micro_batch_size=micro)
    graphs = trained(base, objective, tmp_path / "graphs")
    plain = trained(base, objective, tmp_path / "plain", cuda_graphs=False)
    assert captured_steps(graphs) >= 1
    assert captured_steps(plain) == 0
    assert losses(plain)[-1] < 0.97 * losses(plain)[0]
    assert losses(graphs) == pytest.approx(losses(plain), rel=TOLERANCE, abs=5e-3)


def test_adapters_with_dropout_draw_another_mask_in_each_captured_step(base: Path, tmp_path: Path) -> None:
    rows = write_ragged_examples(tmp_path / "rows.jsonl").read_text().splitlines()[0]
    objective = evolve(SFT, lora=Lora(r=8, alpha=16, dropout=0.5), epochs=1, learning_rate=1e-2, batch_size=1)
    trainer = trained(base, objective, tmp_path / "graphs", rows=[rows] * 60)
    assert captured_steps(trainer) == 1
    found = losses(trainer)[-20:]
    changes = [later - earlier for earlier, later in pairwise(found)]
    assert min(changes) < 0 < max(changes)  # with one mask for all steps, the loss of the one row would only fall


@pytest.mark.parametrize(
    "name", ["llama", "qwen2", "qwen3", "gemma", "gemma3_text", "mistral", "phi", "phi3", "gpt_neox", "opt"]
)
def test_a_family_is_captured_with_the_same_losses(base: Path, tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = config_of(next(family for family in FAMILIES if family.model_type == name))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "model")
    graphs = trained(tmp_path / "model", DPO, tmp_path / "graphs")
    plain = trained(tmp_path / "model", DPO, tmp_path / "plain", cuda_graphs=False)
    assert losses(graphs) == pytest.approx(losses(plain), rel=TOLERANCE, abs=1e-2)
    assert captured_steps(graphs) >= 1


def test_a_model_that_copies_values_to_the_cpu_is_trained_without_graphs(base: Path, tmp_path: Path) -> None:
    def prepare(model: Any) -> None:
        model.base_model.layers[0].register_forward_hook(lambda *_: torch.ones(1, device="cuda").item() and None)

    trainer = trained(base, DPO, tmp_path / "out", prepare=prepare)
    assert captured_steps(trainer) == 0
    assert losses(trainer)[-1] < 0.8 * losses(trainer)[0]


def first_losses(trainer: Any, without_gradients: bool) -> Any:
    """The gradients of one batch, of which a pass is captured, and of one in the same order before its backward."""
    model = trainer.model.train()
    rows = [trainer.train_dataset[number] for number in range(8)]
    names = trainer._signature_columns or list(rows[0])
    rows = [{name: row[name] for name in row if name in names} for row in rows]

    def loss(start: int) -> Any:
        batch = trainer._prepare_inputs(trainer.data_collator(rows[start : start + 4]))
        with trainer.accelerator.autocast():  # a model that is trained in full is in float32, which is not captured
            return trainer.compute_loss(model, batch)

    for _ in range(3):  # the first one is measured, the second one captured
        model.zero_grad()
        loss(0).backward()
    model.zero_grad()
    first = loss(0)
    if without_gradients:
        with torch.no_grad():
            loss(4)
    else:
        loss(4).backward()
    first.backward()
    return torch.cat([weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("without_gradients", [False, True], ids=["two passes", "a pass without gradients"])
@pytest.mark.parametrize("objective", [DPO, evolve(DPO, lora=LORA)], ids=["full", "adapter"])
def test_a_pass_before_the_backward_of_a_captured_one_leaves_its_activations(
    base: Path, tmp_path: Path, objective: Objective, without_gradients: bool
) -> None:
    graphs = built(base, objective, tmp_path / "graphs")
    plain = built(base, objective, tmp_path / "plain", cuda_graphs=False)
    found, expected = (first_losses(trainer, without_gradients) for trainer in (graphs, plain))
    assert captured_steps(graphs) == 1
    assert (found - expected).norm() < 0.05 * expected.norm()


def allocate_too_much(_: Any, __: Any, output: Any) -> None:
    if torch.cuda.is_current_stream_capturing():
        torch.empty(2**50, dtype=torch.uint8, device="cuda")


def wait_in_forward(_: Any, __: Any, output: Any) -> None:
    if torch.cuda.is_current_stream_capturing():
        output.sum().item()


def wait_in_backward(_: Any, __: Any, output: Any) -> None:
    """The first batch does not show it, because its forward pass alone is observed."""

    def wait(gradient: Any) -> None:
        gradient.sum().item()

    if output.requires_grad:
        output.register_hook(wait)


@pytest.mark.parametrize("fault", [allocate_too_much, wait_in_forward, wait_in_backward])
def test_a_training_whose_capture_fails_continues_without_graphs(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Callable[..., None]
) -> None:
    """Dropout shows that the random numbers are those of a training without graphs."""
    objective = evolve(DPO, lora=evolve(LORA, dropout=0.3))

    def prepare(model: Any) -> None:
        model.base_model.layers[1].mlp.register_forward_hook(fault)

    stream = torch.cuda.current_stream()
    failed = trained(base, objective, tmp_path / "failed", prepare=prepare)
    assert torch.cuda.current_stream() == stream
    assert captured_steps(failed) == 0
    [notice] = [record.getMessage() for record in caplog.records if "CUDA graph" in record.getMessage()]
    assert "continues without graphs: CUDA" in notice
    plain = trained(base, objective, tmp_path / "plain", prepare=prepare, cuda_graphs=False)
    assert losses(failed) == pytest.approx(losses(plain), rel=TOLERANCE, abs=5e-3)
    graphs = trained(base, objective, tmp_path / "graphs")
    assert captured_steps(graphs) >= 1, "a later training of the process is captured"


def test_a_failed_capture_keeps_no_memory(base: Path, tmp_path: Path) -> None:
    def prepare(model: Any) -> None:
        model.base_model.layers[1].mlp.register_forward_hook(wait_in_backward)

    reserved = []
    for name in ("first", "second", "third"):
        trained(base, DPO, tmp_path / name, prepare=prepare)
        gc.collect()
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[2] <= reserved[1]
