"""A checkpoint is complete by itself: other tools load it, and its parts belong together."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, field, frozen

from tutelage.context import Context
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.models.loading import read
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.step import train

SFT = Sft(epochs=4, learning_rate=1e-2, batch_size=8, lora=Lora(r=64, alpha=64))
DPO = Dpo(epochs=4, learning_rate=1e-2, batch_size=8, lora=Lora(r=16))


def train_step(start: Path, objective: Objective, examples: Path, output: Path, id: str) -> Path:
    output.mkdir(parents=True)
    model = Model("transformers", str(start), id=id)
    train(model, model if isinstance(objective, Dpo) else None, objective, examples, output, Context())
    return output


@frozen
class Chain:
    """Two trainings, each with an adapter of its own, as in a run."""

    base: Path
    first: Path
    second: Path
    steps: list[tuple[Path, Path]] = field(init=False)

    @steps.default
    def _steps(self) -> list[tuple[Path, Path]]:
        return [(self.base, self.first), (self.first, self.second)]


@pytest.fixture(scope="module")
def chain(base: Path, sft_file: Path, dpo_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """M0, M1 by SFT with r=64, M2 by DPO with r=16."""
    run = tmp_path_factory.mktemp("run")
    first = train_step(base, SFT, sft_file, run / "M1" / "checkpoint", "M0")
    return Chain(base, first, train_step(first, DPO, dpo_file, run / "M2" / "checkpoint", "M1"))


def plainly_loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)


def adapted(start: Path, checkpoint: Path) -> Any:
    """Return the start model with the checkpoint's adapter, by PEFT alone."""
    from peft import PeftModel

    return PeftModel.from_pretrained(plainly_loaded(start), str(checkpoint), subfolder="adapter")


def test_a_checkpoint_is_complete_and_nothing_else_is_written(base: Path, dpo_file: Path, tmp_path: Path) -> None:
    train_step(base, evolve(DPO, lora=None, epochs=1), dpo_file, tmp_path / "M2", "M1")
    assert {path.name for path in (tmp_path / "M2").iterdir()} == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    from transformers import AutoTokenizer

    model, tokenizer = plainly_loaded(tmp_path / "M2"), AutoTokenizer.from_pretrained(tmp_path / "M2")
    assert tokenizer.chat_template and tokenizer.pad_token == "<|pad|>"
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.use_cache and model.config.architectures == ["PhiForCausalLM"]


def test_generation_in_other_programs_stops_at_the_trained_end_token(
    base: Path, sft_file: Path, tmp_path: Path
) -> None:
    start = Path(shutil.copytree(base, tmp_path / "start"))
    settings = json.loads((start / "generation_config.json").read_text())
    (start / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": 9}))
    ended = train_step(start, evolve(SFT, lora=None, epochs=1), sft_file, tmp_path / "M1", "M0")
    written = json.loads((ended / "generation_config.json").read_text())
    assert written["eos_token_id"] == [0, 9]
    assert not written.get("_from_model_config")


def test_each_checkpoint_is_the_one_before_and_its_adapter(chain: Chain) -> None:
    import torch

    for (start, checkpoint), rank in zip(chain.steps, (64, 16), strict=True):
        merged = adapted(start, checkpoint)
        assert merged.peft_config["default"].r == rank
        expected, found = merged.merge_and_unload().state_dict(), plainly_loaded(checkpoint).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.allclose(expected[key], found[key], atol=1e-6) for key in expected)
        assert not torch.equal(found["lm_head.weight"], expected["model.embed_tokens.weight"])


def test_with_its_adapter_disabled_a_checkpoint_is_its_start_model(chain: Chain) -> None:
    import torch

    ids = torch.arange(5, 20)[None]
    for start, checkpoint in chain.steps:
        with torch.no_grad():
            before, after = plainly_loaded(start)(ids).logits, plainly_loaded(checkpoint)(ids).logits
            model = adapted(start, checkpoint)
            with model.disable_adapter():
                assert torch.equal(model(ids).logits, before)
            assert torch.allclose(model(ids).logits, after, atol=1e-4)
        assert (before - after).abs().max() > 1e-2


def test_the_first_step_of_dpo_starts_at_its_reference(chain: Chain, dpo_file: Path, tmp_path: Path) -> None:
    rows: list[Any] = []
    model = Model("transformers", str(chain.first))
    (tmp_path / "M2").mkdir()
    train(model, model, evolve(DPO, epochs=0.5), dpo_file, tmp_path / "M2", Context(log=rows.append))
    assert rows[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)


def test_a_checkpoint_names_no_folder_of_this_machine(chain: Chain) -> None:
    for checkpoint in (chain.first, chain.second):
        for file in checkpoint.rglob("*"):
            if file.is_file():
                assert str(chain.second.parents[2]).encode() not in file.read_bytes(), file
        settings = json.loads((checkpoint / "adapter/adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] is None
        assert settings["target_modules"] == sorted(settings["target_modules"])


def test_the_card_in_a_checkpoint_says_how_it_was_made(chain: Chain, dpo_file: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(chain.second / "README.md")
    assert card.data.library_name == "transformers" and card.data.tags == ["tutelage", "trl", "dpo"]
    assert "Trained by DPO from `M1`, with the reference `M1`, on 16 pairs." in card.text
    assert "a LoRA adapter of `M1`" in card.text
    assert "| method | DPO |" in card.text and "| learning_rate | 0.01 |" in card.text
    assert "| LoRA | r 16, alpha 32, dropout 0.05, target_modules all-linear |" in card.text
    again = train_step(chain.first, DPO, dpo_file, tmp_path / "again", "M1")
    assert (again / "README.md").read_bytes() == (chain.second / "README.md").read_bytes()


def test_base_model_and_licence_are_copied_from_card_to_card(chain: Chain, dpo_file: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    start = Path(shutil.copytree(chain.first, tmp_path / "M1"))
    card = ModelCard.load(start / "README.md")
    card.data.base_model, card.data.license = "microsoft/phi-2", "mit"
    card.save(start / "README.md")
    data = ModelCard.load(train_step(start, DPO, dpo_file, tmp_path / "M2", "M1") / "README.md").data
    assert (data.base_model, data.license) == ("microsoft/phi-2", "mit")


WITHOUT_TUTELAGE = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("tutelage"):
            raise ModuleNotFoundError(f"{name} is not installed")

sys.meta_path.insert(0, Refused())
sys.path[:] = [place for place in sys.path if not place.endswith(("/core", "/plugins"))]
checkpoint, pairs, output = sys.argv[1:]

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(checkpoint)
tokenizer = AutoTokenizer.from_pretrained(checkpoint)
asked = tokenizer.apply_chat_template(
    [{"role": "user", "content": "sort the words cat dog"}], add_generation_prompt=True, return_tensors="pt"
)
written = model.generate(**asked, max_new_tokens=8)[0, asked["input_ids"].shape[1]:]
assert tokenizer.eos_token_id in written.tolist(), written
print("answer:", tokenizer.decode(written, skip_special_tokens=True))
trainer = DPOTrainer(
    model,
    args=DPOConfig(output, max_steps=1, per_device_train_batch_size=4, use_cpu=True, bf16=False, report_to="none",
                   save_strategy="no", disable_tqdm=True),
    train_dataset=load_dataset("json", data_files=pairs, split="train"),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
)
print("steps:", trainer.train().global_step)
assert not [name for name in sys.modules if name.startswith("tutelage")]
"""


def test_transformers_trl_and_peft_use_a_checkpoint_without_tutelage(
    chain: Chain, dpo_file: Path, tmp_path: Path
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TUTELAGE, str(chain.second), str(dpo_file), str(tmp_path / "trl")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
    )
    assert found.returncode == 0, found.stderr
    assert re.search(r"^answer: \w+", found.stdout, re.MULTILINE)
    assert "steps: 1" in found.stdout


def test_a_checkpoint_has_the_layout_that_vllm_reads(chain: Chain) -> None:
    """vLLM itself is not run here. It reads these files, this name of the architecture, and no pickled weights."""
    config = json.loads((chain.second / "config.json").read_text())
    assert config["architectures"] == ["PhiForCausalLM"] and config["model_type"] == "phi" and config["dtype"]
    assert "auto_map" not in config  # nothing that needs trust_remote_code
    files = {path.name for path in chain.second.iterdir()}
    assert files >= {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}
    weights = [path for path in chain.second.rglob("*") if path.suffix in (".bin", ".pt", ".safetensors")]
    assert {path.suffix for path in weights} == {".safetensors"}
    trained = read(Model("transformers", str(chain.second)), TransformersSettings())
    assert len(trained.tokenizer) <= config["vocab_size"]
