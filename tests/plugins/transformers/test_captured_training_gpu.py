"""Training steps in CUDA graphs: the same losses as without. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_captured_training_gpu.py``.
"""

from __future__ import annotations

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


def trained(start: Path, objective: Objective, folder: Path, rows: list[str] | None = None, **changes: Any) -> Any:
    """The trainer after a whole training on ``rows``, or on twelve ragged ones."""
    folder.mkdir()
    file = (write_ragged_examples if isinstance(objective, Sft) else write_ragged_pairs)(folder / "rows.jsonl")
    if rows is not None:
        file.write_text("\n".join(rows) + "\n")
    settings = evolve(TransformersSettings(device="cuda"), **changes)
    loaded = read(Model("transformers", str(start)), settings, training_dtype(objective, settings))
    request = TrainingRequest(Model("transformers", str(start)), None, objective, file, folder, folder, settings)
    with quiet():
        trainer = build(request, loaded, None, folder, Context())
        trainer.train()
    return trainer


def captured_steps(trainer: Any) -> int:
    found = [
        vars(module)["tutelage_captured"] for module in trainer.model.modules() if "tutelage_captured" in vars(module)
    ]
    assert all(isinstance(one, CapturedBackbone) for one in found)
    return sum(len(one._steps) for one in found)


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
    from transformers.models.auto import modeling_auto  # noqa: F401

    settings = TransformersSettings(device="cuda")
    loaded = read(Model("transformers", str(base)), settings, torch.float32)
    layer = loaded.model.base_model.layers[0]
    layer.register_forward_hook(lambda *_: torch.ones(1, device="cuda").item() and None)
    folder = tmp_path / "out"
    folder.mkdir()
    rows = write_ragged_pairs(folder / "rows.jsonl")
    request = TrainingRequest(Model("transformers", str(base)), None, DPO, rows, folder, folder, settings)
    with quiet():
        trainer = build(request, loaded, None, folder, Context())
        trainer.train()
    assert captured_steps(trainer) == 0
    assert losses(trainer)[-1] < 0.8 * losses(trainer)[0]
